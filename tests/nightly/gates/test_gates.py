"""Gates that need a second night or a wrong model: each is tripped, and what is published stays byte for byte."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import COLD_USER
from night_files import tree
from safetensors.numpy import load_file, save_file

import sdk
from batch.checks.audit import PreviousNight, audit_parts, local_parts, previous_night
from batch.checks.expectations import expectations
from batch.gates.figures import FOLDERS, BundleFacts, Figures, GateResult
from batch.gates.judge import GatesFailedError, describe, enforce, judge
from batch.gates.table import BY_NAME, GATES, Reading, check_skips
from batch.gates.thresholds import GateConfig, read_config
from batch.job.job import Job
from batch.run.night import run
from batch.score import main
from batch.store.places import open_target
from sdk.base import schema
from sdk.base.config import from_json, to_json
from sdk.base.errors import ConfigError, QualityGateError, UsageError
from sdk.bundles.info import sealed

FIRST, SECOND = "2026-11-22", "2026-11-23"
K = 5


def arguments(bundle: Path, out: Path, date: str, *extra: str) -> list[str]:
    return ["--bundle", str(bundle), "--out", str(out), "--run-date", date, "--k", str(K), "--threads", "1", *extra]


@pytest.fixture(scope="module")
def published(bundle_path, tmp_path_factory) -> Path:
    """An output with one good night."""
    out = tmp_path_factory.mktemp("published")
    run(Job(bundle=bundle_path, out=out, run_date=FIRST, k=K, threads=1))
    return out


@pytest.fixture
def out(published, tmp_path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "out"))


@pytest.fixture(scope="module")
def rules(bundle, bundle_path):
    return expectations(bundle, Job(bundle=bundle_path, out="memory://none", run_date=FIRST, k=K))


# one night against another, part by part ---------------------------------------------------------------------------


def sides(night: Path) -> dict[str, pa.Table]:
    layouts = {"users": schema.USER_ITEMS, "titles": schema.ITEM_ITEMS}
    found = {}
    for side, layout in layouts.items():
        found[side] = pa.concat_tables([table.cast(layout) for _, table in local_parts(night / FOLDERS[side])])
    return found


@pytest.fixture(scope="module")
def lists(published) -> dict[str, pa.Table]:
    """Side -> every row of a good night."""
    return sides(published / f"run_date={FIRST}")


@pytest.fixture(scope="module")
def manifest(published) -> dict[str, object]:
    return json.loads((published / f"run_date={FIRST}" / "manifest.json").read_text())


def previous_of(before: dict[str, pa.Table], manifest: dict[str, object]) -> PreviousNight:
    return PreviousNight(
        manifest["run_date"], Figures.read(manifest), {side: [(side, table)] for side, table in before.items()}
    )


def gates(tonight, rules, before=None, manifest=None, config=None) -> dict[str, GateResult]:
    """Gate -> its line, failed or not."""
    previous = None if before is None else previous_of(before, manifest)
    parts = {side: [(side, table)] for side, table in tonight.items()}
    expected = dataclasses.replace(rules, config=config or GateConfig(), skip=tuple(BY_NAME))
    figures = audit_parts(parts, expected, previous)
    return {line.name: line for line in figures.gates}


def failed(*args, **kwargs) -> set[str]:
    return {name for name, line in gates(*args, **kwargs).items() if not line.passed}


def with_column(table: pa.Table, name: str, values) -> pa.Table:
    field = table.schema.field(name)
    return table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))


def test_a_night_like_the_one_before_passes(lists, rules, manifest):
    found = gates(lists, rules, lists, manifest)
    assert {name for name, line in found.items() if not line.passed} == set()
    assert found["users.overlap"].got == found["titles.overlap"].got == found["users.kept"].got == 1.0
    assert found["users.drift"].got == found["bundle.auc_drop"].got == 0.0


def test_the_first_night_is_compared_with_nothing(lists, rules):
    found = gates(lists, rules)
    for gate in ("overlap", "drift", "kept"):
        assert (found[f"users.{gate}"].got, found[f"users.{gate}"].note) == (None, "no previous night")


def test_scores_of_another_scale_trip_drift(lists, rules, manifest):
    scaled = {**lists, "users": with_column(lists["users"], "score", lists["users"]["score"].to_numpy() * 30)}
    assert failed(scaled, rules, lists, manifest) == {"users.drift"}


def test_scores_of_another_model_are_not_compared(lists, rules, manifest):
    scaled = {**lists, "users": with_column(lists["users"], "score", lists["users"]["score"].to_numpy() * 30)}
    other = {**manifest, "checks": {**manifest["checks"], "bundle": {**manifest["checks"]["bundle"], "model": "ncf"}}}
    line = gates(scaled, rules, lists, other)["users.drift"]
    assert (line.passed, line.got, line.note) == (
        True,
        None,
        "not comparable: the previous night has model 'ncf'",
    )


def test_mixed_up_users_trip_overlap(lists, rules, manifest, bundle):
    """Each user gets the list of a user of the other taste, rated titles left in: only overlap can tell by itself."""
    rows = lists["users"].to_pandas()
    swapped = {user: user - 1 if user % 2 == 0 else user + 1 for user in range(1, 41)}
    rows["user_id"] = rows["user_id"].replace(swapped)
    rows = rows.sort_values(["user_id", "rank"])
    mixed = {**lists, "users": pa.Table.from_pandas(rows, schema=schema.USER_ITEMS, preserve_index=False)}
    assert "users.overlap" in failed(mixed, rules, lists, manifest)


def test_overlap_is_the_mean_of_jaccard_indices_of_users_on_both_nights(lists, rules, manifest):
    """Against sets, with a user who is new tonight and one who has gone, and with parts cut otherwise."""
    rows = lists["users"].to_pandas()
    rng = np.random.default_rng(1)
    before = rows[rows["user_id"] != 7].copy()
    moved = rng.random(len(before)) < 0.4
    before.loc[moved, "item_id"] = 10_000 + np.arange(moved.sum())  # titles that tonight's catalogue does not have
    gone = before[before["user_id"] == 9].assign(user_id=5555)
    before = pa.Table.from_pandas(
        pd.concat([before, gone], ignore_index=True), schema=schema.USER_ITEMS, preserve_index=False
    )
    got = gates(lists, rules, {**lists, "users": before}, manifest)
    tops = [
        {user: set(group["item_id"]) for user, group in frame.groupby("user_id")}
        for frame in (rows, before.to_pandas())
    ]
    both = tops[0].keys() & tops[1].keys()
    expected = np.mean([len(tops[0][u] & tops[1][u]) / len(tops[0][u] | tops[1][u]) for u in both])
    assert got["users.overlap"].got == pytest.approx(expected)
    assert got["users.kept"].got == pytest.approx(len(both) / len(tops[1]))


def test_a_catalogue_of_which_half_is_gone_trips_kept(lists, rules, manifest):
    more = lists["titles"].to_pandas().assign(item_id=lambda rows: rows["item_id"] + 50_000)
    more = pa.Table.from_pandas(more, schema=schema.ITEM_ITEMS, preserve_index=False)
    before = {**lists, "titles": pa.concat_tables([lists["titles"], more])}
    assert failed(lists, rules, before, manifest) == {"titles.kept"}


def one_list_for_all(lists, bundle) -> pa.Table:
    """Every user's K first titles of one order, but for those that they have rated."""
    seen = bundle.interactions.seen(len(bundle.encoded_users))
    columns = {name: [] for name in schema.USER_ITEMS.names}
    for index, user in enumerate(bundle.encoded_users.known_ids.tolist()):
        rated = set(seen.row(index + 3).tolist())
        order = [row for row in range(3, len(bundle.encoded_items)) if row not in rated][:K]
        for rank, row in enumerate(order, 1):
            values = (user, rank, int(bundle.encoded_items.ids[row]), 1.0 - row / 100, "dlrm")
            for name, value in zip(columns, values, strict=True):
                columns[name].append(value)
    return pa.table(columns, schema=schema.USER_ITEMS)


def test_one_list_for_everybody_trips_on_the_first_night(lists, rules, bundle, manifest):
    same = {**lists, "users": one_list_for_all(lists, bundle)}
    assert failed(same, rules) == {"users.sameness"}
    assert {"users.sameness", "users.coverage", "users.gini"} <= failed(same, rules, lists, manifest)


def test_constant_scores_trip_flat(lists, rules):
    flat = {**lists, "users": with_column(lists["users"], "score", np.zeros(lists["users"].num_rows, np.float32))}
    assert failed(flat, rules) == {"users.flat"}


def test_most_users_on_the_fallback_trip_it(lists, rules, bundle):
    ids = lists["users"]["user_id"].to_numpy()
    source = np.where(ids <= 30, "popular", lists["users"]["source"].to_numpy(zero_copy_only=False))
    found = gates({**lists, "users": with_column(lists["users"], "source", source)}, rules)
    assert {name for name, line in found.items() if not line.passed} == {"users.fallback"}
    assert found["users.fallback"].got == 30 / 40  # user 999 has one rating, so the model need not know them


def test_a_share_on_the_fallback_that_leaps_trips_it(lists, rules, manifest):
    ids = lists["users"]["user_id"].to_numpy()
    source = np.where(ids <= 15, "popular", lists["users"]["source"].to_numpy(zero_copy_only=False))
    tonight = {**lists, "users": with_column(lists["users"], "source", source)}
    assert failed(tonight, rules) == set()
    assert "users.fallback" in failed(tonight, rules, lists, manifest)


def test_lists_half_as_long_as_the_night_before_trip_length_ratio(lists, rules, manifest):
    short = {side: table.filter(pa.array(table["rank"].to_numpy() <= 2)) for side, table in lists.items()}
    found = failed(short, rules, lists, manifest)
    assert {"users.length_ratio", "titles.length_ratio", "users.lengths"} <= found
    checks = manifest["checks"]
    other_k = {**manifest, "checks": {**checks, "bundle": {**checks["bundle"], "k": 100}}}
    assert gates(short, rules, lists, other_k)["titles.length_ratio"].got is None


@pytest.mark.parametrize(
    ("changes", "got", "passed"),
    [
        ({}, 0.02, True),
        ({"validation_auc": 0.05}, 0.05, False),
        ({"validation_auc": 0.05, "data": "other"}, None, True),
        ({"validation_auc": 0.05, "split": "other"}, None, True),
        ({"validation_auc": 0.05, "label_rule": "rating > 4"}, None, True),
    ],
)
def test_the_validation_auc_is_compared_where_it_can_be(lists, rules, manifest, changes, got, passed):
    mine = manifest["checks"]["bundle"]
    higher = {**mine, **changes, "validation_auc": mine["validation_auc"] + changes.get("validation_auc", 0.02)}
    before = {**manifest, "checks": {**manifest["checks"], "bundle": higher}}
    line = gates(lists, rules, lists, before)["bundle.auc_drop"]
    assert line.passed is passed
    assert line.got == (None if got is None else pytest.approx(got))
    assert line.note.startswith("not comparable") is (got is None)


def test_an_auc_that_cannot_be_compared_says_why(lists, rules, manifest):
    mine, checks = manifest["checks"]["bundle"], manifest["checks"]
    nights = {
        "the previous night's bundle holds no validation AUC": {**mine, "validation_auc": None},
        "the previous night's bundle holds no ranker": {**mine, "validation_auc": None, "model": None},
    }
    for note, facts in nights.items():
        before = {**manifest, "checks": {**checks, "bundle": facts}}
        line = gates(lists, rules, lists, before)["bundle.auc_drop"]
        assert (line.got, line.passed, line.note) == (None, True, note)
    for note, facts in nights.items():
        found = gates(lists, dataclasses.replace(rules, bundle=BundleFacts(**facts)), lists, manifest)
        tonight = note.replace("previous night's ", "")
        assert [found[f"bundle.{name}"].note for name in ("auc", "auc_drop")] == [tonight, tonight]


def test_a_ranker_worse_than_chance_trips_auc(lists, rules):
    worse = dataclasses.replace(rules, bundle=dataclasses.replace(rules.bundle, validation_auc=0.49))
    assert failed(lists, worse) == {"bundle.auc"}


def test_a_previous_night_without_figures_is_no_obstacle(lists, rules):
    assert failed(lists, rules, lists, {"run_date": FIRST}) == set()
    broken = {"run_date": FIRST, "inputs": [], "checks": {"user_items": 3, "bundle": {"k": "5"}, "scope": 1}}
    assert failed(lists, rules, lists, broken) == set()


def test_figures_are_read_from_a_manifest_as_they_were_written(manifest):
    figures = Figures.read(manifest)
    assert json.dumps(figures.to_json(), sort_keys=True) == json.dumps(manifest["checks"], sort_keys=True)
    assert Figures.read({"checks": figures.to_json()}) == figures
    older = {name: value for name, value in manifest["checks"]["bundle"].items() if name != "include_seen"}
    before = {**manifest, "checks": {**manifest["checks"], "bundle": older}}
    assert Figures.read(before).bundle.include_seen is manifest["inputs"]["include_seen"]
    with pytest.raises(TypeError):  # lines of gates without what every release writes
        Figures.read({"checks": {"gates": [{"name": "users.rows"}]}})


def test_a_previous_night_that_cannot_be_read_is_said_not_hidden(lists, rules, manifest, caplog):
    broken = {**lists, "users": lists["users"].drop_columns(["score"])}
    found = gates(lists, rules, broken, manifest)
    assert found["users.overlap"].note == "the previous night cannot be read"
    assert "cannot be read" in caplog.text


# the whole command -------------------------------------------------------------------------------------------------


def tampered(bundle_path: Path, to: Path, change) -> Path:
    """A bundle whose every weight is changed, with the hashes that go with it."""
    shutil.copytree(bundle_path, to)
    for path in to.glob("*.safetensors"):
        save_file({name: change(values) for name, values in load_file(path).items()}, path)
    with np.load(to / "history.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    np.savez(to / "history.npz", **{n: change(v) if v.dtype == np.float32 and v.ndim else v for n, v in arrays.items()})
    info = json.loads((to / "bundle.json").read_text())
    (to / "lists.npz").unlink()  # what ranks lists is made of the changed weights
    names = [name for name in info["files"] if name != "lists.npz"]
    info["files"] = {name: hashlib.sha256((to / name).read_bytes()).hexdigest() for name in names}
    (to / "bundle.json").write_text(json.dumps(sealed(info)))
    sdk.load(to)
    return to


def published_files(out: Path) -> dict[str, bytes]:
    others = (".staging", ".journal", ".lock", "reports/refused-")
    return {name: data for name, data in tree(out).items() if not name.startswith(others)}


@pytest.fixture(scope="module")
def constant(bundle_path, tmp_path_factory) -> Path:
    return tampered(bundle_path, tmp_path_factory.mktemp("constant") / "bundle", np.zeros_like)


def test_a_bundle_of_constant_scores_is_not_published(constant, out, capsys):
    before = published_files(out)
    assert main(arguments(constant, out, SECOND)) == 6
    err = capsys.readouterr().err
    assert "users.flat: share of lists whose scores are all the same: got 1, expected at most 0.1" in err
    assert "--skip-gate users.flat" in err
    assert "Traceback" not in err
    assert published_files(out) == before
    staging = out / f".staging-{SECOND}"
    assert list((staging / "user_items").glob("*.parquet"))
    assert str(staging) in err


def test_a_forced_night_that_fails_leaves_the_published_one(constant, out):
    before = published_files(out)
    assert main(arguments(constant, out, FIRST, "--force")) == 6
    assert published_files(out) == before


def test_an_untrained_model_is_not_published(bundle_path, out, tmp_path, capsys):
    rng = np.random.default_rng(0)
    noise = tampered(bundle_path, tmp_path / "noise", lambda v: rng.normal(size=v.shape).astype(v.dtype))
    before = published_files(out)
    assert main(arguments(noise, out, SECOND)) == 6
    assert "users.drift" in capsys.readouterr().err
    assert published_files(out) == before


def test_a_failed_gate_is_overridden_knowingly_and_that_is_recorded(constant, out, tmp_path):
    thresholds = tmp_path / "gates.json"
    names = ["overlap", "drift", "coverage", "users.gini", "sameness"]
    thresholds.write_text(json.dumps({"max_flat_users": 1.0}))
    skips = [word for name in names for word in ("--skip-gate", name)]
    assert main(arguments(constant, out, SECOND, *skips)) == 6
    assert main(arguments(constant, out, SECOND, *skips, "--gates", str(thresholds))) == 0
    checks = json.loads((out / f"run_date={SECOND}" / "manifest.json").read_text())["checks"]
    assert checks["skipped"] == sorted(names)
    assert checks["thresholds"] == {**to_json(GateConfig()), "max_flat_users": 1.0}
    assert checks["previous"] == FIRST
    assert {line["threshold"] for line in checks["gates"] if line["name"] == "users.flat"} == {1.0}


def test_gates_change_no_byte_of_the_lists(bundle_path, out, published):
    assert main(arguments(bundle_path, out, SECOND, "--skip-gate", "auc")) == 0
    first, second = (tree(out / f"run_date={date}") for date in (FIRST, SECOND))
    assert {n: b for n, b in first.items() if n.endswith("parquet")} == {
        n: b for n, b in second.items() if n.endswith("parquet")
    }


@pytest.mark.parametrize(
    ("extra", "says"),
    [(["--skip-gate", "freshness"], "freshness"), (["--gates", "/nowhere.json"], "/nowhere.json")],
)
def test_wrong_options_stop_before_any_work(bundle_path, tmp_path, capsys, extra, says):
    assert main(arguments(bundle_path, tmp_path / "out", FIRST, *extra)) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# which night is the previous one -----------------------------------------------------------------------------------


def test_a_night_is_held_against_the_one_that_it_replaces(bundle_path, out, caplog):
    target = open_target(out)
    assert previous_night(target, FIRST) is None
    assert previous_night(target, SECOND).run_date == FIRST
    run(Job(bundle=bundle_path, out=out, run_date=SECOND, k=K, threads=1))
    assert previous_night(target, SECOND).run_date == FIRST
    assert previous_night(target, "2026-11-30").run_date == SECOND
    (out / "LATEST").write_text(FIRST + "\n")  # rolled back
    assert previous_night(target, "2026-11-30").run_date == FIRST
    path = out / f"run_date={FIRST}" / "manifest.json"
    path.write_text(path.read_text().replace('"k": 5', '"k": 6'))
    assert previous_night(target, SECOND) is None
    assert "nothing is compared" in caplog.text


def test_nights_in_a_store_are_compared_as_well(bundle_path, constant):
    store = fsspec.filesystem("memory")
    out = "memory://gated/nights"
    try:
        for date in (FIRST, SECOND):
            run(Job(bundle=bundle_path, out=out, run_date=date, k=K, threads=1, users_per_part=15 + int(date[-1])))
        checks = json.loads(store.cat(f"gated/nights/run_date={SECOND}/manifest.json"))["checks"]
        assert checks["previous"] == FIRST
        assert checks["user_items"]["overlap"] == checks["item_items"]["kept"] == 1.0
        before = {path: store.cat(path) for path in store.glob("gated/nights/run_date=*/**") if store.isfile(path)}
        assert len(before) > 6
        with pytest.raises(QualityGateError, match=r"users\.flat") as caught:
            run(Job(bundle=constant, out=out, run_date="2026-11-24", k=K, threads=1))
        assert str(caught.value).startswith(f"{out}/.staging-2026-11-24: ")  # not where it was fetched to
        assert {path: store.cat(path) for path in before} == before
        assert not store.exists("gated/nights/run_date=2026-11-24/_SUCCESS")
        assert store.cat("gated/nights/LATEST").decode().strip() == SECOND
        assert store.glob("gated/nights/.staging-2026-11-24/user_items/*.parquet")
    finally:
        store.rm("gated", recursive=True)


# the thresholds ----------------------------------------------------------------------------------------------------


@given(
    st.fixed_dictionaries(
        {}, optional={"max_drift": st.floats(0, 1e6), "min_auc": st.floats(0, 1), "depth": st.integers(1, 99)}
    )
)
def test_thresholds_survive_json(changes):
    config = GateConfig(**changes)
    assert from_json(GateConfig, json.loads(json.dumps(to_json(config)))) == config


@pytest.mark.parametrize(
    "values",
    [
        {"max_drift": -1},
        {"max_drift": "high"},
        {"max_seen": 0.5},
        {"min_auc": float("nan")},
        {"max_flat_users": True},
        {"depth": 0},
        {"max_drfit": 1},
        {"max_gini": None},
    ],
)
def test_wrong_thresholds_are_refused_by_name(tmp_path, values):
    path = tmp_path / "gates.json"
    path.write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=f"GateConfig.{next(iter(values))}"):
        read_config(path)


@pytest.mark.parametrize("text", ["", "[1]", "{", "null", "\x00"])
def test_a_threshold_file_that_is_no_object_is_refused(tmp_path, text):
    path = tmp_path / "gates.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"gates\.json"):
        read_config(path)


def test_every_threshold_belongs_to_a_gate():
    used = {bound.setting for gate in GATES for bounds in gate.bounds.values() for bound in bounds}
    rest = {field.name for field in dataclasses.fields(GateConfig)} - used
    assert rest == {"depth", "established_ratings"}


HEAD = "| gate | figure | threshold | what a failure may mean |\n|---|---|---|---|\n"


def table_of_gates() -> str:
    """docs/gates.md's table: the sides of a gate in one row where they have the same thresholds."""
    rows = []
    for gate in GATES:
        for bounds in dict.fromkeys(gate.bounds.values()):
            names = ", ".join(f"`{side}.{gate.name}`" for side, found in gate.bounds.items() if found == bounds)
            limits = [
                bound.words.format(
                    f"{'at most' if bound.setting.startswith('max_') else 'at least'} "
                    f"`{bound.setting}` {getattr(GateConfig(), bound.setting):g}"
                )
                for bound in bounds
            ]
            rows.append(f"| {names} | {gate.measures} | {', and '.join(limits)} | {gate.means} |\n")
    return HEAD + "".join(rows)


def test_docs_hold_the_table_of_gates(golden):
    page = Path(__file__).resolve().parents[3] / "docs" / "gates.md"
    before, _, rest = page.read_text("utf-8").partition(HEAD)
    assert rest, "the head of the table is gone"
    golden(page, before + table_of_gates() + "\n" + rest.partition("\n\n")[2])


def test_judge_compares_the_right_way_round():
    def held(name: str, got: float, **settings: float) -> GateResult:
        return judge(name, Reading(got), GateConfig(**settings))

    assert held("users.drift", 1.0).passed
    assert not held("users.drift", 1.01).passed
    assert held("users.overlap", 0.5, min_user_overlap=0.5).passed
    assert not held("users.overlap", 0.49, min_user_overlap=0.5).passed
    assert not held("users.drift", float("nan")).passed
    skipped = judge("users.drift", Reading(9), GateConfig(), ["drift"])
    with pytest.raises(QualityGateError, match=r"here: 1 of 2 gates failed(.|\n)*users\.overlap"):
        enforce(Figures(gates=(held("users.overlap", 0.1, min_user_overlap=0.5), skipped)), "here")
    assert check_skips(["users.drift", "auc", "auc"]) == ("auc", "users.drift")


# what a failure says helps -----------------------------------------------------------------------------------------

EVERY = [(gate, side) for gate in GATES for side in gate.bounds]
SHARES = st.floats(0, 1, allow_subnormal=False)


@pytest.mark.parametrize(("gate", "side"), EVERY, ids=[f"{side}.{gate.name}" for gate, side in EVERY])
@given(data=st.data())
def test_what_a_failing_message_says_makes_the_gate_pass(gate, side, data):
    """Whatever the figure, the night before and the settings are: each way past that the message names is one."""
    name = f"{side}.{gate.name}"
    whole = {field.name for field in dataclasses.fields(GateConfig) if field.type == "int"}
    values = {
        bound.setting: data.draw(st.integers(0, 9) if bound.setting in whole else st.floats(0, 2))
        for bound in gate.bounds[side]
    }
    counts = any(bound.setting in whole for bound in gate.bounds[side])
    figure = st.integers(0, 50) if counts else st.one_of(SHARES, st.floats(0, 20))
    if gate.name in ("coverage", "gini", "fallback"):
        figure = SHARES
    reading = Reading(data.draw(figure), past=data.draw(st.none() | SHARES))
    result = judge(name, reading, GateConfig(**values))
    if result.verdict != "failed":
        return
    said = describe(result)
    changes = dict(re.findall(r"(\w+) to ([0-9.e+-]+)(?= and | in --gates)", said))
    assert changes.keys() <= values.keys()
    moved = GateConfig(**{**values, **{setting: json.loads(value) for setting, value in changes.items()}})
    again = judge(name, reading, moved)
    assert again.passed, (said, again)
    for setting in changes:  # each of them is needed
        assert not judge(name, reading, dataclasses.replace(moved, **{setting: values[setting]})).passed
    [skip] = re.findall(r"--skip-gate ([\w.]+\w)", said)
    assert judge(name, reading, GateConfig(**values), check_skips([skip])).verdict == "skipped"
    assert judge(name, reading, GateConfig(**values), [gate.name]).verdict == "skipped"


def test_a_figure_that_is_no_number_names_no_setting_that_could_not_help():
    said = describe(judge("users.drift", Reading(float("nan")), GateConfig()))
    assert "--skip-gate users.drift." in said
    assert "max_drift" not in said


def test_a_message_names_every_setting_that_stands_in_the_way(lists, rules, manifest, bundle):
    """The sample's own way: fewer titles than either limit allows, set as told, and the night passes."""
    same = {**lists, "users": one_list_for_all(lists, bundle)}
    config = GateConfig(min_coverage=0.9, max_gini=0.1, max_sameness=1.0, min_user_overlap=0.0, max_drift=99.0)

    def failing(config: GateConfig) -> dict[str, GateResult]:
        """Without a gate that is skipped: the titles' lists are the same, and fail the same settings."""
        expected, parts = dataclasses.replace(rules, config=config), {side: [(side, t)] for side, t in same.items()}
        try:
            audit_parts(parts, expected, previous_of(lists, manifest))
        except GatesFailedError as error:
            return {line.name: line for line in error.figures.gates if not line.passed}
        return {}

    found = failing(config)
    assert found["users.coverage"].settings.keys() == {"min_coverage", "min_coverage_ratio"}
    assert found["users.gini"].settings.keys() == {"max_gini", "min_evenness_ratio"}
    assert found["titles.gini"].settings == {"max_gini": found["users.gini"].settings["max_gini"]}
    moved = {setting: value for line in found.values() for setting, value in line.settings.items()}
    assert failing(dataclasses.replace(config, **moved)) == {}


# what is not compared is not counted as passed ---------------------------------------------------------------------


def test_gates_that_cannot_fail_on_the_first_night_are_not_counted_as_passed(lists, rules, manifest):
    found = gates(lists, rules)
    for name in ("coverage", "gini"):
        for side in ("users", "titles"):
            line = found[f"{side}.{name}"]
            assert (line.verdict, line.got, line.note) == ("not compared", None, "no previous night")
            assert gates(lists, rules, lists, manifest)[f"{side}.{name}"].verdict == "passed"
    assert found["users.fallback"].verdict == "passed"  # a limit of its own
    limited = gates(lists, rules, config=GateConfig(min_coverage=0.1))["users.coverage"]
    assert limited.verdict == "passed"


def test_what_nothing_could_fail_is_not_counted_as_passed(lists, rules, bundle, bundle_path):
    found = gates(lists, rules)
    assert found["users.denied"].verdict == found["titles.asked"].verdict == "not compared"
    assert found["users.seen"].verdict == "passed"
    everything = expectations(
        bundle, Job(bundle=bundle_path, out="memory://none", run_date=FIRST, k=K, include_seen=True)
    )
    line = gates(lists, everything)["users.seen"]
    assert (line.verdict, line.note) == ("not compared", "what users have may be listed")


def test_every_line_without_a_figure_says_why(lists, rules, manifest):
    for found in (gates(lists, rules), gates(lists, rules, lists, manifest)):
        for line in found.values():
            assert (line.verdict == "not compared") is (line.got is None)
            assert line.got is not None or line.note, line.name


@pytest.mark.parametrize(
    ("changes", "alone"),
    [
        ({"k": 100}, {"length_ratio", "coverage", "gini", "drift"}),
        ({"k": 3}, {"length_ratio", "coverage", "gini", "drift", "overlap"}),
        ({"include_seen": True}, {"length_ratio", "coverage", "gini", "drift", "overlap"}),
        ({"repeat": True}, {"length_ratio", "coverage", "gini", "drift", "overlap"}),
        ({"model": "ncf"}, {"drift"}),
    ],
)
def test_nights_of_another_kind_are_not_compared(lists, rules, manifest, changes, alone):
    """Of another k, only that which does not hang on it; tops of ten are the same where both k are ten or more."""
    checks = manifest["checks"]
    before = {**manifest, "checks": {**checks, "bundle": {**checks["bundle"], **changes}}}
    tonight = rules
    if changes == {"k": 100}:
        tonight = dataclasses.replace(rules, bundle=dataclasses.replace(rules.bundle, k=10))
    if changes == {"k": 100}:
        before["checks"]["bundle"]["k"] = 100
    found = gates(lists, tonight, lists, before)
    compared = ("length_ratio", "coverage", "gini", "kept", "overlap", "drift")
    got = {name for name in compared if found[f"users.{name}"].verdict == "not compared"}
    assert got == alone
    name = next(iter(changes)).replace("_", " ")
    for gate in alone:
        note = found[f"users.{gate}"].note
        assert note.startswith(f"not comparable: the previous night has {name}") or (gate, "top" in note) == (
            "overlap", True,
        )  # fmt: skip


def test_a_figure_between_nights_of_another_k_is_taken_back_from_the_manifest(bundle_path, out):
    run(Job(bundle=bundle_path, out=out, run_date=SECOND, k=K + 1, threads=1))
    checks = json.loads((out / f"run_date={SECOND}" / "manifest.json").read_text())["checks"]
    assert checks["previous"] == FIRST
    assert checks["user_items"]["drift"] is None
    assert checks["user_items"]["kept"] == 1.0


def test_a_night_of_no_rows_is_not_published(bundle_path, tmp_path, capsys):
    """The only title allowed, for its own list and for a user who has rated it: nothing is left to list."""
    options = []
    for option, listed in (("--allow", 1), ("--items", 1), ("--users", COLD_USER)):
        path = tmp_path / f"{option[2:]}.txt"
        path.write_text(f"{listed}\n")
        options += [option, str(path)]
    assert main(arguments(bundle_path, tmp_path / "out", FIRST, *options)) == 6
    err = capsys.readouterr().err
    assert "users.rows: rows of all lists together: got 0, expected at least 1" in err
    assert "Traceback" not in err
    assert not (tmp_path / "out" / "LATEST").exists()
    (tmp_path / "gates.json").write_text('{"min_rows": 0}')
    assert main(arguments(bundle_path, tmp_path / "out", FIRST, *options, "--gates", str(tmp_path / "gates.json"))) == 0
