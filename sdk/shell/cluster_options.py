"""Where work is done, as options that are the same in every command."""

from __future__ import annotations

import argparse

from sdk.machine.cluster import ClusterConfig
from sdk.shell.cli import whole_number


def add_cluster_options(parser: argparse.ArgumentParser) -> None:
    """``--workers``, ``--dask`` and ``--worker-memory``, the same in every command."""
    parser.add_argument(
        "--workers", type=whole_number, metavar="N", help="start N worker processes here and divide the work"
    )
    parser.add_argument("--dask", metavar="ADDRESS", help="divide the work over the Dask cluster at tcp://HOST:PORT")
    parser.add_argument(
        "--worker-memory", metavar="SIZE", help="most that one of --workers may hold, such as 4GiB; its share of all"
    )


def cluster_from(args: argparse.Namespace) -> ClusterConfig:
    """What those options ask for.

    Raises:
        UsageError: they contradict each other, or one is out of its range.
    """
    return ClusterConfig(args.workers, args.dask, args.worker_memory)
