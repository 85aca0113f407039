"""Marquee: train recommenders from ratings and titles, then recommend, in a few calls.

    import sdk

    dataset = sdk.load_movielens("ml-25m.zip", tmdb="tmdb-5000")
    bundle = sdk.train(dataset, sdk.RunConfig(), "bundle")
    bundle.recommend([42], k=10)

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
        ContentConfig,
        DataConfig,
        DLRMConfig,
        FeatureConfig,
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
    from sdk.data.download import download
    from sdk.data.movielens import load as load_movielens
    from sdk.data.sample.writer import write_sample
    from sdk.measure.evaluation import Evaluation
    from sdk.measure.evaluation import evaluate_bundle as evaluate
    from sdk.models.content.model import ContentModel
    from sdk.training.pipeline import train_bundle as train

_HOME = {
    "Bundle": "sdk.bundles.bundle",
    "BundleError": "sdk.base.errors",
    "BundleInfo": "sdk.bundles.bundle",
    "ConfigError": "sdk.base.errors",
    "ContentConfig": "sdk.base.config",
    "ContentModel": "sdk.models.content.model",
    "DLRMConfig": "sdk.base.config",
    "DataConfig": "sdk.base.config",
    "DataError": "sdk.base.errors",
    "Dataset": "sdk.base.types",
    "Evaluation": "sdk.measure.evaluation",
    "FeatureConfig": "sdk.base.config",
    "Interactions": "sdk.base.types",
    "LockedError": "sdk.base.errors",
    "MarqueeError": "sdk.base.errors",
    "NCFConfig": "sdk.base.config",
    "OutputError": "sdk.base.errors",
    "QualityGateError": "sdk.base.errors",
    "RunConfig": "sdk.base.config",
    "ScoreError": "sdk.base.errors",
    "SplitConfig": "sdk.base.config",
    "TopK": "sdk.base.types",
    "TrainingConfig": "sdk.base.config",
    "UsageError": "sdk.base.errors",
    "download": "sdk.data.download",
    "evaluate": "sdk.measure.evaluation:evaluate_bundle",
    "load": "sdk.bundles.bundle",
    "load_movielens": "sdk.data.movielens:load",
    "train": "sdk.training.pipeline:train_bundle",
    "write_sample": "sdk.data.sample.writer",
}

__all__ = [
    "Bundle", "BundleError", "BundleInfo", "ConfigError", "ContentConfig", "ContentModel", "DLRMConfig", "DataConfig",
    "DataError", "Dataset", "Evaluation", "FeatureConfig", "Interactions", "LockedError", "MarqueeError", "NCFConfig",
    "OutputError", "QualityGateError", "RunConfig", "ScoreError", "SplitConfig", "TopK", "TrainingConfig",
    "UsageError", "__version__", "download", "evaluate", "load", "load_movielens", "train", "write_sample",
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
        message = f"module 'sdk' has no attribute {name!r}; it has {', '.join(_HOME)}"
        raise AttributeError(message)
    module, _, attribute = _HOME[name].partition(":")
    value = getattr(importlib.import_module(module), attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
