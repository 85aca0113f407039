"""The sampler against what is known without it: normal quantiles, exact posteriors, planted tastes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from small import dataset, jitter, planted, run_config, tables, tables_for

from sdk.base.config import BFMConfig, NegativeKind, TrainingConfig
from sdk.bundles.fresh import with_unknown_rows
from sdk.features.builtin import transform
from sdk.features.encode import Features
from sdk.features.loaders import against_sampled
from sdk.features.tables import FIRST_KNOWN, UNKNOWN, EncodedInteractions
from sdk.metrics.pointwise import auc
from sdk.models.predict import predict
from sdk.models.ranker import build_ranker, load_ranker, save_ranker
from sdk.training import gibbs
from sdk.training.gibbs_kernels import draw_rows, draw_weights, latent, normal_quantile, uniform
from sdk.training.pipeline import train_bundle
from sdk.training.sample_mean import SampleMean
from sdk.training.sampled import sample


@pytest.mark.parametrize("p", [1e-300, 1e-20, 1e-5, 0.02, 0.3, 0.5, 0.8, 0.99, 1 - 1e-12])
def test_quantiles_are_those_of_the_normal_distribution(p: float) -> None:
    assert normal_quantile(p) == pytest.approx(stats.norm.ppf(p), rel=1e-13, abs=1e-15)


@pytest.mark.parametrize("score", [-6.0, -1.0, 0.0, 2.5])
@pytest.mark.parametrize("label", [0, 1])
def test_latent_scores_come_from_a_normal_distribution_cut_to_the_labels_sign(score: float, label: int) -> None:
    drawn = np.array([latent(score, label, uniform(7, place)) for place in range(4000)])
    assert ((drawn > 0) == bool(label)).all()
    low, high = (-score, np.inf) if label else (-np.inf, -score)
    assert stats.kstest(drawn, stats.truncnorm(low, high, loc=score).cdf).pvalue > 0.001


def test_a_rows_draws_have_the_posterior_of_a_probit_regression() -> None:
    """Of one row's bias, against its density on a grid."""
    label = np.array([1, 1, 1, 0], np.int8)
    ratings = np.array([0, 4]), np.zeros(4, np.int32), label
    own, other, mean = np.zeros((1, 1), np.float32), np.full((1, 1), 0.3, np.float32), np.full((1, 1), -0.2, np.float32)
    drawn = []
    for seed in range(8000):
        draw_rows(ratings, own, own.copy(), other, mean, np.array([2.0]), seed, np.array([0, 1]))
        drawn.append(own[0, 0])
    grid = np.linspace(-5, 5, 2001)
    density = stats.norm.pdf(grid, -0.2, 2**-0.5) * stats.norm.cdf(grid + 0.3) ** 3 * stats.norm.cdf(-grid - 0.3)
    density /= density.sum()
    expected = (grid * density).sum()
    assert np.mean(drawn) == pytest.approx(expected, abs=0.025)
    assert np.std(drawn) == pytest.approx(np.sqrt((grid**2 * density).sum() - expected**2), abs=0.025)


def test_weights_have_the_posterior_of_a_ridge_regression() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(30, 4)).astype(np.float32)
    target = rng.normal(size=(30, 2)).astype(np.float32)
    columns = np.arange(0, 150, 30), np.tile(np.arange(30, dtype=np.int32), 4), features.T.ravel().copy()
    noise, prior = np.array([3.0, 0.7]), np.array([2.0, 5.0])
    rest, weights, drawn = target.copy(), np.zeros((4, 2), np.float32), []
    for seed in range(6000):
        draw_weights(columns, rest, weights, noise, prior, seed, 0)
        drawn.append(weights.copy())
    np.testing.assert_allclose(rest, target - features @ weights, atol=2e-3)
    for k in range(2):
        precision = noise[k] * features.T @ features + prior[k] * np.eye(4)
        expected = np.linalg.solve(precision, noise[k] * features.T @ target[:, k])
        np.testing.assert_allclose(np.mean(drawn, axis=0)[:, k], expected, atol=0.02)
        np.testing.assert_allclose(np.cov(np.array(drawn)[:, :, k].T), np.linalg.inv(precision), atol=0.02)


def test_the_mean_of_samples_is_the_mean_of_their_scores() -> None:
    rng = np.random.default_rng(1)
    basis = rng.normal(size=(50, 5)), rng.normal(size=(40, 5))
    mean, scores = SampleMean(8, np.ones(50, np.float32), np.ones(40, np.float32)), np.zeros((50, 40))
    for _ in range(90):  # more columns than are kept side by side
        turn = rng.normal(size=(5, 4))
        users, items = ((side @ turn).astype(np.float32) for side in basis)
        scores += (users[:, :-1] @ items[:, :-1].T + users[:, -1:] + items[:, -1]) / 90
        mean.add(users, items)
    (p, a), (q, b) = mean.result()
    assert p.shape == (50, 8)
    np.testing.assert_allclose(p @ q.T + a[:, None] + b, scores, atol=2e-4)


def test_a_cut_keeps_what_weighs_most() -> None:
    rng = np.random.default_rng(2)
    users, items = rng.normal(size=(30, 7)).astype(np.float32), rng.normal(size=(20, 7)).astype(np.float32)
    weight = np.where(np.arange(30) < 3, 100, 1).astype(np.float32)
    mean = SampleMean(3, weight, np.ones(20, np.float32))
    mean.add(users, items)
    (p, _), (q, _) = mean.result()
    exact = users[:, :-1] @ items[:, :-1].T
    left, singular, right = np.linalg.svd(weight[:, None] * exact)
    np.testing.assert_allclose(weight[:, None] * (p @ q.T), (left[:, :3] * singular[:3]) @ right[:3], atol=1e-3)
    assert np.abs(p @ q.T - exact)[:3].max() < 0.1 < np.abs(p @ q.T - exact)[3:].max()


def test_the_number_of_cores_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = planted(3)
    found = []
    for cores in (1, 3):
        monkeypatch.setattr(gibbs, "usable_cores", lambda cores=cores: cores)
        chain = gibbs.Chain(rows, *tables(0, 60, 40), 6, 5, by_others=True)
        with ThreadPoolExecutor(cores) as pool:
            for _ in range(4):
                chain.sweep(pool)
        found.append((chain.users.vectors.copy(), chain.items.vectors.copy(), chain.items.blocks[0].weights.copy()))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("negatives", ["none", "uniform"])
def test_planted_tastes_are_found_and_probabilities_hold(negatives: NegativeKind) -> None:
    """Nearly as well as the tastes themselves tell; of sampled negatives, what is watched above what is not."""
    rows, held_out = planted(0, num_users=150, num_items=80, share=0.4, dim=2)
    training = TrainingConfig(negatives=negatives, num_negatives=2)
    config = run_config(bfm=BFMConfig(rank=4, width=8, max_epochs=4), training=training)
    users, items = tables_for(rows, 150, 80)
    if negatives != "none":
        rows, held_out = (part.take(part.label == 1) for part in (rows, held_out))
        known = EncodedInteractions(*(np.concatenate(p) for p in zip(columns(rows), columns(held_out), strict=True)))
        held_out = against_sampled(held_out, known, len(items), training, 1)
    model = build_ranker("bfm", config, users, items)
    history = sample(model, Features(users, items, {}, transform), rows, held_out, config, name="bfm")
    found = predict(model, held_out)
    assert auc(held_out.label, found) == pytest.approx(history[-1].auc, abs=0.002)  # cut, it loses nothing
    popular = np.bincount(rows.item_index, rows.label, len(items))[held_out.item_index]
    assert history[-1].auc > (0.87 if negatives == "none" else auc(held_out.label, popular) + 0.03)
    likely = 1 / (1 + np.exp(-found))
    assert likely.mean() == pytest.approx(held_out.label.mean(), abs=0.06)


def columns(rows: EncodedInteractions) -> tuple[np.ndarray, ...]:
    return rows.user_index, rows.item_index, rows.label


def test_rows_that_were_not_trained_score_as_unknown_ones_also_where_they_shift_the_others(tmp_path: Path) -> None:
    config = run_config(bfm=BFMConfig(width=4))
    users, items = tables(1, 6, 5)
    model = jitter(build_ranker("bfm", config, users, items))
    save_ranker(model, tmp_path / "bfm.safetensors")
    more = with_unknown_rows(with_unknown_rows(items, np.array([-5])), np.array([10**6]))
    loaded = load_ranker("bfm", config, users, more, tmp_path / "bfm.safetensors")
    before, after = model.lower(), loaded.lower()
    np.testing.assert_array_equal(after.users.dot, before.users.dot)
    np.testing.assert_array_equal(after.items.dot[more.index_of(items.known_ids)], before.items.dot[FIRST_KNOWN:])
    for new in more.index_of(np.array([-5, 10**6])):
        np.testing.assert_array_equal(after.items.dot[new], before.items.dot[UNKNOWN])
        assert after.items.bias[new] == before.items.bias[UNKNOWN]


@pytest.mark.parametrize("name", ["bfm", "best"])
def test_a_bundle_holds_it_and_lists_by_it(name: str, tmp_path: Path) -> None:
    config = run_config(models=("bfm", "ncf"), bfm=BFMConfig(rank=3, width=4, max_epochs=1))
    bundle = train_bundle(dataset(), config, tmp_path / "bundle")
    aucs = bundle.info.metrics["validation_auc"]
    assert bundle.resolve_model("best") == max(aucs, key=lambda each: aucs[each])
    again = train_bundle(dataset(), config, tmp_path / "again")
    assert (again.path / "bfm.safetensors").read_bytes() == (bundle.path / "bfm.safetensors").read_bytes()
    form, users = bundle.model(name).lower(), bundle.encoded_users.known_ids[:3]
    found = bundle.recommend(users, 4, model=name)
    rows, items = bundle.encoded_users.index_of(users), bundle.encoded_items
    for place, length in enumerate(found.lengths):
        listed = items.index_of(found.item_id[place, :length])
        expected = form.score_pairs(np.repeat(rows[place], length), listed)
        np.testing.assert_allclose(found.scores[place, :length], expected, atol=1e-5)
