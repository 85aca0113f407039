"""Implicit feedback and other scales: what a run makes of its data, and what is measured against sampled negatives."""

import dataclasses
import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from small import dataset, run_config, tables_for

from sdk.base.config import DataConfig, FeatureConfig, HistoryConfig, RunConfig, TrainingConfig, to_json
from sdk.base.description import Description
from sdk.base.errors import DataError, UsageError
from sdk.data.labels import for_data
from sdk.features.interactions import TEST
from sdk.features.loaders import against_sampled
from sdk.features.tables import EncodedInteractions
from sdk.lab.tuning.objectives import RankerObjective
from sdk.measure.evaluation import evaluate_bundle
from sdk.measure.evaluation_report import as_text, as_values
from sdk.models.dlrm import DLRM
from sdk.models.pair_model import initialise_embeddings
from sdk.models.predict import predict
from sdk.training.loop import train
from sdk.training.pipeline import train_bundle

STARS = dataset()
SOME = RunConfig().models


def weighed(weights):
    """The toy data set's likes, as implicit feedback with these weights drawn."""
    liked = STARS.interactions.take(STARS.interactions.rating > 3)
    drawn = np.random.default_rng(0).choice(np.array(weights, np.float32), len(liked))
    rows = dataclasses.replace(liked, rating=drawn)
    return dataclasses.replace(STARS, interactions=rows, about=Description(feedback="implicit"))


def rated(values):
    """The toy data set's first ratings, with these values."""
    first = STARS.interactions.take(np.arange(len(values)))
    return dataclasses.replace(STARS, interactions=dataclasses.replace(first, rating=np.asarray(values, np.float32)))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return train_bundle(weighed([1, 2.5, 40]), run_config(models=SOME), tmp_path_factory.mktemp("implicit") / "bundle")


def test_every_model_learns_from_likes_alone_and_the_auc_is_called_what_it_is(bundle):
    assert bundle.info.models == tuple(name for name in SOME if name != "bfm")
    assert bundle.info.chosen_model in ("dlrm", "ncf")
    assert bundle.interactions.rows.label.all()
    metrics = bundle.info.metrics
    assert metrics["label_rule"] == "every pair (4 sampled negatives each, uniform)"
    assert metrics["auc"].startswith("against sampled negatives, 4 per like, drawn uniformly from what its user")
    page = (bundle.path / "reports" / "metrics.md").read_text()
    assert "| model | AUC against sampled negatives |" in page
    assert "measured against sampled negatives, 4 per like" in page
    assert json.loads((bundle.path / "reports" / "metrics.json").read_text())["auc"] == metrics["auc"]
    assert set(bundle.recommend(STARS.users["user_id"].to_pylist()[:2], 3).source) == {
        bundle.ranker_of_lists() or "history"
    }


def test_the_dlrm_learns_tastes_and_not_which_pairs_its_statistics_do_without():
    """Everybody has as many likes: were a like's own left out of its user's count, that would say all of it."""
    rng, taste = np.random.default_rng(0), np.arange(300) % 3
    liked = np.stack([rng.choice(np.flatnonzero(np.arange(60) % 3 == one), 12, replace=False) for one in taste])
    who, one = np.arange(3, 303, dtype=np.int32), np.ones(3600, np.int8)
    held = EncodedInteractions(who, liked[:, 0].astype(np.int32) + 3, one[:300])
    rows = EncodedInteractions(np.repeat(who, 11), liked[:, 1:].ravel().astype(np.int32) + 3, one[:3300])
    users, items = tables_for(rows, 300, 60)
    config = run_config(training=TrainingConfig(negatives="uniform", max_epochs=12, learning_rate=1e-2, batch_size=256))
    model = DLRM(config.dlrm, users, items)
    initialise_embeddings(model, config.training.embedding_std, 0)
    every = EncodedInteractions(
        *(np.concatenate([getattr(rows, name), getattr(held, name)]) for name in ("user_index", "item_index", "label"))
    )
    asked = against_sampled(held, every, len(items), config.training, 1)
    found = train(model, rows, None, config.training, name="dlrm")
    assert roc_auc_score(asked.label, predict(model, asked)) > 0.9
    assert found.history[-1].train_loss > 0.1


def test_negatives_are_nobodys_own_items_and_the_auc_over_them_is_sklearns(bundle):
    everything, test = bundle.interactions.rows, bundle.interactions.of(TEST)
    config, size = bundle.info.config, len(bundle.encoded_items)
    pairs = against_sampled(test, everything, size, config.training, config.split.seed)
    own = set(zip(everything.user_index.tolist(), everything.item_index.tolist(), strict=True))
    negative = list(
        zip(*(column[pairs.label == 0].tolist() for column in (pairs.user_index, pairs.item_index)), strict=True)
    )
    assert len(negative) == 4 * len(test)
    assert not own & set(negative)
    again = evaluate_bundle(bundle, samples=0)
    for row, stored in zip(again.rows, bundle.info.metrics["test"], strict=True):
        assert (row.auc, row.num_rows) == (pytest.approx(stored["auc"], abs=1e-9), 5 * len(test))
    for row in again.rows[:2]:
        scores = predict(bundle.model(row.model), pairs)
        assert row.auc == pytest.approx(roc_auc_score(pairs.label, scores), abs=1e-9)


def test_an_evaluation_says_neither_stars_nor_ratings(bundle):
    evaluation = evaluate_bundle(bundle, samples=0)
    text, values = as_text(evaluation), as_values(evaluation)
    assert "AUC against sampled negatives" in text
    assert "test pairs" in text
    assert "stars" not in text
    assert "test ratings" not in text
    assert values["auc"] == bundle.info.metrics["auc"]


def test_the_same_likes_and_seed_give_the_same_bits(bundle, tmp_path):
    again = train_bundle(weighed([1, 2.5, 40]), run_config(models=SOME), tmp_path / "again")
    names = [name for name in again.info.files if name.endswith((".safetensors", ".npz", "metrics.json"))]
    assert len(names) >= 4
    assert {name: again.info.files[name] for name in names} == {name: bundle.info.files[name] for name in names}


def test_the_draw_depends_on_its_seed_and_its_rows_alone():
    rng = np.random.default_rng(0)
    rows = EncodedInteractions(
        rng.integers(3, 9, 50).astype(np.int32), rng.integers(3, 40, 50).astype(np.int32), np.ones(50, np.int8)
    )
    training = dataclasses.replace(run_config().training, negatives="popularity", num_negatives=2)
    first, again, other = (against_sampled(rows, rows, 43, training, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.item_index, again.item_index)
    assert not np.array_equal(first.item_index, other.item_index)
    np.testing.assert_array_equal(first.user_index[50:], np.repeat(rows.user_index, 2))


def test_what_implicit_feedback_cannot_mean_is_refused():
    data = weighed([1.0, 2.0])
    with pytest.raises(UsageError, match="like_above: got 1, but the feedback is implicit"):
        for_data(data, RunConfig(features=FeatureConfig(like_above=1)))
    wrong = data.interactions.rating.copy()
    wrong[7] = 0
    broken = dataclasses.replace(data, interactions=dataclasses.replace(data.interactions, rating=wrong))
    with pytest.raises(DataError, match=r"1 of \d+ weights are not above 0; the first, in row 7, is 0"):
        for_data(broken, RunConfig())


SCALES = [(1.0, 10.0), (0.0, 100.0), (-10.0, 10.0), (1.0, 20.0), (0.0, 1.0), (2.0, 31.0)]


@pytest.mark.parametrize(("low", "high"), SCALES)
def test_a_rating_counts_as_the_stars_in_the_same_place_on_their_scale(low, high, caplog):
    stars = np.arange(0.5, 5.1, 0.5)
    stars = stars[stars != 3]  # the threshold itself is rounded
    theirs = low + (stars - 0.5) / 4.5 * (high - low)
    data = rated(theirs)
    caplog.set_level("INFO")
    settled, config = for_data(data, RunConfig())
    assert settled.about.feedback == "explicit"
    np.testing.assert_array_equal(theirs > config.features.like_above, stars > 3)
    np.testing.assert_allclose(config.history.weights(theirs), HistoryConfig().weights(stars), atol=0.02)
    assert (config.data.rating_min, config.data.rating_max) == (low, high)
    assert f"scale {low:g} to {high:g}" in caplog.text
    assert json.loads(json.dumps(to_json(config)))["features"]["like_above"] == config.features.like_above


def test_what_was_given_stays_and_movielens_is_as_it_was():
    ten = rated([1, 5, 8, 10])
    given = RunConfig(features=FeatureConfig(like_above=3), history=HistoryConfig(like_at=9))
    _, config = for_data(ten, given)
    assert (config.features.like_above, config.history.like_at) == (3, 9)
    assert config.history.star_weight == pytest.approx(0.2)
    named = RunConfig(data=DataConfig(rating_min=0, rating_max=20))
    assert for_data(ten, named)[1].features.like_above == 11
    assert to_json(for_data(STARS, RunConfig())[1]) == to_json(RunConfig())
    assert for_data(STARS, RunConfig())[0] is STARS


def test_a_threshold_is_held_to_the_scale_that_the_ratings_have():
    ten = rated([1, 5, 8, 10])
    assert for_data(ten, RunConfig(features=FeatureConfig(like_above=7)))[1].features.like_above == 7
    for above in (10, 12):
        with pytest.raises(UsageError, match=rf"like_above: got {above}, but .* from 1 to 10.* a number below 10"):
            for_data(ten, RunConfig(features=FeatureConfig(like_above=above)))


def test_few_steps_are_a_scale_of_their_own():
    items, users = STARS.items.select(["item_id", "title"]), STARS.users.select(["user_id"])
    about = Description(items={"title": "ignore"}, users={})
    for values, threshold in (([0, 1, 2], 1), ([1, 2, 3], 2)):
        data = dataclasses.replace(rated(values), items=items, users=users, about=about)
        _, config = for_data(data, RunConfig())
        assert (config.data.rating_min, config.data.rating_max) == (values[0], values[-1])
        assert config.features.like_above == threshold


def test_a_study_of_implicit_feedback_measures_what_training_measures(tmp_path):
    data, config = for_data(weighed([1.0]), run_config(models=("ncf",)))
    bundle = train_bundle(data, config, tmp_path / "bundle")
    found = RankerObjective(data, config, "ncf", tmp_path).once(config, 0)
    assert found == pytest.approx(bundle.info.metrics["validation_auc"]["ncf"], abs=1e-9)
