"""Evaluation: the same figures from arrays, from a bundle, and from the formulas written out."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from small import dataset, jitter, planted, run_config, tables_for

from sdk.base.config import FeatureConfig, SplitConfig
from sdk.base.errors import DataError, UsageError
from sdk.bundles.bundle import load
from sdk.features.interactions import TEST, TRAIN, VALIDATION
from sdk.measure.evaluation import evaluate, evaluate_bundle, label_rule
from sdk.models.predict import predict
from sdk.models.ranker import build_ranker
from sdk.training.pipeline import train_bundle

DATA = dataset(3)
SHAPE = (63, 43)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def measured(scale=0.3):
    fitted_on, test = planted(3)
    model = jitter(build_ranker("ncf", run_config(), *tables_for(fitted_on)), scale=scale)
    return model, fitted_on, test, evaluate({"ncf": model}, fitted_on, test, SHAPE, run_config())


def slow_auc(label, scores):
    good, bad = scores[label == 1][:, None], scores[label == 0][None, :]
    return float(((good > bad) + 0.5 * (good == bad)).mean())


def test_a_rankers_line_holds_its_auc_log_loss_and_calibration():
    model, _, test, evaluation = measured()
    with torch.no_grad():
        logits = model(torch.from_numpy(test.user_index).long(), torch.from_numpy(test.item_index).long()).numpy()
    row = evaluation.rows[0]
    probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
    likelihood = np.where(test.label == 1, probability, 1 - probability)
    assert (row.model, row.num_rows) == ("ncf", len(test))
    assert row.auc == pytest.approx(slow_auc(test.label, logits), abs=1e-9)
    assert row.log_loss == pytest.approx(-np.log(likelihood).mean(), rel=1e-5)
    assert row.calibration_error == evaluation.calibrations["ncf"].expected_error


def test_logits_beyond_float32s_exponent_are_measured_without_a_warning():
    _, _, _, evaluation = measured(scale=20)
    row = evaluation.rows[0]
    assert np.isfinite(row.log_loss)
    assert 0 <= row.calibration_error <= 1


def test_the_baselines_stand_beside_it_and_learn_from_the_fitted_rows_alone():
    model, fitted_on, test, evaluation = measured()
    assert [row.model for row in evaluation.rows] == ["ncf", "biased MF", "user and item means", "popularity"]
    likes = np.bincount(fitted_on.item_index, weights=fitted_on.label, minlength=SHAPE[1])
    popularity = evaluation.rows[-1]
    assert popularity.auc == pytest.approx(slow_auc(test.label, likes[test.item_index]), abs=1e-9)
    assert np.isnan(popularity.log_loss)
    assert popularity.note
    flipped = dataclasses.replace(test, label=1 - test.label)
    again = evaluate({"ncf": model}, fitted_on, flipped, SHAPE, run_config())
    for before, after in zip(evaluation.rows, again.rows, strict=True):
        assert after.auc == pytest.approx(1 - before.auc, abs=1e-9), "the test labels changed the scores"


def test_on_planted_tastes_the_baselines_come_out_in_their_known_order():
    *_, evaluation = measured()
    aucs = {row.model: row.auc for row in evaluation.rows}
    assert aucs["biased MF"] > 0.6
    assert aucs["user and item means"] > 0.6
    assert aucs["popularity"] > 0.5
    assert aucs["ncf"] < aucs["biased MF"], "an untrained ranker beats a trained one"


def test_every_slice_is_measured_on_its_own_rows():
    model, fitted_on, test, evaluation = measured()
    for row in evaluation.slice_rows:
        part = next(part for part in evaluation.slices if part.name == row.part)
        mine = part.members[test.user_index if part.side == "users" else test.item_index]
        assert (row.num_rows, row.num_users) == (mine.sum(), len(np.unique(test.user_index[mine])))
        if row.model == "ncf" and row.values:
            assert row.values["auc"] == pytest.approx(slow_auc(test.label[mine], predict(model, test)[mine]), abs=1e-9)
    shown = [row.part for row in evaluation.slice_rows if row.model == "ncf" and row.values]
    assert {"light users", "middle users", "head items", "tail items"} <= set(shown)
    counts = np.bincount(fitted_on.user_index, minlength=SHAPE[0])
    light, heavy = (
        counts[next(p for p in evaluation.slices if p.name == f"{name} users").members] for name in ("light", "heavy")
    )
    assert 0 < light.min() <= light.max() < heavy.min()


def test_a_slice_with_too_few_rows_of_a_label_has_counts_and_no_figures():
    model, fitted_on, test, _ = measured()
    kept = np.flatnonzero(test.label == 1)[:20].tolist() + np.flatnonzero(test.label == 0).tolist()
    few = evaluate({"ncf": model}, fitted_on, test.take(np.array(kept)), SHAPE, run_config())
    assert few.slice_rows
    assert all(row.num_rows and not row.values for row in few.slice_rows)
    assert np.isfinite(few.rows[0].auc)


def test_intervals_are_given_when_asked_for_and_hold_the_figures():
    model, fitted_on, test, evaluation = measured()
    assert evaluation.samples == 0
    assert all(not row.intervals for row in (*evaluation.rows, *evaluation.slice_rows))
    asked = evaluate({"ncf": model}, fitted_on, test, SHAPE, run_config(), samples=50)
    assert asked.samples == 50
    for row, bare in zip(asked.rows, evaluation.rows, strict=True):
        assert dataclasses.replace(row, intervals={}) == bare or np.isnan(bare.log_loss)
        assert set(row.intervals) == ({"auc"} if row.note else {"auc", "log_loss", "calibration_error"})
        for name in ("auc", *(() if row.note else ("log_loss",))):
            low, high = row.intervals[name]
            assert low < getattr(row, name) < high
    assert all(set(row.intervals) == set(row.values) for row in asked.slice_rows)


def test_the_split_and_the_label_rule_are_told():
    config = run_config(features=FeatureConfig(like_above=3.5), split=SplitConfig(kind="time"))
    model, fitted_on, test, _ = measured()
    evaluation = evaluate({"ncf": model}, fitted_on, test, SHAPE, config)
    assert evaluation.label_rule == label_rule(config) == "rating > 3.5"
    assert evaluation.split == config.split.describe()


def test_a_test_part_with_one_label_only_is_a_data_error():
    model, fitted_on, test, _ = measured()
    with pytest.raises(DataError, match=r"hold one label only.*larger test share"):
        evaluate({"ncf": model}, fitted_on, test.take(test.label == 1), SHAPE, run_config())


@pytest.mark.parametrize("refit", [True, False])
def test_a_bundle_measures_itself_as_its_training_did(refit, tmp_path):
    config = run_config(models=("ncf",), features=FeatureConfig(content_dim=0))
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, refit=refit))
    train_bundle(DATA, config, tmp_path / "bundle")
    bundle = load(tmp_path / "bundle")
    evaluation = evaluate_bundle(bundle)
    told = json.loads((tmp_path / "bundle" / "bundle.json").read_text())["metrics"]["test"]
    assert [row.model for row in evaluation.rows] == [row["model"] for row in told]
    for row, stored in zip(evaluation.rows, told, strict=True):
        assert row.auc == pytest.approx(stored["auc"], abs=1e-9)
        assert row.num_rows == stored["num_rows"] == (bundle.interactions.part == TEST).sum()
    report = (tmp_path / "bundle" / "reports" / "metrics.md").read_text()
    assert "## AUC per slice" in report
    assert "light users" in report
    fitted = bundle.interactions.of(*((TRAIN, VALIDATION) if refit else (TRAIN,)))
    assert bundle.encoded_users.statistics.count.sum() == len(fitted)


def test_a_bundle_with_nothing_to_measure_says_why(tmp_path):
    no_test = run_config(models=("ncf",), split=SplitConfig(test_share=0, validation_share=0.2))
    with pytest.raises(UsageError, match=r"rankers: \['ncf'\], test rows: 0"):
        evaluate_bundle(train_bundle(DATA, no_test, tmp_path / "untested"))
    content = train_bundle(DATA, run_config(models=("content",)), tmp_path / "content")
    with pytest.raises(UsageError, match="rankers: none"):
        evaluate_bundle(content)
