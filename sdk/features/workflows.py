"""The NVTabular workflows: ids to rows, rare ids to the out-of-vocabulary code, attributes to codes and numbers.

NVTabular sees each user and each item once and each rating as two ids and a label; user-item pairs never go through
pandas (DESIGN.md, "How data flows"). Every workflow is fitted on training rows or on tables that carry nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sdk.base.config import FeatureConfig
from sdk.base.types import Float64s, Int64s, Interactions
from sdk.machine.cluster import dask_for_merlin

PARTITION_ROWS = 5_000_000
"""Rows of a table that are fitted and transformed together."""


def nvtabular() -> Any:
    """The nvtabular module, imported quietly on first use: it takes seconds, and warns of what a CPU machine lacks."""
    with dask_for_merlin():
        import nvtabular as module
    return module


def fit_interactions(user_ids: Int64s, item_ids: Int64s, config: FeatureConfig, work: Path) -> Any:
    """The workflow that turns (user_id, item_id, rating) into (row, row, label).

    Args:
        user_ids: (U,) int64, ascending: every user of the bundle.
        item_ids: (I,) int64, ascending: every title of the bundle.
        config: ``like_above`` is the label's threshold.
        work: an empty folder for NVTabular's category files.
    """
    nvt = nvtabular()
    from sdk.features.ops import BinarizeLabel

    ids = {"user_id": user_ids, "item_id": item_ids}
    vocabularies = {name: pd.Series(known, name=name) for name, known in ids.items()}
    rows = list(ids) >> nvt.ops.Categorify(vocabs=vocabularies, out_path=str(work))
    label = ["rating"] >> BinarizeLabel(config.like_above)
    first = pd.DataFrame({"user_id": user_ids[:1], "item_id": item_ids[:1], "rating": np.zeros(1, np.float32)})
    return _fit(rows + label, first)


def fit_codes(train: Interactions, config: FeatureConfig, work: Path) -> Any:
    """The workflow that gives an id with enough training ratings its own code, and all others code 2."""
    nvt = nvtabular()
    thresholds = {"user_id": config.min_user_ratings, "item_id": config.min_item_ratings}
    codes = ["user_id", "item_id"] >> nvt.ops.Categorify(freq_threshold=thresholds, out_path=str(work))
    return _fit(codes, pd.DataFrame({"user_id": train.user_id, "item_id": train.item_id}))


def fit_attributes(table: pd.DataFrame, categorical: Sequence[str], numeric: Sequence[str], work: Path) -> Any:
    """The workflow of one side's attributes: categories encoded, numbers filled with the median and normalised."""
    nvt = nvtabular()
    outputs = list(numeric) >> nvt.ops.FillMedian() >> nvt.ops.Normalize()
    if categorical:
        outputs = (list(categorical) >> nvt.ops.Categorify(out_path=str(work))) + outputs
    return _fit(outputs, table[[*categorical, *numeric]])


def _fit(outputs: Any, table: pd.DataFrame) -> Any:
    nvt = nvtabular()
    workflow = nvt.Workflow(outputs)
    with dask_for_merlin():
        workflow.fit(_dataset(table))
    return workflow


def _dataset(table: pd.DataFrame) -> Any:
    """In partitions whose number depends on the table alone, so that it is the same with and without a cluster."""
    from merlin.io import Dataset

    return Dataset(table, npartitions=max(1, len(table) // PARTITION_ROWS))


def transform(workflow: Any, table: pd.DataFrame) -> pd.DataFrame:
    """A workflow's output for a table that has its input columns; partitioned where the table is long.

    Where a Dask client is active (``sdk.machine.cluster.connect``), its workers transform the partitions, as they
    fit them.
    """
    with dask_for_merlin():
        from merlin.core.utils import global_dask_client

        scheduler = None if global_dask_client() else "synchronous"
        result: pd.DataFrame = workflow.transform(_dataset(table)).compute(scheduler=scheduler)
    return result


def normalisation(workflow: Any, names: Sequence[str]) -> tuple[Float64s, Float64s]:
    """(F,) means and (F,) standard deviations that the workflow's Normalize learnt, in the order of ``names``.

    Where a column is constant the deviation is 1: NVTabular then only subtracts the mean.
    """
    nvt = nvtabular()
    means: dict[str, float] = {}
    stds: dict[str, float] = {}
    for node in workflow.graph.get_nodes_by_op_type([workflow.output_node], nvt.ops.Normalize):
        means.update(node.op.means)
        stds.update(node.op.stds)
    std = np.array([stds[name] if stds[name] > 0 else 1.0 for name in names], dtype=np.float64)
    return np.array([means[name] for name in names], dtype=np.float64), std


def cardinalities(workflow: Any, names: Sequence[str]) -> Mapping[str, int]:
    """Number of codes of each categorical column, NVTabular's reserved ones included."""
    return {name: int(workflow.output_schema[name].properties["embedding_sizes"]["cardinality"]) for name in names}
