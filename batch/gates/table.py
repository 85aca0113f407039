"""Every gate in one table: its figure, what that is held to, the settings that move it, and its words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from batch.gates.figures import AUDIENCES, TITLES, USERS, BundleFacts, Counted, Figures
from batch.gates.thresholds import GateConfig
from sdk.base.errors import UsageError

_AGAIN = ("include_seen", "repeat")
LISTS, TOPS = ("k", "kind", *_AGAIN), ("top", "kind", *_AGAIN)
SCORES = ("k", "model", "kind", "liked", *_AGAIN)
"""What must be the same for two nights' lists, scores or tops to be of the same kind."""
_OF_OTHERS = {TITLES: ("model", *_AGAIN), USERS: ("kind", "liked"), AUDIENCES: ("kind", "liked")}
"""Of that, what makes no difference to a side's lists."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Facts:
    """What the gates of one side look at, or those of the bundle.

    Attributes:
        side: ``users``, ``titles``, ``audiences`` or ``bundle``.
        tonight: the side's figures; None of the bundle.
        bundle: what they depend on.
        config: the thresholds.
        previous: the previous night's figures; None without one.
        why: why the side is not compared with it; empty where it is.
        counts: gate -> rows or lists that are wrong.
        first: gate -> the first of them in words.
        unchecked: gates that nothing can fail -> why.
        served: whether the bundle has a model for this side.
    """

    side: str
    tonight: Counted | None = None
    bundle: BundleFacts
    config: GateConfig
    previous: Figures | None
    why: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    first: Mapping[str, str] = field(default_factory=dict)
    unchecked: Mapping[str, str] = field(default_factory=dict)
    served: bool = True

    def both(self, name: str) -> tuple[float | None, float | None]:
        """A figure of tonight, and the previous night's: None where it means nothing, or where nothing is compared."""
        before = None if self.why or self.previous is None else getattr(self.previous, self.side)
        now, past = (getattr(figures, name, None) for figures in (self.tonight, before))
        return None if now is None else float(now), None if past is None else float(past)

    def differing(self, *names: str) -> str:
        """Which of these facts is not the previous night's, in words; empty where all are the same."""
        before = None if self.previous is None else self.previous.bundle
        if self.why or before is None:
            return self.why or "no previous night"
        for name in names:
            now, past = (self._compared(name, facts) for facts in (self.bundle, before))
            if now != past and name not in _OF_OTHERS.get(self.side, ()):
                return f"not comparable: the previous night has {name.replace('_', ' ')} {past!r}"
        return ""

    def _compared(self, name: str, facts: BundleFacts) -> object:
        """A fact; ``top`` is how much of a list's top there can be."""
        return facts.k and min(float(facts.k), self.config.depth) if name == "top" else getattr(facts, name)


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


Figure = Callable[[Facts], Reading]


@dataclass(frozen=True, slots=True)
class Bound:
    """One setting that a figure is held to.

    Attributes:
        setting: its name in ``GateConfig``.
        limit: the threshold, from the setting and the previous night's figure; None: the setting itself.
        enough: the setting at which a figure would just pass, from the figure and the previous night's.
        words: what the setting bounds, as docs/gates.md says it.
    """

    setting: str
    limit: Callable[[float, float], float] | None = None
    enough: Callable[[float, float], float] = lambda got, _: got
    words: str = "{}"

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


def _measured(name: str, nothing: str) -> Figure:
    """A figure of tonight, ``nothing`` being why there may be none, beside that of a night with lists of its kind."""

    def figure(facts: Facts) -> Reading:
        (got, past), alone = facts.both(name), facts.differing(*LISTS)
        note = nothing if got is None else ""
        return Reading(got, note, None if alone else past, alone or f"the previous night has no {name}")

    return figure


def _between(name: str, *same: str) -> Figure:
    """A figure of both nights together, which means something where these facts are the same."""

    def figure(facts: Facts) -> Reading:
        got, note = facts.both(name)[0], facts.differing(*same)
        note = note or ("one of the two nights has nothing to compare" if got is None else "")
        return Reading(None if note else got, note)

    return figure


def _length_ratio(facts: Facts) -> Reading:
    (now, past), note = facts.both("mean_length"), facts.differing(*LISTS)
    if note or not now or not past:
        return Reading(None, note or "one of the two nights has no lists")
    return Reading(now / past)


def _fallback(facts: Facts) -> Reading:
    users = facts.side == USERS
    got, past = facts.both("established_fallback" if users else "fallback")
    limit = facts.config.max_user_fallback if users else facts.config.max_title_fallback
    if not facts.served and (past is None or past > limit):
        return Reading(None, "the bundle has no model for this side")
    nobody = "nobody has as many ratings as established_ratings" if users else "no lists"
    note = nobody if got is None else ""
    return Reading(got, note, past, facts.differing() or "the previous night has no lists")


def _auc(facts: Facts) -> Reading:
    return Reading(facts.bundle.validation_auc, _why_no_auc(facts.bundle, "the bundle"))


def _auc_drop(facts: Facts) -> Reading:
    before = None if facts.previous is None else facts.previous.bundle
    note = _why_no_auc(facts.bundle, "the bundle") or facts.differing("data", "label_rule", "split")
    note = note or _why_no_auc(before, "the previous night's bundle")
    now, past = (None if found is None else found.validation_auc for found in (facts.bundle, before))
    return Reading(None, note) if note or now is None or past is None else Reading(past - now)


def _judged(facts: Facts) -> Reading:
    return Reading(facts.bundle.judged, "" if facts.bundle.judged else "no --judged, or nothing was earned there")


def _why_no_auc(facts: BundleFacts | None, whose: str) -> str:
    """Empty where there is a validation AUC to compare."""
    if facts is None or facts.validation_auc is not None:
        return ""
    return f"{whose} holds no ranker" if facts.model is None else f"{whose} holds no validation AUC"


_RISEN = Bound("max_fallback_rise", lambda value, past: past + value, lambda got, past: got - past,
               "{} above the previous night's")  # fmt: skip
_SHARE = Bound("min_coverage_ratio", lambda value, past: value * past, lambda got, past: got / past,
               "{} of the previous night's")  # fmt: skip
_EVEN = Bound("min_evenness_ratio", lambda value, past: 1 - value * (1 - past),
              lambda got, past: (1 - got) / (1 - past), "1 minus it {} of the previous night's")  # fmt: skip
_COVERED, _SPREAD = ("min_coverage", _SHARE), ("max_gini", _EVEN)


def _gate(name: str, figure: Figure, measures: str, means: str, **bounds: str | tuple[str | Bound, ...]) -> Gate:
    """A gate; a side's bounds may be given as the one setting that is the threshold itself."""
    several = {side: (found,) if isinstance(found, str) else found for side, found in bounds.items()}
    found = {side: tuple(Bound(b) if isinstance(b, str) else b for b in each) for side, each in several.items()}
    return Gate(name, found, figure, measures, means)


def _rows(
    name: str, setting: str, measures: str, means: str, sides: Sequence[str] = (USERS, TITLES, AUDIENCES)
) -> Gate:
    """A gate on wrong rows or lists, which the audit counts under its name."""

    def figure(facts: Facts) -> Reading:
        if name in facts.unchecked and not facts.counts.get(name):
            return Reading(None, facts.unchecked[name])
        return Reading(facts.counts.get(name, 0), facts.first.get(name, ""))

    return _gate(name, figure, measures, means, **dict.fromkeys(sides, setting))


GATES = (
    _gate("rows", _measured("rows", "nothing was read"), "rows of all lists together",
          "everything was kept back or is rated already, or parts were lost", users="min_rows", titles="min_rows"),
    _rows("complete", "max_missing", "ids that should have a list and have none",
          "parts were lost, or scoring stopped early"),
    _rows("known", "max_unknown", "rows with ids that the bundle does not have",
          "the parts come from another bundle or are damaged"),
    _rows("ranks", "max_rank_gaps", "rows whose rank does not follow the one before",
          "rows were lost or parts are damaged"),
    _rows("order", "max_rising_scores", "rows that score above the row before them",
          "a list is not sorted: a defect, or damaged parts"),
    _rows("repeats", "max_repeats", "items named twice in a list, and lists that stand twice",
          "a part was written twice or is damaged"),
    _rows("finite", "max_not_finite", "rows with a score that is no finite number, or with a null",
          "the model diverged, or parts are damaged"),
    _rows("lengths", "max_wrong_lengths", "lists of another length than k and what is left to list allow",
          "lists were cut, or k is not what was asked"),
    _rows("asked", "max_unasked", "lists that were not asked for", "the staged parts are of another run"),
    _rows("denied", "max_denied", "rows that name what was denied, not allowed or blocked",
          "a list of items to keep back did not work"),
    _rows("seen", "max_seen", "rows that show a user what they have rated",
          "the filter of seen items did not work", (USERS, AUDIENCES)),
    _rows("rules", "max_rule_breaks", "lists that do not keep to --rules",
          "lists were made by other rules, or parts are damaged", (USERS,)),
    _rows("itself", "max_self", "items listed as similar to themselves", "the content model is wrong", (TITLES,)),
    _gate("length_ratio", _length_ratio, "mean list length over the previous night's",
          "something takes items out of the lists", users="min_length_ratio", titles="min_length_ratio"),
    _gate("fallback", _fallback, "share served by popularity",
          "the model knows too few: lost training data, or too high a minimum of ratings",
          users=("max_user_fallback", _RISEN), titles=("max_title_fallback", _RISEN)),
    _gate("flat", _measured("flat", "no list of a model has two scores"),
          "share of lists whose scores are all the same",
          "the model gives everything one score: not trained, or diverged",
          users="max_flat_users", titles="max_flat_titles"),
    _gate("sameness", _measured("sameness", "the lists have too few items to choose from"),
          "share of the other lists that hold an item of a top, against one order for all",
          "everybody gets one list: personal taste is lost", users="max_sameness", titles="max_title_sameness"),
    _gate("coverage", _measured("coverage", "no items"), "share of the catalogue that is listed anywhere",
          "half the catalogue is gone, or the lists shrank to a few items", users=_COVERED, titles=_COVERED),
    _gate("gini", _measured("gini", "fewer than two items, or none is listed"),
          "Gini index of how often each item is listed", "a few items take most places",
          users=_SPREAD, titles=_SPREAD),
    _gate("kept", _between("kept"), "share of the previous night's ids that have a list tonight",
          "users or items are gone from the data", users="min_kept", titles="min_kept"),
    _gate("overlap", _between("overlap", *TOPS), "mean Jaccard index of the tops of both nights",
          "another or an untrained model, or mixed-up ids", users="min_user_overlap", titles="min_title_overlap"),
    _gate("drift", _between("drift", *SCORES),
          "population stability index of the scores against the previous night's",
          "scores of another scale: another model, or an option changed", users="max_drift", titles="max_drift"),
    _gate("auc", _auc, "validation AUC of the ranker", "the ranker is no better than chance", bundle="min_auc"),
    _gate("auc_drop", _auc_drop, "fall of the validation AUC since the previous night",
          "training went wrong, or the new ratings are odd", bundle="max_auc_drop"),
    _gate("judged", _judged,
          "upper end of what tonight's draws would have earned on `--judged`, over what was earned there",
          "people would click less on these lists than on those they were shown", bundle="min_judged"),
)  # fmt: skip
"""Every gate, in the order of the manifest."""
BY_NAME = {gate.name: gate for gate in GATES}


def check_skips(names: Sequence[str]) -> tuple[str, ...]:
    """Names as ``--skip-gate`` takes them, ``overlap`` for both sides or ``users.overlap`` for one; sorted, once each.

    Raises:
        UsageError: no gate has such a name.
    """
    known = {*BY_NAME, *(f"{side}.{gate.name}" for gate in GATES for side in gate.bounds)}
    for name in names:
        if name not in known:
            raise UsageError(
                f"--skip-gate: got {name!r}, expected one of {', '.join(BY_NAME)}, or one side's, such as users.overlap"
            )
    return tuple(sorted(set(names)))
