"""The comparison: splits by slow loops, nothing of the test part learnt, resuming, missing packages, the command."""

from __future__ import annotations

import dataclasses
import json
import logging
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from small import dataset, ratings, run_config

from sdk.__main__ import main
from sdk.base import schema
from sdk.base.config import HistoryConfig, SplitConfig
from sdk.base.description import Description
from sdk.base.errors import ConfigError, DataError, UsageError
from sdk.base.types import Dataset
from sdk.lab.comparison import protocols, workbench
from sdk.lab.comparison.page import Rendered, _auc, _lists, as_markdown, write
from sdk.lab.comparison.protocols import protocols_for, rolling_tasks, tasks_for, without_tags
from sdk.lab.comparison.results import Result, ResultStore, paired_difference
from sdk.lab.comparison.run import CompareConfig, Comparison, compare
from sdk.lab.comparison.workbench import Workbench
from sdk.measure.charts import chart_style
from sdk.measure.marked_page import markers, write_into

SMALL = CompareConfig(seeds=(42,), quick=True)
BOTH = dataclasses.replace(SMALL, protocols=("A", "B"))


# protocols -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["A", "B", "C"])
def test_nothing_asked_for_is_learnt_or_tuned_on(protocol):
    data = dataset(1)
    for task in tasks_for(data, [protocol], [42, 43]):
        assert not set(task.train) & set(task.test)
        for inner in task.tuning():
            assert set(inner.train) | set(inner.test) <= set(task.train)
            assert not set(inner.train) & set(inner.test)
            assert len(inner.test) > 0
        learnt, asked = task.learnt.interactions, data.interactions.take(task.test)
        pairs = set(zip(learnt.user_id.tolist(), learnt.item_id.tolist(), strict=True))
        assert not pairs & set(zip(asked.user_id.tolist(), asked.item_id.tolist(), strict=True))


def test_protocols_a_and_b_draw_as_published():
    data = dataset(1)
    (a,) = tasks_for(data, ["A"], [43])
    np.testing.assert_array_equal(
        a.test, np.flatnonzero(np.random.default_rng(43).random(len(data.interactions)) < 0.2)
    )
    (b,) = tasks_for(data, ["B"], [43])
    likes = np.flatnonzero(data.interactions.rating >= 4)
    np.testing.assert_array_equal(b.test, likes[np.random.default_rng(43).random(len(likes)) < 0.2])


def test_peers_of_a_are_tuned_on_the_part_that_our_rankers_stop_on():
    from sdk.data.splits import split

    (task,) = tasks_for(dataset(1), ["A"], [42])
    parts = split(task.learnt.interactions, workbench.run_config(task, quick=False).split)
    (inner,) = task.tuning()
    np.testing.assert_array_equal(inner.test, task.train[parts.validation])


def test_single_ratings_are_scored_by_rankers_that_were_asked_for_and_no_others():
    (task,) = tasks_for(dataset(1), ["A"], [42])
    assert workbench.run_config(task, quick=False).models == ("dlrm", "ncf", "bfm", "content")
    assert workbench.run_config(task, ("ncf", "history"), quick=False).models == ("ncf", "content")


def test_the_rolling_origin_asks_for_each_like_after_the_first_cut_once_in_its_window():
    data = dataset(2)
    rows, cuts = data.interactions, (0.5, 0.7, 0.9)
    ordered = sorted(rows.timestamp.tolist())
    moments = [ordered[round(cut * len(ordered))] for cut in cuts]
    tasks = rolling_tasks(data, cuts)
    assert [task.name for task in tasks] == ["after 50%", "after 70%", "after 90%"]
    for number, task in enumerate(tasks):
        start, end = moments[number], [*moments, np.inf][number + 1]
        before = {row for row in range(len(rows)) if rows.timestamp[row] < start}
        known = {int(rows.user_id[row]) for row in before}
        asked = {
            row
            for row in range(len(rows))
            if start <= rows.timestamp[row] < end and rows.rating[row] >= 4 and int(rows.user_id[row]) in known
        }
        assert set(task.train) == before
        assert set(task.test) == asked


def test_ratings_of_one_moment_leave_nothing_to_ask_by_time():
    data = dataclasses.replace(dataset(1), interactions=ratings([21, 21, 28], [9, 12, 9], [5, 5, 5], [9, 9, 9]))
    with pytest.raises(DataError, match="no user with some before"):
        rolling_tasks(data)


def test_tags_are_taken_away_where_time_counts():
    data = dataset(1)
    items = data.items.set_column(
        data.items.schema.get_field_index("tags"),
        data.items.schema.field("tags"),
        [[["seen it"]] * data.items.num_rows],
    )
    tagged = dataclasses.replace(data, items=items)
    bare = without_tags(tagged)
    assert bare.items.column("tags").to_pylist() == [[]] * data.items.num_rows
    assert bare.items.drop(["tags"]).equals(tagged.items.drop(["tags"]))
    assert bare.fingerprint != tagged.fingerprint


@pytest.mark.parametrize(
    "bad", [{"protocols": ("D",)}, {"protocols": ()}, {"seeds": ()}, {"seeds": (1, 1)}, {"seeds": (-1,)}, {"budget": 0}]
)
def test_unusable_choices_are_refused(bad, tmp_path):
    with pytest.raises(ConfigError):
        compare(dataset(1), dataclasses.replace(SMALL, **bad), tmp_path)


# differences ---------------------------------------------------------------------------------------------------------


def test_a_users_lists_are_drawn_together():
    rng = np.random.default_rng(0)
    users = [np.arange(200), np.arange(100, 300)]
    level = rng.normal(size=300)  # a user's lists differ alike
    second = [rng.random(200) for _ in users]
    first = [values + level[ids] for ids, values in zip(users, second, strict=True)]
    got = paired_difference(list(zip(users, first, strict=True)), list(zip(users, second, strict=True)))
    total = np.bincount(np.concatenate(users), weights=level[np.concatenate(users)])
    count = np.bincount(np.concatenate(users))
    mean = total.sum() / count.sum()
    error = np.sqrt(((total - mean * count) ** 2).sum()) / count.sum()  # linearised ratio of two sums
    assert (got.num_users, got.num_lists) == (300, 400)
    assert got.mean == pytest.approx(mean)
    assert got.low == pytest.approx(mean - 1.96 * error, abs=0.25 * error)
    assert got.high == pytest.approx(mean + 1.96 * error, abs=0.25 * error)


def test_models_measured_on_other_users_are_not_compared():
    one, other = [(np.array([1, 2]), np.zeros(2))], [(np.array([1, 3]), np.zeros(2))]
    with pytest.raises(ValueError, match="same users"):
        paired_difference(one, other)
    with pytest.raises(ValueError, match="no user"):
        paired_difference([], [])


# results on disk -----------------------------------------------------------------------------------------------------


def test_a_result_comes_back_only_for_equal_facts_and_whole(tmp_path):
    store, facts = ResultStore(tmp_path), {"grid": {"a": (1, 2)}, "seed": 42}
    result = Result({"ndcg10": 0.5}, {"ndcg10": (0.4, 0.6)}, {"a": 1}, 2, 0.3, 1.5, (7, 9), (0.25, 0.75), (0.0, 1.0))
    store.put("B seed 42 EASE, likes", facts, result)
    assert store.get("B seed 42 EASE, likes", facts) == result
    assert store.get("B seed 42 EASE, likes", {**facts, "seed": 43}) is None
    assert store.get("B seed 43 EASE, likes", facts) is None
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text()[:-9])
    assert store.get("B seed 42 EASE, likes", facts) is None


# the whole -----------------------------------------------------------------------------------------------------------


def small_config(task, models=(), *, quick):
    models = ("dlrm", "ncf", "bfm", "content") if task.protocol == "A" else ("dlrm", "ncf", "history", "content")
    config = run_config(models=models, split=SplitConfig(test_share=0.0, validation_share=0.2, seed=task.seed))
    return dataclasses.replace(config, history=HistoryConfig(rank=4, feature_dim=3, penalty=2.0))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workbench, "run_config", small_config)
        yield folder, compare(dataset(1), BOTH, folder)


def names_of(found, protocol):
    return {each.name for each in found.contenders(protocol)}


def test_every_contender_is_measured(measured):
    _, found = measured
    assert names_of(found, "A") == {
        "popularity", "user and item means", "biased MF", "LightGBM, the DLRM's features",
        "Marquee NCF", "Marquee BFM", "Marquee DLRM",
    }  # fmt: skip
    assert names_of(found, "B") == {
        "popularity", "item-kNN", "iALS", "EASE, likes", "EASE, likes and watched (0.6)",
        "Marquee DLRM alone", "Marquee history alone", "Marquee, nightly lists",
    }  # fmt: skip
    assert len(found.results) == 15
    for (protocol, _, name), result in found.results.items():
        unmeasured = {figure for figure, value in result.figures.items() if value is None or not np.isfinite(value)}
        assert unmeasured == ({"log_loss"} if (protocol, name) == ("A", "popularity") else set())


@pytest.fixture
def everywhere(monkeypatch, tmp_path):
    """All protocols, with invented results."""
    monkeypatch.setattr(Workbench, "measure", invented)
    return compare(dataset(1), SMALL, tmp_path / "invented")


def test_by_time_there_is_one_task_and_one_per_cut(everywhere):
    counts = {protocol: len(names) for protocol, names in everywhere.tasks.items()}
    assert counts == {
        "A": 1,
        "B": 1,
        "C": 1,
        "rolling": 2,
    }
    assert len(everywhere.of("rolling", "EASE, likes")) == 2
    lead = (len("Marquee, nightly lists") - len("EASE, likes")) / 200  # of one of two users, as ``invented`` has it
    assert f"{lead:+.3f} (" in as_markdown(everywhere)


def test_our_lists_are_those_of_a_bundle_that_never_saw_what_is_asked(measured, tmp_path):
    _, found = measured
    data = dataset(1)
    (task,) = tasks_for(data, ["B"], [42])
    bundle = workbench.trained(task, small_config(task, quick=True), tmp_path / "bundle")
    (result,) = found.of("B", "Marquee, nightly lists")
    hits = []
    for user, items in zip(result.users, bundle.recommend(result.users, 10).item_id, strict=True):
        held = data.interactions.take(task.test)
        wanted = set(held.item_id[held.user_id == user].tolist())
        gains = [1 / np.log2(place + 2) for place, item in enumerate(items.tolist()) if item in wanted]
        hits.append(sum(gains) / sum(1 / np.log2(place + 2) for place in range(min(10, len(wanted)))))
    np.testing.assert_allclose(result.ndcg10, hits, atol=1e-12)
    assert result.figures["ndcg10"] == pytest.approx(np.mean(hits))
    assert len(bundle.interactions.rating) == len(task.train)
    assert (
        workbench.trained(task, small_config(task, quick=True), tmp_path / "bundle").info.created == bundle.info.created
    )


def test_a_second_run_measures_nothing_and_says_the_same(measured, monkeypatch):
    folder, found = measured

    def refuse(self, contender):
        raise AssertionError(contender.name)

    monkeypatch.setattr(workbench, "run_config", small_config)
    monkeypatch.setattr(Workbench, "measure", refuse)
    assert as_markdown(compare(dataset(1), BOTH, folder)) == as_markdown(found)
    with pytest.raises(AssertionError):
        compare(dataset(2), BOTH, folder)  # other data: no result of these fits


def invented(self, contender):
    """A result that costs nothing, told apart by its contender and task."""
    value = float(len(contender.name) + len(self.task.name)) / 100
    figures = dict.fromkeys(("auc", "log_loss", "num_rows", *LIST_FIGURES), value)
    return Result(figures, {"ndcg10": (0.0, 1.0)}, {}, 0, None, 0.0, (1, 2), (value, 0.0), (value, 1.0))


LIST_FIGURES = ("ndcg10", "recall20", "map10", "hit_rate10", "gini", "novelty", "distinct_in_top10", "coverage")


def test_a_killed_run_goes_on_behind_its_last_result(monkeypatch, tmp_path):
    asked = []

    def killed_at_the_third(self, contender):
        asked.append(contender.name)
        if len(asked) == 3:
            self.folder.mkdir(parents=True)
            raise KeyboardInterrupt
        return invented(self, contender)

    monkeypatch.setattr(Workbench, "measure", killed_at_the_third)
    only_lists = dataclasses.replace(SMALL, protocols=("B",))
    with pytest.raises(KeyboardInterrupt):
        compare(dataset(1), only_lists, tmp_path)
    found = compare(dataset(1), only_lists, tmp_path)
    assert len(asked) == len(set(asked)) + 1  # the third alone was asked for twice
    assert len(found.results) == 8
    assert not list((tmp_path / "work").glob("*")), "the bundles are gone when their task is done"


def test_a_missing_package_costs_its_own_lines_alone(monkeypatch, tmp_path, caplog):
    monkeypatch.setitem(sys.modules, "implicit", None)
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    monkeypatch.setattr(Workbench, "measure", invented)
    with caplog.at_level(logging.WARNING, logger="sdk"):
        found = compare(dataset(1), dataclasses.replace(SMALL, protocols=("B",)), tmp_path)
    lines = [record.getMessage() for record in caplog.records if ".[compare]" in record.getMessage()]
    assert [line.split(":")[0] for line in lines] == ["iALS"]
    assert len(found.contenders("B")) == 7
    assert "iALS is left out: the package implicit was missing." in as_markdown(found)


@pytest.mark.needs("matplotlib")
def test_tables_and_charts_are_written_and_put_into_a_page(everywhere, tmp_path):
    found = everywhere
    rendered = Rendered.of(found)
    write(rendered, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"compare.md", "compare.json", "compare_auc.png", "compare_lists.png", "compare_time.png"}
    assert all((tmp_path / "out" / n).read_bytes().startswith(b"\x89PNG") for n in names if n.endswith("png"))
    values = json.loads((tmp_path / "out" / "compare.json").read_text())
    auc = next(r for r in values["results"] if r["model"] == "Marquee DLRM" and r["protocol"] == "A")["figures"]["auc"]
    assert f"| **Marquee DLRM** | {auc:.4f} | **{auc:.4f}** |" in as_markdown(found)
    page = tmp_path / "page.md"
    begin, end = markers("compare")
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    write_into(page, "compare", rendered.page.rstrip(), rendered.charts)
    text = page.read_text()
    assert text.startswith(f"before\n{begin}\n")
    assert text.endswith(f"{end}\nafter\n")
    assert "old" not in text
    assert as_markdown(found) in text
    assert (tmp_path / "compare_auc.png").read_bytes() == rendered.charts["compare_auc.png"]
    write_into(page, "compare", rendered.page.rstrip(), rendered.charts)
    assert page.read_text() == text
    page.write_text("no markers")
    with pytest.raises(UsageError, match="compare: begin"):
        write_into(page, "compare", "text")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--sample", "--protocols", "Z"], 2, "protocols"),
        (["--sample", "--seeds", "x"], 2, "--seeds"),
        (["--sample", "--tmdb", "{tmp}"], 2, "--tmdb"),
        (["--sample", "--into", "{tmp}/none.md"], 2, "none.md"),
        (["--movielens", "{tmp}/nowhere"], 3, "nowhere"),
    ],
)
def test_what_is_wrong_with_the_command_is_one_line_and_an_exit_code(tmp_path, capsys, arguments, code, says):
    command = ["compare", *(argument.format(tmp=tmp_path) for argument in arguments)]
    try:
        ended = main([*command, "--out", str(tmp_path / "out"), "--quiet"])
    except SystemExit as stop:  # by the option itself
        ended = stop.code
    err = capsys.readouterr().err.strip().splitlines()
    assert ended == code
    assert err[1:] in ([], ["help: python -m sdk compare --help"])
    assert says in err[0]


def test_the_command_prints_its_tables_alone_to_stdout(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Workbench, "measure", invented)
    monkeypatch.setattr("sdk.commands.compare.read_dataset", lambda args, config: dataset(1))
    arguments = ["compare", "--sample", "--quick", "--protocols", "A", "--seeds", "42", "--out", str(tmp_path)]
    assert main([*arguments, "--json"]) == 0
    assert {row["protocol"] for row in json.loads(capsys.readouterr().out)["results"]} == {"A"}
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert out == (tmp_path / "compare.md").read_text().split("\n![")[0]
    assert "7/7 A seed 42, Marquee DLRM" in err


def test_ratings_that_tell_nothing_apart_are_likes_and_have_no_protocol_a(tmp_path):
    data = dataset(1)
    alike = dataclasses.replace(data.interactions, rating=np.full(len(data.interactions), 5.0, dtype=np.float32))
    with pytest.raises(DataError, match=r"--protocols A: every pair is a like.*Give --protocols B,C, or leave it out"):
        compare(dataclasses.replace(data, interactions=alike), CompareConfig(protocols=("A",)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_where_no_time_is_known_there_are_no_lists_by_time(tmp_path):
    data = dataset(1)
    at_once = dataclasses.replace(data.interactions, timestamp=np.zeros(len(data.interactions), np.int64))
    timeless = dataclasses.replace(data, interactions=at_once)
    assert protocols_for(timeless, None) == ("A", "B")
    with pytest.raises(DataError, match=r"one timestamp.*Give --protocols A,B"):
        compare(timeless, CompareConfig(protocols=("B", "C")), tmp_path / "out")


# other data ----------------------------------------------------------------------------------------------------------


def likes(seed: int, *, text: bool) -> Dataset:
    """Implicit feedback with weights over bare items; the ids are numbers, or texts that ascend as they do."""
    data = dataset(seed)
    rows = data.interactions
    keys = np.searchsorted(data.user_keys, rows.user_id), np.searchsorted(data.item_keys, rows.item_id)
    tables = []
    for name, table in (("user_id", data.users), ("item_id", data.items)):
        ids = table[name].to_pylist()
        tables.append(pa.array([f"{number:09d}é" for number in ids] if text else ids))
    users, items = pa.table({"user_id": tables[0]}), pa.table({"item_id": tables[1]})
    items = items.append_column("title", pc.cast(items["item_id"], pa.string()))
    about = Description(feedback="implicit", items={"title": "ignore"}, users={})
    weights = dataclasses.replace(rows, rating=rows.rating + 1)
    if text:
        weights = dataclasses.replace(weights, user_id=keys[0], item_id=keys[1])
    items = items.cast(schema.table_layout("item_id", about, items.schema))
    users = users.cast(schema.table_layout("user_id", about, users.schema))
    return dataclasses.replace(data, interactions=weights, items=items, users=users, about=about, fingerprint=f"{text}")


def test_text_ids_and_numbers_are_measured_alike(tmp_path):
    config = dataclasses.replace(SMALL, protocols=("B",))
    by_number, by_text = (compare(likes(3, text=text), config, tmp_path / str(text)) for text in (False, True))
    names = [each.name for each in by_text.contenders("B")]
    assert {"popularity", "item-kNN", "EASE, likes", "Marquee history alone", "Marquee, nightly lists"} <= set(names)
    assert "EASE, likes and watched (0.6)" not in names
    for name in names:
        (number,), (text,) = by_number.of("B", name), by_text.of("B", name)
        assert text.figures == number.figures, name
        assert (text.settings, text.ndcg10) == (number.settings, number.ndcg10), name
    (result,) = by_text.of("B", "popularity")
    assert len(result.users) > 10


def test_every_pair_of_implicit_feedback_may_be_asked_for():
    data = likes(3, text=True)
    (task,) = tasks_for(data, ["B"], [42], like_at=0.0)
    held = np.flatnonzero(np.random.default_rng(42).random(len(data.interactions)) < 0.2)
    np.testing.assert_array_equal(task.test, held)
    assert {inner.like_at for inner in task.tuning()} == {0.0}


def test_one_moment_is_enough_where_it_asks_many_users(monkeypatch):
    data = dataset(2)
    assert {task.protocol for task in tasks_for(data, ["C"], [42])} == {"C", "rolling"}
    monkeypatch.setattr(protocols, "ENOUGH_BY_TIME", 2)
    assert {task.protocol for task in tasks_for(data, ["C"], [42])} == {"C"}


# charts --------------------------------------------------------------------------------------------------------------


def crowded() -> Comparison:
    """Contenders that reached nearly the same, as in earnest, where names written at the dots lie on one another."""
    names = {
        "A": ["popularity", "user and item means", "biased MF", "Marquee NCF", "Marquee DLRM"],
        "B": ["popularity", "item-kNN", "iALS", "EASE, likes", "Marquee history alone", "Marquee, nightly lists"],
    }
    results = {
        (protocol, "42", name): Result(
            {"auc": 0.8 + place / 1000, "ndcg10": 0.3 + place / 1000, "distinct_in_top10": 500.0 + place},
            {},
            {},
            0,
            None,
        )
        for protocol, found in names.items()
        for place, name in enumerate(found)
    }
    return Comparison("made up", CompareConfig(), {"A": ["42"], "B": ["42"]}, "explicit", results, {})


@pytest.mark.needs("matplotlib")
@pytest.mark.parametrize(("chart", "labels"), [(_auc, 5), (_lists, 6)])
def test_names_on_a_chart_lie_apart_and_inside_it(chart, labels):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    with chart_style():
        figure = chart(crowded())
        FigureCanvasAgg(figure).draw()
        boxes = [Text.get_window_extent(each) for each in figure.axes[0].texts[1:]]
    assert len(boxes) == labels
    for place, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[:place])
