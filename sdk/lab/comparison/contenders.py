"""Who is compared: each peer with the package it comes from and how its settings are chosen, and ours."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sdk.base.description import Feedback
from sdk.lab.comparison import list_peers, rating_peers
from sdk.lab.comparison.autoencoder import variational_autoencoder

log = logging.getLogger(__name__)

Settings = Mapping[str, Any]
Grid = Mapping[str, Sequence[Any]]
_LISTS = ("B", "C", "rolling")


@dataclass(frozen=True, slots=True)
class Contender:
    """One line of a table.

    Attributes:
        name: shown, and the key of its results.
        protocols: where it takes part.
        fit: a peer's function (``list_peers``: ratings and settings to a scorer; ``rating_peers``: a problem and
            settings to logits); None for ours.
        grid: the settings that a peer may choose from; the first of each entry is the usual one.
        package: what a peer needs to be installed beside Marquee, if anything.
        form: for ours, which form or ranker of the bundle is asked, see ``workbench.lists_by``.
        of_likes: whether it takes part where every pair is a like.
        is_extra: whether it takes part only where the slower peers are asked for, too.
    """

    name: str
    protocols: tuple[str, ...]
    fit: Callable[..., Any] | None = None
    grid: Grid = field(default_factory=dict)
    package: str | None = None
    form: str = ""
    of_likes: bool = True
    is_extra: bool = False

    @property
    def is_ours(self) -> bool:
        """Whether it is one of Marquee's models."""
        return self.fit is None

    @property
    def is_installed(self) -> bool:
        """Whether the package that it needs can be imported."""
        return self.package is None or importlib.util.find_spec(self.package) is not None


_PENALTIES = (400.0, 50.0, 100.0, 150.0, 200.0, 300.0, 600.0, 900.0)

CONTENDERS: tuple[Contender, ...] = (
    Contender("popularity", ("A",), rating_peers.popularity),
    Contender(
        "user and item means",
        ("A",),
        rating_peers.means,
        grid={"user_damping": (5.0, 1.0, 2.0, 10.0), "item_damping": (5.0, 1.0, 2.0, 10.0)},
    ),
    Contender(
        "biased MF",
        ("A",),
        rating_peers.biased_mf,
        grid={
            "embedding_dim": (64, 32, 128),
            "num_epochs": (40, 20, 60),
            "learning_rate": (0.05, 0.03),
            "vector_l2": (0.04, 0.02, 0.06, 0.08),
            "bias_l2": (0.02, 0.01, 0.04),
        },
    ),
    Contender(
        "LightGBM, the DLRM's features",
        ("A",),
        rating_peers.gradient_boosting,
        package="lightgbm",
        grid={
            "statistics": ("leave-one-out", "out-of-fold"),
            "ids": (False, True),
            "num_leaves": (31, 7, 15, 63),
            "learning_rate": (0.05, 0.1),
            "min_data_in_leaf": (20, 50, 100),
            "lambda_l2": (0.0, 1.0, 10.0),
            "feature_fraction": (1.0, 0.7, 0.5),
        },
    ),
    Contender(
        "myFM",
        ("A",),
        rating_peers.factorisation_machine,
        package="myfm",
        grid={"rank": (8, 12, 16), "sweeps": (200,)},
    ),
    Contender("Marquee NCF", ("A",), form="ncf"),
    Contender("Marquee BFM", ("A",), form="bfm"),
    Contender("Marquee DLRM", ("A",), form="dlrm"),
    Contender("popularity", _LISTS, list_peers.popularity),
    *(
        Contender(f"popularity, last {days} days", ("C", "rolling"), list_peers.recent_popularity(days))
        for days in (7, 30, 180)
    ),
    Contender(
        "item-kNN",
        ("B", "C"),
        list_peers.item_knn,
        grid={"watched": (0.4, 0.0, 0.6), "neighbours": (100, 50, 200, 400), "shrinkage": (20.0, 0.0, 50.0)},
    ),
    Contender(
        "iALS",
        _LISTS,
        list_peers.ials,
        package="implicit",
        grid={
            "watched": (0.4, 0.0, 0.2, 0.6),
            "factors": (64, 32, 128),
            "regularization": (10.0, 1.0, 3.0, 30.0),
            "alpha": (5.0, 1.0, 2.0, 10.0),
            "iterations": (15,),
        },
    ),
    Contender("EASE, likes", _LISTS, list_peers.ease, grid={"watched": (0.0,), "penalty": _PENALTIES}),
    Contender(
        "EASE, likes and watched (0.6)",
        _LISTS,
        list_peers.ease,
        grid={"watched": (0.6,), "penalty": _PENALTIES},
        of_likes=False,
    ),
    Contender(
        "EDLAE",
        ("B",),
        list_peers.ease,
        grid={"watched": (0.6, 0.0), "dropout": (0.33, 0.1, 0.2, 0.5), "penalty": (100.0, 25.0, 50.0, 200.0, 400.0)},
        is_extra=True,
    ),
    Contender(
        "SLIM",
        ("B",),
        list_peers.slim,
        grid={"watched": (0.6, 0.0), "l1": (1.0, 0.1, 3.0), "l2": (10.0, 1.0, 30.0), "neighbours": (100, 300)},
        is_extra=True,
    ),
    Contender(
        "Mult-VAE",
        ("B",),
        variational_autoencoder,
        grid={
            "watched": (0.6, 0.0),
            "hidden": (300, 600),
            "latent": (100, 200),
            "num_epochs": (100, 50, 200),
            "most_beta": (0.2, 0.1, 0.5),
        },
        is_extra=True,
    ),
    Contender("Marquee DLRM alone", ("B", "C"), form="dlrm"),
    Contender("Marquee history alone", _LISTS, form="history"),
    Contender("Marquee, nightly lists", _LISTS, form="default"),
)
OURS = "Marquee, nightly lists"
"""Whose lists the others' are set against, user by user."""


_OF_LIKES: Grid = {
    "penalty": (300.0, 30.0, 100.0, 1000.0, 3000.0, 10_000.0),
    "regularization": (30.0, 1.0, 3.0, 10.0, 100.0, 300.0),
}
"""Wider ranges, for the weights of likes are of no one scale."""


def taking_part(protocol: str, feedback: Feedback = "explicit", *, extras: bool = True) -> Sequence[Contender]:
    """The contenders of a protocol, in the order of the table, with the slower ones if ``extras``.

    Where every pair is a like, there is nothing that was watched and not liked to weigh; then peers choose whether to
    weigh the likes themselves, and from a wider range of penalties, for there the weights are not of one scale.
    """
    found = [each for each in CONTENDERS if protocol in each.protocols and (extras or not each.is_extra)]
    if feedback == "explicit":
        return found
    return [dataclasses.replace(each, grid=_of_likes(each.grid)) for each in found if each.of_likes]


def _of_likes(grid: Grid) -> Grid:
    if "watched" not in grid:
        return grid
    return {"counted": (False, True), **{n: _OF_LIKES.get(n, values) for n, values in grid.items() if n != "watched"}}


def missing(protocols: Sequence[str]) -> Mapping[str, str]:
    """Contenders of the given protocols that cannot run here -> the package that each lacks."""
    return {
        each.name: each.package
        for each in CONTENDERS
        if set(each.protocols) & set(protocols) and each.package is not None and not each.is_installed
    }


@dataclass(frozen=True, slots=True)
class Tuned:
    """What tuning found.

    Attributes:
        settings: the best ones; of equally good ones the first tried.
        value: theirs on the validation part; None where there was nothing to choose.
        tried: number of settings measured.
    """

    settings: Settings
    value: float | None = None
    tried: int = 0


def draw_settings(grid: Grid, budget: int, seed: int) -> list[dict[str, Any]]:
    """At most ``budget`` settings of a grid, all of them where they are no more.

    The first is always the first value of every entry, the field's usual setting; the others are drawn without
    replacement (random search, Bergstra and Bengio 2012, JMLR 13).
    """
    everything = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    drawn = np.random.default_rng(seed).permutation(len(everything) - 1)[: budget - 1] + 1
    return [everything[0], *(everything[place] for place in sorted(drawn))]


def tune(settings: Sequence[Settings], measure: Callable[[Settings], tuple[float, Settings]], name: str) -> Tuned:
    """Measure every setting and keep the best.

    Args:
        settings: to try, at least one.
        measure: answers a setting's value, the more the better, and the setting with what measuring added to it (a
            number of rounds where training stopped early).
        name: shown in the log.
    """
    found = []
    for setting in settings:
        value, completed = measure(setting)
        log.debug("%s: %s gives %.4f on validation", name, dict(completed), value)
        found.append((value, completed))
    value, completed = max(found, key=lambda pair: pair[0])
    return Tuned(completed, value, len(found))
