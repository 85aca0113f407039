"""Features by both engines: fitted on the same data, and compared to the bit.

Run as a program it prints a digest of the sample's features by each engine that is named.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import sdk
from sdk.base.config import FeatureConfig, RunConfig
from sdk.base.types import Dataset, Interactions
from sdk.data.splits import split
from sdk.features.encode import Features, fit_features

ENGINES = ("nvtabular", "builtin")


def fit_both(train, users, items, vectors, folder: Path, **config) -> tuple[Features, Features]:
    """NVTabular's features and the built-in engine's."""
    theirs, ours = (fit_by(engine, train, users, items, vectors, folder, **config) for engine in ENGINES)
    return theirs, ours


def fit_by(engine: str, train, users, items, vectors, folder: Path, **config) -> Features:
    work = folder / engine
    work.mkdir()
    return fit_features(train, users, items, vectors, FeatureConfig(engine=engine, **config), work)


def of_a_split(data: Dataset) -> tuple[Interactions, np.ndarray]:
    """The training part of the default split, and made-up content vectors."""
    train = data.interactions.take(split(data.interactions, RunConfig().split).train)
    return train, np.random.default_rng(0).normal(size=(data.items.num_rows, 8)).astype(np.float32)


def arrays(made: Features, rated: Interactions) -> Iterator[tuple[str, np.ndarray]]:
    """Everything that models see of users, titles and ratings, by name."""
    encoded = made.encode(rated)
    yield from ((name, getattr(encoded, name)) for name in ("user_index", "item_index", "label"))
    for side in ("users", "items"):
        table = getattr(made, side)
        yield from ((f"{side}.{name}", getattr(table, name)) for name in ("ids", "dense"))
        yield f"{side}.dense_names", np.array(table.dense_names)
        yield f"{side}.cardinalities", np.array(sorted(table.cardinalities.items()), dtype=str)
        for group in ("codes", "multi_hot"):
            yield from ((f"{side}.{group}.{name}", values) for name, values in getattr(table, group).items())
        for name in ("count", "likes", "prior_rate", "prior_count", "mean", "std"):
            yield f"{side}.statistics.{name}", np.asarray(getattr(table.statistics, name))


def assert_equal_to_the_bit(left: Features, right: Features, rated: Interactions) -> None:
    """Equal names, types and bytes of all tables and of the ratings' rows and labels."""
    got, expected = (dict(arrays(made, rated)) for made in (left, right))
    assert list(got) == list(expected)
    for name, values in expected.items():
        assert (got[name].dtype, got[name].shape) == (values.dtype, values.shape), name
        np.testing.assert_array_equal(got[name], values, err_msg=name)
        if values.dtype != object:  # whose bytes are addresses
            assert got[name].tobytes() == values.tobytes(), name


def digest(made: Features, rated: Interactions) -> str:
    """Of every name and byte."""
    whole = hashlib.sha256()
    for name, values in arrays(made, rated):
        whole.update(f"{name} {values.dtype.str}".encode() + np.ascontiguousarray(values).tobytes())
    return whole.hexdigest()


def sample_digests(*engines: str) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        data = sdk.load_movielens(sdk.write_sample(Path(folder, "sample"))[0])
        train, vectors = of_a_split(data)
        made = [fit_by(engine, train, data.users, data.items, vectors, Path(folder)) for engine in engines]
        return [digest(features, data.interactions) for features in made]


if __name__ == "__main__":
    print(*sample_digests(*sys.argv[1:]))
