"""What-if dials: how a reader turns a list towards the known or the unknown, and towards variety."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from werkzeug.exceptions import BadRequest

from sdk.base.types import Float32s
from sdk.scoring.rules import Rules, rules_of

LEAST, MOST, STEP = {"popularity": -2.0, "variety": 0.0}, {"popularity": 2.0, "variety": 2.0}, 0.5


@dataclass(frozen=True, slots=True)
class Dials:
    """Where the dials stand.

    Attributes:
        popularity: from -2, for the little known, to 2; at 1 the most liked item of the user's list gains on the least
            liked one what lies between its first and its last score.
        variety: from 0 to 2: ``diversity`` of docs/rules.md, which is in the same unit.
        plain: whether the night's own rules and draws are left out.
    """

    popularity: float = 0.0
    variety: float = 0.0
    plain: bool = False

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Dials:
        """From an address.

        Raises:
            BadRequest: a dial is no number or out of its range.
        """
        return cls(_turned(given, "popularity"), _turned(given, "variety"), given.get("plain") == "1")

    @property
    def are_turned(self) -> bool:
        """Whether a list is another one by them."""
        return bool(self.popularity or self.variety or self.plain)

    def rules(self, night: Mapping[str, Any], scores: Float32s, likes: Float32s) -> Rules:
        """The night's rules, and the dials on top of them.

        Args:
            night: the rules of the night; empty for none.
            scores: (L,) of the user's list without rules, best first.
            likes: (L,) training likes of its items.

        Raises:
            UsageError: the night's rules are of another release.
        """
        base = rules_of({} if self.plain else night)
        known = np.log1p(likes)
        unit = float((scores[0] - scores[-1]) / np.ptp(known)) if len(scores) and np.ptp(known) else 0.0
        return Rules(
            at_most=base.at_most, at_least=base.at_least, popularity=base.popularity + self.popularity * unit,
            diversity=base.diversity + self.variety,
        )  # fmt: skip


AS_IT_IS = Dials()


def _turned(given: Mapping[str, str], name: str) -> float:
    text = given.get(name, "0")
    try:
        value = float(text) if len(text) < 10 else float("nan")
    except ValueError:
        value = float("nan")
    if not LEAST[name] <= value <= MOST[name]:
        raise BadRequest(f"The dial of {name} goes from {LEAST[name]:g} to {MOST[name]:g}.")
    return value
