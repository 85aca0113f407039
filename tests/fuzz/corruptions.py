"""Seeded damage to bytes and to JSON: each a pure function of a random generator, with words for what it did."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np

Rng = np.random.Generator
BYTES = ("flip a bit", "flip bits", "zero a run", "cut off", "double a block", "insert", "swap halves", "empty",
         "overwrite", "drop a block")  # fmt: skip
ODD_TEXTS = ("", " ", "\u202e\u0000\u200b", "\ud800", "é" * 300, "../../etc/passwd", "1e999", "-0", "🎬")
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, -(2**63), 10**30, 0.5, -0.5, 1e308, float("nan"), float("inf"), [], {}, [[]],
    [1, "a", None], {"a": {"b": [1]}}, *ODD_TEXTS,
)  # fmt: skip


def corrupt_bytes(rng: Rng, data: bytes) -> tuple[str, bytes]:
    """Damaged bytes and what was done; the damage may happen to change nothing."""
    kind = str(rng.choice(BYTES))
    start = int(rng.integers(0, len(data) + 1))
    stop = min(len(data), start + int(2 ** rng.uniform(0, 9)))
    block, noise = data[start:stop], rng.bytes(int(rng.integers(1, 40)))
    damaged = {
        "flip a bit": lambda: _flipped(rng, data, 1),
        "flip bits": lambda: _flipped(rng, data, int(rng.integers(2, 40))),
        "zero a run": lambda: data[:start] + b"\0" * len(block) + data[stop:],
        "cut off": lambda: data[:start],
        "double a block": lambda: data[:stop] + block + data[stop:],
        "insert": lambda: data[:start] + noise + data[start:],
        "swap halves": lambda: data[start:] + data[:start],
        "empty": lambda: b"",
        "overwrite": lambda: data[:start] + noise + data[start + len(noise) :],
        "drop a block": lambda: data[:start] + data[stop:],
    }[kind]()
    return f"{kind}, bytes {start} to {stop} of {len(data)}", damaged


def _flipped(rng: Rng, data: bytes, count: int) -> bytes:
    if not data:
        return data
    damaged = bytearray(data)
    for place in rng.integers(0, len(data), count):
        damaged[place] ^= 1 << int(rng.integers(0, 8))
    return bytes(damaged)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value inside a JSON value, inner ones too."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [one for key, child in inner for one in ((*path, key), *leaves(child, (*path, key)))]


def corrupt_json(rng: Rng, value: Any, path: tuple[Any, ...] | None = None) -> tuple[str, Any]:
    """The value with one inner value replaced, removed, nested, scaled, or beside a key that nobody expects."""
    changed = copy.deepcopy(value)
    places = leaves(value)
    path = path if path is not None else places[int(rng.integers(0, len(places)))]
    holder = changed
    for key in path[:-1]:
        holder = holder[key]
    old, kind = holder[path[-1]], str(rng.choice(["replace", "replace", "replace", "remove", "nest", "scale", "add"]))
    words = f"{kind} {'.'.join(map(str, path))}"
    if kind == "remove":
        del holder[path[-1]]
    elif kind == "add" and isinstance(holder, dict):
        holder[str(rng.choice(["extra", *ODD_TEXTS[:3], "__class__"]))] = old
    elif kind == "nest":
        holder[path[-1]] = [old]
    elif kind == "scale" and type(old) in (int, float):
        holder[path[-1]] = old * -1000
    else:
        holder[path[-1]] = ODD_VALUES[int(rng.integers(0, len(ODD_VALUES)))]
        words += f" with {holder[path[-1]]!r:.40}"
    return words, changed


def json_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()
