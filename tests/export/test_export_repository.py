"""What an export writes: whole or not at all, checked, complete without the bundle, and in Triton's own terms."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small
from format_artefacts import resealed

import export.repository as repository_module
from export.__main__ import main
from export.configs import config_text, read_config, sources
from export.errors import ParityError, RepositoryError
from export.manifest import check_repository, read_manifest, version_folders
from export.options import ExportOptions
from export.repository import export_repository
from export.selfcheck import load_scorer
from sdk.base.errors import BundleError, ConfigError, LockedError, OutputError, UsageError
from sdk.bundles.bundle import Bundle, sha256_of
from sdk.training.pipeline import train_bundle

COMPILED = ExportOptions(workflow="compiled")
FORMS = ("compiled", "nvtabular")


def all_hashes(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): sha256_of(p) for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("workflow", ["compiled", "nvtabular"])
def test_a_repository_has_every_model_and_every_file_is_in_a_manifest(exported: Callable[..., Path], workflow: str):
    repository = exported(workflow=workflow)
    facts = check_repository(repository)
    assert sorted(facts["models"]) == ["nvt_workflow", "rank", "ranker", "recommend", "similar_items"]
    listed = {
        str(folder.relative_to(repository) / name)
        for folder in version_folders(repository)
        for name in json.loads((folder / "manifest.json").read_text())["files"]
    }
    there = {n for n in all_hashes(repository) if not n.endswith(("manifest.json", "config.pbtxt"))}
    assert there == listed


def test_the_compiled_form_holds_no_pickle_and_the_ranker_imports_numpy_alone(exported: Callable[..., Path]):
    repository = exported()
    suffixes = {path.suffix for path in repository.rglob("*") if path.is_file()}
    assert suffixes == {".npy", ".py", ".json", ".pbtxt"}
    text = "".join(p.read_text() for m in ("ranker", "nvt_workflow") for p in (repository / m).rglob("*.py"))
    lines = [line.split()[1] for line in text.splitlines() if line.startswith(("import ", "from "))]
    outside = {name.partition(".")[0] for name in lines} - sys.stdlib_module_names
    assert outside == {"numpy", "triton_python_backend_utils", "marquee_serving", "pair_score"}


class Planted:
    """A pickle of it ends the process that opens it."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return os._exit, (1,)


@pytest.mark.needs("nvtabular")
def test_a_bundle_of_an_earlier_release_is_exported_alike_and_its_pickles_stay_shut(
    bundle: Bundle, exported: Callable[..., Path], tmp_path: Path
):
    old = shutil.copytree(bundle.path, tmp_path / "bundle")
    shutil.rmtree(old / "workflow")
    pickles = [f"workflow/{name}/workflow.pkl" for name in ("interactions", "codes", "users", "items")]
    for name in pickles:
        (old / name).parent.mkdir(parents=True)
        (old / name).write_bytes(pickle.dumps(Planted()))
    files = {name: "" for name in bundle.info.files if not name.startswith("workflow/")} | dict.fromkeys(pickles, "")
    info = json.loads((old / "bundle.json").read_text())
    (old / "bundle.json").write_text(json.dumps({**info, "files": files}))
    resealed(old)
    for form in FORMS:
        export_repository(old, tmp_path / form, ExportOptions(workflow=form))
        for name in ("unique.user_id.parquet", "unique.item_id.parquet", "user_ids.npy", "item_ids.npy"):
            got, expected = ([*folder.rglob(name)] for folder in (tmp_path / form, exported(workflow=form)))
            assert [path.read_bytes() for path in got] == [path.read_bytes() for path in expected]


@pytest.mark.parametrize(("here", "taken"), [(True, "nvtabular"), (False, "compiled")])
def test_the_default_form_is_nvtabulars_where_it_is_installed(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, here, taken
):
    if here:
        pytest.importorskip("nvtabular")
    else:
        monkeypatch.setitem(sys.modules, "merlin.systems", None)
    with caplog.at_level("INFO"):
        export_repository(bundle.path, tmp_path / "repository")
    assert json.loads((tmp_path / "repository" / "manifest.json").read_text())["options"]["workflow"] == taken
    said = [record.message for record in caplog.records if "--workflow" in record.message]
    assert said == [] if here else ["--workflow compiled is taken: NVIDIA Merlin is not installed"]


@pytest.mark.needs("nvtabular")
def test_an_export_reads_the_bundle_only(bundle: Bundle, tmp_path: Path):
    before = all_hashes(bundle.path)
    export_repository(bundle.path, tmp_path / "repository", ExportOptions(workflow="nvtabular"))
    assert all_hashes(bundle.path) == before


@pytest.mark.needs("nvtabular")
def test_an_export_works_from_any_folder_with_relative_paths(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    relative = os.path.relpath(bundle.path, tmp_path)
    code = main(["--bundle", relative, "--out", "repository", "--workflow", "compiled", "-q"])
    assert code == 0
    assert check_repository(tmp_path / "repository")["version"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["repository"]


@pytest.mark.parametrize("model", ["rank", "nvt_workflow", "ranker", "recommend", "similar_items"])
def test_default_configs_are_the_reviewed_ones(exported: Callable[..., Path], model: str):
    written = read_config(exported() / model / "config.pbtxt")
    reviewed = read_config(sources() / model / "config.pbtxt")
    assert config_text(written) == config_text(reviewed)


def test_options_reach_the_configs(bundle: Bundle, tmp_path: Path):
    options = ExportOptions(
        workflow="compiled", instances=3, max_batch=100, max_queue_delay_us=250, max_ids=7, max_k=5, max_results=9,
        keep_versions=2,
    )  # fmt: skip
    export_repository(bundle.path, tmp_path / "r", options)
    configs = {m: read_config(tmp_path / "r" / m / "config.pbtxt") for m in ("nvt_workflow", "ranker", "recommend")}
    assert all(config.instance_group[0].count == 3 for config in configs.values())
    for model in ("nvt_workflow", "ranker"):
        assert configs[model].max_batch_size == 100
        assert configs[model].dynamic_batching.max_queue_delay_microseconds == 250
        assert configs[model].version_policy.latest.num_versions == 3
    limits = {name: value.string_value for name, value in configs["recommend"].parameters.items()}
    assert limits == {"max_ids": "7", "max_k": "5", "max_results": "9"}
    assert configs["recommend"].version_policy.latest.num_versions == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"backend": "tensorrt"},
        {"workflow": "x"},
        {"instances": 0},
        {"max_queue_delay_us": -1},
        {"instance_kind": "gpu"},
    ],
)
def test_options_out_of_range_are_refused(wrong: dict[str, object]):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ExportOptions(**wrong)  # type: ignore[arg-type]


def test_exporting_again_adds_a_version_and_rank_refers_to_it(bundle: Bundle, tmp_path: Path):
    target = tmp_path / "repository"
    export_repository(bundle.path, target, COMPILED)
    first = all_hashes(target / "ranker" / "1")
    again = export_repository(bundle.path, target, COMPILED)
    assert again.version == 2
    assert check_repository(target)["version"] == 2
    assert (
        all_hashes(target / "ranker" / "1")
        == first
        == all_hashes(target / "ranker" / "2")
        | {name: digest for name, digest in first.items() if name == "manifest.json"}
    )
    steps = read_config(target / "rank" / "config.pbtxt").ensemble_scheduling.step
    assert [(step.model_name, step.model_version) for step in steps] == [("nvt_workflow", 2), ("ranker", 2)]


def test_a_next_version_with_other_options_is_refused_and_changes_nothing(bundle: Bundle, tmp_path: Path):
    target = tmp_path / "repository"
    export_repository(bundle.path, target, COMPILED)
    before = all_hashes(tmp_path)
    with pytest.raises(UsageError, match=r"ranker.*differs.*--out"):
        export_repository(bundle.path, target, ExportOptions(workflow="compiled", backend="pytorch"))
    assert all_hashes(tmp_path) == before


@pytest.mark.parametrize("broken", ["check_ranker", "write_manifest", "check_repository"])
def test_an_export_that_fails_leaves_nothing(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
):
    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path))

    monkeypatch.setattr(repository_module, broken, fail)
    with pytest.raises(OutputError, match="No space left"):
        export_repository(bundle.path, tmp_path / "repository", COMPILED)
    assert not list(tmp_path.iterdir())


def test_a_ranker_that_scores_otherwise_is_not_published(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    original = repository_module.form_arrays

    def slightly_wrong(form: object) -> dict[str, object]:
        arrays = original(form)  # type: ignore[arg-type]
        return {**arrays, "item_bias": arrays["item_bias"] + 0.01}

    monkeypatch.setattr(repository_module, "form_arrays", slightly_wrong)
    with pytest.raises(ParityError, match=r"apart from the SDK"):
        export_repository(bundle.path, tmp_path / "repository", COMPILED)
    assert not (tmp_path / "repository").exists()


def test_a_folder_that_is_something_else_is_not_touched(bundle: Bundle, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="no model repository of ours"):
        export_repository(bundle.path, tmp_path, COMPILED)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_two_exports_to_one_folder_do_not_mix(bundle: Bundle, tmp_path: Path):
    from filelock import FileLock

    with FileLock(tmp_path / ".repository.lock"), pytest.raises(LockedError, match="another export"):
        export_repository(bundle.path, tmp_path / "repository", COMPILED)


def test_a_damaged_bundle_is_not_exported(bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    copy = shutil.copytree(bundle.path, tmp_path / "bundle")
    with (copy / "dlrm.safetensors").open("ab") as file:
        file.write(b"x")
    assert main(["--bundle", str(copy), "--out", str(tmp_path / "repository")]) == 4
    assert "dlrm.safetensors: altered" in capfd.readouterr().err
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize("change", ["alter", "remove"])
def test_a_changed_file_is_found(exported: Callable[..., Path], tmp_path: Path, change: str):
    copy = shutil.copytree(exported(), tmp_path / "repository")
    file = copy / "ranker" / "1" / "arrays" / "item_bias.npy"
    if change == "remove":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(RepositoryError, match=rf"item_bias\.npy: {'missing' if change == 'remove' else 'altered'}"):
        check_repository(copy)


def test_what_is_no_repository_is_named(tmp_path: Path):
    with pytest.raises(BundleError, match=r"no manifest\.json, so no model repository of ours\. Write one: python -m"):
        check_repository(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(BundleError, match=r"manifest\.json: not readable"):
        check_repository(tmp_path)


def test_the_model_can_be_chosen(bundle: Bundle, exported: Callable[..., Path]):
    other = "ncf" if bundle.info.chosen_model == "dlrm" else "dlrm"
    assert check_repository(exported())["ranker"] == bundle.info.chosen_model
    assert check_repository(exported(model=other))["ranker"] == other
    with pytest.raises(UsageError, match="bert"):
        exported(model="bert")


def test_an_export_that_breaks_off_while_it_is_put_in_place_leaves_the_old_version_served(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    target = tmp_path / "repository"
    export_repository(bundle.path, target, COMPILED)
    replace = os.replace

    def fail_at_rank(source: Path, to: Path) -> None:
        if Path(to).name == "2" and Path(to).parent.name == "rank":
            raise OSError(5, "Input/output error", str(to))
        replace(source, to)

    monkeypatch.setattr(os, "replace", fail_at_rank)
    with pytest.raises(OutputError, match="Input/output error"):
        export_repository(bundle.path, target, COMPILED)
    monkeypatch.undo()
    assert check_repository(target)["version"] == 1
    steps = read_config(target / "rank" / "config.pbtxt").ensemble_scheduling.step
    assert {step.model_version for step in steps} == {1}
    assert {folder.name for folder in version_folders(target)} == {"1"}
    assert export_repository(bundle.path, target, COMPILED).version == 2
    assert [path.name for path in tmp_path.iterdir()] == ["repository"]


def test_a_bundle_without_the_content_model_is_exported_without_similar_items(tmp_path: Path):
    ncf = train_bundle(small.dataset(1), small.run_config(models=("ncf",)), tmp_path / "bundle")
    exported = export_repository(ncf.path, tmp_path / "repository", COMPILED)
    assert (exported.model, sorted(exported.models)) == ("ncf", ["nvt_workflow", "rank", "ranker", "recommend"])
    assert sorted(p.name for p in (tmp_path / "repository").iterdir() if p.is_dir()) == sorted(exported.models)


def test_a_bundle_without_a_ranker_is_refused(tmp_path: Path):
    content = train_bundle(small.dataset(1), small.run_config(models=("content",)), tmp_path / "bundle")
    with pytest.raises(UsageError, match="holds no ranker"):
        export_repository(content.path, tmp_path / "repository", COMPILED)
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize("backend", ["python", "pytorch"])
def test_a_bundle_of_the_history_model_alone_is_served_by_it(tmp_path: Path, backend):
    history = train_bundle(small.dataset(1), small.run_config(models=("history",)), tmp_path / "bundle")
    options = replace(COMPILED, backend=backend)
    exported = export_repository(history.path, tmp_path / "repository", options)
    assert exported.model == "history" == read_manifest(tmp_path / "repository")["ranker"]
    rng, form = np.random.default_rng(0), history.list_form()
    users, items = rng.integers(2, len(history.encoded_users), 99), rng.integers(3, len(history.encoded_items), 99)
    scores = load_scorer(tmp_path / "repository/ranker/1", backend)(users, items)
    pairs = zip(users, items, strict=True)
    slow = [form.users.bias[u] + form.items.bias[i] + form.users.dot[u] @ form.items.dot[i] for u, i in pairs]
    np.testing.assert_allclose(scores, slow, rtol=1e-5, atol=1e-5)
