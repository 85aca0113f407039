"""Shapes of models that the GPU's kernels are tried on."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

DLRM, NCF, WIDE, NEUMF = (64, 64, 2, 3, 32, [32]), (64, 1, 0, 0, 1, []), (320, 1, 0, 0, 1, []), (3, 20, 0, 0, 1, [5, 7])


SHAPES = st.tuples(
    st.integers(0, 40), st.integers(1, 20), st.integers(0, 2), st.integers(0, 3), st.integers(1, 20),
    st.lists(st.integers(1, 18), max_size=2),
)  # fmt: skip


def cut_to_tf32(tensor):
    """Mantissas cut to TF32's ten bits, which is within what the bound takes for granted."""
    return (tensor.view(torch.int32) & ~0x1FFF).view(torch.float32)
