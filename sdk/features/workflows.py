"""NVTabular's engine: its workflows, made of what ``sdk.features.builtin`` has learnt, applied to tables.

Left to itself, NVTabular orders equally frequent values by a sort that is not stable, and adds numbers in an order that
depends on the processor. So the vocabularies, medians, means and deviations are given to its operators; it encodes
what the built-in engine encodes, to the bit. Each user, each title and each rating's two ids pass through it once;
user-item pairs never go through pandas.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sdk.features.builtin import LABEL, Encoding, Number, Transform
from sdk.machine.cluster import dask_for_merlin

PARTITION_ROWS = 5_000_000
"""Rows of a table that are transformed together."""


def nvtabular() -> Any:
    """The nvtabular module, imported quietly on first use: it takes seconds, and warns of what a CPU machine lacks."""
    with dask_for_merlin():
        import nvtabular as module
    return module


def transformer(encoding: Encoding, lists: Collection[str], work: Path) -> Transform:
    """What encodes a table by NVTabular; a long one in partitions.

    Where a Dask client is active (``sdk.machine.cluster.connect``), its workers transform the partitions.

    Args:
        encoding: what was learnt.
        lists: the columns whose values are lists.
        work: a folder for NVTabular's category files, which all workers see; it must outlive the result.
    """
    return partial(_transform, workflow_of(encoding, lists, work))


def workflow_of(encoding: Encoding, lists: Collection[str], work: Path) -> Any:
    """The fitted ``nvtabular.Workflow`` that encodes as ``encoding`` says; arguments as for ``transformer``."""
    nvt, parts = nvtabular(), []
    from sdk.features.ops import BinarizeLabel

    if vocabularies := {name: _vocabulary(known, name) for name, known in encoding.vocabularies.items()}:
        codes = nvt.ops.Categorify(vocabs=vocabularies, out_path=str(work))
        codes.fitted = True
        parts.append(list(vocabularies) >> codes)
    if numbers := encoding.numbers:
        filled, normal = nvt.ops.FillMedian(), nvt.ops.Normalize()
        filled.medians, normal.means, normal.stds = (
            {name: getattr(number, of) for name, number in numbers.items()} for of in Number._fields
        )
        filled.fitted = normal.fitted = True
        parts.append(list(numbers) >> filled >> normal)
    if encoding.like_above is not None:
        parts.append([LABEL] >> BinarizeLabel(encoding.like_above))
    return nvt.Workflow(sum(parts[1:], parts[0])).fit_schema(_tagged(_dataset(_example(encoding, lists)).schema, lists))


def _tagged(layout: Any, lists: Collection[str]) -> Any:
    """A table's schema saying which columns are ids of users, ids of items, or lists; operators add what they make."""
    from merlin.schema import Tags

    ids = {"user_id": [Tags.USER, Tags.USER_ID], "item_id": [Tags.ITEM, Tags.ITEM_ID]}
    for name in layout.column_names:
        layout[name] = layout[name].with_tags([*ids.get(name, ()), *[Tags.LIST] * (name in lists)])
    return layout


def _vocabulary(known: pa.Array, name: str) -> pd.Series[Any]:
    """The known values; NVTabular cannot read an empty file, so -1, which is no id, stands where no id is frequent."""
    return pd.Series((known if len(known) else pa.array([-1]).cast(known.type)).to_pandas(), name=name)


def _example(encoding: Encoding, lists: Collection[str]) -> pd.DataFrame:
    """A row with the types of what is encoded."""
    values = {name: 0 if pa.types.is_int64(v.type) else "" for name, v in encoding.vocabularies.items()}
    columns: dict[str, Any] = {name: [[value] if name in lists else value] for name, value in values.items()}
    columns |= {name: [0.0] for name in encoding.numbers}
    if encoding.like_above is not None:
        columns[LABEL] = np.zeros(1, np.float32)
    return pd.DataFrame(columns)


def _dataset(table: pd.DataFrame) -> Any:
    """In partitions whose number depends on the table alone, so that it is the same with and without a cluster."""
    with dask_for_merlin():
        from merlin.io import Dataset

        return Dataset(table, npartitions=max(1, len(table) // PARTITION_ROWS))


def _transform(workflow: Any, table: pd.DataFrame) -> pd.DataFrame:
    with dask_for_merlin():
        from merlin.core.utils import global_dask_client

        scheduler = None if global_dask_client() else "synchronous"
        result: pd.DataFrame = workflow.transform(_dataset(table)).compute(scheduler=scheduler)
    return result
