"""What is published learns from every rating; what is measured never saw the test part."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import small

import sdk
from sdk.base.config import HistoryConfig, RunConfig
from sdk.base.errors import BundleError
from sdk.base.files import sha256_of
from sdk.bundles.bundle import Bundle, load
from sdk.features.interactions import TRAIN
from sdk.features.tables import FIRST_KNOWN
from sdk.measure.evaluation import evaluate_bundle
from sdk.measure.evaluation_report import as_values
from sdk.models.history.model import HistoryModel
from sdk.training.pipeline import train_bundle

MODELS = ("dlrm", "ncf", "history", "content")


def config(**changes: object) -> RunConfig:
    """Rankers and a history model whose penalty is chosen."""
    return small.run_config(models=MODELS, **changes)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return train_bundle(small.dataset(), config(), tmp_path_factory.mktemp("plain") / "bundle")


@pytest.fixture(scope="module")
def final(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return train_bundle(small.dataset(), config(final_fit=True), tmp_path_factory.mktemp("final") / "bundle")


def hashes(folder: Path) -> dict[str, str]:
    """Every file but ``bundle.json`` and the reports."""
    files = (path for path in folder.rglob("*") if path.is_file() and "reports" not in path.parts)
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files if path.name != "bundle.json"}


def test_what_was_measured_is_what_a_run_without_a_final_fit_makes(plain: Bundle, final: Bundle) -> None:
    assert plain.measured is plain
    assert hashes(final.measured.path) == hashes(plain.path)
    assert final.info.metrics["test"] == plain.info.metrics["test"]
    assert final.info.metrics["validation_auc"] == plain.info.metrics["validation_auc"]
    assert final.info.metrics["history"] == plain.info.metrics["history"]
    ours, theirs = (as_values(evaluate_bundle(bundle, samples=20)) for bundle in (final, plain))
    assert ours.pop(
        "learnt"
    ) == "Measured after learning from {:,} ratings; what is published learnt from all {:,}.".format(
        *(final.info.metrics["num_learnt"][name] for name in ("measured", "published"))
    )
    assert json.dumps(ours) == json.dumps(theirs)


def test_what_is_published_learnt_from_every_rating(plain: Bundle, final: Bundle) -> None:
    rated = final.interactions
    assert (rated.part == TRAIN).all()
    assert len(rated.rows) == len(plain.interactions.rows) == final.info.metrics["num_learnt"]["published"]
    for table, index in (
        (final.encoded_users, rated.rows.user_index), (final.encoded_items, rated.rows.item_index),
    ):  # fmt: skip
        np.testing.assert_array_equal(table.statistics.count, np.bincount(index, minlength=len(table)))
    assert final.measured.encoded_items.statistics.count.sum() < len(rated.rows)


def test_the_published_history_model_has_the_measured_choices_and_all_ratings(final: Bundle) -> None:
    rated, measured = final.interactions, final.measured
    assert final.history is not None
    assert measured.history is not None
    chosen = measured.history.config
    vectors = final.content.vectors(chosen.feature_dim, seed=chosen.seed)
    known = np.vstack([np.zeros((FIRST_KNOWN, vectors.shape[1]), np.float32), vectors])
    expected = HistoryModel.fit(
        rated.rows.user_index, rated.rows.item_index, rated.rating, len(final.encoded_users),
        len(final.encoded_items), known, chosen,
    )  # fmt: skip
    np.testing.assert_allclose(
        final.history.item_in @ final.history.item_out.T, expected.item_in @ expected.item_out.T, atol=1e-6
    )
    assert isinstance(chosen, HistoryConfig)
    assert final.history.config.penalty == chosen.penalty


def test_rankers_change_and_the_lists_are_the_published_ones(plain: Bundle, final: Bundle) -> None:
    pairs = final.interactions.rows
    assert not np.allclose(final.model("dlrm").lower().users.dot, plain.model("dlrm").lower().users.dot)
    users = np.unique(final.encoded_users.ids[pairs.user_index])[:5]
    assert final.recommend(users, 5).item_id.shape == (5, 5)


def test_without_a_test_part_there_is_nothing_to_learn_again(tmp_path: Path) -> None:
    run = config(final_fit=True)
    run = dataclasses.replace(run, split=dataclasses.replace(run.split, test_share=0.0))
    bundle = train_bundle(small.dataset(), run, tmp_path / "bundle")
    assert bundle.measured is bundle
    assert not (bundle.path / "measured").exists()
    with pytest.raises(sdk.UsageError, match="nothing to evaluate"):
        evaluate_bundle(bundle)


def test_an_altered_measured_part_is_refused_when_it_is_opened(final: Bundle, tmp_path: Path) -> None:
    copy = shutil.copytree(final.path, tmp_path / "bundle")
    (copy / "measured" / "users.parquet").write_bytes(b"")
    assert load(copy).recommend([1], 3).item_id.shape == (1, 3)
    with pytest.raises(BundleError, match="altered"):
        evaluate_bundle(load(copy))
    (copy / "measured" / "bundle.json").write_text("{}")
    with pytest.raises(BundleError, match=r"measured/bundle\.json: altered"):
        load(copy)
