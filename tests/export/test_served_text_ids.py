"""Ids that are text: served lists are those of the same data with numbers, renamed; wrong requests; unfit servers."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
import small
from fake_triton import OldTensor, model_of, rows, sent
from hypothesis import given
from hypothesis import strategies as st
from text_ids import named, with_text_ids

from export.arrays import write_arrays
from export.client import Client, ClientOptions
from export.configs import read_config, sources
from export.errors import RefusedRequestError, ServerStartError
from export.options import ExportOptions
from export.repository import export_repository
from export.server import ServerOptions, TritonServer
from export.verify import verify
from sdk.base.config import RunConfig
from sdk.base.description import Description
from sdk.base.errors import UsageError
from sdk.base.ids import text_ids
from sdk.base.types import Dataset
from sdk.bundles.bundle import Bundle
from sdk.training.pipeline import train_bundle
from triton_models.marquee_serving import lookup, read_arrays

COMPILED = ExportOptions(workflow="compiled")
SIDES = {"both": ("user_id", "item_id"), "users": ("user_id",), "items": ("item_id",)}
HANDS_NO_TEXT = r"ids are text, which the server's Python backend does not hand over beside NumPy .*Put numpy<2"
ODD = ["", "nope", "nan", "None", "007", "U-0000000000000000021", "u-0000000000000000021 ", "\x00", "\uffff", "x" * 999]
needs_numpy_1 = pytest.mark.skipif(np.__version__ >= "2", reason="NumPy 2: the bundled server hands no text over")
needs_numpy_2 = pytest.mark.skipif(np.__version__ < "2", reason="NumPy 1: the bundled server hands text over")


def data() -> Dataset:
    return small.dataset(3, num_users=40, num_items=30)


def settings(**changes: Any) -> RunConfig:
    return small.run_config(**{"models": ("ncf", "content"), **changes})


class Served(NamedTuple):
    """A bundle with text as ids of some sides, its repository, and the bundle of the same data with numbers."""

    twin: Bundle
    bundle: Bundle
    repository: Path
    sides: tuple[str, ...]

    def renamed(self, ids: Any, name: str) -> np.ndarray:
        return named(ids, name) if name in self.sides else np.asarray(ids)


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return train_bundle(data(), settings(), tmp_path_factory.mktemp("numbers") / "bundle")


@pytest.fixture(scope="module")
def serve_as(twin: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Served]:
    """``serve_as("users")`` has text as ids of users; made once."""

    @functools.cache
    def make(name: str) -> Served:
        folder = tmp_path_factory.mktemp(name)
        bundle = train_bundle(with_text_ids(data(), *SIDES[name]), settings(), folder / "bundle")
        export_repository(bundle.path, folder / "compiled", COMPILED)
        return Served(twin, bundle, folder / "compiled", SIDES[name])

    return make


@pytest.fixture(scope="module", params=SIDES)
def served(request: pytest.FixtureRequest, serve_as: Callable[[str], Served]) -> Served:
    return serve_as(request.param)


@pytest.fixture(scope="module")
def text(serve_as: Callable[[str], Served]) -> Served:
    return serve_as("both")


def ask(model: Any, k: int, **ids: Any) -> Any:
    request = {**{name: sent(values) for name, values in ids.items()}, "k": np.array([k], dtype=np.int32)}
    return model.execute([request])[0]


def test_only_tensors_of_ids_are_text_and_only_where_ids_are(served: Served):
    found = {}
    for model in ("rank", "nvt_workflow", "ranker", "recommend", "similar_items"):
        written, reviewed = (read_config(f / model / "config.pbtxt") for f in (served.repository, sources()))
        for ours, theirs in zip((*written.input, *written.output), (*reviewed.input, *reviewed.output), strict=True):
            if ours != theirs:
                found[model, ours.name] = (theirs.data_type, ours.data_type)
                ours.data_type = theirs.data_type
        assert written == reviewed
    names = {"user_id": [("rank", "user_id"), ("nvt_workflow", "user_id"), ("recommend", "user_id")]}
    names["item_id"] = [(m, "item_id") for m in ("rank", "nvt_workflow", "recommend", "similar_items")]
    names["item_id"].append(("recommend", "exclude"))
    int64, string = 9, 13  # TYPE_INT64 and TYPE_STRING of Triton's model_config.proto
    assert found == dict.fromkeys([pair for side in served.sides for pair in names[side]], (int64, string))


def test_lists_are_those_of_numbers_renamed(served: Served):
    users = [*served.twin.encoded_users.known_ids.tolist(), -1, 2**40]
    k = len(served.twin.items) + 3
    expected = served.twin.recommend(users, k)
    excluded = expected.item_id[:, 0]
    with model_of(served.repository, "recommend") as model:
        got = ask(model, k, user_id=served.renamed(users, "user_id"))
        item_id = served.renamed(excluded[:9], "item_id")
        without = ask(model, 4, user_id=served.renamed(users, "user_id"), exclude=item_id)
    width = expected.item_id.shape[1]
    np.testing.assert_array_equal(got.outputs["item_id"][:, :width], served.renamed(expected.item_id, "item_id"))
    np.testing.assert_array_equal(got.outputs["score"][:, :width], expected.scores)
    assert set(got.outputs["item_id"][:, width:].ravel()) == {"" if "item_id" in served.sides else -1}
    assert set(map(type, got.outputs["item_id"].ravel().tolist())) == {str if "item_id" in served.sides else int}
    for b, found in enumerate(without.outputs["item_id"]):
        left = [item for item in expected.row(b)[0].tolist() if item not in excluded[:9]][:4]
        assert found[: len(left)].tolist() == served.renamed(left, "item_id").tolist()


def test_neighbours_are_those_of_numbers_renamed(served: Served):
    items = served.twin.encoded_items.known_ids
    expected = served.twin.similar(items, 8)
    with model_of(served.repository, "similar_items") as model:
        got = ask(model, 8, item_id=served.renamed(items, "item_id"))
    np.testing.assert_array_equal(got.outputs["item_id"], served.renamed(expected.item_id, "item_id"))
    np.testing.assert_array_equal(got.outputs["score"], expected.scores)


@pytest.mark.parametrize("form", ["compiled", "nvtabular"])
def test_rows_are_the_sdks_and_odd_text_is_nobody(text: Served, tmp_path: Path, form: str):
    repository = text.repository
    if form == "nvtabular":
        pytest.importorskip("merlin.systems")
        repository = tmp_path / "repository"
        export_repository(text.bundle.path, repository, ExportOptions(workflow="nvtabular"))
    users, items = (table.known_ids for table in (text.bundle.encoded_users, text.bundle.encoded_items))
    asked = [*users, *ODD]
    good = rows(user_id=asked, item_id=[items[n % len(items)] for n in range(len(asked))])
    strange = [rows(user_id=["x"], item_id=[odd]) for odd in ODD]
    with model_of(repository, "nvt_workflow") as model:
        answer, *others = model.execute([good, *strange])
        none = model.execute(strange[:1])
    np.testing.assert_array_equal(answer.outputs["user_index"][:, 0], text.bundle.encoded_users.index_of(asked))
    expected = text.bundle.encoded_items.index_of([items[n % len(items)] for n in range(len(asked))])
    np.testing.assert_array_equal(answer.outputs["item_index"][:, 0], expected)
    for odd, other in zip(ODD[:-1], others[:-1], strict=True):
        assert str(other.error) == f"item_id {odd!r}: not among the 30 titles of this version (1 unknown)"
    assert f"item_id '{'x' * 59}…: not among" in str(others[-1].error)  # not a thousand letters
    assert "item_id ''" in str(none[0].error)


@pytest.mark.parametrize("form", ["compiled", "nvtabular"])
def test_bytes_that_are_no_text_cost_their_own_request_alone(text: Served, tmp_path: Path, form: str):
    repository = text.repository
    if form == "nvtabular":
        pytest.importorskip("merlin.systems")
        repository = tmp_path / "repository"
        export_repository(text.bundle.path, repository, ExportOptions(workflow="nvtabular"))
    item = text.bundle.encoded_items.known_ids[0]
    bad = [rows(user_id=["a", b"\xff"], item_id=[item, item]), rows(user_id=["a"], item_id=[b"\xed\xa0\x80"])]
    with model_of(repository, "nvt_workflow") as model:
        first, good, second = model.execute([bad[0], rows(user_id=["a"], item_id=[item]), bad[1]])
        alone = model.execute(bad)
    assert str(first.error) == "input 'user_id': number 2 is b'\\xff', which is not UTF-8"
    assert str(second.error) == "input 'item_id': number 1 is b'\\xed\\xa0\\x80', which is not UTF-8"
    assert good.outputs["item_index"].tolist() == [[3]]
    assert [str(each.error) for each in alone] == [str(first.error), str(second.error)]


def test_lists_of_what_is_no_text_or_no_item_are_refused(text: Served):
    user, item = text.bundle.encoded_users.known_ids[0], text.bundle.encoded_items.known_ids[0]
    with model_of(text.repository, "recommend") as model:
        assert "'user_id': number 1 is b'\\xff'" in str(ask(model, 3, user_id=[b"\xff"]).error)
        assert "'exclude': number 2 is b'\\xff'" in str(ask(model, 3, user_id=[user], exclude=["a", b"\xff"]).error)
        assert ask(model, 3, user_id=["", "nobody"], exclude=["", "nothing"]).error is None
    with model_of(text.repository, "similar_items") as model:
        assert "'item_id': number 1 is b'\\xff'" in str(ask(model, 3, item_id=[b"\xff"]).error)
        assert "item_id 'zz': not among the 30 titles" in str(ask(model, 3, item_id=[item, "zz"]).error)


@needs_numpy_2
def test_a_server_that_hands_no_text_over_is_refused_when_a_model_loads(served: Served):
    for name in ("nvt_workflow", "recommend", "similar_items"):
        has_text = name != "similar_items" or "item_id" in served.sides
        if has_text:
            with pytest.raises(Exception, match=HANDS_NO_TEXT), model_of(served.repository, name, tensors=OldTensor):
                pass
    with model_of(served.repository, "ranker", tensors=OldTensor) as model:
        (answer,) = model.execute([rows(user_index=[3], item_index=[4])])
    assert answer.error is None


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_text_is_stored_without_pickle_and_comes_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]):
    folder = tmp_path_factory.mktemp("arrays")
    write_arrays(folder, {"ids": text_ids(texts), "likes": np.arange(3)})
    stored = {path.name: np.load(path, allow_pickle=False).dtype for path in (folder / "arrays").iterdir()}
    assert stored == {"ids.npy": np.uint8, "ids_starts.npy": np.int64, "likes.npy": np.int64}
    back = read_arrays(folder)
    assert set(back) == {"ids", "likes"}
    assert (back["ids"].dtype, back["ids"].tolist()) == (np.dtype(object), texts)


@given(st.sets(st.text(max_size=3)), st.lists(st.text(max_size=3)))
def test_lookup_of_text_is_the_dictionary(known: set[str], asked: list[str]):
    ascending = sorted(known)
    at, there = lookup(text_ids(ascending), text_ids(asked + ascending))
    assert there.tolist() == [text in known for text in asked + ascending]
    assert [ascending[n] for n, found in zip(at, there, strict=True) if found] == [
        text for text in asked + ascending if text in known
    ]


def test_a_next_version_must_have_ids_of_the_same_kind(text: Served, tmp_path: Path):
    export_repository(text.twin.path, tmp_path / "repository", COMPILED)
    with pytest.raises(UsageError, match=r"choose another --out \(as for ids of another kind\)"):
        export_repository(text.bundle.path, tmp_path / "repository", COMPILED)


def without_content() -> Dataset:
    """Text as ids, no column of items or users, and an item that nobody has met."""
    named_data = with_text_ids(data())
    items = named_data.items.select(["item_id"])
    items = items.append_column("title", items["item_id"].cast(pa.string()))
    about = Description(items={"title": "ignore"}, users={})
    return dataclasses.replace(named_data, items=items, users=named_data.users.select(["user_id"]), about=about)


def test_items_without_content_have_the_lists_of_the_sdk(tmp_path: Path):
    bundle = train_bundle(without_content(), settings(), tmp_path / "bundle")
    export_repository(bundle.path, tmp_path / "repository", COMPILED)
    items = bundle.encoded_items.known_ids
    expected = bundle.similar(items, 9)
    assert set(expected.source) == {"together"}
    assert set(expected.lengths) == {0, 9}  # nobody has met two of them
    with model_of(tmp_path / "repository", "similar_items") as model:
        got = ask(model, 9, item_id=items)
    np.testing.assert_array_equal(got.outputs["item_id"], expected.item_id)
    np.testing.assert_array_equal(got.outputs["score"], expected.scores)


def test_a_bundle_without_content_model_is_exported_with_pairs_and_lists(tmp_path: Path):
    bundle = train_bundle(without_content(), settings(models=("ncf",)), tmp_path / "bundle")
    exported = export_repository(bundle.path, tmp_path / "repository", COMPILED)
    assert sorted(exported.models) == ["nvt_workflow", "rank", "ranker", "recommend"]
    users = bundle.encoded_users.known_ids
    with model_of(tmp_path / "repository", "recommend") as model:
        got = ask(model, 5, user_id=users)
    np.testing.assert_array_equal(got.outputs["item_id"], bundle.recommend(users, 5).item_id)


@needs_numpy_2
@pytest.mark.server
def test_the_bundled_server_beside_numpy_2_says_what_is_needed(text: Served):
    expected = rf"model 'nvt_workflow', .*: .*{HANDS_NO_TEXT}|model '(recommend|similar_items)', .*: .*{HANDS_NO_TEXT}"
    with pytest.raises(ServerStartError, match=expected) as error, TritonServer(text.repository):
        pass
    assert str(error.value).count("ids are text") == 1  # once for all models


@pytest.fixture(scope="module")
def live(text: Served) -> Iterator[TritonServer]:
    with TritonServer(text.repository, ServerOptions(stop_timeout_s=1, poll_s=0)) as running:
        yield running


@needs_numpy_1
@pytest.mark.server
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_text_goes_to_a_live_server_and_comes_back(text: Served, live: TritonServer, protocol: Any):
    url = live.http_url if protocol == "http" else live.grpc_url
    assert verify(text.repository, text.bundle.path, url, protocol=protocol).users == 42
    users = text.twin.encoded_users.known_ids
    with Client(url, ClientOptions(protocol=protocol)) as client:
        lists = client.recommend(named(users, "user_id"), 6)
        np.testing.assert_array_equal(lists.item_id, named(text.twin.recommend(users, 6).item_id, "item_id"))
        for wrong, reason in WRONG.items():
            with pytest.raises(RefusedRequestError, match=reason):
                wrong(client)
            assert client.rank("", lists.item_id[0, :2]).shape == (2,)


WRONG: dict[Callable[[Client], Any], str] = {
    lambda client: client.rank(["a"], ["nope"]): "item_id 'nope': not among the 30 titles",
    lambda client: client.rank(["a"], [""]): "item_id '': not among",
    lambda client: client.rank([1], [2]): "data-type is 'INT64', but model 'rank' expects 'BYTES'",
    lambda client: client.recommend([1], 3): "data-type is 'INT64', but model 'recommend' expects 'BYTES'",
    lambda client: client.similar_items(["nope"], 3): "item_id 'nope': not among",
}


@pytest.mark.server
def test_text_for_a_server_of_numbers_is_refused(server: TritonServer, bundle: Bundle):
    with Client(server.http_url) as client:
        with pytest.raises(RefusedRequestError, match="data-type is 'BYTES', but model 'recommend' expects 'INT64'"):
            client.recommend(["7"], 3)
        assert client.recommend([7], 3).item_id.dtype == np.int64
