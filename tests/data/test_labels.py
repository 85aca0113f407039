"""Ratings of one label: what can learn from them is trained, and every remedy that a message gives works."""

from __future__ import annotations

import dataclasses
import logging
import re
from pathlib import Path

import numpy as np
import pytest
from data_files import csv_form, ratings_csv
from small import dataset, ratings, run_config

from sdk.__main__ import main
from sdk.base.config import DataConfig, FeatureConfig, RunConfig, SplitConfig
from sdk.base.errors import ConfigError, DataError
from sdk.base.types import Dataset, Interactions
from sdk.bundles.bundle import load
from sdk.data.labels import learnable
from sdk.data.splits import split
from sdk.lab.tuning.objectives import RankerObjective
from sdk.training.freshness import is_up_to_date
from sdk.training.pipeline import train_bundle

DATA = dataset()
RANDOM = np.random.default_rng(0)


def rated(*values: float) -> Dataset:
    """The toy data set with these ratings, drawn at random."""
    drawn = RANDOM.choice(np.array(values, np.float32), len(DATA.interactions))
    return dataclasses.replace(DATA, interactions=dataclasses.replace(DATA.interactions, rating=drawn))


def learns(rows: Interactions, config: RunConfig) -> RunConfig:
    return learnable(rows, split(rows, config.split), config)


def test_no_likes_train_what_learns_from_them_and_say_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = rated(1.0, 2.0)
    bundle = train_bundle(data, RunConfig(), tmp_path / "bundle")
    assert (bundle.info.models, bundle.info.chosen_model) == (("history", "content"), None)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "hold one label only" in warning
    assert "--like-above" in warning
    lists = load(tmp_path / "bundle").recommend(DATA.users["user_id"].to_pylist()[:3], 2)
    assert set(lists.source.tolist()) == {"history"}
    caplog.clear()
    assert is_up_to_date(tmp_path / "bundle", data, RunConfig())
    assert [record for record in caplog.records if record.levelno == logging.WARNING] == []


@pytest.mark.parametrize("values", [(1.0,), (5.0,), (4.0, 5.0)])
def test_likes_alone_are_taken_as_implicit_feedback_which_is_said_once(
    values: tuple[float, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, config = rated(*values), run_config()
    bundle = train_bundle(data, config, tmp_path / "bundle")
    assert bundle.info.models == config.models
    assert bundle.about.feedback == "implicit"
    assert bundle.interactions.rows.label.all()
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "taken as implicit feedback" in warning
    assert ("--like-above" in warning) == (len(values) > 1)
    caplog.clear()
    assert is_up_to_date(tmp_path / "bundle", data, config)
    assert [record for record in caplog.records if record.levelno == logging.WARNING] == []


def test_the_threshold_that_is_advised_gives_every_part_both_labels(caplog: pytest.LogCaptureFixture) -> None:
    rows = rated(3.5, 4.0, 4.5).interactions
    learns(rows, RunConfig())
    found = re.search(r"--like-above ([0-9.]+)", caplog.text)
    assert found
    better = RunConfig(features=FeatureConfig(like_above=float(found[1])))
    assert learns(rows, better) == better
    likes = rows.rating > better.features.like_above
    assert 0.2 < likes.mean() < 0.8


@pytest.mark.parametrize("models", [("dlrm",), ("ncf", "history"), ("dlrm", "content")])
def test_rankers_that_were_asked_for_are_refused_with_what_can_be_trained(
    models: tuple[str, ...], tmp_path: Path
) -> None:
    config = RunConfig(models=models)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"one label only \(all are no likes by rating > 3\).*--models history,content"):
        train_bundle(rated(1.0, 2.0), config, tmp_path / "bundle")
    train_bundle(rated(1.0, 2.0), RunConfig(models=("history", "content")), tmp_path / "bundle")
    with pytest.raises(DataError, match=r"one label only.*Search for --model history"):
        RankerObjective(rated(1.0, 2.0), config, "ncf", tmp_path)


def test_a_split_that_leaves_one_label_in_a_part_is_told_from_ratings_that_do() -> None:
    size = 200
    late_likes = np.where(np.arange(size) < 150, RANDOM.choice([2.0, 5.0], size), 5.0)
    rows = ratings(range(size), [1] * size, late_likes.tolist(), range(size))
    config = RunConfig(split=SplitConfig(kind="time"), models=("dlrm",))
    with pytest.raises(DataError, match=r"ratings of the test part hold one label only.*or --split random") as caught:
        learns(rows, config)
    assert "like-above" not in str(caught.value)
    assert learns(rows, dataclasses.replace(config, split=SplitConfig())).models == ("dlrm",)


@pytest.mark.parametrize("threshold", ["9", "5", "nan", "inf", "-inf"])
def test_a_threshold_that_no_rating_is_above_is_refused_before_any_work(
    threshold: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "--movielens", str(tmp_path / "none"), "--out", str(tmp_path / "b")]
    try:
        code: object = main([*arguments, f"--like-above={threshold}"])
    except SystemExit as stop:  # no number at all is the parser's
        code = stop.code
    assert code == 2
    assert re.search("like.above: got", capsys.readouterr().err)


def test_another_scale_may_have_a_threshold_of_its_own() -> None:
    RunConfig(data=DataConfig(rating_max=10), features=FeatureConfig(like_above=9))
    with pytest.raises(ConfigError, match="below the highest rating, 10"):
        RunConfig(data=DataConfig(rating_max=10), features=FeatureConfig(like_above=10))


@pytest.mark.parametrize("kind", ["time", "leave-last-out"])
def test_times_that_are_all_the_same_part_nothing(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{user},{item},{1 + 4 * (user * item % 2)},1300086400" for user in range(9) for item in (1, 2)]
    folder = csv_form(tmp_path / "data", ratings_csv(*rows))
    out = ["--out", str(tmp_path / "bundle"), "--max-epochs", "1", "--models", "history,content"]
    assert main(["train", "--movielens", str(folder), *out, "--split", kind]) == 3
    said = capsys.readouterr().err
    assert re.search(rf"--split {kind}: .*timestamp,? 1300086400.* Pass --split random", said)
    assert main(["train", "--movielens", str(folder), *out, "--split", "random"]) == 0


def test_a_cut_by_time_through_few_equal_times_stands() -> None:
    size = 100
    times = [
        *range(78),
        *[78] * 5,
        *range(83, 100),
    ]  # three of the five are held out
    parts = split(ratings(range(size), [1] * size, [3.0] * size, times), SplitConfig(kind="time"))
    assert parts.test.tolist() == list(range(80, 100))
    lump = [*range(10), *[10] * 90]
    with pytest.raises(DataError, match=r"90 of 100 ratings have the same timestamp, 10 \(1970-01-01T00:00:10 UTC\)"):
        split(ratings(range(size), [1] * size, [3.0] * size, lump), SplitConfig(kind="time"))
    early = [*[0] * 70, *range(1, 31)]  # as many of one moment, but before the cut
    split(ratings(range(size), [1] * size, [3.0] * size, early), SplitConfig(kind="time"))
