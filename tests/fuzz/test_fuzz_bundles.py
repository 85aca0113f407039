"""Corrupted bundles: noticed by their hashes; with hashes made anew, refused or answered with sound lists."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corruptions import Rng, corrupt_bytes, corrupt_json, json_bytes, leaves
from harness import Fuzz
from safetensors.numpy import load_file, save_file

import sdk
from sdk.base.errors import BundleError
from sdk.bundles.info import INFO, sealed

K = 5
TABLES = ("users.parquet", "items.parquet", "seen.parquet")
WORDS = ("history.json", "content.json")
ARRAYS = ("dlrm.safetensors", "ncf.safetensors", "history.npz", "content.npz")


@pytest.fixture
def bundle(bundle_copy: Path) -> Path:
    return bundle_copy


def use(folder: Path) -> list[Any]:
    """Open a bundle and take lists of every kind from it, each held to what the bundle itself says."""
    bundle = sdk.load(folder)
    users, items = bundle.encoded_users.known_ids, bundle.encoded_items.known_ids
    rated = bundle.interactions.rows
    pairs = set(zip(rated.user_index.tolist(), rated.item_index.tolist(), strict=True))
    answers = []
    for model in dict.fromkeys(("best", *(name for name in ("dlrm", "ncf") if name in bundle.info.models))):
        found = bundle.recommend(users, K, model=model)
        check_lists(found, set(items.tolist()))
        for b, user in enumerate(users.tolist()):
            rows = bundle.encoded_items.index_of(found.row(b)[0]).tolist()
            assert not {(bundle.encoded_users.index_of([user])[0], row) for row in rows} & pairs, "lists a seen title"
        answers.append(found)
    if bundle.has_content:
        found = bundle.similar(items, K)
        check_lists(found, set(items.tolist()))
        assert all(item not in found.row(b)[0] for b, item in enumerate(items)), "lists the title itself"
        answers.append(found)
        bundle.titles(items)
    return answers


def check_lists(found: Any, items: set[int]) -> None:
    for b in range(len(found.lengths)):
        ids, scores = found.row(b)
        assert len(set(ids.tolist())) == len(ids)
        assert set(ids.tolist()) <= items
        assert np.isfinite(scores).all()
        assert (np.diff(scores) <= 0).all()


def same_answers(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a.item_id, b.item_id) and np.array_equal(a.scores, b.scores)
        for a, b in zip(one, other, strict=True)
    )


def reseal(folder: Path, **changes: Any) -> None:
    """Hashes and checksum made anew, as if the damage had been done before the bundle was written."""
    info = {**json.loads((folder / INFO).read_text()), **changes}
    if "files" not in changes:
        info["files"] = {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in info["files"]}
    (folder / INFO).write_text(json.dumps(sealed(info)))


def test_a_changed_byte_in_any_listed_file_is_noticed_before_anything_is_read(bundle: Path) -> None:
    fuzz, names = Fuzz("bundle: files"), sorted(json.loads((bundle / INFO).read_text())["files"])
    for seed, rng in fuzz.cases(0.16):
        path = bundle / names[seed % len(names)]
        original = path.read_bytes()
        words, damaged = corrupt_bytes(rng, original)
        path.write_bytes(damaged)
        outcome = fuzz.run(seed, f"{path.name}: {words}", lambda: sdk.load(bundle), 4)
        if (outcome == "error 4") != (damaged != original):
            fuzz.fail(seed, words, f"{outcome}, though {damaged != original} that it was changed")
        path.write_bytes(original)


def test_a_changed_bundle_json_gives_an_error_or_the_lists_that_it_gave(bundle: Path) -> None:
    fuzz, original = Fuzz("bundle.json"), (bundle / INFO).read_bytes()
    expected = use(bundle)

    def same() -> None:
        assert same_answers(use(bundle), expected), "other lists than before"

    for seed, rng in fuzz.cases(0.08):
        words, damaged = corrupt_bytes(rng, original)
        (bundle / INFO).write_bytes(damaged)
        fuzz.run(seed, words, same, 4)


def test_a_bundle_json_sealed_anew_is_refused_or_gives_sound_lists(bundle: Path) -> None:
    fuzz, original = Fuzz("bundle.json, resealed"), json.loads((bundle / INFO).read_text())
    places = [path for path in leaves(original) if path[0] != "files"]
    for seed, rng in fuzz.cases(0.1):
        path = places[int(rng.integers(0, len(places)))]
        words, changed = corrupt_json(rng, original, path)
        (bundle / INFO).write_bytes(json_bytes(sealed(changed)))
        fuzz.run(seed, words, lambda: use(bundle), 2, 4)


def fuzz_files(bundle: Path, fuzz: Fuzz, names: tuple[str, ...], share: float,
               damage: Callable[[Rng, Path], str]) -> None:  # fmt: skip
    info = (bundle / INFO).read_bytes()
    for seed, rng in fuzz.cases(share):
        path = bundle / names[seed % len(names)]
        original = path.read_bytes()
        words = damage(rng, path)
        reseal(bundle)
        fuzz.run(seed, f"{path.name}: {words}", lambda: use(bundle), 4)
        path.write_bytes(original)
        (bundle / INFO).write_bytes(info)


def test_bytes_damaged_before_hashing_give_an_error_or_sound_lists(bundle: Path) -> None:
    def damage(rng: Rng, path: Path) -> str:
        words, damaged = corrupt_bytes(rng, path.read_bytes())
        path.write_bytes(damaged)
        return words

    fuzz_files(bundle, Fuzz("bundle: rehashed bytes"), TABLES + WORDS + ARRAYS, 0.12, damage)


def test_words_changed_before_hashing_give_an_error_or_sound_lists(bundle: Path) -> None:
    def damage(rng: Rng, path: Path) -> str:
        words, changed = corrupt_json(rng, json.loads(path.read_text()))
        path.write_bytes(json_bytes(changed))
        return words

    fuzz_files(bundle, Fuzz("bundle: rehashed words"), WORDS, 0.05, damage)


def test_arrays_changed_before_hashing_give_an_error_or_sound_lists(bundle: Path) -> None:
    def damage(rng: Rng, path: Path) -> str:
        arrays = load_file(path) if path.suffix == ".safetensors" else dict(np.load(path))
        name = str(rng.choice(sorted(arrays)))
        words, changed = corrupt_array(rng, arrays[name])
        arrays = {**arrays, name: changed}
        if rng.random() < 0.1:
            del arrays[name]
        save = save_file if path.suffix == ".safetensors" else lambda values, to: np.savez(to, **values)
        save(arrays, path)
        return f"{name}: {words}"

    fuzz_files(bundle, Fuzz("bundle: rehashed arrays"), ARRAYS, 0.1, damage)


def test_columns_changed_before_hashing_give_an_error_or_sound_lists(bundle: Path) -> None:
    def damage(rng: Rng, path: Path) -> str:
        words, table = corrupt_table(rng, pq.read_table(path))
        try:
            pq.write_table(table, path)
        except pa.ArrowNotImplementedError:  # a null among lists of one length: Arrow cannot write it either
            pq.write_table(table.slice(0, 0), path)
            words = "no rows"
        return words

    fuzz_files(bundle, Fuzz("bundle: rehashed columns"), TABLES, 0.1, damage)


def corrupt_array(rng: Rng, array: np.ndarray) -> tuple[str, np.ndarray]:
    odd = rng.choice([np.nan, np.inf, -1.0, 1e30, 0.0, 7.0])
    flat = np.atleast_1d(array.copy())
    kind = str(rng.choice(["value", "values", "dtype", "longer", "shorter", "shape", "shuffled", "all"]))
    if kind in ("value", "values", "all") and flat.dtype.kind in "fiu" and flat.size:
        places = rng.integers(0, flat.size, {"value": 1, "values": 5, "all": 4 * flat.size}[kind])
        with np.errstate(all="ignore"):
            flat.flat[places] = np.array(
                odd if flat.dtype.kind == "f" else int(rng.choice([-1, 0, 7, 2**30])), flat.dtype
            )
        return f"{kind} {odd}", flat.reshape(array.shape)
    if kind == "dtype":
        wanted = str(rng.choice(["float16", "float64", "int32", "uint8", "bool"]))
        with np.errstate(all="ignore"):
            return f"as {wanted}", (array if array.dtype.kind == "S" else array.astype(wanted))
    changed = {
        "longer": lambda: np.concatenate([flat, flat]),
        "shorter": lambda: flat[: len(flat) // 2],
        "shape": lambda: flat.reshape(-1, 1, 1),
        "shuffled": lambda: np.ascontiguousarray(rng.permutation(flat)),
    }.get(kind, lambda: flat[:0])()
    return kind, changed


def corrupt_table(rng: Rng, table: pa.Table) -> tuple[str, pa.Table]:
    place = int(rng.integers(0, table.num_columns))
    name, column = table.column_names[place], table.column(place).combine_chunks()
    kind = str(rng.choice(["null", "nulls", "drop", "type", "rows", "double", "shuffle", "rename", "value", "add"]))
    if kind == "drop":
        return f"drop {name}", table.drop_columns([name])
    if kind == "rename":
        return f"rename {name}", table.rename_columns([n if n != name else f"{n}_" for n in table.column_names])
    if kind == "add":
        return "add a column", table.append_column("extra", pa.array(range(table.num_rows)))
    if kind in ("rows", "double", "shuffle"):
        rows = {"rows": np.arange(int(rng.integers(0, table.num_rows))), "double": np.arange(2 * table.num_rows) // 2,
                "shuffle": rng.permutation(table.num_rows)}[kind]  # fmt: skip
        return kind, table.take(rows)
    return f"{kind} in {name}", table.set_column(place, name, corrupt_column(rng, kind, column))


def corrupt_column(rng: Rng, kind: str, column: pa.Array) -> pa.Array:
    values = column.to_pylist()
    at = int(rng.integers(0, len(values)))
    if kind == "type":
        return pa.array([str(value) for value in values])
    if kind == "value" and pa.types.is_integer(column.type):
        values[at] = int(rng.choice([-1, 0, 1, 2, 100, 127]))
    elif kind == "value" and pa.types.is_floating(column.type):
        values[at] = float(rng.choice([np.nan, np.inf, -1, 1e30]))
    elif kind == "value" and pa.types.is_fixed_size_list(column.type):
        values[at] = [float("nan")] * column.type.list_size
    elif kind == "value" and pa.types.is_string(column.type):
        values[at] = "\x00\u202e" * 50
    else:
        values = [None if kind == "nulls" or i == at else value for i, value in enumerate(values)]
    return pa.array(values, type=column.type)


TABLE_FACTS = [
    ("std", [1.0, 0.0]),
    ("std", [1.0]),
    ("std", [1.0, 1e-300]),
    ("mean", [1e308, 0.0]),
    ("mean", [float("nan"), 0.0]),
    ("codes", []),
    ("codes", None),
    ("prior_rate", 1.5),
    ("prior_count", -1.0),
    ("dense_names", ["log_count"]),
    ("cardinalities", {}),
]


@pytest.mark.parametrize(("name", "value"), TABLE_FACTS)
def test_facts_that_no_table_has_are_refused_by_the_tables_name(bundle: Path, name: str, value: object) -> None:
    tables = json.loads((bundle / INFO).read_text())["tables"]
    reseal(bundle, tables={**tables, "users": {**tables["users"], name: value}})
    with pytest.raises(BundleError, match=r"users[.]parquet"):
        _ = sdk.load(bundle).encoded_users


def test_ratings_of_rows_that_no_table_has_are_refused(bundle: Path) -> None:
    path = bundle / "seen.parquet"
    table = pq.read_table(path)
    for place, name in enumerate(table.column_names):
        values = table.column(name).to_numpy().copy()
        values[7] = 100 if name != "timestamp" else values[7]
        pq.write_table(table.set_column(place, name, pa.array(values)), path)
        reseal(bundle)
        if name in ("rating", "timestamp"):
            assert len(sdk.load(bundle).interactions.rows)
            continue
        with pytest.raises(BundleError, match=rf"seen[.]parquet.*{name} runs from"):
            _ = sdk.load(bundle).interactions


def test_a_changed_figure_in_bundle_json_is_noticed_though_it_is_still_json(bundle: Path) -> None:
    text = (bundle / INFO).read_text()
    (bundle / INFO).write_text(text.replace('"prior_count": 5.0', '"prior_count": 4.0'))
    with pytest.raises(BundleError, match="altered since it was written"):
        sdk.load(bundle)


def _falling(indptr: np.ndarray) -> np.ndarray:
    return np.concatenate([indptr[:1], indptr[:0:-1]])


CSR_DAMAGE = {
    "pointers that end at 0": {"indptr": lambda a: np.concatenate([a[:1], a[2:], a[:1]])},
    "unsigned pointers that fall": {"indptr": lambda a: _falling(a).astype(np.uint32)},
    "pointers that fall": {"indptr": _falling},
    "pointers that start late": {"indptr": lambda a: a + 1},
    "too few pointers": {"indptr": lambda a: a[:-1]},
    "pointers that are no whole numbers": {"indptr": lambda a: a.astype(np.float64)},
    "a column beyond the last": {"indices": lambda a: a + 10**6},
    "a column before the first": {"indices": lambda a: a - 10**6},
    "fewer values than columns": {"data": lambda a: a[:-1]},
}


@pytest.mark.parametrize("damage", CSR_DAMAGE)
def test_a_sparse_matrix_that_points_outside_itself_is_refused_before_compiled_code_reads_it(
    bundle: Path, damage: str
) -> None:
    arrays = dict(np.load(bundle / "content.npz"))
    arrays |= {name: change(arrays[name]) for name, change in CSR_DAMAGE[damage].items()}
    np.savez(bundle / "content.npz", **arrays)
    reseal(bundle)
    with pytest.raises(BundleError, match=r"does not fit content\.json"):
        _ = sdk.load(bundle).content


# --- what stands in the folder ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["extra.txt", "workflow/interactions/more.bin", ".DS_Store", "reports/deep/er/x"])
def test_a_file_that_bundle_json_does_not_list_is_refused_by_name(bundle: Path, name: str) -> None:
    (bundle / name).parent.mkdir(parents=True, exist_ok=True)
    (bundle / name).write_text("")
    with pytest.raises(BundleError, match=f"does not list: {name.replace('.', '[.]')}[.]"):
        sdk.load(bundle)


def test_a_link_is_refused_wherever_it_leads(bundle: Path, tmp_path: Path) -> None:
    original = bundle / "users.parquet"
    original.rename(tmp_path / "users.parquet")
    original.symlink_to(tmp_path / "users.parquet")
    with pytest.raises(BundleError, match=r"users[.]parquet: a link"):
        sdk.load(bundle)
    original.unlink()
    (tmp_path / "users.parquet").rename(original)
    (bundle / "workflow").rename(tmp_path / "workflow")
    (bundle / "workflow").symlink_to(tmp_path / "workflow", target_is_directory=True)
    with pytest.raises(BundleError, match="workflow: a link"):
        sdk.load(bundle)


def test_the_bundle_itself_may_be_named_by_a_link(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(bundle, target_is_directory=True)
    assert sdk.load(tmp_path / "current").info.files


NAMES = [
    "../outside",
    "a/../../outside",
    "/etc/passwd",
    "a\\b",
    "..\\outside",
    "C:/x",
    "nul\0",
    "",
    "a//b",
    "./a",
    INFO,
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_could_lead_elsewhere_is_refused_before_it_is_opened(bundle: Path, name: str) -> None:
    files = json.loads((bundle / INFO).read_text())["files"]
    reseal(bundle, files={**files, name: "0" * 64})
    with pytest.raises(BundleError, match="outside the bundle"):
        sdk.load(bundle)
