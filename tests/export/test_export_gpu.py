"""The list model on a GPU: which device an instance asks for, its answers there, and what it says without one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_triton
import numpy as np
import pytest
import torch
from fake_triton import model_of
from test_export_models import ask_lists

from sdk.base.errors import UsageError
from sdk.bundles.bundle import Bundle
from sdk.scoring import recommender, torch_engine
from sdk.scoring.torch_engine import TorchEngine
from triton_models.marquee_serving import gpu_of


@pytest.fixture
def on_gpu_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instances are told what Triton tells those of KIND_GPU."""
    original = fake_triton._args
    told = {"model_instance_kind": "GPU", "model_instance_device_id": "1"}
    monkeypatch.setattr(fake_triton, "_args", lambda *place: {**original(*place), **told})


@pytest.mark.parametrize(("kind", "expected"), [("GPU", 3), ("CPU", None)])
def test_an_instance_is_told_its_gpu(kind: str, expected: int | None):
    assert gpu_of({"model_instance_kind": kind, "model_instance_device_id": "3"}) == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_an_instance_on_a_gpu_that_is_not_there_is_refused_in_one_line(exported: Callable[..., Path], on_gpu_1: None):
    with pytest.raises(UsageError, match="torch finds no GPU"), model_of(exported(), "recommend"):
        pass


def test_an_instance_on_a_gpu_scores_there(
    bundle: Bundle, exported: Callable[..., Path], on_gpu_1: None, monkeypatch: pytest.MonkeyPatch
):
    """The GPU's engine, on the CPU for want of a GPU: known users, an unknown one, and titles left out."""
    chosen, built = [], []

    def engine(form: Any, allowed: Any, *, device: str) -> TorchEngine:
        built.append(device)
        return TorchEngine(form, allowed, device="cpu")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(recommender, "resolve_device", lambda name: name)
    monkeypatch.setattr(torch_engine, "TorchEngine", engine)
    users = [*bundle.encoded_users.known_ids[:20].tolist(), -1]
    with model_of(exported(), "recommend") as model:
        got = ask_lists(model, 8, user_id=users).outputs
        excluded = ask_lists(model, 8, user_id=users, exclude=got["item_id"][0]).outputs
    assert chosen == [1]
    assert set(built) == {"cuda"}
    want = bundle.recommend(users, 8)
    np.testing.assert_allclose(got["score"], want.scores, rtol=1e-5, atol=1e-5)
    assert (got["item_id"] == want.item_id).mean() > 0.95, "near-ties alone may differ"
    assert not np.isin(excluded["item_id"], got["item_id"][0]).any()
