"""The rankers against the papers' formulas, written out in NumPy."""

import dataclasses

import numpy as np
import pytest
import torch
from small import PRIOR, all_pairs, encoded_table, jitter, run_config, tables
from torch import nn

from sdk.base.config import DLRMConfig, NCFConfig
from sdk.base.errors import BundleError
from sdk.features.tables import FIRST_KNOWN, UNKNOWN, raw_statistics
from sdk.models.dlrm import DLRM
from sdk.models.ncf import NCF
from sdk.models.pair_model import Batch, initialise_embeddings
from sdk.models.ranker import build_ranker, load_ranker, save_ranker


def weights(module):
    return {name: tensor.detach().numpy().astype(np.float64) for name, tensor in module.state_dict().items()}


def layers(module):
    """A sequential MLP as its (weight, bias) pairs."""
    linears = [layer for layer in module if isinstance(layer, nn.Linear)]
    return [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in linears]


def relu_mlp(x, module, *, last_relu):
    pairs = layers(module)
    for number, (weight, bias) in enumerate(pairs):
        x = weight @ x + bias
        if last_relu or number < len(pairs) - 1:
            x = np.maximum(x, 0)
    return x


def scores_of(model):
    users, items = all_pairs(model.users.num_rows, model.items.num_rows)
    with torch.no_grad():
        return model(users, items).numpy().reshape(model.users.num_rows, -1)


def dlrm_side(arch, table, row):
    """Naumov et al. 2019, section 2.1: every field a vector of width D, the dense ones through a bottom MLP."""
    w = weights(arch)
    vectors = [w[f"embeddings.{name}.weight"][codes[row]] for name, codes in table.codes.items()]
    vectors += [shares[row].astype(np.float64) @ w[f"lists.{name}.weight"] for name, shares in table.multi_hot.items()]
    dense = relu_mlp(table.dense[row].astype(np.float64), arch.bottom_mlp, last_relu=True)
    return [*vectors, dense]


def dlrm_score(model, tables_, u, i):
    users, items = tables_
    mine, theirs = dlrm_side(model.user_arch, users, u), dlrm_side(model.item_arch, items, i)
    within = [[x @ y for n, x in enumerate(side) for y in side[n + 1 :]] for side in (mine, theirs)]
    across = [x @ y for x in mine for y in theirs]
    top = relu_mlp(np.concatenate([mine[-1], within[0], theirs[-1], within[1], across]), model.top_mlp, last_relu=False)
    score = top[0]
    p, q = users.codes["id"][u], items.codes["id"][i]
    if model.config.biases:
        score += weights(model)["user_arch.bias.weight"][p, 0] + weights(model)["item_arch.bias.weight"][q, 0]
    if model.config.dot_dim:
        score += weights(model)["user_arch.dot.weight"][p] @ weights(model)["item_arch.dot.weight"][q]
    return score


@pytest.mark.parametrize(("dot_dim", "biases"), [(0, False), (3, True)])
def test_dlrm_is_the_papers_network_with_its_additions(dot_dim, biases):
    pair = tables(1, 6, 5)
    config = DLRMConfig(embedding_dim=4, bottom_mlp=(5, 6), top_mlp=(7, 3), dot_dim=dot_dim, biases=biases)
    model = jitter(DLRM(config, *pair))
    expected = [[dlrm_score(model, pair, u, i) for i in range(len(pair[1]))] for u in range(len(pair[0]))]
    np.testing.assert_allclose(scores_of(model), expected, rtol=1e-4, atol=1e-5)


def test_every_pair_of_fields_meets_exactly_once():
    users, items = tables(1, 6, 5)
    model = DLRM(DLRMConfig(embedding_dim=4, top_mlp=(7,)), users, items)
    fields = (len(users.codes) + len(users.multi_hot) + 1) + (len(items.codes) + len(items.multi_hot) + 1)
    assert model.top_mlp[0].in_features == 2 * 4 + fields * (fields - 1) // 2


@pytest.mark.parametrize("biases", [True, False])
def test_ncf_dot_is_a_dot_product_with_biases(biases):
    users, items = tables(2)
    model = jitter(NCF(NCFConfig(variant="dot", embedding_dim=5, biases=biases), users, items))
    w = weights(model)
    p, q = users.codes["id"], items.codes["id"]
    expected = w["user_arch.gmf.weight"][p] @ w["item_arch.gmf.weight"][q].T
    if biases:
        expected = expected + w["user_arch.bias.weight"][p] + w["item_arch.bias.weight"][q].T
    np.testing.assert_allclose(scores_of(model), expected, rtol=1e-5, atol=1e-6)


def test_neumf_is_the_papers_gmf_and_mlp_under_one_last_layer():
    """He et al. 2017, equation 12: sigma(h . [phi_GMF ; phi_MLP]), the logit of it, plus biases."""
    users, items = tables(3, 7, 6)
    model = jitter(NCF(NCFConfig(variant="neumf", embedding_dim=4, mlp_layers=(6, 3)), users, items))
    w, (*hidden, (last, last_bias)) = weights(model), layers(model.top_mlp)
    h = np.concatenate([w["gmf_weight"], last[0]])
    for u, i in np.ndindex(len(users), len(items)):
        p, q = users.codes["id"][u], items.codes["id"][i]
        gmf = w["user_arch.gmf.weight"][p] * w["item_arch.gmf.weight"][q]
        phi = np.concatenate([w["user_arch.mlp.weight"][p], w["item_arch.mlp.weight"][q]])
        for weight, bias in hidden:
            phi = np.maximum(weight @ phi + bias, 0)
        expected = h @ np.concatenate([gmf, phi]) + last_bias[0]
        expected += w["user_arch.bias.weight"][p, 0] + w["item_arch.bias.weight"][q, 0]
        assert scores_of(model)[u, i] == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_users_without_an_embedding_of_their_own_get_one_score_per_item_from_ncf():
    users, items = tables(4, cold_share=0.5)
    scores = scores_of(jitter(NCF(NCFConfig(embedding_dim=4), users, items)))
    cold = np.flatnonzero(users.codes["id"] == UNKNOWN)
    assert len(cold) > 4
    np.testing.assert_array_equal(scores[cold], np.tile(scores[UNKNOWN], (len(cold), 1)))


@pytest.mark.parametrize("prior", [0.0, PRIOR])
def test_training_leaves_each_pairs_own_rating_out_of_its_statistics(prior):
    rng = np.random.default_rng(0)
    table = encoded_table(rng, 30, prior=prior)
    buffers = DLRM(DLRMConfig(), table, table).users
    rows = np.flatnonzero(table.statistics.count >= 1)
    for label in (0.0, 1.0):
        batch = Batch(torch.full((len(rows),), label), torch.ones(len(rows)), torch.Generator())
        got = buffers.dense_of(torch.from_numpy(rows), batch).numpy()
        likes = np.maximum(table.statistics.likes[rows] - label, 0)
        left = raw_statistics(table.statistics.count[rows] - 1, likes, table.statistics.prior_rate, prior)
        expected = (left - table.statistics.mean) / table.statistics.std
        np.testing.assert_allclose(got[:, :2], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(got[:, 2:], table.dense[rows, 2:])


def test_a_sampled_negative_leaves_the_statistics_alone():
    table = encoded_table(np.random.default_rng(0), 30)
    rows = torch.arange(len(table))
    batch = Batch(torch.zeros(len(table)), torch.zeros(len(table)), torch.Generator())
    got = DLRM(DLRMConfig(), table, table).users.dense_of(rows, batch).numpy()
    np.testing.assert_allclose(got, table.dense, rtol=1e-5, atol=1e-5)


def test_dropped_ids_become_the_unknown_one_at_the_configured_rate():
    users, items = tables()
    model = NCF(NCFConfig(id_dropout=0.25), users, items)
    codes = torch.full((20_000,), FIRST_KNOWN + 1)
    batch = Batch(torch.zeros(1), torch.ones(1), torch.Generator().manual_seed(0))
    picked = model.pick_ids(codes, batch)
    assert set(picked.tolist()) == {UNKNOWN, FIRST_KNOWN + 1}
    assert float((picked == UNKNOWN).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert torch.equal(model.pick_ids(codes, None), codes)


@pytest.mark.parametrize("name", ["dlrm", "ncf"])
def test_the_penalties_are_the_mean_squared_norms_of_the_vectors_and_biases_looked_up(name):
    users, items = tables(5)
    config = run_config(dlrm=DLRMConfig(id_dropout=0, dot_dim=3), ncf=NCFConfig(id_dropout=0, variant="neumf"))
    model = jitter(build_ranker(name, config, users, items))
    u, i = torch.tensor([3, 4, 5]), torch.tensor([6, 3, 7])
    _, vectors, biases = model.training_forward(u, i, Batch(torch.zeros(3), torch.ones(3), torch.Generator()))
    expected = {True: 0.0, False: 0.0}
    for arch, table, rows in ((model.user_arch, users, u.numpy()), (model.item_arch, items, i.numpy())):
        for key, weight in weights(arch).items():
            if "bottom_mlp" not in key:
                expected["bias" in key] += (looked_up(key.split(".")[-2], weight, table, rows) ** 2).sum() / 3
    assert vectors.item() == pytest.approx(expected[False], rel=1e-4)
    assert biases.item() == pytest.approx(expected[True], rel=1e-4)


def looked_up(field, weight, table, rows):
    if field in table.multi_hot:
        return table.multi_hot[field][rows] @ weight
    return weight[table.codes[field if field in table.codes else "id"][rows]]


def test_embeddings_start_small_and_by_the_seed_alone():
    users, items = tables(6, 400, 300)
    drawn = []
    for _ in range(2):
        model = NCF(NCFConfig(embedding_dim=16), users, items)
        initialise_embeddings(model, 0.05, seed=3)
        drawn.append(model.user_arch.gmf.weight.detach().clone())
    assert torch.equal(*drawn)
    assert float(drawn[0].std()) == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("name", ["dlrm", "ncf"])
def test_saved_and_loaded_a_ranker_scores_the_same(name, tmp_path):
    users, items = tables(7)
    model = jitter(build_ranker(name, run_config(), users, items))
    save_ranker(model, tmp_path / "weights")
    again = load_ranker(name, run_config(), users, items, tmp_path / "weights")
    assert not again.training
    np.testing.assert_array_equal(scores_of(again), scores_of(model))


def test_weights_that_do_not_fit_are_refused_by_name(tmp_path):
    users, items = tables(7)
    save_ranker(build_ranker("ncf", run_config(), users, items), tmp_path / "weights")
    wider = run_config(ncf=dataclasses.replace(run_config().ncf, embedding_dim=9))
    for name, config in (("ncf", wider), ("dlrm", run_config())):
        with pytest.raises(BundleError, match="weights"):
            load_ranker(name, config, users, items, tmp_path / "weights")
    with pytest.raises(BundleError, match="nowhere"):
        load_ranker("ncf", run_config(), users, items, tmp_path / "nowhere")
    (tmp_path / "weights").write_bytes(b"no weights at all")
    with pytest.raises(BundleError, match="ncf"):
        load_ranker("ncf", run_config(), users, items, tmp_path / "weights")
