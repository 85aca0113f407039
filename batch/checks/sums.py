"""What the audit keeps of a side: numbers that add up part by part, in any order, and the figures that follow.

One pass over all parts and a pass over each part on its own give the same sums, so a part may be checked beside where
it was written. What an order of adding could change is added as whole numbers; of what is wrong the first is that of
the first part.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batch.checks.drift import SCORE_BINS, gini, jaccard_index, one_order, population_stability, sameness
from batch.gates.figures import SideFigures
from sdk.base.stored_arrays import DAMAGE
from sdk.base.types import Int64s
from sdk.features.seen import Seen

COUNTS = (
    "rows", "lists", "fallback", "personal", "model_lists", "flat_lists", "established", "established_fallback",
    "present", "left", "without_any",
)  # fmt: skip
PER_ITEM = ("exposure", "listed_in", "barred")


@dataclass(slots=True, eq=False)
class NightsCompared:
    """Lists of two nights held side by side.

    Attributes:
        run_date: of the previous night.
        note: why nothing is compared; empty where something is.
        lists: of the previous night.
        kept: of these, who has one tonight.
        histogram: (65536,) int64, of the previous night's scores.
        alike: (D + 1, 2 D + 1) int64, lists by how many items both tops hold, and how many either.
    """

    run_date: str
    alike: Int64s
    note: str = ""
    lists: int = 0
    kept: int = 0
    histogram: Int64s = field(default_factory=lambda: np.zeros(SCORE_BINS, np.int64))

    @classmethod
    def nothing(cls, run_date: str, depth: int) -> NightsCompared:
        """Before any part, with tops of some depth."""
        return cls(run_date, np.zeros((depth + 1, 2 * depth + 1), np.int64))

    @property
    def likeness(self) -> float:
        """The sum of the lists' Jaccard indices; two empty tops are alike."""
        return float((self.alike * jaccard_index(*np.indices(self.alike.shape))).sum())

    def add(self, other: NightsCompared) -> None:
        """Another part's."""
        self.note = self.note or other.note
        self.lists, self.kept = self.lists + other.lists, self.kept + other.kept
        self.histogram, self.alike = self.histogram + other.histogram, self.alike + other.alike


@dataclass(slots=True, eq=False)
class SideSums:
    """What adds up.

    Attributes:
        counts: name of ``COUNTS`` -> number: rows, lists, those that popularity made, tops of model lists, model lists
            of several rows, flat ones among these, established queries, those among them served by popularity, queries
            with a list, items left to choose from over these, queries without any candidate.
        wrong: gate -> rows or lists that are wrong.
        first: gate -> number of the part and the first of them in words.
        exposure: (I,) int64, how often each item is listed.
        listed_in: (I,) int64, the tops of model lists that hold it.
        barred: (I,) int64, the model lists that could not.
        histogram: (65536,) int64, of model lists' scores.
        sample: what is barred, items from 0, in the sampled lists.
        compared: with the night before; None where that was not asked.
    """

    exposure: Int64s
    listed_in: Int64s
    barred: Int64s
    counts: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    first: dict[str, tuple[int, str]] = field(default_factory=dict)
    histogram: Int64s = field(default_factory=lambda: np.zeros(SCORE_BINS, np.int64))
    sample: Seen = field(default_factory=lambda: Seen.nothing(0))
    compared: NightsCompared | None = None

    @classmethod
    def nothing(cls, num_items: int) -> SideSums:
        """Before any part."""
        exposure, listed_in, barred = np.zeros((3, num_items), np.int64)
        return cls(exposure, listed_in, barred)

    def note(self, gate: str, count: int, first: str, part: int = 0) -> None:
        """Something is wrong."""
        self.wrong[gate] += count
        if gate not in self.first or part < self.first[gate][0]:
            self.first[gate] = part, first

    def add(self, other: SideSums) -> None:
        """Another part's."""
        self.counts.update(other.counts)
        for name in (*PER_ITEM, "histogram"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for gate, count in other.wrong.items():
            part, words = other.first[gate]
            self.note(gate, count, words, part)
        self.sample = _joined(self.sample, other.sample)
        if other.compared is not None:
            self.compared = self.compared or NightsCompared.nothing(
                other.compared.run_date, len(other.compared.alike) - 1
            )
            self.compared.add(other.compared)

    def figures(self, k: int, depth: int) -> SideFigures:
        """What the lists look like, but for what lies between two nights."""
        has, shown = self.counts, int((self.exposure > 0).sum())
        return SideFigures(
            queries=has["present"], rows=has["rows"], without_any_candidate=has["without_any"],
            distinct_items_shown=shown, mean_length=share(has["rows"], has["lists"]),
            fallback=share(has["fallback"], has["lists"]),
            established_fallback=share(has["established_fallback"], has["established"]),
            flat=share(has["flat_lists"], has["model_lists"]), sameness=self._sameness(k, depth),
            coverage=share(shown, len(self.exposure)), gini=gini(self.exposure),
        )  # fmt: skip

    def _sameness(self, k: int, depth: int) -> float | None:
        """``drift.sameness`` against ``drift.one_order``; None where lists choose among few more than tops hold."""
        if (share(self.counts["left"], self.counts["present"]) or 0.0) < 2 * depth:
            return None
        could = np.maximum(self.counts["personal"] - self.barred, self.listed_in)
        found, most = sameness(self.listed_in, could), one_order(self.listed_in, self.sample, min(depth, k))
        return None if found is None else min(found / most, 1.0) if most else found

    def between(self) -> dict[str, Any]:
        """``kept``, ``overlap`` and ``drift`` against the night before, and the note."""
        found = self.compared
        if found is None or found.note:
            return {"note": "no previous night" if found is None else found.note}
        drift = population_stability(found.histogram, self.histogram)
        note = "" if found.lists else "the previous night has no lists"
        kept, overlap = share(found.kept, found.lists), share(found.likeness, found.kept)
        return {"kept": kept, "overlap": overlap, "drift": drift, "note": note}

    def to_bytes(self) -> bytes:
        """For a file; ``of_bytes`` reads it. Arrays of counts are stored without their zeros."""
        arrays = {name: getattr(self, name) for name in (*PER_ITEM, "histogram")}
        words: dict[str, Any] = {"counts": self.counts, "wrong": self.wrong, "first": self.first, "compared": None}
        if (between := self.compared) is not None:
            arrays |= {"previous": between.histogram, "alike": between.alike}
            words["compared"] = [between.run_date, between.note, between.lists, between.kept]
        stored: dict[str, Any] = {"words": np.frombuffer(json.dumps(words).encode(), np.uint8)}
        for name, values in arrays.items():
            at = np.flatnonzero(values)
            stored |= {f"{name}_at": at, f"{name}_of": values.ravel()[at], f"{name}_shape": np.array(values.shape)}
        stored |= {"sample_indptr": self.sample.indptr, "sample_items": self.sample.items}
        np.savez_compressed(buffer := io.BytesIO(), **stored)
        return buffer.getvalue()

    @classmethod
    def of_bytes(cls, data: bytes) -> SideSums:
        """What ``to_bytes`` gave.

        Raises:
            ValueError: it is damaged.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as stored:
                return cls._of({name: stored[name] for name in stored.files})
        except DAMAGE as error:
            raise ValueError(f"no sums of a part: {error!r}") from error

    @classmethod
    def _of(cls, stored: Mapping[str, NDArray[Any]]) -> SideSums:
        words = json.loads(stored["words"].tobytes())
        first = {gate: (part, said) for gate, (part, said) in words["first"].items()}
        exposure, listed_in, barred = (_full(stored, name) for name in PER_ITEM)
        between = None
        if words["compared"] is not None:
            date, note, lists, kept = words["compared"]
            between = NightsCompared(date, _full(stored, "alike"), note, lists, kept, _full(stored, "previous"))
        sums = Counter[str](words["counts"]), Counter[str](words["wrong"])
        sample = Seen(stored["sample_indptr"], stored["sample_items"])
        return cls(exposure, listed_in, barred, *sums, first, _full(stored, "histogram"), sample, between)


def _full(stored: Mapping[str, NDArray[Any]], name: str) -> Int64s:
    values = np.zeros(stored[f"{name}_shape"].tolist(), np.int64)
    values.ravel()[stored[f"{name}_at"]] = stored[f"{name}_of"]
    return values


def _joined(one: Seen, other: Seen) -> Seen:
    """The lists of both, one after the other."""
    indptr = np.concatenate([one.indptr, one.indptr[-1] + other.indptr[1:]])
    return Seen(indptr, np.concatenate([one.items, other.items]))


def share(part: float, whole: int) -> float | None:
    """A part of a whole; None of nothing."""
    return part / whole if whole else None
