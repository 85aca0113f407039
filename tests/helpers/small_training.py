"""Small rankers to train, and what to compare of them."""

from __future__ import annotations

import dataclasses

import torch
from small import planted, run_config, tables_for

from sdk.base.config import DLRMConfig, NCFConfig, TrainingConfig
from sdk.models.ranker import build_ranker
from sdk.training.loop import seeded

SMALL = TrainingConfig(max_epochs=4, patience=9, batch_size=128, learning_rate=1e-2)


def fresh(name, rows, config=SMALL, *, id_dropout=0.05):
    """An untrained small ranker over the rows' tables."""
    run = run_config(
        dlrm=DLRMConfig(embedding_dim=4, bottom_mlp=(8,), top_mlp=(8,), dot_dim=4, id_dropout=id_dropout),
        ncf=NCFConfig(
            variant="neumf" if name == "neumf" else "dot", embedding_dim=4, mlp_layers=(8,), id_dropout=id_dropout
        ),
    )
    users, items = tables_for(rows)
    return seeded(lambda: build_ranker("dlrm" if name == "dlrm" else "ncf", run, users, items), config)


def state_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same_weights(got, expected):
    assert got.keys() == expected.keys()
    for name, weight in expected.items():
        assert torch.equal(got[name], weight), f"{name} differs"


def without_speed(history):
    return [dataclasses.replace(record, rows_per_s=0) for record in history]


def steps_per_epoch():
    return -(-len(planted(0)[0]) // SMALL.batch_size)
