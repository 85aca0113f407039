"""The mean of several rankers is one network with the mean of their logits, on disk and in pair form too."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from small import all_pairs, dataset, jitter, run_config, tables

from sdk.base.config import DLRMConfig, NCFConfig
from sdk.base.errors import BundleError
from sdk.bundles.bundle import load
from sdk.features.seen import Seen
from sdk.models.averaged import Averaged
from sdk.models.ranker import averaged, build_ranker, load_ranker, mixed, save_ranker
from sdk.scoring.engine import Engine
from sdk.training.freshness import is_up_to_date
from sdk.training.pipeline import SHARES, train_bundle

RUNS = {
    "dlrm": run_config(),
    "dlrm, bare": run_config(dlrm=DLRMConfig(embedding_dim=3, bottom_mlp=(), top_mlp=(5,), dot_dim=0, biases=False)),
    "dlrm, deep": run_config(dlrm=DLRMConfig(embedding_dim=2, top_mlp=(7, 6, 3), dot_dim=2)),
    "ncf": run_config(),
    "bfm": run_config(),
    "ncf, neumf": run_config(ncf=NCFConfig(variant="neumf", embedding_dim=3, mlp_layers=(6, 4))),
}


def members_of(name, count, pair):
    return [jitter(build_ranker(name.split(",")[0], RUNS[name], *pair), seed) for seed in range(count)]


def scores_of(model):
    users, items = all_pairs(model.users.num_rows, model.items.num_rows)
    with torch.no_grad():
        return model(users, items).numpy().reshape(model.users.num_rows, -1)


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_its_logit_is_the_mean_of_its_members(name, count):
    members = members_of(name, count, tables(3, 7, 6))
    expected = np.mean([scores_of(member).astype(np.float64) for member in members], axis=0)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(scores_of(Averaged(members)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", RUNS)
def test_its_pair_form_ranks_by_that_mean(name):
    members = members_of(name, 3, tables(4, 7, 6))
    expected = np.mean([scores_of(member).astype(np.float64) for member in members], axis=0)
    form = Averaged(members).lower()
    users = np.arange(len(expected))
    found = Engine(form).top_k(users, Seen.nothing(len(users)), expected.shape[1])
    for user in users:
        listed = found.item_index[user, : found.lengths[user]]
        np.testing.assert_allclose(found.scores[user, : len(listed)], expected[user, listed], rtol=1e-4, atol=1e-5)
        assert len(listed) == expected.shape[1] - 3  # the reserved rows are never listed


@pytest.mark.parametrize("variant", ["dlrm", "dlrm, bare", "dlrm, deep"])
@pytest.mark.parametrize(("other", "counts"), [("ncf", (1, 1)), ("ncf", (3, 2)), ("bfm", (2, 1))])
def test_a_share_of_another_ranker_is_a_weighted_mean_in_every_form(variant, other, counts, tmp_path):
    pair = tables(5, 7, 6)
    own, added = members_of(variant, counts[0], pair), members_of(other, counts[1], pair)
    parts = [np.mean([scores_of(each).astype(np.float64) for each in kind], axis=0) for kind in (own, added)]
    shares = dataclasses.replace(RUNS[variant].dlrm, **{f"{other}_share": 0.3})
    config = dataclasses.replace(RUNS[variant], dlrm=shares)
    expected = 0.7 * parts[0] + 0.3 * parts[1]
    assert np.abs(expected - parts[0]).max() > 0.1
    model = mixed(averaged(own), averaged(added), 0.3)
    save_ranker(model, tmp_path / "dlrm.safetensors")
    again = load_ranker("dlrm", config, *pair, tmp_path / "dlrm.safetensors")
    for each in (model, again):
        np.testing.assert_allclose(scores_of(each), expected, rtol=1e-4, atol=1e-5)
    form = model.lower()
    everybody = np.arange(len(expected))
    found = Engine(form).top_k(everybody, Seen.nothing(len(everybody)), expected.shape[1])
    for user in everybody:
        listed = found.item_index[user, : found.lengths[user]]
        np.testing.assert_allclose(found.scores[user, : len(listed)], expected[user, listed], rtol=1e-4, atol=1e-5)


def test_weights_must_be_one_for_each_member():
    with pytest.raises(ValueError, match="1 weights for 2 members"):
        Averaged(members_of("ncf", 2, tables(3, 7, 6)), [1.0])


@pytest.mark.parametrize("share", [0.0, 0.5, None])
def test_a_bundles_dlrm_takes_its_share_of_ncf_only_where_that_is_better_on_validation(share, tmp_path):
    config = run_config()
    config = dataclasses.replace(config, dlrm=dataclasses.replace(config.dlrm, ncf_share=share))
    bundle = train_bundle(dataset(), config, tmp_path / "bundle")
    alone = train_bundle(dataset(), dataclasses.replace(config, models=("dlrm", "content")), tmp_path / "alone")
    dlrm, ncf = (scores_of(model).astype(np.float64) for model in (alone.model("dlrm"), bundle.model("ncf")))
    gain = bundle.info.metrics["validation_auc"]["dlrm"] - alone.info.metrics["validation_auc"]["dlrm"]
    model = bundle.model("dlrm")
    taken = model.share if isinstance(model, Averaged) else 0.0
    assert taken in (SHARES if share is None else (share,)) or not taken
    assert is_up_to_date(bundle.path, dataset(), config), "what was chosen is no other configuration"
    assert (gain > 0) == (taken > 0)
    assert gain >= 0
    np.testing.assert_allclose(scores_of(bundle.model("dlrm")), (1 - taken) * dlrm + taken * ncf, rtol=1e-4, atol=1e-5)


def test_ncf_keeps_the_penalty_that_is_best_on_validation(tmp_path):
    values = {}
    for factors in ((1.0,), (60.0,), (1.0, 60.0), (60.0, 1.0)):
        ncf = NCFConfig(embedding_dim=4, num_members=1, l2_factors=factors)
        config = dataclasses.replace(run_config(ncf=ncf), models=("ncf",))
        bundle = train_bundle(dataset(), config, tmp_path / "bundle", force=True)
        values[factors] = (bundle.info.metrics["validation_auc"]["ncf"], scores_of(bundle.model("ncf")))
    best = max(values[(1.0,)], values[(60.0,)], key=lambda found: found[0])
    assert values[(1.0,)][0] != values[(60.0,)][0]
    for both in ((1.0, 60.0), (60.0, 1.0)):
        assert values[both][0] == best[0]
        np.testing.assert_array_equal(values[both][1], best[1])


def test_one_member_stays_as_it_is():
    (only,) = members_of("dlrm", 1, tables(3, 7, 6))
    assert averaged([only]) is only


def test_no_member_is_refused():
    with pytest.raises(ValueError, match="no members"):
        averaged([])


@pytest.mark.parametrize("count", [1, 3])
def test_it_is_read_back_as_it_was_written(count, tmp_path):
    pair = tables(3, 7, 6)
    model = averaged(members_of("dlrm", count, pair))
    save_ranker(model, tmp_path / "dlrm.safetensors")
    again = load_ranker("dlrm", RUNS["dlrm"], *pair, tmp_path / "dlrm.safetensors")
    assert (scores_of(again) == scores_of(model)).all()


def test_weights_of_a_missing_member_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    pair, path = tables(3, 7, 6), tmp_path / "dlrm.safetensors"
    save_ranker(averaged(members_of("dlrm", 3, pair)), path)
    save_file({name: tensor for name, tensor in load_file(path).items() if not name.startswith("1.")}, path)
    with pytest.raises(BundleError, match="not the weights"):
        load_ranker("dlrm", RUNS["dlrm"], *pair, path)


@pytest.mark.parametrize(
    ("rows", "members"), [(0, 4), (70_000, 4), (500_000, 4), (720_000, 2), (1_500_000, 1), (20_000_000, 1)]
)
def test_fewer_members_the_more_rows(rows, members):
    assert DLRMConfig().members_for(rows) == members
    assert DLRMConfig(num_members=3).members_for(rows) == 3
    assert NCFConfig().members_for(rows) == min(members, 3)
    assert NCFConfig(num_members=5).members_for(rows) == 5


def test_a_bundle_holds_every_member_and_its_validation_auc_is_the_whole_rankers(tmp_path):
    config = run_config()
    config = dataclasses.replace(config, dlrm=dataclasses.replace(config.dlrm, num_members=3), models=("dlrm",))
    train_bundle(dataset(), config, tmp_path / "bundle")
    bundle = load(tmp_path / "bundle")
    model = bundle.model("dlrm")
    assert isinstance(model, Averaged)
    first, second, third = (scores_of(member) for member in model.members)
    assert np.abs(first - second).max() > 1e-3
    assert np.abs(second - third).max() > 1e-3
    np.testing.assert_allclose(scores_of(model), (first + second + third) / 3, rtol=1e-4, atol=1e-5)
    again = train_bundle(dataset(), config, tmp_path / "again")
    assert (again.path / "dlrm.safetensors").read_bytes() == (bundle.path / "dlrm.safetensors").read_bytes()
    assert 0 < bundle.info.metrics["validation_auc"]["dlrm"] < 1
