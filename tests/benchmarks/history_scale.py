"""What fitting the history model costs at MovieLens 25M's size, on generated ratings.

    python tests/benchmarks/history_scale.py [--users 162541] [--titles 59047] [--ratings 20000000] [--max-titles 12000]

Users' activity and titles' popularity are skewed like MovieLens's (log-normal and a power law). Each step is timed in
one run, and peak memory is that of the whole process, the ratings included.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sdk.base.config import HistoryConfig
from sdk.base.stages import peak_memory_mib
from sdk.features.tables import FIRST_KNOWN
from sdk.machine.blas import machine
from sdk.models.history.model import HistoryModel

T = TypeVar("T")
Columns = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]


def generated(num_users: int, num_items: int, num_ratings: int, seed: int = 0) -> Columns:
    """(user row, item row, stars), each pair once, ascending by user and item; a little fewer than asked for."""
    rng = np.random.default_rng(seed)
    activity = np.exp(1.3 * rng.standard_normal(num_users))
    user = np.repeat(np.arange(num_users), rng.multinomial(num_ratings * 5 // 4, activity / activity.sum()))
    appeal = 1 / (np.arange(num_items) + 30.0) ** 1.2
    item = rng.permutation(num_items)[np.searchsorted(np.cumsum(appeal) / appeal.sum(), rng.random(len(user)))]
    pair = np.unique(user * num_items + np.minimum(item, num_items - 1))
    pair = np.sort(rng.permutation(pair)[:num_ratings])
    stars = rng.choice(np.arange(1, 11) / 2, len(pair), p=[0.02, 0.03, 0.02, 0.07, 0.05, 0.2, 0.13, 0.26, 0.08, 0.14])
    user, item = pair // num_items + FIRST_KNOWN, pair % num_items + FIRST_KNOWN
    return user.astype(np.int32), item.astype(np.int32), stars.astype(np.float32)


def timed(name: str, work: Callable[[], T]) -> T:
    start = time.perf_counter()
    result = work()
    print(f"{name:32}{time.perf_counter() - start:8.1f} s   peak {peak_memory_mib():7.0f} MiB", flush=True)
    return result


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--users", type=int, default=162_541)
    parser.add_argument("--titles", type=int, default=59_047)
    parser.add_argument("--ratings", type=int, default=20_000_000)
    parser.add_argument("--max-titles", type=int, default=12_000)
    args = parser.parse_args(argv)
    print(machine())
    columns = timed("generating", lambda: generated(args.users, args.titles, args.ratings))
    print(f"{len(columns[0]):,} ratings of {args.titles:,} titles by {args.users:,} users")
    features = np.random.default_rng(1).standard_normal((args.titles + FIRST_KNOWN, 256)).astype(np.float32)
    config, shape = HistoryConfig(max_titles=args.max_titles), (args.users + FIRST_KNOWN, args.titles + FIRST_KNOWN)
    model = timed("fitting", lambda: HistoryModel.fit(*columns, *shape, features, config))
    timed("every user's vector", lambda: model.to_pair_form(*columns, shape[0]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
