"""The notebook runs from its first cell to its last, and is stored without what it prints."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sdk
from sdk.__main__ import main
from sdk.base.config import RANKERS, HistoryConfig

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
nbformat = pytest.importorskip("nbformat", reason="no nbformat: pip install '.[dev]'")


def test_it_is_valid_and_stored_without_outputs():
    notebook = nbformat.read(EXAMPLES / "tour.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert sum(len(cell.source.splitlines()) for cell in code) < 60
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


@pytest.fixture(scope="module")
def quick_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's bundle, trained for few epochs."""
    folder = tmp_path_factory.mktemp("tour")
    movielens, tmdb = sdk.write_sample(folder)
    config = sdk.RunConfig(
        dlrm=sdk.DLRMConfig(num_members=1),
        history=HistoryConfig(penalty=1000.0),
        training=sdk.TrainingConfig(max_epochs=2, refit=False),
    )
    return sdk.train(sdk.load_movielens(movielens, tmdb=tmdb), config, folder / "bundle").path


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop's tables, described, and a bundle of them that takes a second."""
    folder = tmp_path_factory.mktemp("shop")
    subprocess.run([sys.executable, EXAMPLES / "shop.py", folder], check=True, timeout=60)
    tables = [str(folder / name) for name in ("events.parquet", "products.csv", "customers.csv")]
    assert main(["inspect", *tables, "--out", str(folder / "dataset.toml")]) == 0
    config = sdk.RunConfig(models=("history", "content"), history=HistoryConfig(rank=20, penalty=5.0))
    sdk.train(sdk.dataset(folder / "dataset.toml"), config, folder / "bundle")
    return folder


def executed(folder: Path, bundle: Path, dataset: str = "") -> dict[str, str]:
    """Each code cell's id with its text output, once the folder's notebook has run; one that draws says ``<chart>``."""
    private = {"IPYTHONDIR": str(folder / ".ipython"), "JUPYTER_RUNTIME_DIR": str(folder / ".jupyter")}
    run = [sys.executable, "-c", "from nbclient.cli import main; main()", "--inplace", "--timeout=120", "tour.ipynb"]
    given = {"MARQUEE_BUNDLE": str(bundle), "MARQUEE_DATASET": dataset, "JUPYTER_NO_CONFIG": "1"}
    environment = {**os.environ, **private, **given}
    done = subprocess.run(run, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    notebook = nbformat.read(folder / "tour.ipynb", as_version=4)
    return {cell.id: "".join(map(text_of, cell.outputs)) for cell in notebook.cells if cell.cell_type == "code"}


def text_of(output) -> str:
    if output.output_type == "stream":
        assert output.name == "stdout", output.text
        return output.text
    return "<chart>" if "image/png" in output.data else output.data["text/plain"]


def check(said: dict[str, str], bundle: sdk.Bundle, folder: Path) -> None:
    """What the cells say is what the bundle says."""
    user = bundle.users["user_id"][0].as_py()
    popular = bundle.recommend_for([], 3).row(0)[0]
    names = {
        "lists": bundle.recommend([user], k=8), "similar": bundle.similar(popular[:1], k=6),
        "visitor": bundle.recommend_for(popular, k=5),
    }  # fmt: skip
    for cell, found in names.items():
        for title in bundle.titles(found.row(0)[0]):
            assert title in said[cell], cell
    assert f"published: {20 * bundle.users.num_rows:,} user rows" in said["night"]
    assert {name for name, text in said.items() if text == "<chart>"} == {"why"}
    assert [path.name for path in folder.iterdir() if not path.name.startswith(".")] == ["tour.ipynb"]


@pytest.mark.slow
def test_every_cell_runs_and_tells_what_the_bundle_says(tmp_path, quick_bundle):
    shutil.copy(EXAMPLES / "tour.ipynb", tmp_path)
    said = executed(tmp_path, quick_bundle)
    check(said, sdk.load(quick_bundle), tmp_path)
    assert sum(said["lists"].count(source) for source in (*RANKERS, "history")) == 8


@pytest.mark.slow
def test_every_cell_runs_on_ones_own_tables(tmp_path, shop):
    shutil.copy(EXAMPLES / "tour.ipynb", tmp_path)
    check(executed(tmp_path, shop / "bundle", str(shop / "dataset.toml")), sdk.load(shop / "bundle"), tmp_path)
