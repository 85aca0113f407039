"""The notebook runs from its first cell to its last, and is stored without what it prints."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sdk
from sdk.base.config import HistoryConfig

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
nbformat = pytest.importorskip("nbformat", reason="no nbformat: pip install '.[dev]'")


def test_it_is_valid_and_stored_without_outputs():
    notebook = nbformat.read(EXAMPLES / "tour.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) >= 10
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


def executed(folder: Path, bundle: Path) -> dict[str, str]:
    """Each code cell's id with its text output, once the folder's notebook has run; one that draws says ``<chart>``."""
    private = {"IPYTHONDIR": str(folder / ".ipython"), "JUPYTER_RUNTIME_DIR": str(folder / ".jupyter")}
    run = [sys.executable, "-c", "from nbclient.cli import main; main()", "--inplace", "--timeout=120", "tour.ipynb"]
    environment = {**os.environ, **private, "JUPYTER_NO_CONFIG": "1", "MARQUEE_BUNDLE": str(bundle)}
    done = subprocess.run(run, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    notebook = nbformat.read(folder / "tour.ipynb", as_version=4)
    return {cell.id: "".join(map(text_of, cell.outputs)) for cell in notebook.cells if cell.cell_type == "code"}


def text_of(output) -> str:
    if output.output_type == "stream":
        assert output.name == "stdout", output.text
        return output.text
    return "<chart>" if "image/png" in output.data else output.data["text/plain"]


@pytest.mark.slow
def test_every_cell_runs_and_tells_what_the_bundle_says(tmp_path, quick_bundle):
    shutil.copy(EXAMPLES / "tour.ipynb", tmp_path)
    said = executed(tmp_path, quick_bundle)
    bundle = sdk.load(quick_bundle)
    user = int(bundle.users["user_id"][0].as_py())
    for title in bundle.titles(bundle.recommend([user], k=5).row(0)[0]):
        assert title in said["lists"]
    knight = bundle.find_title("The Dark Knight")[0].item_id
    for title in bundle.titles(bundle.similar([knight], k=6).row(0)[0]):
        assert title in said["similar"]
    assert "published: 60,000 user rows, 45,400 title rows" in said["night"]
    assert sum(said["read"].count(source) for source in ("dlrm", "ncf", "history")) == 5
    assert {name for name, text in said.items() if text == "<chart>"} == {"data-plots", "epochs", "why", "look-plots"}
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["tour.ipynb"]
