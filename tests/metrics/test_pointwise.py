"""Metrics of rated pairs against scikit-learn, torchmetrics and slow obvious versions."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from sdk.metrics import pointwise as metrics

FEW_SCORES = st.integers(-3, 3).map(lambda n: n / 2)  # few distinct values, hence many ties
ROWS = st.lists(st.tuples(st.integers(0, 1), FEW_SCORES), min_size=1, max_size=60)


def columns(rows):
    labels, scores = zip(*rows, strict=True)
    return np.array(labels), np.array(scores, np.float32)


@given(ROWS)
def test_auc_is_the_share_of_pairs_in_the_right_order_with_ties_worth_half(rows):
    labels, scores = columns(rows)
    assume(0 < labels.sum() < len(labels))
    pairs = [(p > n) + 0.5 * (p == n) for p, n in itertools.product(scores[labels == 1], scores[labels == 0])]
    assert metrics.auc(labels, scores) == pytest.approx(np.mean(pairs), abs=1e-12)
    assert metrics.auc(labels, scores) == pytest.approx(sklearn_metrics.roc_auc_score(labels, scores), abs=1e-12)


@given(ROWS)
def test_auc_ignores_monotone_rescaling_and_row_order_and_mirrors_when_labels_flip(rows):
    labels, scores = columns(rows)
    assume(0 < labels.sum() < len(labels))
    value = metrics.auc(labels, scores)
    assert metrics.auc(labels.astype(bool), np.exp(scores.astype(np.float64))) == value
    assert metrics.auc(labels[::-1], scores[::-1]) == value
    assert metrics.auc(1 - labels, scores) == pytest.approx(1 - value, abs=1e-12)


def test_auc_crosses_chunk_borders_exactly(monkeypatch):
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 1000), rng.normal(size=1000).round(1)
    whole = metrics.auc(labels, scores)
    monkeypatch.setattr(metrics, "_CHUNK", 7)
    assert metrics.auc(labels, scores) == whole
    assert whole == pytest.approx(sklearn_metrics.roc_auc_score(labels, scores), abs=1e-12)


def test_auc_leaves_its_inputs_alone_and_takes_infinite_scores():
    labels, scores = np.array([1, 0, 1, 0]), np.array([np.inf, -np.inf, 0.0, 0.0])
    before = scores.copy()
    assert metrics.auc(labels, scores) == 7 / 8
    np.testing.assert_array_equal(scores, before)


def test_auc_agrees_with_torchmetrics():
    torchmetrics = pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")
    torch = pytest.importorskip("torch", reason="torch is not installed")
    rng = np.random.default_rng(1)
    labels, scores = rng.integers(0, 2, 400), rng.random(400).round(2).astype(np.float32)
    theirs = torchmetrics.functional.auroc(torch.from_numpy(scores), torch.from_numpy(labels), task="binary")
    assert metrics.auc(labels, scores) == pytest.approx(float(theirs), abs=1e-6)  # theirs is float32


@pytest.mark.parametrize(
    ("labels", "scores", "cause"),
    [
        ([1, 1], [0.1, 0.2], "no negative label among 2 rows"),
        ([0, 0], [0.1, 0.2], "no positive label among 2 rows"),
        ([0, 1], [0.1, math.nan], "the score of row 1 is NaN"),
        ([0, 4.5], [0.1, 0.2], "label 4.5 in row 1"),
        ([0, 1], [0.1], "expected two equal"),
        ([], [], "no rows"),
    ],
)
def test_auc_refuses_what_it_cannot_measure_and_names_the_cause(labels, scores, cause):
    with pytest.raises(ValueError, match=cause):
        metrics.auc(np.array(labels), np.array(scores, np.float64))


@given(ROWS)
def test_log_loss_agrees_with_scikit_learn(rows):
    labels, logits = columns(rows)
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    expected = sklearn_metrics.log_loss(labels, probabilities, labels=[0, 1])
    assert metrics.log_loss(labels, logits) == pytest.approx(expected, rel=1e-12)


def test_log_loss_is_exact_where_a_probability_would_round_to_0_or_1():
    logits = np.array([800.0, -800.0, 800.0, -40.0])
    assert metrics.log_loss(np.array([1, 0, 0, 1]), logits) == pytest.approx((0 + 0 + 800 + 40) / 4, rel=1e-12)
    assert metrics.log_loss(np.array([1]), np.array([-np.inf])) == math.inf
    assert metrics.log_loss(np.array([0]), np.array([-np.inf])) == 0


def test_log_loss_does_not_depend_on_the_chunk(monkeypatch):
    rng = np.random.default_rng(2)
    labels, logits = rng.integers(0, 2, 100), rng.normal(size=100)
    whole = metrics.log_loss(labels, logits)
    monkeypatch.setattr(metrics, "_CHUNK", 9)
    assert metrics.log_loss(labels, logits) == pytest.approx(whole, rel=1e-14)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5).map(lambda n: n / 5)), min_size=1), st.integers(1, 12))
def test_calibration_puts_every_row_in_the_bin_its_edges_say(rows, bins):
    labels, probabilities = columns(rows)
    got = metrics.calibration(labels, probabilities, bins)
    assert 1 <= len(got.counts) <= bins
    assert got.counts.sum() == len(rows)
    last = len(got.counts) - 1
    for b, (low, high) in enumerate(itertools.pairwise(got.edges)):
        inside = (probabilities >= low) & ((probabilities <= high) if b == last else (probabilities < high))
        assert got.counts[b] == inside.sum() > 0
        assert got.mean_predicted[b] == pytest.approx(probabilities[inside].mean(), abs=1e-6)
        assert got.observed_share[b] == pytest.approx(labels[inside].mean())


def test_calibration_bins_hold_equally_many_rows_where_nothing_ties():
    rng = np.random.default_rng(3)
    got = metrics.calibration(rng.integers(0, 2, 1003), rng.random(1003), 10)
    assert set(got.counts.tolist()) <= {100, 101}


def test_two_distinct_probabilities_are_not_averaged_away():
    labels, probabilities = np.array([1] * 5 + [0] * 5), np.array([0.1] * 5 + [0.9] * 5)  # the wrong way round
    assert metrics.calibration(labels, probabilities).expected_error == pytest.approx(0.9)


def test_calibration_error_is_small_for_true_probabilities_and_large_for_overconfident_ones():
    rng = np.random.default_rng(4)
    truth = rng.beta(2, 2, 50_000)
    labels = rng.random(50_000) < truth
    overconfident = np.clip(2 * truth - 0.5, 0, 1)
    assert metrics.calibration(labels, truth).expected_error < 0.01
    expected = np.abs(overconfident - truth).mean()  # every bin errs to one side, so the bins lose little
    assert metrics.calibration(labels, overconfident).expected_error == pytest.approx(expected, abs=0.02)


def test_calibration_error_agrees_with_torchmetrics_where_both_cut_the_same_bins():
    torchmetrics = pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")
    torch = pytest.importorskip("torch", reason="torch is not installed")
    rng = np.random.default_rng(9)
    probabilities = ((np.arange(2000) + 0.5) / 2000).astype(np.float32)  # equally many rows and equal widths at once
    labels = (rng.random(2000) < probabilities**2).astype(np.int64)
    order = rng.permutation(2000)
    theirs = torchmetrics.functional.classification.binary_calibration_error(
        torch.from_numpy(probabilities[order]), torch.from_numpy(labels[order]), n_bins=10, norm="l1"
    )
    ours = metrics.calibration(labels[order], probabilities[order], 10).expected_error
    assert ours > 0.1
    assert ours == pytest.approx(float(theirs), abs=1e-6)  # theirs is float32


def test_sigmoid_is_the_logistic_function_and_stays_finite():
    logits = np.array([-1e30, -800, -3, 0, 0.5, 800, np.inf], np.float32)
    with np.errstate(over="ignore"):
        expected = 1 / (1 + np.exp(-logits.astype(np.float64)))
    np.testing.assert_allclose(metrics.sigmoid(logits), expected, atol=1e-7)


@pytest.mark.parametrize(
    ("probability", "bins", "cause"), [(1.5, 10, "not logits"), (-0.1, 10, "not logits"), (0.5, 0, "bins=0")]
)
def test_calibration_refuses_logits_and_no_bins(probability, bins, cause):
    with pytest.raises(ValueError, match=cause):
        metrics.calibration(np.array([0, 1]), np.array([0.5, probability]), bins)


def test_metrics_and_report_load_no_heavy_package():
    code = (
        "import sys, sdk.metrics.pointwise, sdk.measure.evaluation_report, sdk.measure.baselines;"
        "print([m for m in ('torch', 'sklearn', 'matplotlib', 'numba', 'nvtabular') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
