"""``--trainer merlin`` learns what our own trainer learns, and is refused where it cannot train."""

import dataclasses
import importlib.util

import numpy as np
import pytest
from small import dataset, planted, run_config
from small_training import SMALL, assert_same_weights, fresh, state_of, without_speed

from sdk.__main__ import main
from sdk.base.errors import UsageError, how_to_get
from sdk.commands import distributed
from sdk.features.interactions import TEST, TRAIN, VALIDATION
from sdk.metrics.pointwise import auc
from sdk.models.pair_model import PairModel
from sdk.models.predict import predict
from sdk.training.loop import train
from sdk.training.pipeline import train_bundle

MERLIN = dataclasses.replace(SMALL, trainer="merlin")


@pytest.mark.needs("merlin", "pytorch_lightning")
@pytest.mark.parametrize("negatives", ["none", "uniform"])
@pytest.mark.parametrize("name", ["dlrm", "ncf", "neumf"])
def test_an_epoch_of_merlins_ends_where_an_epoch_of_ours_ends(name, negatives):
    rows, held_out = planted(0)
    ends = {}
    for trainer in ("builtin", "merlin"):
        config = dataclasses.replace(SMALL, trainer=trainer, negatives=negatives, embedding_l2=0.05, bias_l2=0.02)
        model = fresh(name, rows, config)
        state = train(model, rows, held_out, config, name=name, num_epochs=1)
        ends[trainer] = (state.history[0], predict(model, held_out), model)
    ours, merlins = ends["builtin"], ends["merlin"]
    assert merlins[0].train_loss == pytest.approx(ours[0].train_loss, abs=1e-4)
    assert merlins[0].auc == pytest.approx(ours[0].auc, abs=1e-3)
    moved = np.abs(ours[1] - predict(fresh(name, rows), held_out)).mean()
    assert np.abs(merlins[1] - ours[1]).max() < 0.02 * moved + 1e-4


@pytest.mark.needs("merlin", "pytorch_lightning")
def test_training_that_ends_early_goes_on_where_it_was(tmp_path):
    class Killed(BaseException):
        pass

    def kill(record):
        if record.epoch == 2:
            raise Killed

    rows, held_out = planted(0)
    undisturbed, resumed, path = fresh("dlrm", rows), fresh("dlrm", rows), tmp_path / "checkpoint"
    whole = train(undisturbed, rows, held_out, MERLIN, name="dlrm")
    with pytest.raises(Killed):
        train(fresh("dlrm", rows), rows, held_out, MERLIN, name="dlrm", checkpoint=path, on_epoch=kill)
    result = train(resumed, rows, held_out, MERLIN, name="dlrm", checkpoint=path)
    assert without_speed(result.history) == without_speed(whole.history)
    assert_same_weights(state_of(resumed), state_of(undisturbed))


@pytest.mark.needs("merlin", "pytorch_lightning")
@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, MemoryError])
def test_what_ends_training_is_passed_on_as_it_came(end, monkeypatch):
    from sdk.training import merlin_route

    def broken(*_):
        raise end

    rows, _ = planted(0)
    monkeypatch.setattr(merlin_route, "merlin_inputs", broken)
    with pytest.raises(end):
        train(fresh("ncf", rows), rows, None, MERLIN, name="ncf", num_epochs=1)


@pytest.mark.needs("merlin", "pytorch_lightning")
def test_a_bundle_says_which_trainer_made_it_and_is_as_good(tmp_path, caplog):
    config, data = run_config(), dataset(3, num_users=60, num_items=50)
    ours = train_bundle(data, config, tmp_path / "ours")
    merlins = train_bundle(
        data, dataclasses.replace(config, training=dataclasses.replace(config.training, trainer="merlin")),
        tmp_path / "merlins",
    )  # fmt: skip
    assert (ours.info.config.training.trainer, merlins.info.config.training.trainer) == ("builtin", "merlin")
    for name in ("dlrm", "ncf"):
        rows = merlins.interactions.of(TRAIN, VALIDATION, TEST)
        got, expected = (auc(rows.label, predict(bundle.model(name), rows)) for bundle in (merlins, ours))
        assert got == pytest.approx(expected, abs=0.003)
        form, model = merlins.model(name).lower(), merlins.model(name)
        pairs = rows.user_index.astype(np.int64), rows.item_index.astype(np.int64)
        np.testing.assert_allclose(form.score_pairs(*pairs), predict(model, rows), atol=1e-5)
    assert not [r for r in caplog.records if r.name.startswith(("pytorch_lightning", "lightning"))]


@pytest.mark.needs("merlin", "pytorch_lightning")
def test_a_model_that_merlin_has_no_blocks_for_is_refused():
    class Other(PairModel):
        def encode_users(self, rows, batch=None):
            raise NotImplementedError

        encode_items = encode_users

    rows, _ = planted(0)
    other = fresh("ncf", rows)
    other.__class__ = Other
    with pytest.raises(UsageError, match=r"no blocks for a Other; train it with 'builtin'"):
        train(other, rows, None, MERLIN, name="other", num_epochs=1)


@pytest.mark.parametrize("lacking", ["merlin", "merlin.models", "pytorch_lightning"])
def test_without_merlin_it_is_refused_before_anything_is_read(lacking, tmp_path, monkeypatch, capsys):
    def found(name, package=None):
        if name.split(".")[0] == lacking != name:
            raise ModuleNotFoundError(name)
        return None if name == lacking else object()

    monkeypatch.setattr(importlib.util, "find_spec", found)
    monkeypatch.setattr("sdk.commands.train.read_dataset", lambda *_: pytest.fail("the data were read"))
    code = main(["train", "--sample", "--trainer", "merlin", "--out", str(tmp_path / "bundle")])
    said = capsys.readouterr().err.strip()
    assert code == 2
    assert len(said.splitlines()) == 1
    for words in ("trainer", lacking, how_to_get("merlin"), "builtin"):
        assert words in said
    with pytest.raises(UsageError, match="not installed"):
        train_bundle(dataset(), dataclasses.replace(run_config(), training=MERLIN), tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


def test_several_processes_train_by_the_builtin_trainer_alone(tmp_path, capsys):
    code = distributed.main(["--sample", "--trainer", "merlin", "--out", str(tmp_path / "bundle")])
    assert code == 2
    assert "one process" in capsys.readouterr().err


def test_importing_the_loop_imports_neither_merlin_nor_lightning():
    import subprocess
    import sys

    code = (
        "import sys, sdk.training.pipeline as p; print(sorted({'merlin.models', 'pytorch_lightning'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
