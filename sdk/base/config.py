"""One frozen config per model, and one per run. Values are checked when a config is made."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from sdk.base.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SplitKind = Literal["random", "time", "leave-last-out"]
NegativeKind = Literal["none", "uniform", "popularity"]
NCFVariant = Literal["dot", "neumf"]
EngineName = Literal["auto", "nvtabular", "builtin"]
TrainerName = Literal["builtin", "merlin"]
Weighting = Literal["stars", "alike", "log"]
ModelName = Literal["dlrm", "ncf", "bfm", "history", "content"]
SimilarKind = Literal["hybrid", "content"]
"""What look-alikes are by: ``content``, what items are; ``hybrid``, that and who likes them."""
RANKERS = ("dlrm", "ncf", "bfm")  # the models that score a pair with a logit
C = TypeVar("C")
_MAX_WEIGHT = 1e6  # far above any that helps, far below what float32 overflows at


class FromData(float):
    """A default that stands until the data say another (``sdk.data.labels.for_data``); what is given is no such."""

    __slots__ = ()


class Limit(NamedTuple):
    """What the values of a field must be: a test, and the same in words. It stands in the field's type."""

    holds: Callable[[Any], bool]
    expected: str


_NOT_NEGATIVE, _SOME = Limit(lambda value: value >= 0, "at least 0"), Limit(lambda value: value >= 1, "at least 1")
Amount = Annotated[float, _NOT_NEGATIVE]
Size = Annotated[int, _NOT_NEGATIVE]
Count = Annotated[int, _SOME]
Positive = Annotated[float, Limit(lambda value: value > 0, "above 0")]
Share = Annotated[float, Limit(lambda value: 0 <= value < 1, "a share from 0 up to, not including, 1")]
Seed = Annotated[int, Limit(lambda value: 0 <= value < 2**32, "a whole number from 0 to 4294967295")]
Widths = Annotated[tuple[int, ...], Limit(lambda widths: all(w >= 1 for w in widths), "widths of at least 1")]
SomeWidths = Annotated[tuple[int, ...], Limit(lambda w: len(w) > 0 and min(w) >= 1, "one or more widths, at least 1")]
Factors = Annotated[tuple[float, ...], Limit(lambda f: len(f) >= 1 and min(f) >= 0, "one or more, none negative")]
Weight = Annotated[float, Limit(lambda value: 0 <= value <= _MAX_WEIGHT, f"from 0 to {_MAX_WEIGHT:g}")]
SomeWeight = Annotated[float, Limit(lambda value: 0 < value <= _MAX_WEIGHT, f"above 0, at most {_MAX_WEIGHT:g}")]
Stars = Annotated[float, Limit(lambda value: abs(value) <= _MAX_WEIGHT, f"at most {_MAX_WEIGHT:g}")]


def hints_of(owner: type, *, annotated: bool = False) -> dict[str, Any]:
    """``typing.get_type_hints``, but the text of every annotation is evaluated once a class.

    Args:
        owner: a class.
        annotated: whether a type comes with what ``Annotated`` says beside it.
    """
    return _hints(owner, annotated)


_hints = functools.cache(lambda owner, annotated: get_type_hints(owner, include_extras=annotated))


class Checked:
    """A frozen dataclass whose fields' types say what their values may be.

    Raises:
        ConfigError: a value is beyond its ``Limit``, or none of the words of its ``Literal``.
    """

    __slots__ = ()

    def __post_init__(self) -> None:
        for name, hint in hints_of(type(self), annotated=True).items():
            value, inner = getattr(self, name), get_args(hint)
            may_be_none = type(None) in inner
            kind = inner[0] if may_be_none else hint
            words = get_args(kind) if get_origin(kind) is Literal else ()
            limits = [Limit(words.__contains__, f"one of {words}")] if words else getattr(kind, "__metadata__", ())
            for limit in limits:
                ok = (may_be_none and value is None) or limit.holds(value)
                _check(self, name, ok, f"{limit.expected}, or None" if may_be_none else limit.expected)


def _check(config: object, name: str, ok: bool, expected: str) -> None:
    if not ok:
        raise ConfigError(type(config).__name__, name, getattr(config, name), expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig(Checked):
    """What is read and how much of it may be bad.

    Attributes:
        max_reject_share: share of a file's rows that may be set aside before the run stops with exit code 3.
        rating_min: lowest rating on the scale, stars; found from the data where it is not given, and so is the next.
        rating_max: highest rating on the scale, stars.
    """

    max_reject_share: Share = 0.05
    rating_min: float = FromData(0.5)
    rating_max: float = FromData(5.0)

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        _check(self, "rating_max", self.rating_max > self.rating_min, "above rating_min")


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitConfig(Checked):
    """How ratings are parted into training, validation and test.

    Attributes:
        kind: ``random``; ``time`` (the latest ratings are tested); ``leave-last-out`` (each user's latest one).
        test_share: share of all ratings held out for the test (``random``, ``time``).
        validation_share: share of the remaining ratings held out for early stopping and tuning, by the same rule.
        seed: of the random split.
    """

    kind: SplitKind = "random"
    test_share: Share = 0.2
    validation_share: Share = 0.1
    seed: Seed = 42

    def describe(self) -> str:
        """The split in words, printed with every metric measured on it."""
        if self.kind == "leave-last-out":
            return "leave-last-out, validation by the same rule"
        seed = f", seed {self.seed}" if self.kind == "random" else ""
        shares = f"{1 - self.test_share:.0%}/{self.test_share:.0%}"
        return f"{self.kind} {shares}, validation {self.validation_share:.0%} of training{seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureConfig(Checked):
    """How ratings and titles become encoded tables.

    Attributes:
        like_above: a rating above this many stars is a positive label; on another scale, where it is not given, what
            is in the same place there.
        min_user_ratings: users with fewer training ratings share the out-of-vocabulary embedding.
        min_item_ratings: items with fewer training ratings share the out-of-vocabulary embedding.
        content_dim: width of the content vector per item; 0 leaves it out.
        tag_min_items: a tag is used as a feature where at least this many items carry it.
        rate_prior: number of average ratings that smooth a user's or an item's share of likes.
        engine: what fits the features: ``nvtabular``; ``builtin``, which needs no Merlin and divides no work
            among ``--workers`` or ``--dask``; or ``auto``, NVTabular where it is installed. Their tables are equal.
    """

    like_above: float = FromData(3.0)
    min_user_ratings: Size = 2
    min_item_ratings: Size = 2
    content_dim: Size = 8
    tag_min_items: Count = 5
    rate_prior: Amount = 5.0
    engine: EngineName = "auto"


CONTENT_FIELDS = (
    "genres", "keywords", "cast", "directors", "crew", "overview", "title", "companies", "tags", "year",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentConfig(Checked):
    """The content model: one weighted TF-IDF block per field (Salton and Buckley 1988).

    Attributes:
        weights: weight of each field; one that is not named weighs 0. MovieLens's fields are ``CONTENT_FIELDS``, and
            these are their weights; other data's are the columns that are described, whose weights are chosen while
            this stands at its default.
        max_cast: number of leading actors read per title.
        min_document_count: a word of a text must stand in at least this many items.
    """

    weights: Mapping[str, float] = field(
        default_factory=lambda: MappingProxyType(
            {
                "genres": 0.35, "keywords": 0.6, "cast": 0.8, "directors": 0.7, "crew": 0.4,
                "overview": 0.5, "title": 0.8, "companies": 0.2, "tags": 0.6, "year": 0.3,
            }
        )
    )  # fmt: skip
    max_cast: Count = 5
    min_document_count: Count = 2

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        _check(self, "weights", all(w >= 0 for w in self.weights.values()), "no negative weight")
        _check(self, "weights", any(w > 0 for w in self.weights.values()), "at least one weight above 0")
        object.__setattr__(self, "weights", MappingProxyType(dict(self.weights)))

    def __reduce__(self) -> tuple[Any, ...]:
        return (from_json, (ContentConfig, to_json(self)))


def members_for(num_rows: int, most: int) -> int:
    """How many networks a ranker averages: ``most`` for few training rows, one above two million."""
    return int(min(most, max(1, 2_000_000 // max(num_rows, 1))))


@dataclass(frozen=True, slots=True, kw_only=True)
class DLRMConfig(Checked):
    """DLRM (Naumov et al. 2019, arXiv:1906.00091) with bias terms and a regularised dot path.

    Attributes:
        embedding_dim: width D of every field's vector.
        bottom_mlp: hidden widths of the user's and the item's bottom MLP; each ends in D.
        top_mlp: hidden widths of the top MLP; a last layer of width 1 follows.
        dot_dim: width of the dot path <p[u], q[i]>; 0 leaves it out.
        biases: whether a user's and an item's own bias are added.
        id_dropout: share of ids that training replaces by the out-of-vocabulary id, so that row is trained.
        num_members: networks that differ by their seed and are averaged; None chooses by the number of training rows:
            few rows leave the seed much to decide, and cost little time.
        ncf_share: weight of the dot product NCF's logit in the mean, where NCF is trained too and raises the
            validation AUC; None chooses it there, and 0 leaves it out. NCF trains for more epochs than the DLRM stands,
            so the two err differently.
        bfm_share: the same of the BFM's logit; the one of the two counts that raises the AUC more.
    """

    embedding_dim: Count = 32
    bottom_mlp: Widths = (64,)
    top_mlp: SomeWidths = (64, 32)
    dot_dim: Size = 64
    biases: bool = True
    id_dropout: Share = 0.02
    num_members: Count | None = None
    ncf_share: Share | None = None
    bfm_share: Share | None = None

    def share_of(self, other: str) -> float | None:
        """The weight that ``ncf`` or ``bfm`` has in the mean; None where it is still to be chosen."""
        return self.ncf_share if other == "ncf" else self.bfm_share

    def members_for(self, num_rows: int) -> int:
        """How many networks are averaged for a number of training rows: four below half a million, one above two."""
        return self.num_members or members_for(num_rows, most=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class NCFConfig(Checked):
    """Neural collaborative filtering on ids alone.

    Attributes:
        variant: ``dot``, the dot product of two embeddings; or ``neumf``, a GMF and an MLP branch, concatenated
            (He et al. 2017, arXiv:1708.05031, section 3.4).
        embedding_dim: width per branch.
        mlp_layers: hidden widths of the MLP branch (``neumf``).
        biases: whether a user's and an item's own bias are added.
        id_dropout: share of ids that training replaces by the out-of-vocabulary id, so that row is trained.
        num_members: networks that differ by their seed and are averaged; None chooses by the number of training rows.
        rate_factor: the learning rate is the training's times this.
        l2_factors: the penalty on embeddings is the training's times one of these, the best on the validation part.
            How strong a penalty must be depends on how much of the ratings is taste, and how much is noise.
    """

    variant: NCFVariant = "dot"
    embedding_dim: Count = 32
    mlp_layers: SomeWidths = (64, 32)
    biases: bool = True
    id_dropout: Share = 0.02
    num_members: Count | None = None
    rate_factor: Positive = 2.0
    l2_factors: Factors = (1.0, 0.75, 1.5)

    def members_for(self, num_rows: int) -> int:
        """How many networks are averaged for a number of training rows: three below 700,000, one above a million."""
        return self.num_members or members_for(num_rows, most=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class BFMConfig(Checked):
    """A Bayesian factorisation machine, sampled (Freudenthaler, Schmidt-Thieme and Rendle 2011).

    Attributes:
        rank: columns of a sample's vectors.
        width: columns of the mean's vectors.
        max_epochs: upper limit; an epoch is 25 sweeps. None chooses by the number of training rows: who has many is
            known sooner, and a sweep takes its time.
        least_gain: validation AUC that an epoch must add for another one to follow.
    """

    rank: Count = 12
    width: Count = 32
    max_epochs: Count | None = None
    least_gain: Amount = 0.0001

    def epochs_for(self, num_rows: int) -> int:
        """The most epochs: twelve up to four million training rows, two from 25 million on."""
        return self.max_epochs or min(12, max(2, 50_000_000 // max(num_rows, 1)))


_LIKE_AT, _STAR_WEIGHT = FromData(4.0), FromData(0.4)


def _log2(values: NDArray[np.float64]) -> NDArray[np.float32]:
    import numpy as np

    return np.log2(values).astype("float32")


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryConfig(Checked):
    """How a history becomes a list. What is None depends on the data and is chosen from the training ratings
    (``sdk.models.history.choice``).

    Attributes:
        rank: width r of the dot path, at most that of the fitted titles; None chooses it by the number of users and
            titles (``sdk.models.history.matrices.rank_for``).
        like_at: ratings of at least this many stars are likes; a title liked with just as many weighs 1. It and the
            next follow the data's scale where they are not given.
        star_weight: how much a star more or less changes a rating's weight; 0 where every pair is a like.
        least_weight: of any rating: to have watched a title says something even where it was not liked.
        penalty: L2 penalty of the regression, above 0.
        user_exponent: a user with n ratings counts by n to minus twice this.
        item_exponent: a title's scores are multiplied by (ratings + 1) to minus this.
        content_weight: of the item features, once their rows have mean squared length 1.
        popularity_weight: of a title's share of likes, added to its score.
        popularity_boost: how much more that counts for who has told little: 1 + popularity_boost / (n + boost_titles)
            times, n being the summed weight of what they rated.
        boost_titles: above 0; see ``popularity_boost``.
        popularity_half_life_days: a like that is older than the newest by this many days counts half in it; 0: all
            count alike. Where the split is by time, None chooses it with the weight, on moments; else it is 0.
        half_life_days: a rating that is older than its user's newest by this many days weighs half; 0: age does not
            count. Where the split is by time, None chooses it, as it does the penalty, on moments within the training
            ratings (``sdk.models.history.recency``); else it is 0.
        max_titles: the most rated titles that get coefficients of their own; it bounds the memory to about 30 bytes
            times its square. The others are known by their content features.
        seed: of the low-rank factorisation and of the validation part that the penalty is chosen on.
        feature_dim: number of content vectors that the item features are.
        ranker_weight: of a ranker's logit, added to this model's score in a list; None takes for each ranker what gives
            the best lists of the validation part, which is 0 where none is better than this model's own.
        weighting: ``stars``, by the three fields on them; ``alike``, every pair weighs 1; ``log``, of events of some
            weight w: log2(1 + ``star_weight`` w), so that one of weight 1 / ``star_weight`` weighs 1; None chooses one
            of the last two. Implicit feedback is never weighed by stars.
        session_gap_s: what a user rated with no longer pause between belongs together: it counts twice in the
            regression; 0: time does not count there.
        repeat_weight: where items that a user has may come again, how much what came more or heavier rises above the
            rest: times log2(1 + ``star_weight`` w) of its weight w. None chooses it where events of a pair repeat and
            have times (``sdk.models.history.repeats``); else it is 0.
        repeat_half_life_days: of that, by the days from the pair's last event to its user's newest; 0: age does not
            count. None: chosen with ``repeat_weight``.
    """

    rank: Count | None = None
    like_at: Stars = _LIKE_AT
    star_weight: Weight = _STAR_WEIGHT
    least_weight: SomeWeight = 0.3
    penalty: Positive | None = None
    user_exponent: Amount = 0.15
    item_exponent: Amount | None = None
    content_weight: Amount | None = None
    popularity_weight: Amount | None = None
    popularity_boost: Amount = 20.0
    boost_titles: Positive = 4.0
    popularity_half_life_days: Amount | None = None
    half_life_days: Amount | None = None
    max_titles: Count = 12_000
    seed: Seed = 0
    feature_dim: Size = 256
    ranker_weight: Amount | None = None
    weighting: Weighting | None = "stars"
    session_gap_s: Amount | None = None
    repeat_weight: Amount | None = None
    repeat_half_life_days: Amount | None = None

    @property
    def needs_times(self) -> bool:
        """Whether histories or what comes again are weighed by age."""
        return bool(self.half_life_days or self.repeat_half_life_days)

    def weights(self, rating: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """(N,) float32 weight of each rating in a history: 1 for the least like, more above, less below."""
        if self.weighting in ("alike", None):
            return (0 * rating + 1).astype("float32")
        if self.weighting == "log":
            return _log2(1 + self.star_weight * rating.astype("float64"))
        step, like = float(self.star_weight), float(self.like_at)  # NumPy takes a subclass of float for 64 bits
        weight = 1 + step * (rating.astype("float32") - like)
        return weight.clip(self.least_weight).astype("float32")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig(Checked):
    """The training loop, the same for both models by default.

    Attributes:
        max_epochs: upper limit; early stopping usually ends sooner.
        patience: epochs without a better validation AUC before training stops.
        batch_size: rows per step; None chooses by the number of training rows.
        learning_rate: of Adam (Kingma and Ba 2015, arXiv:1412.6980).
        embedding_l2: L2 penalty per looked-up vector, as in matrix factorisation (Koren et al. 2009).
        bias_l2: L2 penalty per looked-up bias.
        embedding_std: standard deviation of the initial embeddings.
        negatives: sampled unwatched titles per positive: ``none`` trains on rated pairs alone. Where every pair is a
            like there must be some: ``none`` means ``uniform`` then, and held-out parts are measured against such, too.
        num_negatives: sampled per positive and redrawn each epoch, where ``negatives`` is not ``none``.
        refit: train again on training and validation part together, for the best number of epochs.
        seed: of initialisation, order and sampling.
        trainer: what the rankers train by: ``builtin``; or ``merlin``, as Merlin Models' blocks (DLRM as its
            DLRMModel) under Lightning, which is slower and needs both.
    """

    max_epochs: Count = 30
    patience: Count = 3
    batch_size: Count | None = None
    learning_rate: Positive = 3e-3
    embedding_l2: Amount = 0.03
    bias_l2: Amount = 0.005
    embedding_std: Amount = 0.05
    negatives: NegativeKind = "none"
    num_negatives: Count = 4
    refit: bool = True
    seed: Seed = 0
    trainer: TrainerName = "builtin"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig(Checked):
    """Everything a training run depends on, beside the data.

    A configuration's types say what it takes: a ``Count`` is a whole number of at least 1, a ``Size`` one of at least
    0, an ``Amount`` a number of at least 0, a ``Positive`` one above 0, a ``Share`` one from 0 up to, not including, 1.

    Attributes:
        data: what is read.
        split: how ratings are parted.
        features: how ratings and titles are encoded.
        content: of the content model.
        dlrm: of the DLRM.
        ncf: of NCF.
        bfm: of the Bayesian factorisation machine.
        history: of the history model.
        training: of the rankers' training loop.
        models: which models are trained; joined by commas on the command line.
        final_fit: learn from every rating once the test part has been measured: that is what is published.
    """

    data: DataConfig = field(default_factory=DataConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    content: ContentConfig = field(default_factory=ContentConfig)
    dlrm: DLRMConfig = field(default_factory=DLRMConfig)
    ncf: NCFConfig = field(default_factory=NCFConfig)
    bfm: BFMConfig = field(default_factory=BFMConfig)
    history: HistoryConfig = field(default_factory=HistoryConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    models: tuple[ModelName, ...] = ("dlrm", "ncf", "bfm", "history", "content")
    final_fit: bool = True

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        known = get_args(ModelName)
        _check(self, "models", bool(self.models) and set(self.models) <= set(known), f"one or more of {known}")
        _check(self, "models", len(set(self.models)) == len(self.models), "each model once")
        highest = math.inf if isinstance(self.data.rating_max, FromData) else self.data.rating_max
        some_like = -math.inf < self.features.like_above < highest  # of a scale to be found, see ``require_likes``
        expected = f"a number below the highest rating, {highest:g}, so that a rating can be above it"
        _check(self.features, "like_above", some_like, expected)

    @property
    def rankers(self) -> tuple[ModelName, ...]:
        """The models among ``models`` that score a pair with a logit."""
        return tuple(name for name in self.models if name in RANKERS)

    def training_of(self, name: str) -> tuple[TrainingConfig, ...]:
        """The settings that a ranker tries on the validation part, the usual one first."""
        if name != "ncf":
            return (self.training,)
        rate, penalty = self.training.learning_rate * self.ncf.rate_factor, self.training.embedding_l2
        return tuple(
            dataclasses.replace(self.training, learning_rate=rate, embedding_l2=penalty * factor)
            for factor in self.ncf.l2_factors
        )

    def members_of(self, name: str, num_rows: int) -> int:
        """How many networks a ranker averages, for a number of training rows."""
        averaged = {"dlrm": self.dlrm.members_for, "ncf": self.ncf.members_for}
        return averaged[name](num_rows) if name in averaged else 1

    def with_seed(self, seed: int) -> RunConfig:
        """The same run with another training seed (the split keeps its own)."""
        return dataclasses.replace(self, training=dataclasses.replace(self.training, seed=seed))


def to_json(config: Any) -> dict[str, Any]:
    """A config as plain JSON values; ``from_json`` reads it back to an equal config."""
    return {f.name: _plain(getattr(config, f.name)) for f in fields(config)}


def to_file(config: Any) -> dict[str, Any]:
    """A config as ``--config`` reads it: plain JSON values, without those that follow the data."""
    found = {f.name: getattr(config, f.name) for f in fields(config)}
    return {
        name: to_file(value) if dataclasses.is_dataclass(value) else _plain(value)
        for name, value in found.items()
        if not isinstance(value, FromData)
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_json(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, FromData):
        return float(value)
    return list(value) if isinstance(value, tuple) else value


def from_json(cls: type[C], values: Mapping[str, Any]) -> C:
    """Read a config that ``to_json`` wrote.

    Raises:
        ConfigError: a key is unknown, or a value is of another type or out of its range.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(cls.__name__, "fields", values, "an object")
    hints = hints_of(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigError(cls.__name__, unknown[0], values[unknown[0]], f"one of the fields {', '.join(hints)}")
    return cls(**{name: _typed(cls, name, hints[name], value) for name, value in values.items()})


def _typed(owner: type, name: str, hint: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_json(hint, value)
    if not _fits(hint, value):
        expected = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
        raise ConfigError(owner.__name__, name, value, f"a value of type {expected}")
    return tuple(value) if get_origin(hint) is tuple else value


def _fits(hint: Any, value: Any) -> bool:
    """Whether a plain JSON value is of a field's type; which of a Literal's words it is, the config checks itself."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(one, value) for one in inner)
    if origin is tuple:
        return isinstance(value, (list, tuple)) and all(_fits(inner[0], one) for one in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_fits(inner[1], one) for one in value.values())
    if origin is Literal:
        return isinstance(value, str)
    if hint is float:
        return type(value) in (int, float) and abs(value) < math.inf
    return type(value) is hint
