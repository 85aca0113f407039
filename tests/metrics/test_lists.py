"""Metrics of lists against scikit-learn, torchmetrics, implicit and slow obvious versions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn import metrics as sklearn_metrics

from sdk.metrics import lists as metrics
from sdk.metrics.lists import RelevanceSets

LISTS = st.lists(st.integers(-2, 6), unique=True, max_size=9)
USERS = st.lists(st.tuples(LISTS, st.sets(st.integers(-4, 8))), min_size=1, max_size=6)
LIST_METRICS = (metrics.ndcg, metrics.recall, metrics.average_precision, metrics.hit_rate)


def relevance(sets):
    pairs = [(user, item) for user, items in enumerate(sets) for item in sorted(items)]
    table = np.array(pairs, np.int64).reshape(-1, 2)
    return RelevanceSets(table[:, 0], table[:, 1], len(sets))


def measured(metric, lists, *arguments, **named):
    """A metric of lists of different lengths, padded as they come."""
    lengths = np.array([len(row) for row in lists], np.int64)
    padded = np.zeros((len(lists), lengths.max(initial=0)), np.int64)
    for row, items in zip(padded, lists, strict=True):
        row[: len(items)] = items
    return metric(padded, *arguments, lengths=lengths, **named)


def slow_values(row, held, k):
    """NDCG, recall, AP and hit rate of one user, written from their definitions."""
    if not held:
        return [math.nan] * 4
    best = min(k, len(held))
    gains = [float(item in held) for item in row[:k]]
    dcg = sum(g / math.log2(place + 2) for place, g in enumerate(gains))
    ideal = sum(1 / math.log2(place + 2) for place in range(best))
    precision = [sum(gains[: place + 1]) / (place + 1) for place in range(len(gains))]
    ap = sum(p * g for p, g in zip(precision, gains, strict=True)) / best
    return [dcg / ideal, sum(gains) / best, ap, float(any(gains))]


@given(USERS, st.integers(1, 12))
def test_list_metrics_match_the_slow_obvious_version(users, k):
    lists, held = zip(*users, strict=True)
    expected = np.array([slow_values(row, items, k) for row, items in users])
    for column, metric in enumerate(LIST_METRICS):
        got = measured(metric, lists, relevance(held), k)
        np.testing.assert_allclose(got, expected[:, column], rtol=1e-12, atol=1e-12, err_msg=metric.__name__)


@given(USERS, st.integers(1, 12))
def test_padding_never_counts(users, k):
    lists, held = zip(*users, strict=True)
    padded = np.full((len(lists), 10), next(iter(held[0]), 0), np.int32)  # padded with a relevant item, if any
    for row, items in zip(padded, lists, strict=True):
        row[: len(items)] = items
    lengths = np.array([len(items) for items in lists], np.int32)
    for metric in LIST_METRICS:
        got = metric(padded, relevance(held), k, lengths=lengths)
        np.testing.assert_array_equal(got, measured(metric, lists, relevance(held), k))


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_ndcg_agrees_with_scikit_learn(seed, k):
    rng = np.random.default_rng(seed)
    scores = rng.permuted(np.tile(np.arange(10.0), (5, 1)), axis=1)
    held = rng.random((5, 10)) < 0.3
    got = metrics.ndcg(np.argsort(-scores, axis=1), relevance([set(np.flatnonzero(row).tolist()) for row in held]), k)
    for user in np.flatnonzero(held.any(axis=1)):
        expected = sklearn_metrics.ndcg_score(held[[user]], scores[[user]], k=k)
        assert got[user] == pytest.approx(expected, abs=1e-12)


def test_average_precision_agrees_with_scikit_learn_and_torchmetrics():
    retrieval = pytest.importorskip("torchmetrics.functional.retrieval", reason="torchmetrics is not installed")
    torch = pytest.importorskip("torch", reason="torch is not installed")
    rng = np.random.default_rng(5)
    for _ in range(20):
        scores, held = 1 + rng.permutation(12).astype(np.float32), rng.random(12) < 0.4  # theirs skips scores of 0
        held[0] = True
        got = measured(
            metrics.average_precision, [np.argsort(-scores)], relevance([set(np.flatnonzero(held).tolist())]), 12
        )
        assert got[0] == pytest.approx(sklearn_metrics.average_precision_score(held, scores), abs=1e-12)
        theirs = retrieval.retrieval_average_precision(torch.from_numpy(scores), torch.from_numpy(held))
        assert got[0] == pytest.approx(float(theirs), abs=1e-6)


@pytest.mark.parametrize("k", [1, 3, 7, 12])
def test_truncated_lists_agree_with_torchmetrics(k):
    retrieval = pytest.importorskip("torchmetrics.functional.retrieval", reason="torchmetrics is not installed")
    torch = pytest.importorskip("torch", reason="torch is not installed")
    rng = np.random.default_rng(k)
    for _ in range(20):
        scores, held = 1 + rng.permutation(12).astype(np.float32), rng.random(12) < 0.3
        held[rng.integers(12)] = True
        list_, sets = [np.argsort(-scores)], relevance([set(np.flatnonzero(held).tolist())])
        pair = torch.from_numpy(scores), torch.from_numpy(held)
        found = float(retrieval.retrieval_recall(*pair, top_k=k)) * held.sum()  # theirs is over n, ours over min(k, n)
        assert measured(metrics.recall, list_, sets, k)[0] == pytest.approx(found / min(k, held.sum()), abs=1e-6)
        assert measured(metrics.hit_rate, list_, sets, k)[0] == float(retrieval.retrieval_hit_rate(*pair, top_k=k))
        theirs = float(retrieval.retrieval_normalized_dcg(*pair, top_k=k))
        assert measured(metrics.ndcg, list_, sets, k)[0] == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("k", [1, 4, 10])
def test_map_and_ndcg_over_min_k_n_agree_with_implicit(k):
    evaluation = pytest.importorskip("implicit.evaluation", reason="implicit is not installed")
    rng = np.random.default_rng(k)
    lists = np.array([rng.permutation(25)[:10] for _ in range(40)], np.int32)
    held = rng.random((40, 25)) < 0.15
    held[:, 0] |= ~held.any(axis=1)

    class Fixed:
        def recommend(self, userid, user_items, N):
            return lists[userid, :N], np.zeros((len(userid), N), np.float32)

    theirs = evaluation.ranking_metrics_at_k(
        Fixed(), sparse.csr_matrix((40, 25)), sparse.csr_matrix(held.astype(np.float32)), K=k, show_progress=False
    )
    sets = relevance([set(np.flatnonzero(row).tolist()) for row in held])
    assert metrics.user_mean(metrics.average_precision(lists, sets, k)) == pytest.approx(theirs["map"], abs=1e-6)
    assert metrics.user_mean(metrics.ndcg(lists, sets, k)) == pytest.approx(theirs["ndcg"], abs=1e-6)


@given(USERS, st.integers(1, 9))
def test_the_held_out_items_themselves_are_a_perfect_list_for_any_k(users, k):
    held = [items for _, items in users]
    for metric in LIST_METRICS:
        got = measured(metric, [sorted(items) for items in held], relevance(held), k)
        np.testing.assert_allclose(got, [1.0 if items else math.nan for items in held], rtol=1e-12)


def test_a_list_that_names_an_item_twice_is_refused_unless_the_second_lies_below_k():
    lists, held = np.array([[1, 2], [3, 3]]), relevance([{1}, {3}])
    with pytest.raises(ValueError, match="user row 1 names item 3 twice"):
        metrics.recall(lists, held, 2)
    assert metrics.recall(lists, held, 1).tolist() == [1, 1]


def test_lists_of_other_users_and_a_senseless_k_are_refused():
    with pytest.raises(ValueError, match="lists of 1 users, held-out items of 2"):
        measured(metrics.ndcg, [[1]], relevance([{1}, {2}]), 5)
    with pytest.raises(ValueError, match="k: got 0"):
        measured(metrics.ndcg, [[1]], relevance([{1}]), 0)
    with pytest.raises(ValueError, match="lengths: expected"):
        metrics.ndcg(np.zeros((1, 2), np.int64), relevance([{1}]), 2, lengths=np.array([3]))


@pytest.mark.parametrize(
    ("rows", "item_ids", "cause"),
    [([0, 0], [1], "2 user rows but 1 item ids"), ([0, 1, 1], [7, 7, 7], "user row 1 holds item 7 twice")],
)
def test_relevance_sets_check_themselves(rows, item_ids, cause):
    with pytest.raises(ValueError, match=cause):
        RelevanceSets(np.array(rows, np.int64), np.array(item_ids, np.int64), 2)


def test_relevance_sets_take_pairs_in_any_order():
    got = RelevanceSets(np.array([2, 0, 2]), np.array([9, 5, -1]), 4)
    assert (len(got), got.counts.tolist()) == (4, [1, 0, 2, 0])
    lists = np.array([[5, 9], [5, 9], [-1, 9], [5, 9]])
    np.testing.assert_array_equal(metrics.recall(lists, got, 2), [1, np.nan, 1, np.nan])


@pytest.mark.parametrize("row", [-1, 4])
def test_relevance_sets_refuse_users_outside_the_range(row):
    with pytest.raises(ValueError, match="0 to 3"):
        RelevanceSets(np.array([0, row]), np.array([1, 2]), 4)


# ---------------------------------------------------------------------------------------------- beyond accuracy


def test_coverage_counts_distinct_real_items():
    padded = np.array([[10, 20, 99], [20, 99, 99]])
    assert metrics.coverage(padded, 8, lengths=np.array([2, 1])) == 2 / 8
    assert metrics.coverage(padded, 8) == 3 / 8
    assert measured(metrics.coverage, [], 8) == 0
    with pytest.raises(ValueError, match="3 distinct items recommended out of a catalogue of 2"):
        metrics.coverage(padded, 2)


@given(st.lists(st.lists(st.sampled_from([40, 10, 30, 20]), unique=True), min_size=1, max_size=8))
def test_gini_matches_the_mean_difference_between_items(lists):
    assume(any(lists))
    ids = np.array([40, 10, 30, 20])
    counts = [sum(row.count(int(item)) for row in lists) for item in ids]
    differences = sum(abs(a - b) for a in counts for b in counts)
    expected = differences / (2 * len(ids) * sum(counts)) * len(ids) / (len(ids) - 1)
    assert measured(metrics.gini, lists, ids) == pytest.approx(expected, abs=1e-12)


def test_gini_runs_from_equal_to_one_item_for_all():
    ids = np.arange(5)
    assert metrics.gini(np.arange(5)[:, None], ids) == 0
    assert metrics.gini(np.full((7, 1), 3), ids) == 1
    with pytest.raises(ValueError, match="item 5 is recommended but not in the catalogue"):
        metrics.gini(np.array([[5]]), ids)
    with pytest.raises(ValueError, match="1 catalogue items"):
        metrics.gini(np.array([[0]]), ids[:1])


def test_novelty_is_mean_self_information_in_bits():
    counts, ids = np.array([8, 4, 1, 0]), np.arange(4)
    got = measured(metrics.novelty, [[0, 1], [2], [3], []], counts, 8, catalogue_ids=ids)
    np.testing.assert_allclose(got, [(0 + 1) / 2, 3, 3, np.nan])  # nobody's item counts as one person's
    by_id = measured(metrics.novelty, [[70, 50]], counts, 8, catalogue_ids=np.array([70, 50, 10, 20]))
    np.testing.assert_allclose(by_id, [0.5])
    with pytest.raises(ValueError, match="num_users=7"):
        measured(metrics.novelty, [[0]], counts, 7, catalogue_ids=ids)
    with pytest.raises(ValueError, match="item 4 is recommended"):
        measured(metrics.novelty, [[4]], counts, 8, catalogue_ids=ids)


def test_diversity_matches_the_mean_over_pairs(monkeypatch):
    monkeypatch.setattr("sdk.metrics.lists._USERS_AT_ONCE", 3)
    rng = np.random.default_rng(6)
    vectors = rng.normal(size=(9, 4)).astype(np.float32)
    lists = [rng.permutation(9)[:n] for n in (2, 9, 5, 3, 4, 6, 2)]
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    expected = [np.mean([1 - unit[a] @ unit[b] for a, b in itertools.combinations(row, 2)]) for row in lists]
    np.testing.assert_allclose(
        measured(metrics.intra_list_diversity, lists, vectors, catalogue_ids=np.arange(9)), expected, atol=1e-6
    )


def test_diversity_agrees_with_scikit_learn_for_dense_and_sparse_vectors_and_ids():
    from sklearn.metrics.pairwise import cosine_distances

    rng = np.random.default_rng(11)
    vectors = (rng.random((30, 8)) * (rng.random((30, 8)) < 0.3)).astype(np.float32)  # some rows are empty
    ids, lengths = rng.permutation(30) * 5, np.array([10, 2, 7, 10])
    places = np.array([rng.permutation(30)[:10] for _ in lengths])
    expected = [
        cosine_distances(vectors[row[:n]].astype(np.float64))[np.triu_indices(n, 1)].mean()
        for row, n in zip(places, lengths, strict=True)
    ]
    for given_vectors in (vectors, sparse.csr_matrix(vectors)):
        got = metrics.intra_list_diversity(ids[places], given_vectors, catalogue_ids=ids, lengths=lengths)
        np.testing.assert_allclose(got, expected, atol=1e-12)


def test_diversity_of_same_orthogonal_opposite_zero_and_single_items():
    vectors = np.array([[1, 0], [2, 0], [0, 1], [-1, 0], [0, 0]], np.float32)
    got = measured(
        metrics.intra_list_diversity, [[0, 1], [0, 2], [0, 3], [0, 4], [0]], vectors, catalogue_ids=np.arange(5)
    )
    np.testing.assert_allclose(got, [0, 1, 2, 1, np.nan])


def test_user_mean_leaves_out_users_with_nothing_held_out():
    assert metrics.user_mean(np.array([1.0, np.nan, 0.5])) == 0.75
    with pytest.raises(ValueError, match="none of 2 users has a value"):
        metrics.user_mean(np.array([np.nan, np.nan]))
