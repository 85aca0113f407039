"""What docs/serving.md shows is run against the live server."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from export.__main__ import build_parser
from export.server import TritonServer
from sdk.bundles.bundle import Bundle

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "serving.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.mark.server
@pytest.mark.parametrize("block", BLOCKS, ids=["client", "tritonclient"])
def test_the_pages_examples_run(server: TritonServer, bundle: Bundle, block: str):
    ids = {"rank(1, [1, 2, 3])": "rank(7, [9, 12, 15])", "similar_items([1]": "similar_items([9]"}
    for shown, ours in {**ids, "127.0.0.1:8000": server.http_url}.items():
        block = block.replace(shown, ours)
    scope: dict[str, object] = {}
    exec(block, scope)
    if "scores" in scope:
        assert np.shape(scope["scores"]) == (3,)
    else:
        answer = scope["lists"].as_numpy("item_id")  # type: ignore[attr-defined]
        np.testing.assert_array_equal(answer, bundle.recommend([1, 2], 10).item_id)


@pytest.mark.server
def test_what_the_page_says_of_json_holds(server: TritonServer, bundle: Bundle):
    def ask(k: int) -> bytes:
        inputs = [
            {"name": "user_id", "shape": [1], "datatype": "INT64", "data": [21]},
            {"name": "k", "shape": [1], "datatype": "INT32", "data": [k]},
        ]
        body = json.dumps({"inputs": inputs}).encode()
        request = urllib.request.Request(f"http://{server.http_url}/v2/models/recommend/infer", body)
        with urllib.request.urlopen(request, timeout=20) as response:
            content: bytes = response.read()
            return content

    whole = json.loads(ask(3))["outputs"]
    assert whole[0]["data"] == bundle.recommend([21], 3).item_id[0].tolist()
    seen: list[str] = []
    json.loads(ask(60), parse_constant=lambda name: seen.append(name))
    assert set(seen) == {"-Infinity"}


def test_every_option_is_on_the_page():
    options = {o for action in build_parser()._actions for o in action.option_strings if o.startswith("--")}
    shared = {"--help", "--verbose", "--quiet", "--json", "--log-format", "--run-id", "--print-completion", "--version"}
    assert {option for option in options - shared if option not in PAGE} == set()


def test_help_is_the_reviewed_one(golden: Callable[[Path, str], None], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "120")
    golden(Path(__file__).parent / "golden" / "help_export.txt", build_parser().format_help())
