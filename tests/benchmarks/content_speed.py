"""How long the content model takes for a catalogue of MovieLens 25M's size, on made-up titles.

    python tests/benchmarks/content_speed.py [NUM_ITEMS] [K]

Tokens are drawn from Zipf-like distributions, so a few are in a third of the titles and most in one or two. The search
is timed on everything; its NumPy baseline (a block of sparse rows times everything, made dense, argpartition) on 512
titles, scaled up.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import TypeVar

import numpy as np
import pyarrow as pa

from sdk.base import schema
from sdk.base.stages import peak_memory_mib
from sdk.machine.blas import machine
from sdk.models.content.model import ContentModel

T = TypeVar("T")
BLOCK = 512

# mean tokens per title, distinct tokens, Zipf exponent
FIELDS = {
    "genres": (2, 20, 0.9),
    "tags": (15, 60_000, 0.9),
    "keywords": (7, 20_000, 0.8),
    "cast": (15, 80_000, 0.6),
    "directors": (1.1, 25_000, 0.5),
    "crew": (6, 60_000, 0.6),
    "companies": (2.5, 20_000, 0.9),
    "title": (2.5, 20_000, 0.8),
    "overview": (30, 60_000, 0.7),
}


def draw(rng: np.random.Generator, num_items: int, field: str) -> list[list[str]]:
    mean, distinct, exponent = FIELDS[field]
    share = 1 / np.arange(1, distinct + 1) ** exponent
    lengths = rng.poisson(mean, num_items)
    words = np.array([word(i) for i in range(distinct)])
    flat = words[rng.choice(distinct, lengths.sum(), p=share / share.sum())]
    return [part.tolist() for part in np.split(flat, np.cumsum(lengths)[:-1])]


def word(number: int) -> str:
    """A word of letters alone, and no stop word."""
    return "zq" + "".join("abcdefghij"[int(digit)] for digit in str(number))


def catalogue(num_items: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    lists = {field: draw(rng, num_items, field) for field in FIELDS}
    text = {field: [" ".join(words) for words in lists[field]] for field in ("title", "overview")}
    ids = np.arange(num_items)
    year = (2019 - rng.gamma(1.5, 15, num_items)).astype(np.int32)
    return pa.table({**lists, **text, "item_id": ids, "tmdb_id": ids, "year": year}).select(schema.ITEMS.names)


def timed(name: str, work: Callable[[], T], times: int = 1) -> T:
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    print(f"{name:44}{median(seconds):9.3f} s  ({min(seconds):.3f} to {max(seconds):.3f}, {times} runs)")
    return result


def plain_seconds(model: ContentModel, items: pa.Table, k: int) -> float:
    matrix = model.transform(items)
    start = time.perf_counter()
    scores = (matrix[:BLOCK] @ matrix.T).toarray()
    best = np.argpartition(-scores, k, axis=1)[:, :k]
    np.sort(np.take_along_axis(scores, best, axis=1), axis=1)
    return (time.perf_counter() - start) * items.num_rows / BLOCK


def main(argv: Sequence[str]) -> int:
    num_items, k = (int(argv[0]) if argv else 62_000), (int(argv[1]) if len(argv) > 1 else 100)
    print(f"{machine()}\n{num_items:,} titles, k={k}")
    items = catalogue(num_items)
    model = timed("fit", lambda: ContentModel().fit(items))
    timed("first search (compiles, or reads the cache)", lambda: model.similar(model.item_id[:1], k))
    timed("similar, one title", lambda: model.similar(model.item_id[:1], k), 5)
    timed("similar_all", lambda: sum(len(block.item_id) for block in model.similar_all(k)))
    plain = plain_seconds(model, items, k)
    print(f"{'the same, sparse product and argpartition':44}{plain:9.3f} s  (scaled up from {BLOCK} titles)")
    timed("vectors, 32 wide", lambda: model.vectors(32))
    timed("find_title, first", lambda: model.find_title("zqa zqb"))
    timed("find_title, misspelt", lambda: model.find_title("qza qzbc"), 5)
    print(f"peak {peak_memory_mib():,.0f} MiB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
