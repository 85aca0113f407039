"""docs/memory.md says what lies where; here every array that it names is compared with what the code makes."""

from __future__ import annotations

import inspect
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from pair_forms import random_form, random_seen
from small_steps import CONFIG, adam, batch_of, ranker
from torch import nn

import sdk.scoring.engine as engine_module
from sdk.features.tables import FIRST_KNOWN
from sdk.scoring.kernels import LANES, MAX_ROWS
from sdk.scoring.packed import pack
from sdk.scoring.tiles import mlp_tile
from sdk.training.compiled_pass import dlrm_pass
from sdk.training.compiled_pass.strip_kernels import BIAS, BIASES, DOT, IS_LIST, TOP, WEIGHTS, X_LINE, Y_LINE, pass_rows
from sdk.training.steps import ChunkedStep

PAGE = (Path(__file__).parents[2] / "docs" / "memory.md").read_text("utf-8")
ENGINE, TRAINING = PAGE.split("## The training pass")


def table(part: str, pattern: str) -> list[tuple[str, ...]]:
    return re.findall(pattern, part, re.MULTILINE)


def assert_as_drawn(part: str, arrays: dict[str, np.ndarray], letters: dict[str, int]) -> None:
    drawn = {
        name: (kind, eval(shape, {**letters, "L": LANES}))
        for name, kind, shape in table(part, r"^\| `(\w+)` \| (\w+) \| `(\(.*?\))` \|")
    }
    assert drawn == {name: (array.dtype.name, array.shape) for name, array in arrays.items()}


def given_to(function, module, name, monkeypatch) -> list[dict[str, object]]:
    """What a compiled function is called with from here on, by the names of its parameters."""
    calls, signature = [], inspect.signature(function.py_func)

    def noted(*args):
        calls.append(signature.bind(*args).arguments)
        return function(*args)

    monkeypatch.setattr(module, name, noted)
    return calls


def test_the_engines_arrays_lie_as_drawn(monkeypatch):
    users, items, k, (d, h, f, g, width, inner) = 21, 93, 5, (4, 6, 2, 3, 5, [7])
    form = random_form(users, items, (d, h, f, g, width, inner))
    engine = engine_module.Engine(form, threads=1)
    calls = given_to(mlp_tile, engine_module, "mlp_tile", monkeypatch)
    engine.top_k(np.arange(users), random_seen(users, items, 0.1), k)
    (arguments,) = calls
    packed = pack(form.items, engine.candidates, 1.0)
    arrays = {name: value for name, value in arguments.items() if isinstance(value, np.ndarray)}
    arrays |= dict(zip(("kept_scores", "kept_rows", "counts", "thresholds", "keys"), arguments["lists"], strict=True))
    arrays |= {"place": packed.place, "norm_from": packed.norm_from, "bias_from": packed.bias_from}
    candidates = items - FIRST_KNOWN
    letters = {"C": candidates, "S": -(-candidates // LANES), "R": items, "d": d, "H": h, "F": f, "G": g, "D": width}
    letters |= {"T": users, "P": -(-users // MAX_ROWS) * MAX_ROWS, "N": 64, "Q": 2, "V": 7 * h + 7, "U": 7 + 1}
    letters["E"] = max(min(max(256, k + 128), candidates), k) + LANES
    assert_as_drawn(ENGINE, arrays, letters)


def test_the_tiles_scratch_is_as_drawn():
    source = inspect.getsource(mlp_tile.py_func)
    scratch = table(ENGINE, r"^\| `(\w+)` \| `(\(.*?\))` \|")
    assert [name for name, _ in scratch] == ["scores", "z", "layers"]
    for name, shape in scratch:
        assert f" {name} = np.empty({shape}, dtype=np.float32)" in source


@pytest.fixture
def passed(monkeypatch):
    """A small DLRM with a list field, and what its training pass was given."""
    model, batch = ranker("dlrm"), batch_of(70)
    calls = given_to(pass_rows, dlrm_pass, "pass_rows", monkeypatch)
    with ChunkedStep(model, adam(model), CONFIG, num_workers=1) as step:
        step(batch, torch.Generator())
    return model, calls[0]


def sizes(model) -> dict[str, int]:
    """The page's letters, counted in the model."""
    letters: dict[str, int] = {"D": model.config.embedding_dim, "d": model.config.dot_dim}
    for side, arch, rows in (("u", model.user_arch, model.users), ("i", model.item_arch, model.items)):
        linears = [layer for layer in arch.bottom_mlp if isinstance(layer, nn.Linear)]
        letters |= {
            f"F{side}": len(arch.embeddings) + len(arch.lists) + 1,
            f"s{side}": sum(each.num_embeddings for each in arch.lists.values()),
            f"n{side}": rows.num_dense,
            f"h{side}": sum(layer.out_features for layer in linears[:-1]),
        }
    letters["ht"] = sum(layer.out_features for layer in model.top_linears()[:-1])
    vectors = letters["Fu"] + letters["Fi"]
    letters["M"] = vectors * (vectors - 1) // 2
    return letters


def lines_in_order(letters) -> dict[str, tuple[int, int]]:
    """Each block of lines of the page: its first line and how many."""
    rows = [(name, eval(count, dict(letters))) for name, count in table(TRAINING, r"^\| ([\w' ]+) \| `(.*?)` \|$")]
    starts = itertools.accumulate((count for _, count in rows), initial=0)
    return {name: (start, count) for (name, count), start in zip(rows, starts, strict=False)}


def test_the_training_passs_arrays_lie_as_drawn(passed):
    model, arguments = passed
    archs, letters = (model.user_arch, model.item_arch), sizes(model)
    linears = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    lists = [each for arch in archs for each in arch.lists.values()]
    embeddings = sum(len(arch.embeddings) for arch in archs)
    assert lists, "the small model has no list field"
    letters |= {
        "B": 70,
        "K": sum(count for _, count in lines_in_order(letters).values()),
        "W": max(layer.in_features for layer in linears)
        + sum(layer.weight.numel() + layer.bias.numel() for layer in linears)
        + sum(each.weight.numel() for each in lists),
        "A": len(linears) + len(lists),
        "I": embeddings + sum(bool(arch.lists) for arch in archs) + 2,
        "J": embeddings + len(lists) + 2 + 4,
        "X": embeddings + 4,
        "Y": len(lists) * letters["D"] + 2,
    }
    arrays = {name: value for name, value in arguments.items() if isinstance(value, np.ndarray)}
    assert_as_drawn(TRAINING, arrays, letters)


def test_lines_come_in_the_order_drawn(passed):
    model, arguments = passed
    first = {name: start for name, (start, _) in lines_in_order(sizes(model)).items()}
    layers, sides, gathers, dim = (arguments[name] for name in ("layers", "sides", "gathers", "shape"))
    numbers = [line for _, width, line, _ in gathers if width in (model.users.num_dense, model.items.num_dense)]
    assert {first["user's numbers"], first["item's numbers"]} <= set(numbers)
    assert [gathers[0, 2], gathers[1, 2]] == [0, dim[0]], "the user's first two vectors"
    for side, row in zip(("user's", "item's"), sides, strict=True):
        assert [row[DOT], row[BIAS]] == [first[f"{side} dot part"], first[f"{side} bias"]]
    assert sides[0, TOP] == first["input of the top MLP"]
    assert dim[3] == first["score"] == layers[-1, Y_LINE]
    assert layers[-2, Y_LINE] == layers[-1, X_LINE]
    assert layers[len(layers) - len(model.top_linears()), X_LINE] == first["input of the top MLP"]


def test_flat_arrays_hold_zeros_and_then_the_layers_in_order(passed):
    model, arguments = passed
    layers, weights = arguments["layers"], arguments["weights"]
    at = max(layer.in_features for layer in model.modules() if isinstance(layer, nn.Linear))
    assert not weights[:at].any()
    assert not arguments["transposed"][:at].any()
    for layer in layers:
        inputs, outputs = layer[:2]
        assert layer[WEIGHTS] == at
        at += inputs * outputs
        assert layer[BIASES] == (0 if layer[IS_LIST] else at)
        at += 0 if layer[IS_LIST] else outputs
        matrix = weights[layer[WEIGHTS] :][: inputs * outputs].reshape(outputs, inputs)
        back = arguments["transposed"][layer[WEIGHTS] :][: inputs * outputs].reshape(inputs, outputs)
        np.testing.assert_array_equal(back, matrix.T)
        assert matrix.any()
    assert at == len(weights)
