"""Training that was killed goes on to the same end; a checkpoint that cannot be used leaves no trace."""

import dataclasses
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from small import planted
from small_training import SMALL, assert_same_weights, fresh, state_of, steps_per_epoch, without_speed

from sdk.base.errors import OutputError
from sdk.features.loaders import InteractionLoader
from sdk.training.loop import train

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Killed(BaseException):
    """As abrupt as an interrupt."""


def killed_after(epochs, monkeypatch):
    """Let the batches end dead within the epoch after the given one."""
    original, taken = InteractionLoader.__iter__, []

    def batches(self):
        for batch in original(self):
            taken.append(1)
            if len(taken) > epochs * steps_per_epoch() + 3:
                raise Killed
            yield batch

    monkeypatch.setattr(InteractionLoader, "__iter__", batches)


@pytest.mark.parametrize("name", ["dlrm", "neumf"])
@pytest.mark.parametrize("epochs", [0, 1, 3])
@pytest.mark.parametrize("validated", [True, False])
def test_killed_and_started_again_training_ends_where_an_undisturbed_run_ends(
    name, epochs, validated, tmp_path, monkeypatch
):
    rows, held_out = planted(0)
    validation = held_out if validated else None
    undisturbed = fresh(name, rows)
    whole = train(undisturbed, rows, validation, SMALL, name=name)
    path = tmp_path / "checkpoint"
    with monkeypatch.context() as patch:
        killed_after(epochs, patch)
        with pytest.raises(Killed):
            train(fresh(name, rows), rows, validation, SMALL, name=name, checkpoint=path)
    assert path.exists() == (epochs > 0)
    resumed = fresh(name, rows)
    result = train(resumed, rows, validation, SMALL, name=name, checkpoint=path)
    assert_same_weights(state_of(resumed), state_of(undisturbed))
    # compared as text, in which NaN equals NaN
    assert repr(without_speed(result.history)) == repr(without_speed(whole.history))
    assert result.best_epoch == whole.best_epoch
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint"]


def test_a_finished_run_started_again_trains_nothing(tmp_path, monkeypatch):
    rows, held_out = planted(0)
    model, again = fresh("ncf", rows), fresh("ncf", rows)
    train(model, rows, held_out, SMALL, name="ncf", checkpoint=tmp_path / "checkpoint")
    killed_after(-1, monkeypatch)
    train(again, rows, held_out, SMALL, name="ncf", checkpoint=tmp_path / "checkpoint")
    assert_same_weights(state_of(again), state_of(model))


def test_a_process_killed_outright_is_resumed_by_the_next(tmp_path):
    script = tmp_path / "run.py"
    path = tmp_path / "checkpoint"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests" / "helpers")!r}]
        import dataclasses, pathlib
        from small import planted
        from small_training import SMALL, fresh
        from sdk.training.loop import train
        rows, held_out = planted(0)
        config = dataclasses.replace(SMALL, max_epochs=100_000, patience=100_000)
        train(fresh("ncf", rows), rows, held_out, config, name="ncf", checkpoint=pathlib.Path({str(path)!r}))
        """)
    )
    process = subprocess.Popen([sys.executable, str(script)], env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        wait_for_epochs(process, path, 3)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = epochs_in(path)
    config = dataclasses.replace(SMALL, max_epochs=done + 2, patience=100_000)
    rows, held_out = planted(0)
    resumed, undisturbed = fresh("ncf", rows), fresh("ncf", rows)
    result = train(resumed, rows, held_out, config, name="ncf", checkpoint=path)
    train(undisturbed, rows, held_out, config, name="ncf")
    assert len(result.history) == done + 2
    assert_same_weights(state_of(resumed), state_of(undisturbed))


def wait_for_epochs(process, path, least):
    for _ in range(2400):
        if path.exists() and epochs_in(path) >= least:
            return
        assert process.poll() is None, "the run ended by itself"
        time.sleep(0.05)
    pytest.fail("no checkpoint after two minutes")


def epochs_in(path):
    with safe_open(path, framework="pt") as file:
        return file.metadata()["history"].count('"epoch"')


# --- what goes wrong ----------------------------------------------------------------------------------------------


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def replaced(path):
    path.write_bytes(b"not safetensors")


def emptied(path):
    path.write_bytes(b"")


def without_metadata(path):
    from safetensors.torch import load_file, save_file

    save_file(load_file(path), path)


@pytest.mark.parametrize("damage", [truncated, replaced, emptied, without_metadata])
def test_a_damaged_checkpoint_means_a_fresh_start_and_a_warning(damage, tmp_path, caplog):
    rows, held_out = planted(0)
    path = tmp_path / "checkpoint"
    train(fresh("ncf", rows), rows, held_out, SMALL, name="ncf", num_epochs=2, checkpoint=path)
    damage(path)
    expected, model = fresh("ncf", rows), fresh("ncf", rows)
    train(expected, rows, held_out, SMALL, name="ncf")
    with caplog.at_level(logging.WARNING):
        result = train(model, rows, held_out, SMALL, name="ncf", checkpoint=path)
    assert str(path) in caplog.text
    assert len(result.history) == SMALL.max_epochs
    assert_same_weights(state_of(model), state_of(expected))


@pytest.mark.parametrize("validated", [True, False])
def test_another_models_checkpoint_leaves_no_trace(validated, tmp_path, caplog):
    """Its biases fit and its MLP does not: none of them may be taken over."""
    rows, held_out = planted(0)
    validation = held_out if validated else None
    path = tmp_path / "checkpoint"
    train(fresh("neumf", rows), rows, validation, SMALL, name="neumf", num_epochs=2, checkpoint=path)
    expected, model = fresh("ncf", rows), fresh("ncf", rows)
    train(expected, rows, validation, SMALL, name="ncf")
    train(model, rows, validation, SMALL, name="ncf", checkpoint=path)
    assert "starts afresh" in caplog.text
    assert_same_weights(state_of(model), state_of(expected))


def test_a_checkpoint_that_cannot_be_written_is_an_output_error(tmp_path):
    rows, _ = planted(0)
    with pytest.raises(OutputError, match="nowhere"):
        train(fresh("ncf", rows), rows, None, SMALL, name="ncf", checkpoint=tmp_path / "nowhere" / "checkpoint")
