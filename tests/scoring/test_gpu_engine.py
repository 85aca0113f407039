"""The fused scorer: its kernel interpreted and compiled, its error bound, and when it is used."""

from __future__ import annotations

import importlib.util
import itertools
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gpu_forms import DLRM, NCF, NEUMF, SHAPES, WIDE, cut_to_tf32
from hypothesis import given, settings
from hypothesis import strategies as st
from pair_forms import all_scores, check, random_form, random_seen

from sdk.base.errors import UsageError
from sdk.features.tables import FIRST_KNOWN
from sdk.models.pair_form import Head, PairForm, Side
from sdk.models.torch_form import TorchHead, side_on
from sdk.scoring import gpu_engine, torch_engine
from sdk.scoring.gpu_bounds import UNITS, ErrorBound
from sdk.scoring.gpu_engine import NOTHING, FusedScorer, keys_of, scores_of, why_not
from sdk.scoring.torch_engine import TorchEngine

HAS_TRITON = importlib.util.find_spec("triton") is not None
NEEDS_TRITON = pytest.mark.skipif(not HAS_TRITON, reason="triton is not installed: pip install triton, on Linux")
TESTS = Path(__file__).resolve().parents[1]


COMPILE = """
import json, sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from sdk.scoring.gpu_kernels import score_and_filter as kernel

whole = {"item_row", "watched", "least_row", "kept_rows", "counts"}
numbers = {"num_users", "first_item", "last_item", "words", "capacity"}
kinds = {name: "*i32" if name in whole else "i32" if name in numbers else "*fp32" for name in kernel.arg_names}
for constants, num_warps in json.loads(sys.argv[1]):
    source = ASTSource(
        fn=kernel,
        signature=kinds | dict.fromkeys(constants, "constexpr"),
        constexprs={(kernel.arg_names.index(name),): value for name, value in constants.items()},
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": num_warps})
    print(json.dumps([len(compiled.asm["cubin"]), "wgmma" in compiled.asm["ptx"]]))
"""


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.booleans(), st.integers(0, 99))
def test_the_bound_holds_for_every_pair(widths, mlp, seed):
    """Against float64, with the tail's operands cut to ten bits: no pair is further off than its user's bound."""
    form = random_form(7, 30, widths, mlp=mlp, seed=seed)
    bound = ErrorBound(form.items, form.head, "tf32", torch.device("cpu"))
    error = bound(side_on(form.users, np.arange(7), torch.device("cpu"))).numpy()
    who, what = (rows.ravel() for rows in np.mgrid[:7, :30])
    users, items = (side_on(side, rows, torch.device("cpu")) for side, rows in ((form.users, who), (form.items, what)))
    with torch.no_grad():
        low = TorchHead(Head(form.head.cross, ()))(users, items)
        exact = TorchHead(form.head)(users, items)
    if mlp:
        low = low + tail_in_tf32(form, users, items)
    assert (np.abs(low.double().numpy() - exact.double().numpy()).reshape(7, 30).max(axis=1) <= error).all()


def tail_in_tf32(form, users, items):
    z = torch.einsum("nfd,ngd->nfg", users.fields, items.fields).flatten(1)
    x = users.hidden + items.hidden + z @ torch.from_numpy(form.head.cross.T.copy())
    for number, (weight, bias) in enumerate(form.head.tail):
        x, weight = x.relu(), torch.from_numpy(weight)
        if number < len(form.head.tail) - 1:
            x, weight = cut_to_tf32(x), cut_to_tf32(weight)
        x = x @ weight.T + torch.from_numpy(bias)
    return x[:, 0]


def test_tighter_precisions_have_tighter_bounds():
    form = random_form(5, 40, DLRM)
    users = side_on(form.users, np.arange(5), torch.device("cpu"))
    bounds = [ErrorBound(form.items, form.head, name, torch.device("cpu"))(users) for name in UNITS]
    assert list(UNITS) == ["ieee", "tf32x3", "tf32"]
    for tighter, looser in itertools.pairwise(bounds):
        assert (tighter < looser).all()


def test_keys_order_as_scores_do_then_as_smaller_places():
    scores = torch.tensor([-np.inf, -3.0, -1e-40, -0.0, 0.0, 1e-40, 2.0, np.inf])
    keys = keys_of(scores, torch.arange(8))
    assert keys.argsort(descending=True).tolist() == [7, 6, 5, 3, 4, 2, 1, 0], "0.0 equals -0.0: the smaller place"
    torch.testing.assert_close(scores_of(keys), scores + 0.0)
    assert int(keys.min()) > NOTHING


@pytest.mark.parametrize(("width", "num_items"), [(100, 59_047), (1, 5), (300, 40), (1000, 59_047)])
def test_ranges_cover_all_items_once_and_the_first_fits_a_buffer(width, num_items):
    capacity = gpu_engine._capacity(width)
    ranges = gpu_engine._ranges(num_items, width, capacity)
    assert [0, *(last for _, last in ranges)] == [*(first for first, _ in ranges), num_items]
    assert ranges[0][1] <= capacity >= 4 * width
    assert len(ranges) <= 7


def form_of(tail, *, fields=(1, 1, 1)):
    user_fields, item_fields, width = fields
    hidden = tail[0] if tail else 0
    sides = [Side(np.zeros(5, np.float32), np.zeros((5, 2), np.float32), np.zeros((5, hidden), np.float32),
                  np.zeros((5, number, width), np.float32)) for number in (user_fields, item_fields)]  # fmt: skip
    layers = tuple((np.zeros((o, i), np.float32), np.zeros(o, np.float32)) for i, o in itertools.pairwise(tail))
    return PairForm(*sides, Head(np.zeros((hidden, user_fields * item_fields), np.float32), layers))


@pytest.fixture
def found_again(monkeypatch):
    """What is found under the name triton meanwhile is forgotten afterwards."""
    for name in [name for name in sys.modules if name.split(".")[0] == "triton"] or ["triton"]:
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def some_triton(tmp_path, monkeypatch, request):
    """Triton, or where it is not installed a package that is found under its name."""
    if not HAS_TRITON:
        request.getfixturevalue("found_again")
        (tmp_path / "triton" / "language").mkdir(parents=True)
        for folder in (tmp_path / "triton", tmp_path / "triton" / "language"):
            (folder / "__init__.py").touch()
        monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        (form_of((129, 1)), "wider than 128"),
        (form_of((8, 8, 8, 8, 1)), "more than 3"),
        (form_of((8, 1), fields=(3, 6, 4)), "more than 16 field products"),
        (form_of((8, 1), fields=(1, 1, 129)), "wider than 128"),
    ],
)
@pytest.mark.usefixtures("some_triton")
def test_shapes_that_do_not_fit_take_the_plain_path(form, reason, caplog):
    assert reason in why_not(form, 2)
    with pytest.raises(UsageError, match=reason):
        TorchEngine(form, device="cpu", fused=True)
    with caplog.at_level(logging.INFO, torch_engine.__name__):
        assert TorchEngine(form, device="cpu").fused is None
    assert [record.message for record in caplog.records] == [
        "scoring on cpu with plain torch: the fused kernel is not asked for"
    ]


def test_without_triton_the_plain_path_is_taken(monkeypatch):
    for name in ("triton", "triton.language"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    assert why_not(random_form(4, 30, (3, 1, 0, 0, 1, []), mlp=False), 27) == "triton is not installed"


@pytest.mark.usefixtures("some_triton")
def test_with_scores_that_might_overflow_the_plain_path_is_taken():
    form = random_form(4, 30, (3, 1, 0, 0, 1, []), mlp=False)
    assert why_not(form, 27) is None
    form.items.dot[FIRST_KNOWN:] = 3e37
    assert "overflow" in why_not(form, 27)


@pytest.mark.skipif(HAS_TRITON, reason="triton is installed, and is found before a mere folder")
@pytest.mark.usefixtures("found_again")
def test_a_folder_called_triton_is_not_triton(tmp_path, monkeypatch):
    (tmp_path / "triton").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert why_not(random_form(4, 30, (3, 1, 0, 0, 1, []), mlp=False), 27) == "triton is not installed"


@NEEDS_TRITON
def test_the_interpreted_kernel_lists_what_the_compiled_engine_lists():
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(TESTS / "helpers" / "gpu_interpreted.py"),
    ]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=TESTS.parent)
    if reason := re.search("the interpreter of triton .* fails beside NumPy .*", done.stdout):
        pytest.skip(reason.group())
    assert done.returncode == 0, done.stdout + done.stderr
    assert " skipped" not in done.stdout


@NEEDS_TRITON
def test_the_kernel_compiles_for_a_gpu_that_is_not_here(tmp_path):
    """For an H200 (compute capability 9.0), by the assembler that comes with triton, at each model's own tile."""
    popular = (0, 1, 0, 0, 1, [])
    asked = [(DLRM, True, "ieee"), (DLRM, True, "tf32x3"), (NEUMF, True, "ieee"), (NCF, False, "ieee"),
             (popular, False, "ieee")]  # fmt: skip
    constants = []
    for widths, mlp, precision in asked:
        form = random_form(2, 9, widths, mlp=mlp)
        scorer = FusedScorer(form, np.arange(3, 9), torch.device("cpu"), precision=precision)
        tile = {"PRECISION": precision, "USERS": scorer.tile.users, "ITEMS": scorer.tile.items}
        constants.append((scorer._shapes() | tile, scorer.tile.warps))
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", COMPILE, json.dumps(constants)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=TESTS.parent)
    assert done.returncode == 0, done.stderr
    compiled = [json.loads(line) for line in done.stdout.splitlines()]
    assert [on_tensor_cores for _, on_tensor_cores in compiled] == [precision == "tf32x3" for *_, precision in asked]
    assert all(num_bytes > 5_000 for num_bytes, _ in compiled)


@pytest.mark.gpu
@NEEDS_TRITON
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["ieee", "tf32x3", "tf32"])
@pytest.mark.parametrize(("widths", "mlp"), [(DLRM, True), (NCF, False), (WIDE, False), (NEUMF, True)])
def test_a_gpus_fused_lists_are_the_cpus_up_to_near_ties(widths, mlp, precision):
    form, seen = random_form(200, 5000, widths, mlp=mlp, seed=2), random_seen(200, 5000, 0.02)
    engine = TorchEngine(form, device="cuda", fused=True, precision=precision)
    check(engine.top_k(np.arange(200), seen, 100), all_scores(form), seen, 100)
