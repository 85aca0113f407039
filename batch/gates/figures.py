"""What an audit found, as one value: from the audit to the manifest, the report, the metrics file and the web app."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

V = TypeVar("V")
USERS, TITLES, AUDIENCES, BUNDLE = "users", "titles", "audiences", "bundle"
FOLDERS = {USERS: "user_items", TITLES: "item_items", AUDIENCES: "item_users"}
"""A side's name in gates -> its folder, which is its key in the manifest, too; only some nights have audiences."""
VERDICTS = ("passed", "failed", "skipped", "not compared")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """How much there is of a side.

    Attributes:
        queries: ids with a list.
        rows: rows of all lists together.
    """

    queries: int | None = None
    rows: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SideFigures(Counted):
    """What the lists of one side look like; None where a figure means nothing.

    Attributes:
        without_any_candidate: ids asked for for which nothing is left to list.
        distinct_items_shown: items that stand in at least one list.
        mean_length: rows of a list, in the mean.
        fallback: share of lists that popularity made.
        established_fallback: the same of established users.
        flat: share of a model's lists in which all scores are the same.
        sameness: see ``checks.drift.sameness``.
        coverage: share of the catalogue that stands in at least one list.
        gini: Gini index of how often each item is listed.
        kept: share of the previous night's lists that have one tonight.
        overlap: mean Jaccard index of the tops of both nights.
        drift: population stability index of the scores against the previous night's.
        note: why nothing is compared with the previous night; empty where something is.
    """

    without_any_candidate: int | None = None
    distinct_items_shown: int | None = None
    mean_length: float | None = None
    fallback: float | None = None
    established_fallback: float | None = None
    flat: float | None = None
    sameness: float | None = None
    coverage: float | None = None
    gini: float | None = None
    kept: float | None = None
    overlap: float | None = None
    drift: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleFacts:
    """What the figures depend on, so that two nights are compared where it is the same.

    Attributes:
        data: name of the data.
        model: the ranker; None without one.
        k: list length asked for.
        include_seen: whether items that the user has may be listed.
        repeat: whether some of them may, those of ``--repeat``.
        kind: what items' lists are by, ``content`` or ``hybrid``.
        liked: the share and shrink of liking together in their scores.
        label_rule: what counts as liked.
        split: how ratings were held out.
        validation_auc: of the ranker.
        judged: the most that the night's draws would have earned on logged ones, over what the lists shown there did.
    """

    data: str | None = None
    model: str | None = None
    k: int | None = None
    include_seen: bool | None = None
    repeat: bool | None = None
    kind: str = "content"
    liked: str | None = None
    label_rule: str | None = None
    split: str | None = None
    validation_auc: float | None = None
    judged: float | None = None


@dataclass(frozen=True, slots=True)
class GateResult:
    """One line of the manifest.

    Attributes:
        name: side and gate, ``users.coverage``.
        passed: False stops the night, unless ``skipped``.
        got: the figure; None where there is nothing to compare with, or nothing that could fail.
        threshold: what it was held to, the strictest where there are several.
        at_most: whether the figure must not be above the threshold; else not below.
        meaning: what a failure may mean.
        note: the first offending row, or why nothing was compared.
        skipped: whether the night was published whatever the figure is.
        settings: of a failure, the settings that stand in the way, each with a value that lets the figure pass.
    """

    name: str
    passed: bool
    got: float | None
    threshold: float
    at_most: bool
    meaning: str
    note: str = ""
    skipped: bool = False
    settings: Mapping[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """One of ``VERDICTS``: a gate that compared nothing did not pass, and a skipped failure stopped nothing."""
        if self.got is None:
            return "not compared"
        return "passed" if self.passed else "skipped" if self.skipped else "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A night's figures and what the gates said of them.

    Attributes:
        users: of the users' lists.
        titles: of the items' lists.
        audiences: of the audiences; None where none were asked for.
        bundle: what they depend on; None where a night of an earlier release does not say.
        scope: side -> option -> sha256 of its file: what narrows a side.
        thresholds: setting -> what it was.
        skipped: gates that stop nothing, as ``--skip-gate`` named them.
        previous: date of the night that was compared with; None without one.
        gates: a line for each.
    """

    users: SideFigures = SideFigures()
    titles: SideFigures = SideFigures()
    audiences: Counted | None = None
    bundle: BundleFacts | None = None
    scope: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    previous: str | None = None
    gates: tuple[GateResult, ...] = ()

    @property
    def verdicts(self) -> dict[str, int]:
        """Verdict -> how many gates had it."""
        found = Counter(gate.verdict for gate in self.gates)
        return {name: found[name] for name in VERDICTS}

    def to_json(self) -> dict[str, Any]:
        """``checks`` of a manifest."""
        values = {**dataclasses.asdict(self), "skipped": list(self.skipped)}
        sides = {key: found for side, key in FOLDERS.items() if (found := values.pop(side)) is not None}
        lines = zip(values["gates"], self.gates, strict=True)
        return {**values, **sides, "gates": [{**line, "verdict": gate.verdict} for line, gate in lines]}

    @classmethod
    def read(cls, manifest: Mapping[str, Any]) -> Figures:
        """From a manifest, also of an earlier release: what it lacks, or says in another form, has its default.

        Raises:
            TypeError: a line of a gate lacks what every release writes.
            AttributeError: a line of a gate is no object.
        """
        checks, inputs = _part(manifest, "checks"), _part(manifest, "inputs")
        bundle, scope = _part(checks, BUNDLE), _part(checks, "scope")
        return cls(
            users=_taken(SideFigures, _part(checks, FOLDERS[USERS])),
            titles=_taken(SideFigures, _part(checks, FOLDERS[TITLES])),
            audiences=_taken(Counted, _part(checks, FOLDERS[AUDIENCES])) if FOLDERS[AUDIENCES] in checks else None,
            bundle=_taken(BundleFacts, {**_again(inputs), **bundle}) if bundle else None,
            scope={side: _part(scope, side) for side in scope},
            thresholds=_part(checks, "thresholds"),
            skipped=tuple(checks["skipped"]) if isinstance(checks.get("skipped"), list) else (),
            previous=checks["previous"] if isinstance(checks.get("previous"), str) else None,
            gates=tuple(_line(line) for line in checks.get("gates", ())),
        )


def _again(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What may be listed again, of a night that was written before its figures said so."""
    return {"include_seen": inputs.get("include_seen"), "repeat": "repeat" in _part(inputs, "asked")}


def _line(line: Mapping[str, Any]) -> GateResult:
    """One gate's line of a manifest, also of an earlier release."""
    return GateResult(**{each.name: line[each.name] for each in dataclasses.fields(GateResult) if each.name in line})


def _part(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}


_KINDS = {"float": (float, int), "int": (int,), "str": (str,), "bool": (bool,)}


def _taken(cls: type[V], values: Mapping[str, Any]) -> V:
    """Those of the fields whose values have the field's type."""
    kinds = {each.name: _KINDS[str(each.type).partition(" ")[0]] for each in dataclasses.fields(cls)}  # type: ignore[arg-type]
    return cls(**{name: values[name] for name, kind in kinds.items() if type(values.get(name)) in kind})
