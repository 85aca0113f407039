"""Configs check themselves, survive JSON and pickle, and name the field at fault."""

import dataclasses
import json
import pickle

import pytest

from sdk.base.config import (
    ContentConfig,
    DataConfig,
    DLRMConfig,
    FeatureConfig,
    HistoryConfig,
    NCFConfig,
    RunConfig,
    SplitConfig,
    TrainingConfig,
    from_json,
    to_json,
)
from sdk.base.errors import ConfigError

BAD = [
    (DataConfig, "max_reject_share", 1.0),
    (DataConfig, "max_reject_share", -0.1),
    (DataConfig, "rating_max", 0.5),
    (SplitConfig, "kind", "chronological"),
    (SplitConfig, "test_share", 1.0),
    (SplitConfig, "validation_share", -0.01),
    (FeatureConfig, "min_user_ratings", -1),
    (FeatureConfig, "content_dim", -1),
    (FeatureConfig, "rate_prior", -0.5),
    (FeatureConfig, "tag_min_items", 0),
    (ContentConfig, "weights", {"genres": -1.0}),
    (ContentConfig, "weights", {"genres": 0.0}),
    (ContentConfig, "max_cast", 0),
    (DLRMConfig, "embedding_dim", 0),
    (DLRMConfig, "dot_dim", -1),
    (DLRMConfig, "top_mlp", ()),
    (DLRMConfig, "top_mlp", (8, 0)),
    (DLRMConfig, "bottom_mlp", (0,)),
    (DLRMConfig, "id_dropout", 1.0),
    (NCFConfig, "variant", "mlp"),
    (NCFConfig, "embedding_dim", 0),
    (NCFConfig, "mlp_layers", ()),
    (TrainingConfig, "max_epochs", 0),
    (TrainingConfig, "patience", 0),
    (TrainingConfig, "batch_size", 0),
    (TrainingConfig, "learning_rate", 0.0),
    (TrainingConfig, "learning_rate", float("nan")),
    (TrainingConfig, "embedding_l2", -1.0),
    (TrainingConfig, "bias_l2", -1.0),
    (TrainingConfig, "negatives", "hard"),
    (TrainingConfig, "num_negatives", 0),
    (SplitConfig, "seed", -1),
    (SplitConfig, "seed", 2**32),
    (DLRMConfig, "num_members", 0),
    (NCFConfig, "rate_factor", 0.0),
    (NCFConfig, "l2_factors", ()),
    (NCFConfig, "l2_factors", (-1.0,)),
    (HistoryConfig, "rank", 0),
    (HistoryConfig, "penalty", 0.0),
    (HistoryConfig, "half_life_days", -1.0),
    (HistoryConfig, "boost_titles", 0.0),
    (HistoryConfig, "least_weight", 0.0),
    (HistoryConfig, "star_weight", 2e6),
    (HistoryConfig, "like_at", -2e6),
    (HistoryConfig, "ranker_weight", float("nan")),
    (RunConfig, "models", ()),
    (RunConfig, "models", ("dlrm", "bert")),
    (RunConfig, "models", ("dlrm", "dlrm")),
]


@pytest.mark.parametrize(("cls", "name", "value"), BAD)
def test_a_value_out_of_range_is_refused_by_owner_field_and_value(cls, name, value):
    with pytest.raises(ConfigError) as caught:
        cls(**{name: value})
    text = str(caught.value)
    assert text.startswith(f"{cls.__name__}.{name}: got ")
    assert repr(value) in text
    assert "expected" in text
    assert caught.value.exit_code == 2


def test_none_is_taken_where_a_field_may_be_left_open_and_nowhere_else():
    assert HistoryConfig(rank=None, penalty=None, half_life_days=None).rank is None
    with pytest.raises(ConfigError, match=r"rank: got 0, expected at least 1, or None\."):
        HistoryConfig(rank=0)
    with pytest.raises(ConfigError, match=r"kind: got None, expected one of"):
        SplitConfig(kind=None)
    with pytest.raises(TypeError):
        HistoryConfig(max_titles=None)


EVERY_FIELD_CHANGED = RunConfig(
    data=DataConfig(max_reject_share=0.5, rating_min=1, rating_max=10),
    split=SplitConfig(kind="time", test_share=0.3, validation_share=0.2, seed=7),
    features=FeatureConfig(like_above=3.5, min_user_ratings=3, content_dim=0),
    content=ContentConfig(weights={"genres": 1.0}, max_cast=2),
    dlrm=DLRMConfig(embedding_dim=3, bottom_mlp=(), top_mlp=(5,), dot_dim=0, biases=False),
    ncf=NCFConfig(variant="neumf", mlp_layers=(9, 8, 7)),
    training=TrainingConfig(batch_size=12, negatives="popularity", refit=False, seed=3),
    models=("ncf",),
)


@pytest.mark.parametrize("config", [RunConfig(), EVERY_FIELD_CHANGED])
def test_a_config_survives_json_and_pickle(config):
    again = from_json(RunConfig, json.loads(json.dumps(to_json(config))))
    assert again == config
    assert type(again.dlrm.top_mlp) is tuple
    assert pickle.loads(pickle.dumps(config)) == config


def test_fields_that_json_leaves_out_take_their_defaults():
    assert from_json(RunConfig, {"training": {"seed": 5}}) == RunConfig(training=TrainingConfig(seed=5))


def test_an_unknown_field_is_refused_at_any_depth():
    with pytest.raises(ConfigError, match=r"RunConfig\.epochs"):
        from_json(RunConfig, {"epochs": 3})
    with pytest.raises(ConfigError, match=r"TrainingConfig\.epochs: got 3.*max_epochs"):
        from_json(RunConfig, {"training": {"epochs": 3}})


def test_json_cannot_smuggle_in_a_value_out_of_range():
    with pytest.raises(ConfigError, match=r"SplitConfig\.test_share"):
        from_json(RunConfig, {"split": {"test_share": 1.5}})


def test_a_config_cannot_be_changed_after_its_check():
    config = ContentConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.max_cast = 0
    with pytest.raises(TypeError):
        config.weights["genres"] = -1
    weights = {"genres": 1.0}
    kept = ContentConfig(weights=weights)
    weights["genres"] = -1.0
    assert kept.weights["genres"] == 1.0


def test_with_seed_changes_the_training_seed_and_nothing_else():
    config = EVERY_FIELD_CHANGED.with_seed(9)
    assert config.training.seed == 9
    assert config.split.seed == 7
    assert dataclasses.replace(config, training=EVERY_FIELD_CHANGED.training) == EVERY_FIELD_CHANGED


def test_a_split_describes_itself_as_it_is():
    assert SplitConfig().describe() == "random 80%/20%, validation 10% of training, seed 42"
    assert SplitConfig(kind="time").describe() == "time 80%/20%, validation 10% of training"
    assert SplitConfig(kind="leave-last-out").describe() == "leave-last-out, validation by the same rule"


def test_a_field_that_may_be_chosen_is_written_as_null():
    assert to_json(HistoryConfig())["weighting"] == "stars"
    likes = HistoryConfig(weighting=None)
    assert to_json(likes)["weighting"] is None
    assert from_json(HistoryConfig, to_json(likes)) == likes
