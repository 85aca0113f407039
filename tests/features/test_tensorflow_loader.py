"""The TensorFlow loader: what it yields, in which order, into Keras; and what it says where TensorFlow is absent."""

from __future__ import annotations

import sys
import threading
import time
import types

import numpy as np
import pandas as pd
import pytest

from sdk.base.errors import UsageError, how_to_get
from sdk.features import tensorflow_loader as module
from sdk.features.tables import EncodedInteractions
from sdk.features.tensorflow_loader import tensorflow_loader
from sdk.metrics.pointwise import auc

NUM_ROWS, BATCH = 103, 10


@pytest.fixture(scope="module")
def tf():
    reason = "TensorFlow is not installed: pip install '.[tensorflow]'"
    return pytest.importorskip("tensorflow", reason=reason)


def rows(num_rows=NUM_ROWS):
    """Distinct pairs, so that a row is known by its user."""
    user = np.arange(3, num_rows + 3, dtype=np.int32)
    return EncodedInteractions(user, user[::-1] * 2, (np.arange(num_rows) % 3 == 0).astype(np.int8))


def one_pass(loader):
    """User, item and label of a pass, each joined, and the batches' lengths."""
    batches = [(x["user_index"].numpy(), x["item_index"].numpy(), y.numpy()) for x, y in loader]
    return [np.concatenate(column) for column in zip(*batches, strict=True)], [len(batch[0]) for batch in batches]


def within(seconds, work):
    """The result of some work, or a failure where it does not end."""
    results = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert results, f"no end, or no result, within {seconds} s"
    return results[0]


# Without TensorFlow


def test_absent_tensorflow_is_named_with_the_extra_that_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # importing it now raises ImportError
    with pytest.raises(UsageError) as caught:
        tensorflow_loader(rows(), BATCH)
    assert "TensorFlow cannot be imported" in str(caught.value)
    assert how_to_get("tensorflow") in str(caught.value)
    assert "InteractionLoader" in str(caught.value)
    assert isinstance(caught.value.__cause__, ImportError)


@pytest.mark.needs("nvtabular")
def test_tensorflow_that_merlin_will_not_use_is_told_from_absent_tensorflow(monkeypatch):
    from merlin.core.compat import tensorflow as compat

    monkeypatch.setitem(sys.modules, "tensorflow", types.ModuleType("tensorflow"))
    monkeypatch.setattr(compat, "tensorflow", None)  # what Merlin does where only it sees the GPU
    with pytest.raises(UsageError, match="CUDA_VISIBLE_DEVICES"):
        tensorflow_loader(rows(), BATCH)


@pytest.mark.parametrize(
    ("interactions", "options", "said"),
    [
        (rows(0), {"batch_size": BATCH}, "number of interactions = 0, expected at least 1"),
        (rows(), {"batch_size": 0}, "batch_size = 0, expected at least 1"),
        (rows(), {"batch_size": BATCH, "seed": -1}, "seed = -1, expected at least 0"),
    ],
)
def test_what_cannot_be_loaded_is_refused_at_once(interactions, options, said):
    with pytest.raises(UsageError, match=said):
        tensorflow_loader(interactions, **options)


def passes(seed, num_rows=25, batch_size=4):
    return module._Passes([pd.DataFrame({"row": np.arange(num_rows)})], batch_size, seed)


def test_blocks_hold_whole_batches_and_together_all_rows(monkeypatch):
    monkeypatch.setattr(module, "BLOCK_ROWS", 11)  # 8 rows: two batches of four
    blocks = [block["row"].tolist() for block in passes(seed=0)]
    assert [len(block) for block in blocks] == [8, 8, 8, 1]
    assert sorted(row for block in blocks for row in block) == list(range(25))
    assert [block["row"].tolist() for block in passes(seed=None)] == [
        list(range(start, min(start + 8, 25))) for start in (0, 8, 16, 24)
    ]


def test_the_rows_of_the_last_batch_change_from_pass_to_pass():
    reader = passes(seed=0)
    last = {pd.concat(list(reader))["row"].iloc[-1] for _ in range(20)}
    assert len(last) > 5


# With TensorFlow


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("batch_size", [1, 7, 10, 103, 500])
def test_each_pass_gives_every_row_once_with_its_own_item_and_label(tf, shuffle, batch_size):
    expected = rows()
    loader = tensorflow_loader(expected, batch_size, shuffle=shuffle)
    for _ in range(2):
        (user, item, label), lengths = one_pass(loader)
        at = user - 3
        assert sorted(at.tolist()) == list(range(NUM_ROWS))
        np.testing.assert_array_equal(item, expected.item_index[at])
        np.testing.assert_array_equal(label, expected.label[at])
        assert lengths == [min(batch_size, NUM_ROWS - start) for start in range(0, NUM_ROWS, batch_size)]
        assert len(loader) == len(lengths)


def test_it_is_merlins_loader_and_its_schema_says_what_each_column_is(tf):
    from merlin.dataloader.tensorflow import Loader
    from merlin.schema import Tags

    loader = tensorflow_loader(rows(), BATCH)
    assert isinstance(loader, Loader)
    assert loader.input_schema.select_by_tag(Tags.CATEGORICAL).column_names == ["user_index", "item_index"]
    assert loader.input_schema.select_by_tag(Tags.TARGET).column_names == ["label"]


def test_batches_are_tensors_of_the_stated_types_and_shapes(tf):
    inputs, label = next(iter(tensorflow_loader(rows(), BATCH)))
    assert set(inputs) == {"user_index", "item_index"}
    for tensor, dtype in ((inputs["user_index"], tf.int32), (inputs["item_index"], tf.int32), (label, tf.float32)):
        assert isinstance(tensor, tf.Tensor)
        assert tensor.dtype == dtype
        assert tensor.shape == (BATCH,)


def order_of(loader):
    return one_pass(loader)[0][0].tolist()


def test_without_shuffling_the_rows_keep_their_order(tf):
    assert order_of(tensorflow_loader(rows(), BATCH, shuffle=False)) == rows().user_index.tolist()


def test_the_order_comes_from_seed_and_pass_and_nothing_else(tf):
    first, second = (tensorflow_loader(rows(), BATCH, seed=5) for _ in range(2))
    np.random.seed(0)
    orders = [order_of(first) for _ in range(3)]
    np.random.seed(1)
    assert [order_of(second) for _ in range(3)] == orders
    assert len({tuple(order) for order in orders}) == 3
    assert order_of(tensorflow_loader(rows(), BATCH, seed=6)) not in orders


def test_numpys_global_generator_is_left_alone(tf):
    np.random.seed(0)
    expected = np.random.random(3)
    np.random.seed(0)
    order_of(tensorflow_loader(rows(), BATCH))
    np.testing.assert_array_equal(np.random.random(3), expected)


def test_several_blocks_make_one_pass(tf, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_ROWS", 20)
    assert sorted(within(20, lambda: order_of(tensorflow_loader(rows(), BATCH)))) == rows().user_index.tolist()


def test_a_pass_left_half_way_is_begun_anew(tf, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_ROWS", 20)
    loader = tensorflow_loader(rows(), BATCH)
    for _ in loader:
        break
    assert sorted(within(20, lambda: order_of(loader))) == rows().user_index.tolist()


def test_a_reading_thread_that_is_slow_to_end_does_not_hold_up_the_pass(tf, monkeypatch):
    """Merlin's own loader waits for ever here: the queue is empty, the thread alive, and no chunk will follow."""
    loader = tensorflow_loader(rows(), BATCH)
    reader = loader._buff
    read = reader.chunk_logic
    monkeypatch.setattr(reader, "chunk_logic", lambda frames: (read(frames), time.sleep(0.3)))
    assert sorted(within(20, lambda: order_of(loader))) == rows().user_index.tolist()


def test_keras_sees_every_row_once_an_epoch(tf):
    """Labels stand for rows here; their sum and sum of squares would show one lost or doubled."""

    class Sums(tf.keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append((logs["count"], logs["total"], logs["squares"]))

    seen = []
    made = rows(100)
    numbered = EncodedInteractions(made.user_index, made.item_index, np.arange(100, dtype=np.int8))
    model = logistic(tf, 110, 210)
    model.compile("sgd", "mse", metrics=[metric(tf, name, power) for power, name in enumerate(SUMS)])
    model.fit(tensorflow_loader(numbered, 16), epochs=3, verbose=0, callbacks=[Sums()])
    numbers = np.arange(100)
    assert seen == [(100, numbers.sum(), (numbers**2).sum())] * 3


SUMS = ("count", "total", "squares")


def metric(tf, name, power):
    class PowerSum(tf.keras.metrics.Metric):
        def __init__(self):
            super().__init__(name=name)
            self.sum = self.add_weight(name="sum", initializer="zeros")

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.sum.assign_add(tf.reduce_sum(tf.cast(y_true, tf.float32) ** power))

        def result(self):
            return self.sum

    return PowerSum()


def logistic(tf, num_users, num_items):
    """One weight per user and per item, and two factors each."""
    keras = tf.keras
    names = {"user_index": num_users, "item_index": num_items}
    inputs = {name: keras.Input(shape=(), dtype="int32", name=name) for name in names}
    biases = [keras.layers.Embedding(size, 1)(inputs[name]) for name, size in names.items()]
    factors = [keras.layers.Embedding(size, 2)(inputs[name]) for name, size in names.items()]
    logit = keras.layers.Add()([*biases, keras.layers.Dot(axes=-1)(factors)])
    return keras.Model(inputs, logit)


def planted():
    """Users and items of different generosity: (user, item, label)."""
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 60, 6000), rng.integers(0, 40, 6000)
    logit = rng.normal(size=60)[user] * 1.5 + rng.normal(size=40)[item] * 1.5
    label = rng.random(6000) < 1 / (1 + np.exp(-logit))
    return EncodedInteractions(user.astype(np.int32), item.astype(np.int32), label.astype(np.int8))


def loss_of(tf, seed):
    tf.keras.utils.set_random_seed(0)
    model = logistic(tf, 60, 40)
    model.compile("sgd", tf.keras.losses.BinaryCrossentropy(from_logits=True))
    return model.fit(tensorflow_loader(planted(), 64, seed=seed), epochs=2, verbose=0).history["loss"]


def test_training_in_keras_repeats_itself_with_the_seed(tf):
    first = loss_of(tf, seed=1)
    assert loss_of(tf, seed=1) == pytest.approx(first, rel=1e-6)
    assert loss_of(tf, seed=2) != pytest.approx(first, rel=1e-6)


def test_a_keras_model_learns_from_it_in_one_epoch(tf):
    tf.keras.utils.set_random_seed(0)
    data = planted()
    train, held = data.take(np.arange(4500)), data.take(np.arange(4500, 6000))
    model = logistic(tf, 60, 40)
    model.compile(tf.keras.optimizers.Adam(0.03), tf.keras.losses.BinaryCrossentropy(from_logits=True))
    model.fit(tensorflow_loader(train, 64), epochs=1, verbose=0)
    scores = np.concatenate([model(x).numpy().ravel() for x, _ in tensorflow_loader(held, 64, shuffle=False)])
    assert auc(held.label, scores) > 0.7
    assert auc(held.label, np.random.default_rng(1).permutation(scores)) < 0.6
