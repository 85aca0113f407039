"""What ``python -m sdk tune`` searches: for each model, which fields of a RunConfig, and where.

A field is named by its path, ``training.learning_rate`` say. The split, the label rule and the seeds are never
searched: a study must not choose what it is measured on.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from sdk.base.config import RunConfig
from sdk.base.errors import ConfigError
from sdk.base.printable import number

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from ``low`` to ``high``, both included.

    Attributes:
        field: path of a field of RunConfig.
        low: the least value.
        high: the greatest value, above ``low``.
        log: whether the logarithm is drawn evenly; then ``low`` is above 0.
    """

    field: str
    low: float
    high: float
    log: bool = False

    def including(self, value: Any) -> Range:
        """The same range, widened where a value lies outside it."""
        if self.log and value <= 0:
            return dataclasses.replace(self, low=min(self.low, value), log=False)
        return dataclasses.replace(self, low=min(self.low, value), high=max(self.high, value))

    @property
    def distribution(self) -> optuna.distributions.BaseDistribution:
        """What a study draws from."""
        import optuna

        return optuna.distributions.FloatDistribution(self.low, self.high, log=self.log)

    def raw(self, value: Any) -> float:
        """A value as a study keeps it."""
        return float(value)

    def value_of(self, raw: Any) -> Any:
        """The value that a study keeps so."""
        return raw

    def place_of(self, value: Any) -> float:
        """Where a value stands on an axis."""
        return float(value)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few values, without an order.

    Attributes:
        field: path of a field of RunConfig.
        values: two or more; each is a number, a text, or a tuple of widths.
    """

    field: str
    values: tuple[Any, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Each value as text; widths are joined by dashes."""
        return tuple(label_of(value) for value in self.values)

    @property
    def distribution(self) -> optuna.distributions.BaseDistribution:
        """What a study draws from."""
        import optuna

        return optuna.distributions.CategoricalDistribution(self.labels)

    def raw(self, value: Any) -> str:
        """A value as a study keeps it: its label."""
        return label_of(value)

    def value_of(self, raw: str) -> Any:
        """The value that a study keeps so."""
        return self.values[self.labels.index(raw)]

    def place_of(self, value: Any) -> float:
        """Where a value stands on an axis."""
        return self.values.index(value)

    def including(self, value: Any) -> Choice:
        """The same choice, and a value that is not yet among it."""
        return self if value in self.values else dataclasses.replace(self, values=(*self.values, value))


Parameter: TypeAlias = Range | Choice
Space: TypeAlias = tuple[Parameter, ...]


def label_of(value: Any) -> str:
    """A value as text: widths joined by dashes, ``none`` for no layer."""
    return "-".join(str(width) for width in value) or "none" if isinstance(value, tuple) else str(value)


def text_of(value: Any) -> str:
    """A value for people: a number to four digits, else its label."""
    return number(value) if isinstance(value, float) else label_of(value)


_TRAINING: Space = (
    Range("training.learning_rate", 5e-4, 1e-2, log=True),
    Range("training.embedding_l2", 3e-3, 0.3, log=True),
    Range("training.bias_l2", 5e-4, 0.05, log=True),
    Range("training.embedding_std", 0.01, 0.2, log=True),
)
SPACES: Mapping[str, Space] = MappingProxyType(
    {
        "dlrm": (
            *_TRAINING,
            Range("dlrm.id_dropout", 0.0, 0.3),
            Choice("dlrm.embedding_dim", (8, 16, 32, 64)),
            Choice("dlrm.dot_dim", (16, 32, 64, 128)),
            Choice("dlrm.top_mlp", ((32, 16), (64, 32), (128, 64))),
            Choice("dlrm.bottom_mlp", ((), (32,), (64,))),
            Choice("features.content_dim", (0, 8, 32)),
        ),
        "ncf": (
            *_TRAINING,
            Range("ncf.id_dropout", 0.0, 0.3),
            Choice("ncf.embedding_dim", (16, 32, 64, 128)),
            Choice("ncf.variant", ("dot", "neumf")),
        ),
        "history": (
            Range("history.penalty", 75.0, 2400.0, log=True),
            Range("history.star_weight", 0.0, 0.6),
            Range("history.least_weight", 0.05, 0.8),
            Range("history.user_exponent", 0.0, 0.4),
            Range("history.item_exponent", 0.0, 0.3),
            Range("history.content_weight", 0.0, 1.0),
            Range("history.popularity_weight", 0.0, 0.2),
            Choice("history.rank", (64, 128, 256, 512)),
        ),
    }
)
"""For each model, the fields searched."""


def field_of(config: Any, field: str) -> Any:
    """A field's value by its path."""
    return functools.reduce(getattr, field.split("."), config)


def with_fields(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """The same run with the fields at these paths changed; each config checks itself again.

    Raises:
        ConfigError: a value is out of its range.
    """
    for field, value in values.items():
        config = _replaced(config, field, value)
    return config


def _replaced(config: Any, field: str, value: Any) -> Any:
    name, _, below = field.partition(".")
    inner = field_of(config, name)
    return dataclasses.replace(config, **{name: _replaced(inner, below, value) if below else value})


def space_around(model: str, config: RunConfig) -> Space:
    """A model's space, widened where the given run lies outside it.

    A field that is None in the run is left out: a rule of its own chooses it.

    Raises:
        ConfigError: the model has no space.
    """
    if model not in SPACES:
        expected = f"one of {', '.join(SPACES)}, the models that can be tuned"
        raise ConfigError(RunConfig.__name__, "models", model, expected)
    given = {parameter: field_of(config, parameter.field) for parameter in SPACES[model]}
    return tuple(parameter.including(value) for parameter, value in given.items() if value is not None)
