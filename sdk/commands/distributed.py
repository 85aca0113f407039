"""torchrun ... -m sdk.training.distributed: train one bundle with several processes, each with its share of a batch.

    torchrun --nproc-per-node 2 -m sdk.training.distributed --movielens ml-25m.zip --out bundle

Every process reads the data and fits the features; the rankers' gradients are summed over the processes (NCCL between
GPUs, Gloo between CPU processes), so all hold the same weights after every step. Process 0 measures and writes.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sdk.base.errors import UsageError
from sdk.commands.datasets import read_dataset
from sdk.commands.train import add_options, report, run_config
from sdk.machine.device import resolve_device
from sdk.shell.cli import new_parser, run_command
from sdk.shell.parser import CommandParser
from sdk.training.pipeline import Where, require_room, take_part, train_where
from sdk.training.process_share import Share

_FROM_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one process's part; the exit code is returned. torchrun itself ends with 1 where a process fails."""
    args = build_parser().parse_args(argv)
    args.quiet = args.quiet or os.environ.get("RANK", "0") != "0"
    return run_command(_train, args)


def build_parser() -> argparse.ArgumentParser:
    """The options of ``python -m sdk train`` that make sense for several processes."""
    parser = new_parser(
        CommandParser, "torchrun --nproc-per-node N -m sdk.training.distributed",
        "train one bundle with several processes",
        "torchrun --nproc-per-node 2 -m sdk.training.distributed --sample --out bundle",
    )  # fmt: skip
    add_options(parser)
    return parser


@contextmanager
def joined(device: str) -> Iterator[Where]:
    """Join the processes that torchrun started, and leave them at the end, with the group's threads.

    After an error no other process is awaited: this one ends, and torchrun ends the others.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``; each process of a machine takes a GPU of its own.

    Raises:
        UsageError: torchrun did not start this process, or there are fewer GPUs than processes.
    """
    import torch
    import torch.distributed as dist

    if missing := [name for name in _FROM_TORCHRUN if name not in os.environ]:
        raise UsageError(f"{', '.join(missing)}: not set; start this with torchrun, or train with python -m sdk train")
    found, place = resolve_device(device), int(os.environ["LOCAL_RANK"])
    if found == "cuda":
        if place >= torch.cuda.device_count():
            message = f"process {place} finds {torch.cuda.device_count()} GPUs here; give --nproc-per-node no more"
            raise UsageError(message)
        torch.cuda.set_device(place)
    # Its functions' defaults hold the group that there is when it is first imported, which PyTorch does in the middle
    # of training. A group that is held outlives destroy_process_group, and its threads abort the interpreter's exit.
    import torch.distributed.nn.functional

    dist.init_process_group("nccl" if found == "cuda" else "gloo")
    try:
        yield Where(found, Share(dist.get_rank(), dist.get_world_size()))
    except BaseException:
        if found == "cpu":  # NCCL would wait for the others
            dist.destroy_process_group()
        raise
    dist.destroy_process_group()


def _train(args: argparse.Namespace) -> int:
    config = run_config(args)
    if config.training.trainer != "builtin":
        message = f"trainer: got {config.training.trainer!r}, which trains in one process; use python -m sdk train"
        raise UsageError(message)
    require_room(args.out, force=args.force)
    dataset = read_dataset(args, config)
    with joined(args.device) as where:
        if where.share.rank == 0:
            report(train_where(dataset, config, args.out, where, force=args.force), whole=args.verbose)
        else:
            with tempfile.TemporaryDirectory(prefix="marquee-train-") as work:
                take_part(dataset, config, Path(work), where)
    return 0


if __name__ == "__main__":
    sys.exit(main())
