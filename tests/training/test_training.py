"""Training: it learns, ends where its seed says whatever disturbs it, and keeps its best epoch."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from small import planted, tables_for
from small_training import SMALL, assert_same_weights, fresh, state_of, steps_per_epoch, without_speed

from sdk.base.errors import ScoreError
from sdk.features.tables import UNKNOWN, EncodedInteractions
from sdk.metrics.pointwise import EpochRecord, auc
from sdk.models.predict import predict
from sdk.training import steps
from sdk.training.loop import Checkpoint, batch_size_for, train

RANKERS = ("dlrm", "ncf", "neumf")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- it learns ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RANKERS)
def test_planted_tastes_are_found(name):
    rows, held_out = planted(1, share=0.6)
    config = dataclasses.replace(SMALL, max_epochs=25, batch_size=64)
    model = fresh(name, rows, config)
    before = auc(held_out.label, predict(model, held_out))
    train(model, rows, None, config, name=name)
    users, items = tables_for(rows)
    means = users.dense[held_out.user_index, 1] + items.dense[held_out.item_index, 1]
    after = auc(held_out.label, predict(model, held_out))
    assert after > 0.75
    assert after > before + 0.1
    assert after > auc(held_out.label, means) + 0.02, "no better than how much each user and item is liked"


def test_the_loss_reported_is_the_mean_over_the_rows():
    rows, _ = planted(0)
    config = dataclasses.replace(SMALL, max_epochs=1, learning_rate=1e-9, batch_size=100)
    model = fresh("ncf", rows, config, id_dropout=0.0)
    logits = predict(model, rows).astype(np.float64)
    result = train(model, rows, None, config, name="ncf")
    expected = np.mean(np.log1p(np.exp(-np.where(rows.label == 1, logits, -logits))))
    assert result.history[0].train_loss == pytest.approx(expected, rel=1e-4)


def test_validation_is_measured_whole_after_the_epoch():
    rows, held_out = planted(0)
    model = fresh("dlrm", rows)
    result = train(model, rows, held_out, dataclasses.replace(SMALL, max_epochs=1), name="dlrm")
    assert result.history[0].auc == pytest.approx(auc(held_out.label, predict(model, held_out)), abs=1e-12)


def test_the_unknown_ids_row_learns_though_no_pair_holds_it():
    rows, _ = planted(0)
    assert UNKNOWN not in rows.user_index
    model = fresh("ncf", rows)
    before = model.user_arch.gmf.weight[UNKNOWN].detach().clone()
    train(model, rows, None, SMALL, name="ncf")
    assert (model.user_arch.gmf.weight[UNKNOWN] - before).norm().item() > 1e-3
    untrained = fresh("ncf", rows, id_dropout=0.0)
    before = untrained.user_arch.gmf.weight[UNKNOWN].detach().clone()
    train(untrained, rows, None, SMALL, name="ncf")
    assert torch.equal(untrained.user_arch.gmf.weight[UNKNOWN], before)


@pytest.mark.parametrize("kind", ["uniform", "popularity"])
def test_trained_on_sampled_negatives_a_model_ranks_what_is_watched_above_what_is_not(kind):
    """Two camps of users, each of which watches its own half of the titles and likes all of it."""
    rng = np.random.default_rng(0)
    user, item = np.nonzero(
        rng.random((60, 40)) < np.where((np.arange(60)[:, None] % 2) == (np.arange(40) % 2), 0.5, 0)
    )
    ones = np.ones(len(user), dtype=np.int8)
    rows = EncodedInteractions((user + 3).astype(np.int32), (item + 3).astype(np.int32), ones)
    config = dataclasses.replace(SMALL, negatives=kind, num_negatives=3, max_epochs=15, batch_size=256)
    model = fresh("ncf", rows, config)
    train(model, rows, None, config, name="ncf")
    u, i = np.divmod(np.arange(60 * 40), 40)
    pairs = EncodedInteractions((u + 3).astype(np.int32), (i + 3).astype(np.int32), (u % 2 == i % 2).astype(np.int8))
    unseen = ~np.isin(u * 40 + i, user * 40 + item)
    assert auc(pairs.label[unseen], predict(model, pairs)[unseen]) > 0.95


# --- early stopping -----------------------------------------------------------------------------------------------


def test_early_stopping_gives_back_the_best_epochs_weights():
    rows, held_out = planted(2, share=0.25)
    config = dataclasses.replace(SMALL, max_epochs=40, patience=3, learning_rate=5e-2, embedding_l2=0.0, bias_l2=0.0)
    model = fresh("ncf", rows, config)
    result = train(model, rows, held_out, config, name="ncf")
    measured = [record.auc for record in result.history]
    assert result.best_epoch == 1 + int(np.argmax(measured))
    assert len(measured) == result.best_epoch + 3 < 40, "it did not stop three epochs after the best"
    assert auc(held_out.label, predict(model, held_out)) == pytest.approx(max(measured), abs=1e-12)
    assert measured[-1] < max(measured)


def test_of_equally_good_epochs_the_first_is_kept():
    model, state = torch.nn.Linear(1, 1), Checkpoint()
    for epoch, measured in enumerate([0.6, 0.7, 0.7, 0.65], start=1):
        with torch.no_grad():
            model.weight.fill_(epoch)
        state = state.after(EpochRecord(epoch, 0.5, measured, 0.5, 1.0), model, keep_best=True)
    assert state.best_epoch == 2
    state.load_best_into(model)
    assert model.weight.item() == 2


def test_without_validation_the_last_epoch_counts_and_their_number_can_be_given():
    rows, _ = planted(0)
    model = fresh("ncf", rows)
    result = train(model, rows, None, SMALL, name="ncf", num_epochs=2)
    assert (len(result.history), result.best_epoch) == (2, 2)
    assert all(math.isnan(record.auc) for record in result.history)
    assert not model.training


# --- the same again -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RANKERS)
@pytest.mark.parametrize("negatives", ["none", "uniform"])
def test_a_seed_fixes_every_weight_whatever_else_is_random(name, negatives):
    rows, held_out = planted(0)
    config = dataclasses.replace(SMALL, max_epochs=2, negatives=negatives)
    runs = []
    for other in (1, 2):
        torch.manual_seed(other)
        np.random.seed(other)
        model = fresh(name, rows, config)
        result = train(model, rows, held_out, config, name=name)
        runs.append((state_of(model), without_speed(result.history)))
    assert_same_weights(runs[1][0], runs[0][0])
    assert runs[1][1] == runs[0][1]
    other = dataclasses.replace(config, seed=1)
    different = fresh(name, rows, other)
    train(different, rows, held_out, other, name=name)
    assert not torch.equal(different.user_arch.bias.weight, runs[0][0]["user_arch.bias.weight"])


def test_other_ids_are_dropped_in_every_step():
    rows, _ = planted(0)
    model, drawn = fresh("ncf", rows), []

    def pick_ids(codes, batch, side=0):
        if batch is not None:
            drawn.append(batch.drawn[side].numpy().tobytes())
        return type(model).pick_ids(model, codes, batch, side)

    model.pick_ids = pick_ids
    train(model, rows, None, SMALL, name="ncf")
    assert len(set(drawn)) == len(drawn) == 2 * SMALL.max_epochs * steps_per_epoch()


@pytest.mark.parametrize("before", [False, True])
def test_training_leaves_the_callers_arithmetic_as_it_was(before, monkeypatch):
    monkeypatch.setattr(steps, "SMALLEST_CHUNK", 64)
    rows, _ = planted(0)
    model, flushed = fresh("ncf", rows), []

    def is_flushed():
        return (np.full(1, 1e-310) * 1.0 == 0).item()

    def training_forward(*args):
        flushed.append(is_flushed())
        return type(model).training_forward(model, *args)

    model.training_forward = training_forward  # in a worker, where a batch has several chunks
    config = dataclasses.replace(SMALL, batch_size=len(rows))
    torch.set_flush_denormal(before)
    try:
        train(model, rows, None, config, name="ncf", num_epochs=1, on_epoch=lambda _: flushed.append(is_flushed()))
        assert is_flushed() == before
    finally:
        torch.set_flush_denormal(False)
    assert all(flushed), "denormals were not flushed while training"
    assert len(flushed) > 2


def test_building_a_model_leaves_the_callers_random_numbers_alone():
    rows, _ = planted(0)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fresh("dlrm", rows)
    assert torch.equal(torch.rand(3), expected)


def test_a_loss_that_is_no_number_stops_the_run_and_leaves_no_checkpoint(tmp_path):
    rows, _ = planted(0)
    model = fresh("dlrm", rows)
    with torch.no_grad():
        model.item_arch.bias.weight[7] = math.nan
    with pytest.raises(ScoreError, match=r"dlrm: the training loss became nan in epoch 1.*learning rate"):
        train(model, rows, None, SMALL, name="dlrm", checkpoint=tmp_path / "checkpoint")
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize(
    ("rows", "expected"), [(0, 256), (1, 256), (20_000, 256), (90_000, 1024), (10**6, 16_384), (25 * 10**6, 65_536)]
)
def test_the_default_batch_size_grows_with_the_rows_within_bounds(rows, expected):
    assert batch_size_for(rows) == expected


def test_predicting_nothing_gives_nothing():
    rows, _ = planted(0)
    assert predict(fresh("ncf", rows), rows.take(np.zeros(0, dtype=np.int64))).tolist() == []
