"""The served models, run in the test from a repository's own files: rows, lists, limits and damaged files."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from fake_triton import BrokenTensor, OldTensor, OldTensorBesideNumPy1, Tensor, backend_of, model_of, rows
from hypothesis import given
from hypothesis import strategies as st

from export.options import ExportOptions
from sdk.base.errors import BundleError, UsageError
from sdk.bundles.bundle import Bundle
from sdk.features.tables import FIRST_KNOWN, UNKNOWN
from triton_models.marquee_serving import UnfitServerError, lookup, shares_arrays

INT64 = np.iinfo(np.int64)


def strange_ids(known: np.ndarray) -> np.ndarray:
    """Every known id, its neighbours, and what no catalogue has."""
    odd = [0, -1, 1, 2, 3, 2**31, 2**53 + 1, INT64.max, INT64.min]
    return np.concatenate([known, known + 1, known - 1, odd]).astype(np.int64)


@pytest.mark.parametrize("form", ["compiled", "nvtabular"])
def test_both_forms_give_the_sdks_row_for_every_user(bundle: Bundle, exported: Callable[..., Path], form: str):
    users = strange_ids(bundle.encoded_users.known_ids)
    item = int(bundle.encoded_items.known_ids[0])
    with model_of(exported(workflow=form), "nvt_workflow") as model:
        (response,) = model.execute([rows(user_id=users, item_id=[item] * len(users))])
    assert response.error is None
    np.testing.assert_array_equal(response.outputs["user_index"][:, 0], bundle.encoded_users.index_of(users))
    assert set(response.outputs["item_index"][:, 0]) == {FIRST_KNOWN}


@pytest.mark.parametrize("form", ["compiled", "nvtabular"])
def test_both_forms_refuse_exactly_the_unknown_titles(bundle: Bundle, exported: Callable[..., Path], form: str):
    items = strange_ids(bundle.encoded_items.known_ids)
    requests = [rows(user_id=[7], item_id=[item]) for item in items]
    with model_of(exported(workflow=form), "nvt_workflow") as model:
        responses = model.execute(requests)
    for item, row, response in zip(items, bundle.encoded_items.index_of(items), responses, strict=True):
        if row == UNKNOWN:
            assert f"item_id {item}: not among the {len(bundle.items)} titles" in str(response.error)
        else:
            assert response.outputs["item_index"].tolist() == [[row]]


@given(st.lists(st.integers(INT64.min, INT64.max), unique=True), st.lists(st.integers(INT64.min, INT64.max)))
def test_lookup_is_the_dictionary(known: list[int], asked: list[int]):
    known.sort()
    place = {value: n for n, value in enumerate(known)}
    at, there = lookup(np.array(known, dtype=np.int64), np.array(asked + known, dtype=np.int64))
    assert there.tolist() == [value in place for value in asked + known]
    assert [n for n, found in zip(at, there, strict=True) if found] == [place[v] for v in asked + known if v in place]


def test_requests_scored_together_score_as_alone_and_a_bad_one_spoils_no_other(
    bundle: Bundle, exported: Callable[..., Path]
):
    good = [rows(user_index=[3, 4, 2], item_index=[3, 5, 9]), rows(user_index=[6], item_index=[4])]
    bad = rows(user_index=[3], item_index=[len(bundle.encoded_items)])
    with model_of(exported(), "ranker") as model:
        together = model.execute([good[0], bad, good[1]])
        alone = [model.execute([request])[0] for request in good]
    assert "outside 0 to" in str(together[1].error)
    for got, expected in zip((together[0], together[2]), alone, strict=True):
        np.testing.assert_allclose(got.outputs["score"], expected.outputs["score"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("row", [-1, 10**6])
def test_rows_outside_the_tables_are_refused(exported: Callable[..., Path], row: int):
    with model_of(exported(), "ranker") as model:
        (response,) = model.execute([rows(user_index=[row], item_index=[3])])
    assert "row numbers lie outside" in str(response.error)


def ask_lists(model: Any, k: int, **ids: Any) -> Any:
    request = {name: np.asarray(values, dtype=np.int64) for name, values in ids.items()}
    return model.execute([{**request, "k": np.array([k], dtype=np.int32)}])[0]


def test_lists_are_the_bundles_and_as_wide_as_asked(bundle: Bundle, exported: Callable[..., Path]):
    users = [*bundle.encoded_users.known_ids.tolist(), -1, 2**40]
    k = len(bundle.items) + 5
    expected = bundle.recommend(users, k)
    with model_of(exported(), "recommend") as model:
        response = ask_lists(model, k, user_id=users)
    assert response.outputs["item_id"].shape == response.outputs["score"].shape == (len(users), k)
    width = expected.item_id.shape[1]
    np.testing.assert_array_equal(response.outputs["item_id"][:, :width], expected.item_id)
    np.testing.assert_array_equal(response.outputs["score"][:, :width], expected.scores)
    assert (response.outputs["item_id"][:, width:] == -1).all()
    assert (response.outputs["score"][:, width:] == -np.inf).all()


def test_lists_keep_to_the_rules_of_the_export(bundle: Bundle, exported: Callable[..., Path]):
    asked = {"at_most": {"genres": 1}, "at_least": {"count": 2, "max_ratings": 3}, "diversity": 0.4, "popularity": -0.1}
    users = [*bundle.encoded_users.known_ids.tolist(), -1]
    expected, plain = bundle.recommend(users, 6, rules=asked), bundle.recommend(users, 6)
    assert not np.array_equal(expected.item_id, plain.item_id)
    with model_of(exported(rules=json.dumps(asked)), "recommend") as model:
        response = ask_lists(model, 6, user_id=users)
        without = ask_lists(model, 6, user_id=users[:1], exclude=expected.item_id[0, :2])
    np.testing.assert_array_equal(response.outputs["item_id"], expected.item_id)
    np.testing.assert_array_equal(response.outputs["score"], expected.scores)
    left = bundle.recommend(users[:1], 6, rules=asked, deny=expected.item_id[0, :2])
    np.testing.assert_array_equal(without.outputs["item_id"], left.item_id)


@pytest.mark.parametrize(
    "rules", ["rules.json", "", "5", "[]", "null", '"a.json"', '{"at_mots": {}}', '{"diversity": -1}']
)
def test_rules_that_are_none_are_refused_before_anything_is_written(rules: str):
    with pytest.raises(UsageError, match="rules"):
        ExportOptions(rules=rules)


@pytest.mark.parametrize("most_pairs", [0, 10**6])
def test_excluded_titles_are_left_out_and_nothing_else_changes(
    bundle: Bundle, exported: Callable[..., Path], most_pairs: int
):
    users = bundle.encoded_users.known_ids[:9]
    whole = bundle.recommend(users, len(bundle.items))
    excluded = {int(whole.item_id[0, 0]), int(whole.item_id[3, 2]), int(bundle.encoded_items.known_ids[4])}
    with model_of(exported(), "recommend") as model:
        recommend = model.lists.recommend.__func__
        recommend.__globals__["MOST_PAIRS"] = most_pairs  # both ways of leaving titles out
        response = ask_lists(model, 12, user_id=users, exclude=[*excluded, -5, 2**50])
    for b, got in enumerate(response.outputs["item_id"]):
        expected = [item for item in whole.row(b)[0].tolist() if item not in excluded][:12]
        assert got[got >= 0].tolist() == expected


def test_neighbours_are_the_bundles(bundle: Bundle, exported: Callable[..., Path]):
    items = bundle.encoded_items.known_ids[::-1]
    expected = bundle.similar(items, 8)
    with model_of(exported(), "similar_items") as model:
        response = ask_lists(model, 8, item_id=items)
        refused = ask_lists(model, 8, item_id=[int(items[0]), -3])
    np.testing.assert_array_equal(response.outputs["item_id"], expected.item_id)
    np.testing.assert_array_equal(response.outputs["score"], expected.scores)
    assert "item_id -3: not among" in str(refused.error)


@pytest.mark.parametrize(
    ("k", "users", "reason"),
    [
        (0, 1, "input 'k': got 0, expected 1 to 6"),
        (-7, 1, "input 'k': got -7"),
        (2**31 - 1, 1, "input 'k': got 2147483647"),
        (5, 0, "input 'user_id': got 0 ids, expected 1 to 10"),
        (1, 11, "input 'user_id': got 11 ids, expected 1 to 10"),
        (6, 5, "5 ids x k 6 are 30 results, expected at most 24"),
    ],
)
def test_limits_hold(exported: Callable[..., Path], k: int, users: int, reason: str):
    with model_of(exported(max_k=6, max_ids=10, max_results=24), "recommend") as model:
        assert reason in str(ask_lists(model, k, user_id=[7] * users).error)
        assert ask_lists(model, 6, user_id=[7] * 4).error is None


@pytest.mark.parametrize("name", ["nvt_workflow", "ranker", "recommend", "similar_items"])
@pytest.mark.parametrize("workflow", ["compiled", "nvtabular"])
def test_a_model_refuses_to_load_an_altered_or_missing_file(
    exported: Callable[..., Path], tmp_path: Path, name: str, workflow: str
):
    copy = shutil.copytree(exported(workflow=workflow), tmp_path / "repository")
    loaded = sorted(p for p in (copy / name / "1").rglob("*") if p.suffix in (".npy", ".pkl", ".parquet"))
    content = loaded[0].read_bytes()
    loaded[0].write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(Exception, match=r": altered \(sha256"), model_of(copy, name):
        pass
    loaded[0].unlink()
    with pytest.raises(Exception, match=r": missing\."), model_of(copy, name):
        pass
    (copy / name / "1" / "manifest.json").unlink()
    with pytest.raises(Exception, match=r"manifest\.json: not readable"), model_of(copy, name):
        pass


needs_numpy_2 = pytest.mark.skipif(np.__version__ < "2", reason="NumPy 1: a backend of before NumPy 2 reads it right")


@pytest.mark.parametrize(
    ("kind", "shares"),
    [(Tensor, True), (OldTensorBesideNumPy1, True), pytest.param(OldTensor, False, marks=needs_numpy_2)],
)
def test_how_tensors_pass_is_decided_by_what_comes_back(kind: type[Tensor], shares: bool):
    assert shares_arrays(backend_of(kind)) is shares


def test_dlpack_is_not_tried_beside_numpy_1(monkeypatch: pytest.MonkeyPatch):
    class OldTensorThatEnds(OldTensor, OldTensorBesideNumPy1):
        """Misread, and DLPack ends the process: no server is known to be so."""

    monkeypatch.setattr(np, "__version__", "1.26.4")
    with pytest.raises(UnfitServerError, match=r"NumPy 1\.26\.4: got .*, expected .*\. Put numpy<2 into"):
        shares_arrays(backend_of(OldTensorThatEnds))


@needs_numpy_2
@pytest.mark.parametrize("name", ["nvt_workflow", "ranker", "recommend", "similar_items"])
def test_a_model_refuses_a_server_that_misreads_arrays_both_ways(exported: Callable[..., Path], name: str):
    expected = r"got \[\[1, 1\], \[1, 1\], \[1, 1\]\], expected \[\[1, 2\], \[3, 4\], \[5, 6\]\]"
    with pytest.raises(Exception, match=expected), model_of(exported(), name, tensors=BrokenTensor):
        pass


@needs_numpy_2
@pytest.mark.parametrize("form", ["compiled", "nvtabular"])
def test_answers_are_the_same_on_a_server_of_before_numpy_2(bundle: Bundle, exported: Callable[..., Path], form: str):
    users, items = bundle.encoded_users.known_ids[:9], bundle.encoded_items.known_ids[:9]
    asked = {
        "nvt_workflow": [rows(user_id=users, item_id=items), rows(user_id=[7], item_id=[9])],
        "ranker": [rows(user_index=[3, 4, 2], item_index=[3, 5, 9]), rows(user_index=[6], item_index=[4])],
        "recommend": [{"user_id": users, "exclude": items[:3], "k": np.array([5], dtype=np.int32)}],
        "similar_items": [{"item_id": items, "k": np.array([5], dtype=np.int32)}],
    }
    for name, requests in asked.items():
        answers = []
        for kind in (Tensor, OldTensor):
            with model_of(exported(workflow=form), name, tensors=kind) as model:
                answers.append(model.execute(requests))
        for expected, got in zip(*answers, strict=True):
            assert (expected.error, got.error) == (None, None)
            for tensor, values in expected.outputs.items():
                np.testing.assert_array_equal(got.outputs[tensor], values)


def test_a_repository_of_before_is_refused_by_name_where_its_answers_would_be_wrong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Its own copy of marquee_serving knows nothing of this; it imports sdk.serving, which looks for it."""
    import sdk.serving

    copy, backend = ModuleType("marquee_serving"), ModuleType("c_python_backend_utils")
    copy.__file__ = str(tmp_path / "marquee_serving.py")
    monkeypatch.setitem(sys.modules, "marquee_serving", copy)
    monkeypatch.setitem(sys.modules, "c_python_backend_utils", backend)
    for kind in (Tensor, OldTensorBesideNumPy1):
        monkeypatch.setattr(backend, "Tensor", kind, raising=False)
        importlib.reload(sdk.serving)
    monkeypatch.setattr(backend, "Tensor", OldTensor)
    expected = (
        r"marquee_serving\.py: .* misreads arrays of NumPy .*: got \[1, 1, 1, 1, 1, 1\], .*Export the bundle again"
    )
    with pytest.raises(BundleError, match=expected):
        importlib.reload(sdk.serving)
    monkeypatch.setattr(copy, "shares_arrays", shares_arrays, raising=False)
    importlib.reload(sdk.serving)  # a newer copy looks itself
