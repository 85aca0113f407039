"""Damaged files of arrays: NumPy hands out a member without its head as bytes, and that must be no array of ours."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from sdk.base.errors import BundleError
from sdk.base.stored_arrays import read_arrays, write_arrays


def test_a_member_whose_head_is_damaged_is_refused_by_name(tmp_path):
    path, names = tmp_path / "arrays.npz", frozenset({"data", "idf"})
    write_arrays(path, {"data": np.arange(3.0), "idf": np.ones(2)})
    assert read_arrays(path, names)["data"].tolist() == [0, 1, 2]
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["data.npy"] = b"\0" * 8 + members["data.npy"][8:]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(BundleError, match="'data' is no array"):
        read_arrays(path, names)
