"""Training only where something is new."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from small import dataset, run_config

from sdk.bundles.info import sealed
from sdk.training.freshness import is_up_to_date
from sdk.training.pipeline import train_bundle

DATA = dataset()
CONFIG = dataclasses.replace(run_config(), models=("content",))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    path = tmp_path_factory.mktemp("fresh") / "bundle"
    train_bundle(DATA, CONFIG, path)
    return path


def test_the_same_data_and_configuration_are_up_to_date(bundle):
    assert is_up_to_date(bundle, DATA, CONFIG)


def test_there_is_no_bundle_yet(tmp_path):
    assert not is_up_to_date(tmp_path / "none", DATA, CONFIG)


def test_new_data_are_not(bundle, caplog):
    caplog.set_level("INFO", "sdk")
    assert not is_up_to_date(bundle, dataclasses.replace(DATA, fingerprint="another"), CONFIG)
    assert "the data are new" in caplog.text


def test_another_configuration_is_not(bundle, caplog):
    caplog.set_level("INFO", "sdk")
    assert not is_up_to_date(bundle, DATA, CONFIG.with_seed(7))
    assert "the configuration is another" in caplog.text


def test_another_release_is_not(bundle, tmp_path, caplog):
    caplog.set_level("INFO", "sdk")
    copied = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    info = json.loads((copied / "bundle.json").read_text("utf-8"))
    info["packages"]["marquee"] = "0.0.1"
    (copied / "bundle.json").write_text(json.dumps(sealed(info)), "utf-8")
    assert not is_up_to_date(copied, DATA, CONFIG)
    assert "the release is another" in caplog.text


def test_a_damaged_bundle_is_not(bundle, tmp_path, caplog):
    copied = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    (copied / "items.parquet").unlink()
    assert not is_up_to_date(copied, DATA, CONFIG)
    assert "items.parquet: missing from the bundle" in caplog.text
