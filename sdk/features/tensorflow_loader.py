"""Merlin's TensorFlow dataloader over encoded interactions, for those who train in Keras.

TensorFlow is an extra: this module imports without it, and ``tensorflow_loader`` says what to install. Checked with
TensorFlow 2.20 and 2.21 (Keras 3); earlier ones pin a protobuf that the Triton client here refuses.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sdk.base.errors import UsageError, how_to_get
from sdk.features.engine import has_nvtabular
from sdk.features.tables import EncodedInteractions
from sdk.machine.cluster import dask_for_merlin

if TYPE_CHECKING:
    from merlin.dataloader.tensorflow import Loader

BLOCK_ROWS = 1 << 20  # rows turned into tensors at a time; one such block is read ahead
PUT_WAIT_S = 0.05  # Merlin's own, a microsecond, keeps a core busy while the block that was read ahead waits
POLL_S = 0.001
NO_GPU_SUPPORT = (
    "tensorflow_loader: TensorFlow is installed, but Merlin does not use it: it sees a GPU that this TensorFlow cannot "
    "use, or was imported before TensorFlow was installed. Start Python anew, with a TensorFlow that supports the GPU "
    "or with the GPU hidden (CUDA_VISIBLE_DEVICES='')."
)


def tensorflow_loader(
    interactions: EncodedInteractions, batch_size: int, *, shuffle: bool = True, seed: int = 0
) -> Loader:
    """Merlin's own ``Loader`` over encoded interactions: ``model.fit`` takes it as it is.

    A batch is ``({"user_index": (B,) int32, "item_index": (B,) int32}, (B,) float32 label)``; the last one of a pass
    may be shorter. Every row comes once in each pass.

    The order is drawn from ``seed`` and the number of passes begun, over all rows, so two loaders used in the same way
    give the same batches. Merlin's own shuffling is off, for it draws from NumPy's global state in another thread,
    never changes the order of the parts, and always leaves the same rows for the last, shorter batch. A pass is begun
    by ``iter``, and by the first batch asked for after ``len`` (Merlin starts over there, for Keras): so Keras's own
    look at a first batch counts as one.

    Args:
        interactions: encoded ratings, at least one.
        batch_size: rows per batch, at least 1.
        shuffle: False keeps the order of the rows.
        seed: of the order, at least 0.

    Raises:
        UsageError: TensorFlow is absent or cannot be used, there is no row, or a number is out of its range.
    """
    limits = (("number of interactions", len(interactions), 1), ("batch_size", batch_size, 1), ("seed", seed, 0))
    for name, got, least in limits:
        if got < least:
            raise UsageError(f"tensorflow_loader: {name} = {got}, expected at least {least}.")
    loader = _derived(_merlin_loader())
    with dask_for_merlin():
        return loader(_dataset(interactions), batch_size, seed if shuffle else None)


def _dataset(interactions: EncodedInteractions) -> Any:
    """One partition, so that an order can go over all rows; in host memory, for TensorFlow moves batches itself."""
    from merlin.io import Dataset
    from merlin.schema import ColumnSchema, Schema, Tags

    columns = {
        "user_index": interactions.user_index,
        "item_index": interactions.item_index,
        "label": interactions.label.astype(np.float32),
    }
    tags = {"user_index": Tags.CATEGORICAL, "item_index": Tags.CATEGORICAL, "label": Tags.TARGET}
    schema = Schema([ColumnSchema(name, dtype=columns[name].dtype, tags=[tags[name]]) for name in columns])
    return Dataset(pd.DataFrame(columns), npartitions=1, schema=schema, cpu=True)


class _Passes:
    """Merlin's reader of the rows, in a new order on each pass and in blocks of whole batches.

    Args:
        frames: Merlin's reader: its frames are the passes it was asked for.
        batch_size: rows per batch.
        seed: of the orders. None keeps the order of the rows.
    """

    def __init__(self, frames: Any, batch_size: int, seed: int | None) -> None:
        self.frames, self.seed, self.begun = frames, seed, 0
        self.block_rows = batch_size * max(1, BLOCK_ROWS // batch_size)

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[pd.DataFrame]:
        for frame in self.frames:
            order = None
            if self.seed is not None:
                self.begun += 1
                order = np.random.default_rng([self.seed, self.begun]).permutation(len(frame))
            for start in range(0, len(frame), self.block_rows):
                rows = slice(start, start + self.block_rows)
                yield frame.iloc[rows if order is None else order[rows]]


def _merlin_loader() -> Any:
    """Merlin's class. TensorFlow takes seconds to import, and is looked for at each call: it may have gone or come."""
    other = "or use sdk.features.loaders.InteractionLoader, which needs PyTorch"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import tensorflow  # noqa: F401
        except ImportError as error:
            remedy = f"Install it with {how_to_get('tensorflow')}, {other}."
            raise UsageError(f"tensorflow_loader: TensorFlow cannot be imported ({error}). {remedy}") from error
    if not has_nvtabular():
        remedy = f"Get it: {how_to_get('merlin')}; {other}."
        raise UsageError(f"tensorflow_loader: Merlin's loader is not installed. {remedy}")
    with dask_for_merlin():
        from merlin.core.compat.tensorflow import tensorflow as usable

        if usable is None:
            raise UsageError(NO_GPU_SUPPORT)
        from merlin.dataloader.tensorflow import Loader
    return Loader


@cache
def _derived(base: Any) -> Any:
    class InteractionsLoader(base):
        """Merlin's loader with seeded orders, at home in Keras 3, and sure to end."""

        # Keras 3 reads these from its PyDataset, whose constructor Merlin does not call
        workers, use_multiprocessing, max_queue_size = 1, False, 10

        def __init__(self, dataset: Any, batch_size: int, order_seed: int | None) -> None:
            self.order_seed = order_seed
            super().__init__(dataset, batch_size, shuffle=False)

        @property
        def _buff(self) -> Any:
            chunks = super()._buff
            chunks.put_wait = PUT_WAIT_S
            return chunks

        def _data_iter(self, epochs: int) -> _Passes:
            return _Passes(super()._data_iter(epochs), self.batch_size, self.order_seed)

        def _fetch_chunk(self) -> None:
            """Merlin waits for ever if its thread is still ending when the last chunk has been used up."""
            while self._buff.empty and self._working:
                self._workers[0].join(POLL_S)
            if self._buff.empty:
                self.stop()
                raise StopIteration
            super()._fetch_chunk()

    return InteractionsLoader
