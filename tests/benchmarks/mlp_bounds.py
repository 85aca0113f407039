"""Could a bound on its MLP spare a DLRM most of the pairs? How many items a strip's bound rules out, by strip size.

    python tests/benchmarks/mlp_bounds.py --bundle bundle [--model dlrm] [--users 20]

A strip holds items that are alike: halves of halves along the direction in which the first layer's answers to some
users differ most. For a user and a strip, each hidden unit lies within what the strip's box and ball allow (the tighter
of the two); the layers after it take the interval on (Gowal et al. 2018, arXiv:1810.12715, section 3); the dot path
adds its ball. A strip is ruled out where that upper bound is below the user's 100th score, which is given here: a night
has to find it first, so these are the most that could be spared.

The last column is the work that is left, in pairs scored: a bound has two ends, each of which takes the MLP once.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import sdk
from sdk.features.tables import FIRST_KNOWN
from sdk.machine.blas import machine
from sdk.models.pair_form import PairForm

SIZES, K = (64, 16, 8, 4), 100


def strips(points: np.ndarray, size: int) -> list[np.ndarray]:
    """Rows in groups of at most ``size``."""
    groups = [np.arange(len(points))]
    while max(map(len, groups)) > size:
        groups = [half for group in groups for half in _halves(points, group, size)]
    return groups


def _halves(points: np.ndarray, group: np.ndarray, size: int) -> Iterator[np.ndarray]:
    if len(group) <= size:
        yield group
        return
    apart = points[group] - points[group].mean(axis=0)
    order = np.argsort(apart @ np.linalg.svd(apart[:: len(group) // 500 + 1], full_matrices=False)[2][0])
    yield from (group[order[: len(group) // 2]], group[order[len(group) // 2 :]])


class Bounds:
    """What strips of a form's items allow."""

    def __init__(self, form: PairForm, groups: list[np.ndarray]) -> None:
        items, shape = form.items, form.users.fields.shape[1:2] + form.items.fields.shape[1:2]
        self.form, self.cross = form, form.head.cross.reshape(-1, *shape)
        self.hidden = _box([items.hidden[group] for group in groups])
        self.box = _box([items.fields[group] for group in groups])
        self.centre, self.radius = _ball([items.fields[group] for group in groups])
        self.dot, self.dot_radius = _ball([items.dot[group] for group in groups])
        self.bias = np.array([items.bias[group].max() for group in groups])

    def upper(self, user: int) -> np.ndarray:
        """(S,) the most that an item of each strip can score."""
        users = self.form.users
        weight = np.einsum("jfg,fd->jgd", self.cross, users.fields[user])
        low, high = _reach(weight, *self.box)
        middle, reach = np.einsum("jgd,sgd->sj", weight, self.centre), self.radius @ np.linalg.norm(weight, axis=2).T
        low, high = np.maximum(low, middle - reach), np.minimum(high, middle + reach)
        low, high = low + users.hidden[user] + self.hidden[0], high + users.hidden[user] + self.hidden[1]
        for layer, bias in self.form.head.tail:
            low, high = np.maximum(low, 0), np.maximum(high, 0)
            more, less = np.maximum(layer, 0).T, np.minimum(layer, 0).T
            low, high = low @ more + high @ less + bias, high @ more + low @ less + bias
        dot = self.dot @ users.dot[user] + self.dot_radius * np.linalg.norm(users.dot[user])
        return high[:, 0] + dot + self.bias + users.bias[user]


def _box(groups: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([group.min(axis=0) for group in groups]), np.array([group.max(axis=0) for group in groups])


def _ball(groups: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    centres = np.array([group.mean(axis=0) for group in groups])
    far = [np.linalg.norm(group - c, axis=-1).max(axis=0) for group, c in zip(groups, centres, strict=True)]
    return centres, np.array(far)


def _reach(weight: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, ...]:
    more, less = np.maximum(weight, 0), np.minimum(weight, 0)
    least, most = ((more, low), (less, high)), ((more, high), (less, low))
    return tuple(sum(np.einsum("jgd,sgd->sj", part, ends) for part, ends in each) for each in (least, most))


def responses(form: PairForm, users: np.ndarray) -> np.ndarray:
    """(I, 32) what the first layer answers to some users, projected at random: items with like answers make a strip."""
    cross = form.head.cross.reshape(-1, form.users.fields.shape[1], form.items.fields.shape[1])
    weights = np.einsum("jfg,ufd->ujgd", cross, form.users.fields[users])
    answers = form.items.hidden[:, None] + np.einsum("ujgd,igd->iuj", weights, form.items.fields)
    answers = answers.reshape(len(form.items), -1)
    return answers @ np.random.default_rng(1).normal(size=(answers.shape[1], 32))


def measured(form: PairForm, num_users: int) -> Iterator[str]:
    """The table's rows."""
    users = np.random.default_rng(0).choice(np.arange(FIRST_KNOWN, len(form.users)), num_users, replace=False)
    items = np.arange(FIRST_KNOWN, len(form.items))
    form = PairForm(form.users, form.items.take(items), form.head)
    scores = [form.score_pairs(np.full(len(items), user), np.arange(len(items))) for user in users]
    points = responses(form, users[:8])
    for size in SIZES:
        groups = strips(points, size)
        bounds, sizes = Bounds(form, groups), np.array([len(group) for group in groups])
        gone, slack = [], []
        for user, mine in zip(users, scores, strict=True):
            upper, best = bounds.upper(int(user)), np.array([mine[group].max() for group in groups])
            assert (upper >= best - 1e-3).all(), "a bound that an item exceeds"
            gone.append(sizes[upper < np.partition(mine, -K)[-K]].sum() / len(items))
            slack.append(upper - best)
        share, over = float(np.mean(gone)), np.quantile(np.concatenate(slack), (0.05, 0.5, 0.95))
        quantiles = " / ".join(f"{each:.1f}" for each in over)
        yield f"| {size} | {share:.0%} | {quantiles} | {1 - share + 2 / size:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--model", default="dlrm")
    parser.add_argument("--users", type=int, default=20)
    args = parser.parse_args()
    form = sdk.load(args.bundle).model(args.model).lower()
    head = "| items a strip | ruled out | bound above the strip's best, 5 / 50 / 95 % | work left |"
    print(f"{machine()}.\n", head, "| ---: | ---: | ---: | ---: |", *measured(form, args.users), sep="\n")


if __name__ == "__main__":
    main()
