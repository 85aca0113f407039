"""A DLRMModel trained elsewhere becomes a bundle: its nights and its served ranker give Merlin's own scores."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import merlin.models.torch as mm
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from fake_triton import model_of, rows
from merlin.schema import ColumnSchema, Schema, Tags
from night_files import DATE, job
from small import all_pairs

import sdk
from batch.run.night import run
from export.options import ExportOptions
from export.repository import export_repository
from sdk.base.config import DLRMConfig
from sdk.base.errors import OutputError, UsageError
from sdk.bundles.bundle import Bundle
from sdk.models.dlrm import DLRM
from sdk.models.merlin import merlin_inputs

LABEL = ColumnSchema("label", tags=[Tags.TARGET, Tags.BINARY_CLASSIFICATION], dtype="float32")


def columns_of(bundle: Bundle) -> Schema:
    """Every code of the bundle's tables, and the titles' numbers, as docs/how_it_works.md names them."""
    listed = []
    for side, table in (("user", bundle.encoded_users), ("item", bundle.encoded_items)):
        for field in (*table.codes, *table.multi_hot):
            name, ragged = f"{side}_{field}", field in table.multi_hot
            domain = {"min": 0, "max": table.cardinalities[field] - 1, "name": name}
            listed.append(
                ColumnSchema(
                    name, tags=[Tags.CATEGORICAL], dtype="int64", properties={"domain": domain},
                    is_list=ragged, is_ragged=ragged,
                )
            )  # fmt: skip
    numbers = [
        ColumnSchema(f"item_{n}", tags=[Tags.CONTINUOUS], dtype="float32") for n in bundle.encoded_items.dense_names
    ]
    return Schema([*listed, *numbers, LABEL])


def inputs_of(bundle: Bundle, users: Any, items: Any) -> dict[str, torch.Tensor]:
    tables = DLRM(DLRMConfig(dot_dim=0, biases=False), bundle.encoded_users, bundle.encoded_items)
    return merlin_inputs(tables, torch.as_tensor(users).long(), torch.as_tensor(items).long())


def trained_elsewhere(bundle: Bundle, schema: Schema, steps: int = 30) -> Any:
    """A DLRMModel after some steps of Adam."""
    rated = bundle.interactions.of(0)
    inputs, label = inputs_of(bundle, rated.user_index, rated.item_index), torch.from_numpy(rated.label).float()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = mm.DLRMModel(
            schema, dim=8, bottom_block=mm.MLPBlock([16, 8]), top_block=mm.MLPBlock([16, 8]),
            output_block=mm.BinaryOutput(LABEL),
        )  # fmt: skip
        network(inputs)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(steps):
        optimiser.zero_grad()
        torch.nn.functional.binary_cross_entropy(network(inputs)[:, 0], label).backward()
        optimiser.step()
    return network.eval()


@torch.no_grad()
def logits_of(network: Any, inputs: dict[str, torch.Tensor]) -> np.ndarray:
    """Merlin's own forward pass, without its sigmoid."""
    bare = copy.deepcopy(network)
    bare[1][1] = torch.nn.Identity()
    return bare(inputs)[:, 0].numpy()


@pytest.fixture(scope="module")
def elsewhere(bundle: Bundle) -> Any:
    return trained_elsewhere(bundle, columns_of(bundle))


@pytest.fixture(scope="module")
def written(bundle: Bundle, elsewhere: Any, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return sdk.from_merlin(elsewhere, bundle, tmp_path_factory.mktemp("elsewhere") / "bundle")


def test_the_new_bundle_has_the_model_as_its_only_ranker_and_says_so(bundle: Bundle, written: Bundle):
    info = written.info
    assert (info.models, info.chosen_model) == (("dlrm", "content"), "dlrm")
    assert info.config.training.trainer == "merlin"
    assert (info.config.dlrm.embedding_dim, info.config.dlrm.top_mlp) == (8, (16, 8))
    assert 0 < info.metrics["validation_auc"]["dlrm"] < 1
    assert info.metrics["test"][0]["model"] == "dlrm"
    assert info.data == bundle.info.data
    assert written.users.equals(bundle.users)
    assert sdk.load(written.path).content.similar([int(bundle.encoded_items.known_ids[0])], 3).lengths[0] == 3


def test_a_nights_scores_are_merlins_own(written: Bundle, elsewhere: Any, tmp_path: Path):
    run(job(written.path, tmp_path))
    lists = pq.read_table(tmp_path / f"run_date={DATE}/user_items").to_pandas()
    lists = lists[lists["source"] == "dlrm"]  # others are popular titles, for who is unknown
    users = written.encoded_users.index_of(lists["user_id"].to_numpy())
    items = written.encoded_items.index_of(lists["item_id"].to_numpy())
    expected = logits_of(elsewhere, inputs_of(written, users, items))
    assert expected.std() > 0.1
    np.testing.assert_allclose(lists["score"], expected, atol=5e-6)


def test_a_served_ranker_gives_merlins_scores(written: Bundle, elsewhere: Any, tmp_path: Path):
    export_repository(written.path, tmp_path / "repository", ExportOptions(workflow="compiled"))
    users, items = (pairs.numpy() for pairs in all_pairs(len(written.encoded_users), len(written.encoded_items)))
    with model_of(tmp_path / "repository", "ranker") as model:
        (response,) = model.execute([rows(user_index=users[-500:], item_index=items[-500:])])
    expected = logits_of(elsewhere, inputs_of(written, users[-500:], items[-500:]))
    np.testing.assert_allclose(response.outputs["score"][:, 0], expected, atol=5e-6)


def test_of_a_measured_bundle_within_another_it_lies_beside_that_and_takes_no_share_that_another_ranker_had(
    tmp_path: Path,
):
    from small import dataset, run_config

    whole = sdk.train(dataset(), run_config(models=("dlrm", "history"), final_fit=True), tmp_path / "mine")
    written = sdk.from_merlin(trained_elsewhere(whole.measured, columns_of(whole.measured), steps=1), whole.measured)
    assert written.path == tmp_path / "mine-merlin"
    assert sdk.load(whole.path).measured.info.models == ("dlrm", "history")
    assert written.info.metrics["test"][0]["model"] == "dlrm"
    assert written.info.metrics["ranker_share"] == {}
    assert written.ranker_of_lists() is None
    assert not (written.path / "measured").exists()


def test_without_out_it_lies_beside_the_bundle_and_is_not_replaced_unasked(
    bundle: Bundle, elsewhere: Any, tmp_path: Path
):
    import shutil

    beside = sdk.load(shutil.copytree(bundle.path, tmp_path / "mine"))
    assert sdk.from_merlin(elsewhere, beside).path == tmp_path / "mine-merlin"
    with pytest.raises(OutputError, match="already there"):
        sdk.from_merlin(elsewhere, beside)
    assert sdk.from_merlin(elsewhere, beside, force=True).recommend([1], 3).item_id.shape == (1, 3)


def test_what_cannot_be_lowered_leaves_nothing(bundle: Bundle, tmp_path: Path):
    with pytest.raises(UsageError, match="got a Linear"):
        sdk.from_merlin(torch.nn.Linear(2, 1), bundle, tmp_path / "new")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_on_all_pairs_of_the_sample_the_pair_form_is_merlins_forward_pass(tmp_path: Path):
    ratings, films = sdk.write_sample(tmp_path / "sample")
    data = sdk.load_movielens(ratings, tmdb=films)
    config = sdk.RunConfig(
        models=("dlrm", "content"), dlrm=DLRMConfig(num_members=1),
        training=sdk.TrainingConfig(max_epochs=1, refit=False),
    )  # fmt: skip
    bundle = sdk.train(data, config, tmp_path / "bundle")
    network = trained_elsewhere(bundle, columns_of(bundle), steps=5)
    form = sdk.from_merlin(network, bundle).model("dlrm").lower()
    users, items = all_pairs(len(bundle.encoded_users), len(bundle.encoded_items))
    gaps = [
        abs(form.score_pairs(user.numpy(), item.numpy()) - logits_of(network, inputs_of(bundle, user, item))).max()
        for user, item in zip(users.split(1 << 17), items.split(1 << 17), strict=True)
    ]
    assert max(gaps) < 2e-6
