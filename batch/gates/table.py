"""Every gate in one table: its figure, what that is held to, the settings that move it, and its words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

USERS, TITLES, AUDIENCES, BUNDLE = "users", "titles", "audiences", "bundle"


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """What the gates of one side look at, or those of the bundle.

    Attributes:
        side: ``users``, ``titles``, ``audiences`` or ``bundle``.
        tonight: the side's figures, as the manifest holds them.
        before: the previous night's; empty where there is none, or where it was asked for something else.
        bundle: tonight's facts of the bundle and the options.
        bundle_before: the previous night's.
        settings: every threshold by name.
        counts: gate -> rows or lists that are wrong.
        first: gate -> the first of them in words.
        unchecked: gates that nothing can fail -> why.
        served: whether the bundle has a model for this side.
        why: why nothing is compared; empty where something is.
    """

    side: str
    tonight: Mapping[str, Any]
    before: Mapping[str, Any]
    bundle: Mapping[str, Any]
    bundle_before: Mapping[str, Any]
    settings: Mapping[str, float]
    counts: Mapping[str, int] = field(default_factory=dict)
    first: Mapping[str, str] = field(default_factory=dict)
    unchecked: Mapping[str, str] = field(default_factory=dict)
    served: bool = True
    why: str = ""

    def other(self, names: Collection[str]) -> str:
        """Which of these facts differs from the previous night's, in words; empty where all are the same."""
        if self.why or not self.bundle_before:
            return self.why or "no previous night"
        for name in names:
            now, past = self._compared(name, self.bundle), self._compared(name, self.bundle_before)
            if now != past:
                return f"not comparable: the previous night has {name.replace('_', ' ')} {past!r}"
        return ""

    def _compared(self, name: str, facts: Mapping[str, Any]) -> Any:
        """A fact; ``top`` is how much of a list's top there can be."""
        if name != "top":
            return facts.get(name)
        k = number(facts.get("k"))
        return k and min(k, self.settings["depth"])


class Reading(NamedTuple):
    """A gate's figure.

    Attributes:
        got: the figure; None where it means nothing.
        note: the first offending row, or why there is no figure.
        past: the previous night's, where that sets the threshold; None where it cannot.
        alone: why there is none.
    """

    got: float | None
    note: str = ""
    past: float | None = None
    alone: str = ""


def number(value: object) -> float | None:
    """A figure from a manifest; None for what is none."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


Figure = Callable[[Facts], Reading]


@dataclass(frozen=True, slots=True)
class Bound:
    """One setting that a figure is held to.

    Attributes:
        setting: its name in ``GateConfig``.
        limit: the threshold, from the setting and the previous night's figure; None: the setting itself.
        enough: the setting at which a figure would just pass, from the figure and the previous night's.
    """

    setting: str
    limit: Callable[[float, float], float] | None = None
    enough: Callable[[float, float], float] = lambda got, _: got

    def threshold(self, value: float, past: float | None) -> float | None:
        """What the figure must keep to; None where the previous night's is needed and missing."""
        if self.limit is None:
            return value
        return None if past is None else self.limit(value, past)


@dataclass(frozen=True, slots=True)
class Gate:
    """One rule.

    Attributes:
        name: what ``--skip-gate`` calls it.
        bounds: side -> what the figure is held to there, all of it.
        figure: how the figure is found.
        measures: what the figure is.
        means: what a failure may mean.
    """

    name: str
    bounds: Mapping[str, tuple[Bound, ...]]
    figure: Figure
    measures: str
    means: str

    @property
    def at_most(self) -> bool:
        """Whether the figure must not be above its thresholds; else not below."""
        return next(iter(self.bounds.values()))[0].setting.startswith("max_")


def _wrong_rows(name: str) -> Figure:
    def figure(facts: Facts) -> Reading:
        if name in facts.unchecked and not facts.counts.get(name):
            return Reading(None, facts.unchecked[name])
        return Reading(facts.counts.get(name, 0), facts.first.get(name, ""))

    return figure


def _measured(name: str, nothing: str) -> Figure:
    """A figure of tonight, ``nothing`` being why there may be none."""

    def figure(facts: Facts) -> Reading:
        got = number(facts.tonight[name])
        return Reading(got, "" if got is not None else nothing)

    return figure


def _beside(name: str, nothing: str) -> Figure:
    """A figure of tonight that is held to the previous night's too, where lists of the same kind were made."""

    def figure(facts: Facts) -> Reading:
        alone = facts.other(_SAME_LISTS[facts.side])
        past = None if alone else number(facts.before.get(name))
        got = number(facts.tonight[name])
        note = nothing if got is None else ""
        return Reading(got, note, past, alone or f"the previous night has no {name}")

    return figure


def _between(name: str, same: Mapping[str, tuple[str, ...]]) -> Figure:
    """A figure of both nights together, which means something where these facts are the same."""

    def figure(facts: Facts) -> Reading:
        got, other = number(facts.tonight[name]), facts.other(same[facts.side])
        note = other or ("" if got is not None else "one of the two nights has nothing to compare")
        return Reading(None if note else got, note)

    return figure


def _length_ratio(facts: Facts) -> Reading:
    note = facts.other(_SAME_LISTS[facts.side])
    now, past = number(facts.tonight["mean_length"]), number(facts.before.get("mean_length"))
    if note or not now or not past:
        return Reading(None, note or "one of the two nights has no lists")
    return Reading(now / past)


def _fallback(facts: Facts) -> Reading:
    name = "established_fallback" if facts.side == USERS else "fallback"
    got, past = number(facts.tonight[name]), number(facts.before.get(name))
    limit = facts.settings["max_user_fallback" if facts.side == USERS else "max_title_fallback"]
    if not facts.served and (past is None or past > limit):
        return Reading(None, "the bundle has no model for this side")
    nobody = "nobody has as many ratings as established_ratings" if facts.side == USERS else "no lists"
    return Reading(got, nobody if got is None else "", past, facts.other(()) or "the previous night has no lists")


def _auc(facts: Facts) -> Reading:
    note = _why_no_auc(facts.bundle, "the bundle")
    return Reading(None if note else number(facts.bundle["validation_auc"]), note)


def _auc_drop(facts: Facts) -> Reading:
    note = _why_no_auc(facts.bundle, "the bundle") or facts.other(("data", "label_rule", "split"))
    note = note or _why_no_auc(facts.bundle_before, "the previous night's bundle")
    if note:
        return Reading(None, note)
    return Reading(float(facts.bundle_before["validation_auc"]) - float(facts.bundle["validation_auc"]))


def _why_no_auc(facts: Mapping[str, Any], whose: str) -> str:
    """Empty where there is a validation AUC to compare."""
    if number(facts.get("validation_auc")) is not None:
        return ""
    return f"{whose} holds no ranker" if facts.get("model") is None else f"{whose} holds no validation AUC"


_SAME_LISTS = {USERS: ("k", "include_seen"), TITLES: ("k",)}
"""Side -> what must be the same for two nights' lists to be of the same kind."""
_SAME_SCORES = {USERS: ("k", "model", "include_seen"), TITLES: ("k",)}
_SAME_TOPS = {USERS: ("top", "include_seen"), TITLES: ("top",)}
_SAME_IDS: Mapping[str, tuple[str, ...]] = {USERS: (), TITLES: ()}


def _risen(setting: str) -> Bound:
    """At most so much above the previous night's."""
    return Bound(setting, lambda value, past: past + value, lambda got, past: got - past)


def _share(setting: str) -> Bound:
    """At least such a share of the previous night's."""
    return Bound(setting, lambda value, past: value * past, lambda got, past: got / past)


def _evenness(setting: str) -> Bound:
    """A Gini index of which the rest to 1 is at least such a share of the previous night's."""
    return Bound(setting, lambda value, past: 1 - value * (1 - past), lambda got, past: (1 - got) / (1 - past))


def _gate(name: str, figure: Figure, measures: str, means: str, **bounds: tuple[Bound | str, ...] | str) -> Gate:
    several = {side: (found,) if isinstance(found, str) else found for side, found in bounds.items()}
    found = {side: tuple(Bound(b) if isinstance(b, str) else b for b in each) for side, each in several.items()}
    return Gate(name, found, figure, measures, means)


def _row_gate(name: str, measures: str, means: str, setting: str, *sides: str) -> Gate:
    return _gate(
        name, _wrong_rows(name), measures, means, **dict.fromkeys(sides or (USERS, TITLES, AUDIENCES), setting)
    )


_COVERED = ("min_coverage", _share("min_coverage_ratio"))
_SPREAD = ("max_gini", _evenness("min_evenness_ratio"))

GATES = (
    _gate(
        "rows", _measured("rows", "nothing was read"),
        "rows of all lists together",
        "everything was kept back or is rated already, or parts were lost",
        users="min_rows", titles="min_rows",
    ),
    _row_gate(
        "complete", "ids that should have a list and have none", "parts were lost, or scoring stopped early",
        "max_missing",
    ),
    _row_gate(
        "known", "rows with ids that the bundle does not have", "the parts come from another bundle or are damaged",
        "max_unknown",
    ),
    _row_gate(
        "ranks", "rows whose rank does not follow the one before", "rows were lost or parts are damaged",
        "max_rank_gaps",
    ),
    _row_gate(
        "order", "rows that score above the row before them", "a list is not sorted: a defect, or damaged parts",
        "max_rising_scores",
    ),
    _row_gate(
        "repeats", "titles named twice in a list, and lists that stand twice", "a part was written twice or is damaged",
        "max_repeats",
    ),
    _row_gate(
        "finite", "rows with a score that is no finite number, or with a null",
        "the model diverged, or parts are damaged", "max_not_finite",
    ),
    _row_gate(
        "lengths", "lists of another length than k and what is left to list allow",
        "lists were cut, or k is not what was asked", "max_wrong_lengths",
    ),
    _row_gate("asked", "lists that were not asked for", "the staged parts are of another run", "max_unasked"),
    _row_gate(
        "denied", "rows that name what was denied, not allowed or blocked",
        "a list of titles to keep back did not work", "max_denied",
    ),
    _row_gate(
        "seen", "rows that show a user what they have rated", "the filter of rated titles did not work", "max_seen",
        USERS, AUDIENCES,
    ),
    _row_gate("itself", "titles listed as similar to themselves", "the content model is wrong", "max_self", TITLES),
    _gate(
        "length_ratio", _length_ratio,
        "mean list length over the previous night's",
        "something takes titles out of the lists",
        users="min_length_ratio", titles="min_length_ratio",
    ),
    _gate(
        "fallback", _fallback,
        "share served by popularity",
        "the model knows too few: lost training data, or too high a minimum of ratings",
        users=("max_user_fallback", _risen("max_fallback_rise")),
        titles=("max_title_fallback", _risen("max_fallback_rise")),
    ),
    _gate(
        "flat", _measured("flat", "no list of a model has two scores"),
        "share of lists whose scores are all the same",
        "the model gives everything one score: not trained, or diverged",
        users="max_flat_users", titles="max_flat_titles",
    ),
    _gate(
        "sameness", _measured("sameness", "the lists have too few titles to choose from"),
        "share of the other lists that hold a title of a top, of those that could",
        "everybody gets one list: personal taste is lost",
        users="max_sameness", titles="max_title_sameness",
    ),
    _gate(
        "coverage", _beside("coverage", "no titles"),
        "share of the catalogue that is listed anywhere",
        "half the catalogue is gone, or the lists shrank to a few titles",
        users=_COVERED, titles=_COVERED,
    ),
    _gate(
        "gini", _beside("gini", "fewer than two titles, or none is listed"),
        "Gini index of how often each title is listed",
        "a few titles take most places",
        users=_SPREAD, titles=_SPREAD,
    ),
    _gate(
        "kept", _between("kept", _SAME_IDS),
        "share of the previous night's ids that have a list tonight",
        "users or titles are gone from the data",
        users="min_kept", titles="min_kept",
    ),
    _gate(
        "overlap", _between("overlap", _SAME_TOPS),
        "mean Jaccard index of the tops of both nights",
        "another or an untrained model, or mixed-up ids",
        users="min_user_overlap", titles="min_title_overlap",
    ),
    _gate(
        "drift", _between("drift", _SAME_SCORES),
        "population stability index of the scores against the previous night's",
        "scores of another scale: another model, or an option changed",
        users="max_drift", titles="max_drift",
    ),
    _gate("auc", _auc, "validation AUC of the ranker", "the ranker is no better than chance", bundle="min_auc"),
    _gate(
        "auc_drop", _auc_drop,
        "fall of the validation AUC since the previous night",
        "training went wrong, or the new ratings are odd",
        bundle="max_auc_drop",
    ),
)  # fmt: skip
"""Every gate, in the order of the manifest."""
