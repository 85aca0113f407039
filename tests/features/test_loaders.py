"""Loaders: every row once per epoch, in an order that the seed and the epoch alone decide."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdk.features.loaders import InteractionLoader
from sdk.features.tables import EncodedInteractions


def numbered(size):
    """Rows that can be told apart by their user."""
    n = np.arange(size)
    return EncodedInteractions(n.astype(np.int32), (n * 2).astype(np.int32), (n % 2).astype(np.int8))


def users_of(loader):
    return [batch.user_index.tolist() for batch in loader]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 50), st.integers(1, 60), st.none() | st.integers(0, 2**40), st.integers(0, 9))
def test_every_row_comes_once_with_its_own_item_and_label(size, batch_size, seed, epoch):
    loader = InteractionLoader(numbered(size), batch_size, seed=seed)
    loader.set_epoch(epoch)
    batches = list(loader)
    assert len(batches) == len(loader) == -(-size // batch_size)
    assert all(len(batch.label) == batch_size for batch in batches[:-1])
    rows = [row for batch in batches for row in zip(*(part.tolist() for part in batch), strict=True)]
    assert sorted(rows) == [(n, 2 * n, n % 2, 1) for n in range(size)]
    if seed is None:
        assert [row[0] for row in rows] == list(range(size))


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch, batch_size=7):
        loader = InteractionLoader(numbered(50), batch_size, seed=seed)
        loader.set_epoch(epoch)
        return [user for batch in users_of(loader) for user in batch]

    torch.manual_seed(1)
    first = order(1, 1)
    torch.manual_seed(2)
    assert order(1, 1) == first == order(1, 1, batch_size=50)
    others = [order(1, 2), order(2, 1), list(range(50))]
    assert all(order_ != first for order_ in others)


def test_a_loader_can_be_read_twice_and_by_torchs_own_loader():
    loader = InteractionLoader(numbered(20), 6, seed=0)
    assert users_of(loader) == users_of(loader)
    outer = torch.utils.data.DataLoader(loader, batch_size=None)
    assert [batch.user_index.tolist() for batch in outer] == users_of(loader)


@pytest.mark.parametrize("column", ["user_index", "item_index"])
def test_batches_have_the_types_that_the_models_take(column):
    (batch,) = InteractionLoader(numbered(3), 5)
    assert getattr(batch, column).dtype == torch.int64
    assert batch.label.dtype == batch.rated.dtype == torch.float32
