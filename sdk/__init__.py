"""Marquee: train recommenders from anybody's interactions and items, then recommend, in a few calls.

    import sdk

    dataset = sdk.dataset("plays.parquet", "catalogue.parquet")  # or sdk.load_movielens("ml-25m.zip")
    bundle = sdk.train(dataset, sdk.RunConfig(), "bundle")
    bundle.recommend(["a-user"], k=10)

Names are loaded when they are first used: ``import sdk`` itself is quick and loads no torch.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

from sdk.base import __version__

if TYPE_CHECKING:
    from sdk.base.config import (
        BFMConfig,
        ContentConfig,
        DataConfig,
        DLRMConfig,
        FeatureConfig,
        HistoryConfig,
        NCFConfig,
        RunConfig,
        SplitConfig,
        TrainingConfig,
    )
    from sdk.base.errors import (
        BundleError,
        ConfigError,
        DataError,
        LockedError,
        MarqueeError,
        OutputError,
        QualityGateError,
        ScoreError,
        UsageError,
    )
    from sdk.base.types import Dataset, Interactions, TopK
    from sdk.bundles.bundle import Bundle, BundleInfo, load
    from sdk.bundles.tracking import MLflow
    from sdk.data.catalogue import dataset, from_tables
    from sdk.data.download import download
    from sdk.data.movielens import load as load_movielens
    from sdk.data.sample.writer import write_sample
    from sdk.measure.evaluation import Evaluation
    from sdk.measure.evaluation import evaluate_bundle as evaluate
    from sdk.models.content.model import ContentModel
    from sdk.training.from_merlin import from_merlin
    from sdk.training.pipeline import train_bundle as train

_NAMES = {
    "sdk.base.config": "BFMConfig ContentConfig DLRMConfig DataConfig FeatureConfig HistoryConfig NCFConfig RunConfig "
    "SplitConfig TrainingConfig",
    "sdk.base.errors": "BundleError ConfigError DataError LockedError MarqueeError OutputError QualityGateError "
    "ScoreError UsageError",
    "sdk.base.types": "Dataset Interactions TopK",
    "sdk.bundles.bundle": "Bundle BundleInfo load",
    "sdk.bundles.tracking": "MLflow",
    "sdk.data.catalogue": "dataset from_tables",
    "sdk.data.download": "download",
    "sdk.data.movielens": "load_movielens=load",
    "sdk.data.sample.writer": "write_sample",
    "sdk.measure.evaluation": "Evaluation evaluate=evaluate_bundle",
    "sdk.models.content.model": "ContentModel",
    "sdk.training.from_merlin": "from_merlin",
    "sdk.training.pipeline": "train=train_bundle",
}
"""Module -> the public names that it is home of, each with its own name there where that is another."""
_HOME = {name.partition("=")[0]: (module, name) for module, names in _NAMES.items() for name in names.split()}

__all__ = [
    "BFMConfig", "Bundle", "BundleError", "BundleInfo", "ConfigError", "ContentConfig", "ContentModel", "DLRMConfig",
    "DataConfig", "DataError", "Dataset", "Evaluation", "FeatureConfig", "HistoryConfig", "Interactions", "LockedError",
    "MLflow", "MarqueeError",
    "NCFConfig", "OutputError", "QualityGateError", "RunConfig", "ScoreError", "SplitConfig", "TopK", "TrainingConfig",
    "UsageError", "__version__", "dataset", "download", "evaluate", "from_merlin", "from_tables", "load",
    "load_movielens", "train", "write_sample",
]  # fmt: skip


def _hide_folder(name: str) -> None:
    """Keep a mere folder of this name, beside the program, from being imported as a package.

    Python takes one for a package without contents. PyTorch asks for ``triton``, its compiler for GPUs, and fails on a
    model repository that is called so.
    """
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.origin is None:
        sys.modules[name] = None  # type: ignore[assignment]  # "not to be imported", in Python's own words


_hide_folder("triton")


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sdk' has no attribute {name!r}; it has {', '.join(_HOME)}")
    module, named = _HOME[name]
    value = getattr(importlib.import_module(module), named.rpartition("=")[2])
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
