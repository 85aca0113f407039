"""The written ranker scores a sample of pairs as the SDK does, or the export is not published."""

from __future__ import annotations

import logging
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from export.arrays import ARRAYS
from export.configs import native_file
from export.errors import ParityError
from export.options import ExportOptions
from sdk.base.types import Float32s, Int64s
from sdk.bundles.bundle import Bundle
from sdk.features.tables import FIRST_KNOWN, UNKNOWN
from sdk.models.pair_form import PairForm
from sdk.scoring.recommender import HISTORY

log = logging.getLogger(__name__)

TOLERANCE = 1e-4  # absolute, of a logit: float32 sums in another order
_PAIRS = 512

Scorer = Callable[[Int64s, Int64s], Float32s]


def sdk_scores(ranker: Any, user_index: Int64s, item_index: Int64s) -> Float32s:
    """(N,) float32 logits of the trained network itself (a ``PairModel``), not of its pair form."""
    import torch

    with torch.no_grad():
        scores: Float32s = ranker(torch.from_numpy(user_index), torch.from_numpy(item_index)).numpy()
    return scores


def scored(bundle: Bundle, model: str) -> tuple[str, PairForm, Scorer]:
    """What scores pairs: its name, its pair form, and the trained network itself.

    That is a ranker; without any the history model, which is a pair form and no more.

    Args:
        bundle: the bundle.
        model: ``dlrm``, ``ncf``, ``bfm`` or ``best``; or ``history`` of a bundle without a ranker.

    Raises:
        UsageError: the bundle has neither.
    """
    name = None if model == HISTORY and bundle.info.chosen_model is None else bundle.resolve_model(model)
    if name is None and (form := bundle.list_form(None)) is not None:
        return HISTORY, form, form.score_pairs
    ranker = bundle.model(model)
    return str(name), ranker.lower(), lambda users, items: sdk_scores(ranker, users, items)


def check_ranker(bundle: Bundle, scores: Scorer, folder: Path, options: ExportOptions) -> None:
    """Load the files that a server would load, and compare with ``scores``, the SDK's.

    Raises:
        ParityError: a score differs by more than ``TOLERANCE``.
    """
    scorer = load_scorer(folder, options.backend)
    if scorer is None:
        log.warning("%s: not compared with the SDK: the package onnxruntime is not installed", folder)
        return
    rng = np.random.default_rng(0)
    users = rng.integers(UNKNOWN, len(bundle.encoded_users), _PAIRS)
    items = rng.integers(FIRST_KNOWN, len(bundle.encoded_items), _PAIRS)
    gap = np.abs(scorer(users, items) - scores(users, items))
    if not gap.max() <= TOLERANCE:
        worst = int(gap.argmax())
        raise ParityError(
            f"{folder}: rows {users[worst]} and {items[worst]} score {gap[worst]:g} apart from the SDK, at most "
            f"{TOLERANCE:g} is expected; nothing was published. This is a defect of ours: please report it."
        )


def load_scorer(folder: Path, backend: str) -> Scorer | None:
    """What scores pairs of rows with a version's own files; None where this machine lacks the library.

    Args:
        folder: a version of ``ranker``.
        backend: ``python``, ``pytorch`` (libtorch's Python face) or ``onnxruntime``.
    """
    loaders: dict[str, Callable[[Path], Scorer | None]] = {
        "python": _load_python, "pytorch": _load_torch, "onnxruntime": _load_onnx,
    }  # fmt: skip
    return loaders[backend](folder)


def _load_python(folder: Path) -> Scorer:
    module = types.ModuleType("marquee_exported_pair_score")  # run without leaving a __pycache__ beside it
    exec(compile((folder / "pair_score.py").read_text("utf-8"), "pair_score.py", "exec"), module.__dict__)
    arrays = {path.stem: np.load(path, allow_pickle=False) for path in (folder / ARRAYS).glob("*.npy")}
    scorer: Scorer = module.PairScorer(arrays)
    return scorer


def _load_torch(folder: Path) -> Scorer:
    import torch

    model = torch.jit.load(str(folder / native_file("pytorch")))
    return lambda users, items: sdk_scores(model, users[:, None], items[:, None])[:, 0]


def _load_onnx(folder: Path) -> Scorer | None:
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(str(folder / native_file("onnxruntime")), providers=["CPUExecutionProvider"])

    def score(users: Int64s, items: Int64s) -> Float32s:
        (scores,) = session.run(["score"], {"user_index": users[:, None], "item_index": items[:, None]})
        return np.asarray(scores[:, 0], np.float32)

    return score
