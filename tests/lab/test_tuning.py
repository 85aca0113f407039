"""A search finds a known optimum, goes on where it stopped, ends poor trials, and never reads the test part."""

from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import pytest
from small import dataset, run_config

from sdk.__main__ import main
from sdk.base.config import HistoryConfig, RunConfig, from_json, to_json
from sdk.base.errors import ConfigError, LockedError, OutputError, ScoreError, UnusableFileError, UsageError
from sdk.data.splits import split
from sdk.lab.tuning.objectives import HistoryObjective, RankerObjective
from sdk.lab.tuning.search import Search, Trial, TuningResult, opened_study, tune
from sdk.lab.tuning.space import SPACES, Choice, Range, field_of, space_around, with_fields
from sdk.lab.tuning.study_report import as_json, as_markdown, draw_history, draw_slices, fields_to_set, write_tuning
from sdk.measure.list_evaluation import split_positives
from sdk.shell.cli import Terminated
from sdk.shell.parser import what_helps

pytest.importorskip("optuna", reason="no optuna: pip install '.[tune]'")

SPACE = (
    Range("history.penalty", 10.0, 1000.0, log=True),
    Range("history.star_weight", 0.0, 1.0),
    Choice("dlrm.top_mlp", ((8,), (8, 4), (16,))),
)
LONG = 4  # reports per trial
TOY = run_config(
    history=HistoryConfig(penalty=300.0, rank=8, feature_dim=4), models=("dlrm", "ncf", "history", "content")
)


class Hill:
    """A known optimum: penalty 100, star weight 0.7, top MLP (16,). Poor trials rise slowly and are pruned."""

    metric = "height"
    patience = 2

    def __init__(self, stop_at=None, error=KeyboardInterrupt):
        self.calls, self.stop_at, self.error = 0, stop_at, error

    def once(self, config, repeat):
        distance = np.log10(config.history.penalty / 100) ** 2 + (config.history.star_weight - 0.7) ** 2
        return float(2 - distance - (0 if config.dlrm.top_mlp == (16,) else 0.3))

    def measure(self, config, repeats, report):
        self.calls += 1
        height = self.once(config, 0)
        for step in range(1, LONG + 1):
            report(step, height * step / LONG)
            if self.calls == self.stop_at and step == LONG // 2:
                raise self.error
        return height


def climb(path, num_trials, hill=None, config=None, **options):
    hill = hill or Hill()
    with opened_study(path, "toy", {"hill": "one"}) as study:
        search = Search(study, hill, config or TOY, SPACE, 1)
        search.run(num_trials, **options)
        return search.trials()


def plain(trials):
    """Trials without their numbers, which count interrupted ones too, and times."""
    return [(trial.value, trial.pruned, dict(trial.fields)) for trial in trials]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return climb(tmp_path_factory.mktemp("toy") / "study.db", 30)


# the search ----------------------------------------------------------------------------------------------------------


def test_the_first_trial_is_the_run_as_it_was_given(undisturbed):
    assert dict(undisturbed[0].fields) == {p.field: field_of(TOY, p.field) for p in SPACE}
    assert undisturbed[0].value == Hill().once(TOY, 0)


def test_a_known_optimum_is_found(undisturbed):
    best = max(undisturbed, key=lambda trial: (not trial.pruned, trial.value))
    assert best.value > 1.95
    assert best.fields["dlrm.top_mlp"] == (16,)
    assert best.fields["history.penalty"] == pytest.approx(100, rel=0.5)


def test_poor_trials_are_ended_early_and_good_ones_are_not(undisturbed):
    pruned = [trial for trial in undisturbed if trial.pruned]
    assert 5 <= len(pruned) < 30
    heights = [Hill().once(with_fields(TOY, trial.fields), 0) for trial in undisturbed]
    worst_complete = np.median([h for h, trial in zip(heights, undisturbed, strict=True) if not trial.pruned])
    for height, trial in zip(heights, undisturbed, strict=True):
        if trial.pruned:
            assert height < worst_complete
            assert trial.value < height  # its last report, not its end


def test_a_study_stopped_at_any_trial_ends_as_an_undisturbed_one(tmp_path, undisturbed):
    path = tmp_path / "study.db"
    for stop_at, error in ((1, KeyboardInterrupt), (4, Terminated), (9, KeyboardInterrupt)):
        with pytest.raises(error):
            climb(path, 30, Hill(stop_at, error))
    assert len(climb(path, 3)) == 11  # 0, 3 and 8 trials were added: nothing is lost, nothing more is asked for
    assert plain(climb(path, 30)) == plain(undisturbed)


def test_a_study_killed_outright_is_gone_on_with(tmp_path, undisturbed):
    path = tmp_path / "study.db"
    climb(path, 6)
    with opened_study(path, "toy", {"hill": "one"}) as study:
        study.ask({})  # a trial that was running when the process died
    assert plain(climb(path, 12)) == plain(undisturbed[:12])


def test_another_seed_tries_other_values(tmp_path, undisturbed):
    other = climb(tmp_path / "study.db", 5, config=TOY.with_seed(1))
    assert plain(other)[0] == plain(undisturbed)[0]
    assert all(a != b for a, b in zip(plain(other)[1:], plain(undisturbed)[1:5], strict=True))


def test_no_trial_is_started_when_the_time_is_up(tmp_path, undisturbed):
    assert climb(tmp_path / "study.db", 30, timeout_s=0) == ()


def test_a_diverging_trial_is_a_poor_one_not_the_end(tmp_path):
    trials = climb(tmp_path / "study.db", 3, Hill(2, ScoreError("the loss became nan")))
    assert [trial.pruned for trial in trials] == [False, True, False]


# the study's file ----------------------------------------------------------------------------------------------------


def test_a_study_of_other_facts_is_refused_by_name(tmp_path):
    with opened_study(tmp_path / "study.db", "toy", {"data": "one", "model": "toy"}):
        pass
    with pytest.raises(UsageError, match=r"study\.db: its toy study is of another data, so"):
        with opened_study(tmp_path / "study.db", "toy", {"data": "two", "model": "toy"}):
            pass


def test_a_file_that_is_no_study_is_refused(tmp_path):
    (tmp_path / "study.db").write_text("userId,movieId\n" * 100)
    with pytest.raises(UnusableFileError, match=r"study\.db: no study can be kept in it"):
        climb(tmp_path / "study.db", 1)


def test_a_study_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="another --study"):
        climb(tmp_path / "file" / "study.db", 1)


def test_two_runs_never_share_a_study(tmp_path):
    with opened_study(tmp_path / "study.db", "toy", {}):
        with pytest.raises(LockedError, match="another run"):
            climb(tmp_path / "study.db", 1)


# real objectives -----------------------------------------------------------------------------------------------------


def poisoned(data, config):
    """The data with every rating of either test part turned into its opposite, and given to another title.

    Likes by protocol B stay likes, since the protocol counts them to draw.
    """
    ratings = data.interactions
    test = np.zeros(len(ratings), bool)
    test[split(ratings, config.split).test] = True
    list_test = np.zeros(len(ratings), bool)
    list_test[split_positives(ratings, seed=config.split.seed).held_out] = True
    stars, item = ratings.rating.copy(), ratings.item_id.copy()
    stars[test] = np.where(stars[test] >= 4, 9 - stars[test], 4 - stars[test])
    stars[list_test] = 9 - stars[list_test]
    item[test | list_test] = np.roll(item[test | list_test], 1)
    assert ((stars != ratings.rating) | (item != ratings.item_id))[test].mean() > 0.9
    return dataclasses.replace(data, interactions=dataclasses.replace(ratings, rating=stars, item_id=item))


@pytest.fixture(scope="module")
def objective(tmp_path_factory):
    return RankerObjective(dataset(), TOY, "dlrm", tmp_path_factory.mktemp("dlrm"))


def flipped_labels(rows):
    """The data with these ratings' labels turned over."""
    data = dataset()
    stars = data.interactions.rating.copy()
    stars[rows] = np.where(stars[rows] > TOY.features.like_above, 0.5, 5.0)
    return dataclasses.replace(data, interactions=dataclasses.replace(data.interactions, rating=stars))


def test_flipping_every_test_label_changes_no_value_of_a_rankers_study(tmp_path, objective):
    parts = split(dataset().interactions, TOY.split)
    value = objective.once(TOY, 0)
    assert RankerObjective(flipped_labels(parts.test), TOY, "dlrm", tmp_path / "test").once(TOY, 0) == value
    spoilt = RankerObjective(flipped_labels(parts.validation), TOY, "dlrm", tmp_path / "validation").once(TOY, 0)
    assert spoilt == pytest.approx(1 - value, abs=0.2)
    assert spoilt != value


def test_poisoned_test_parts_change_no_value_of_the_history_models_study():
    clean, spoilt = HistoryObjective(dataset(), TOY), HistoryObjective(poisoned(dataset(), TOY), TOY)
    values = [clean.once(TOY, draw) for draw in range(3)]
    assert [spoilt.once(TOY, draw) for draw in range(3)] == values
    assert len(set(values)) > 1


def test_the_history_models_value_is_what_the_slow_obvious_way_gives():
    """Every score by hand from the fitted model's vectors, every NDCG from its definition."""
    from sdk.models.content.model import ContentModel
    from sdk.models.history.model import HistoryModel

    data, config = dataset(), TOY
    ratings = data.interactions
    parts = split(ratings, config.split)
    within = np.intersect1d(np.union1d(parts.train, parts.validation), split_positives(ratings).train)
    draw = split_positives(ratings, seed=7, within=within)
    user_ids, item_ids = data.users.column("user_id").to_pylist(), data.items.column("item_id").to_pylist()
    rows = [(user_ids.index(u) + 3, item_ids.index(i) + 3) for u, i in zip(ratings.user_id, ratings.item_id)]  # noqa: B905
    vectors = np.vstack([np.zeros((3, 4)), ContentModel(config.content).fit(data.items).vectors(4)])
    known = np.array([rows[row] for row in draw.train])
    sizes = len(user_ids) + 3, len(item_ids) + 3
    columns = known[:, 0], known[:, 1], ratings.rating[draw.train]
    model = HistoryModel.fit(*columns, *sizes, vectors.astype(np.float32), config.history)
    scores, told = (
        {user: model.item_bias.astype(float).copy() for user in range(sizes[0])},
        dict.fromkeys(range(sizes[0]), 0.0),
    )
    for user, item, stars in zip(*columns, strict=True):
        weight = max(config.history.least_weight, 1 + config.history.star_weight * (stars - config.history.like_at))
        scores[user] += weight * (model.item_out.astype(float) @ model.item_in[item].astype(float))
        told[user] += weight
    for user in np.unique(columns[0]):
        boost = config.history.popularity_boost / (told[user] + config.history.boost_titles)
        scores[user] += boost * model.item_bias.astype(float)
    wanted = {}
    for row in draw.held_out:
        wanted.setdefault(rows[row][0], set()).add(rows[row][1])
    values = []
    for user, relevant in wanted.items():
        seen = {item for u, item in known if u == user}
        order = sorted((i for i in range(3, sizes[1]) if i not in seen), key=lambda i: (-scores[user][i], i))[:10]
        gain = sum(1 / np.log2(rank + 2) for rank, item in enumerate(order) if item in relevant)
        values.append(gain / sum(1 / np.log2(rank + 2) for rank in range(min(10, len(relevant)))))
    assert HistoryObjective(data, config).once(config, 0) == pytest.approx(np.mean(values), abs=1e-6)


def test_features_are_fitted_once_per_distinct_configuration(tmp_path):
    objective = RankerObjective(dataset(), TOY, "dlrm", tmp_path)
    small = with_fields(TOY, {"training.max_epochs": 1})
    wide = with_fields(small, {"features.content_dim": 5})
    values = [objective.once(each, 0) for each in (small, with_fields(small, {"dlrm.dot_dim": 2}), wide, small)]
    assert len(list(tmp_path.iterdir())) == 2
    assert values[0] == values[3]
    assert len(set(values)) == 3


def test_a_rankers_reports_are_its_best_auc_so_far_and_its_value_the_mean_of_its_seeds(objective):
    heard = []
    value = objective.measure(TOY, 2, lambda step, best: heard.append((step, best)))
    once = [objective.once(TOY.with_seed(seed), 0) for seed in (0, 1)]
    assert value == pytest.approx(np.mean(once), abs=1e-12)
    assert [step for step, _ in heard] == list(range(1, len(heard) + 1))
    assert [best for _, best in heard] == sorted(best for _, best in heard)
    assert heard[-1][1] == once[0]


# spaces --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", SPACES)
def test_the_defaults_lie_in_each_space_and_nothing_that_values_are_measured_on_is_searched(model):
    chosen_by_rule = {p for p in SPACES[model] if field_of(RunConfig(), p.field) is None}
    assert space_around(model, RunConfig()) == tuple(p for p in SPACES[model] if p not in chosen_by_rule)
    for parameter in SPACES[model]:
        section, field = parameter.field.split(".")
        assert section in (model, "training", "features")
        assert field not in ("seed", "like_above", "refit")


def test_a_space_is_widened_to_hold_the_run_that_it_starts_from():
    outside = {"training.learning_rate": 0.05, "dlrm.embedding_dim": 24, "training.bias_l2": 0.0}
    space = {p.field: p for p in space_around("dlrm", with_fields(RunConfig(), outside))}
    assert space["training.learning_rate"].high == 0.05
    assert space["dlrm.embedding_dim"].values == (8, 16, 32, 64, 24)
    assert space["training.bias_l2"] == Range("training.bias_l2", 0.0, 0.05)


def test_fields_are_set_by_their_paths_and_checked_again():
    changed = with_fields(RunConfig(), {"dlrm.top_mlp": (8,), "training.seed": 3})
    assert changed == dataclasses.replace(
        RunConfig(),
        dlrm=dataclasses.replace(RunConfig().dlrm, top_mlp=(8,)),
        training=dataclasses.replace(RunConfig().training, seed=3),
    )
    with pytest.raises(ConfigError, match=r"TrainingConfig\.learning_rate"):
        with_fields(RunConfig(), {"training.learning_rate": -1.0})


# reports and the command ---------------------------------------------------------------------------------------------


def result_of(trials):
    return TuningResult("history", "height", "toy", TOY, SPACE, tuple(trials), {"history.penalty": 0.75})


def test_the_table_shows_the_best_ten_and_the_default(undisturbed):
    result = result_of(undisturbed)
    rows = [line.split("|")[1:3] for line in as_markdown(result).splitlines() if line.startswith("| ")][1:]
    complete = sorted((t for t in undisturbed if not t.pruned), key=lambda t: -t.value)
    expected = [*complete[:10], *([undisturbed[0]] if undisturbed[0] not in complete[:10] else [])]
    assert [float(value) for _, value in rows] == [round(trial.value, 4) for trial in expected]
    assert as_json(result)["default_rank"] == complete.index(undisturbed[0]) + 1
    assert "dlrm.top_mlp = 16   (default 8-4)" in fields_to_set(result)


def test_what_is_written_reads_back_and_repeats_byte_for_byte(tmp_path, undisturbed):
    result = result_of(undisturbed)
    for folder in (tmp_path / "a", tmp_path / "b"):
        write_tuning(result, folder)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["best.json", "history.png", "slices.png", "trials.md", "tuning.json"]
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    best = from_json(RunConfig, json.loads((tmp_path / "a" / "best.json").read_text()))
    assert best == result.best
    assert best.dlrm.top_mlp == (16,)


def test_charts_are_drawn_where_little_is_known():
    fields = {p.field: field_of(TOY, p.field) for p in SPACE}
    pruned = Trial(1, float("nan"), True, fields, 1.0)
    for trials in ([Trial(0, 0.5, False, fields, 1.0)], [Trial(0, 0.5, False, fields, 1.0), pruned]):
        assert draw_history(result_of(trials))[:4] == draw_slices(result_of(trials))[:4] == b"\x89PNG"


def test_the_command_tunes_goes_on_refuses_other_settings_and_train_reads_its_best(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sdk.data.movielens.load", lambda *args, **options: dataset())
    (tmp_path / "base.json").write_text(json.dumps(to_json(with_fields(run_config(), {"training.refit": False}))))
    study, out = str(tmp_path / "study.db"), tmp_path / "out"
    command = ["tune", "--movielens", str(tmp_path), "--config", str(tmp_path / "base.json"), "--model", "ncf",
               "--study", study, "-q"]  # fmt: skip
    assert main([*command, "--trials", "1"]) == 0
    assert "validation AUC" in capsys.readouterr().out
    assert main([*command, "--trials", "2", "--confirm", "1", "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["finished"], said["default"]["number"]) == (2, 0)
    assert len(said["repeated"]["best"]) == 1
    assert main([*command, "--trials", "2", "--seed", "5"]) == 2
    assert "another configuration" in capsys.readouterr().err
    assert main(["train", "--movielens", str(tmp_path), "--config", str(out / "best.json"), "--max-epochs", "1",
                 "--out", str(tmp_path / "bundle"), "--models", "ncf,content", "-q"]) == 0  # fmt: skip
    written = json.loads((tmp_path / "bundle" / "bundle.json").read_text())["config"]
    best = json.loads((out / "best.json").read_text())
    asked = {"models": ["ncf", "content"], "training": {**best["training"], "max_epochs": 1}}
    assert written == {**best, **asked, "features": {**best["features"], "engine": "nvtabular"}}


def test_the_command_says_what_is_missing_without_optuna(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["tune", "--sample", "--model", "ncf", "--study", str(tmp_path / "study.db")]) == 2
    assert capsys.readouterr().err.strip().endswith(f"pip install '.[tune]' in the project's folder. {what_helps(2)}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a run's configuration"),
        ("[1]", "object was expected"),
        ('{"training": {"epochs": 3}}', "epochs"),
        ('{"training": {"learning_rate": "fast"}}', "not a run's configuration"),
        ('{"training": 3}', "not a run's configuration"),
    ],
)
def test_a_file_that_is_no_configuration_is_one_line(tmp_path, capsys, text, says):
    (tmp_path / "run.json").write_text(text)
    assert main(["train", "--sample", "--config", str(tmp_path / "run.json"), "--out", str(tmp_path / "bundle")]) == 2
    err = capsys.readouterr().err.strip().splitlines()
    assert len(err) == 1
    assert "run.json" in err[0]
    assert says in err[0]


def test_numbers_out_of_range_are_refused(tmp_path):
    for options in ({"num_trials": 0}, {"num_trials": 1, "repeats": 0}, {"num_trials": 1, "confirm": -1}):
        with pytest.raises(UsageError, match="expected at least"):
            tune(dataset(), run_config(), "ncf", tmp_path / "study.db", **options)
    with pytest.raises(ConfigError, match="content"):
        tune(dataset(), run_config(), "content", tmp_path / "study.db", num_trials=1)
