"""NVTabular beside every Dask that it knows: its DataFrames are Dask's legacy ones, a user's own stay as they were."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from sdk.base.errors import UsageError
from sdk.machine.cluster import dask_for_merlin

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [path for name in ("sdk", "batch", "export") for path in sorted((ROOT / name).rglob("*.py"))]
FIT = """
import sys, warnings
import numpy as np, pandas as pd
from pathlib import Path
from sdk.features.builtin import fit_attributes
from sdk.features.workflows import transformer
table = pd.DataFrame({"genres": [["a", "b"], ["b"]], "gender": ["f", None], "number": [1.0, 2.0]})
learnt = fit_attributes(table, ["genres", "gender"], ["number"])
assert [len(codes) for codes in transformer(learnt, ["genres"], Path(sys.argv[1]))(table)["genres"]] == [2, 1]
import dask
assert dask.config.get("dataframe.query-planning", None) is None
assert dask.config.get("dataframe.convert-string", None) is None
import dask.dataframe
assert type(dask.dataframe.from_pandas(table, 1)).__module__.startswith("dask.dataframe")
"""


def imported(tree: ast.AST) -> set[str]:
    nodes = list(ast.walk(tree))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("path", [p for p in SOURCES if {"merlin", "nvtabular"} & imported(ast.parse(p.read_text()))])
def test_whatever_imports_merlin_asks_dask_for_what_merlin_knows(path):
    assert "with dask_for_merlin():" in path.read_text()


def test_lists_and_missing_words_are_encoded_and_nothing_is_said_or_left_set(tmp_path):
    """Without the settings a list comes out of Dask as text, and its codes as one number."""
    ran = subprocess.run([sys.executable, "-c", FIT, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    said = [line for line in ran.stderr.splitlines() if "ynvml" not in line]
    assert (ran.returncode, said) == (0, [])


def test_what_cannot_be_set_any_more_is_refused_in_one_line(monkeypatch):
    import dask.dataframe

    monkeypatch.setattr(dask.dataframe, "DASK_EXPR_ENABLED", True, raising=False)
    with pytest.raises(UsageError, match=r"query planning .* DASK_DATAFRAME__QUERY_PLANNING=False") as caught:
        with dask_for_merlin():
            pass
    assert "\n" not in str(caught.value)
