"""Lists under rules and randomised lists: how good they are and what they cost, beside lists without.

    python tests/benchmarks/rules.py --bundle bundle [--tau 0.1]

Measured on the test part of the measured bundle, as ``python -m sdk evaluate`` measures lists; times are of one core,
the median of five, and beside each stands the same run's time without.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import sdk
from sdk.features.interactions import TEST
from sdk.machine.blas import machine
from sdk.measure.evaluation import learnt_parts
from sdk.measure.list_evaluation import ListTask, MeasuredLists, _catalogue, recommenders
from sdk.metrics import lists as metrics
from sdk.scoring.engine import Engine
from sdk.scoring.exploration import Noise
from sdk.scoring.rules import Rules, rules_of

RULES: dict[str, Rules | None] = {
    "none": None,
    **{
        name: rules_of(values)
        for name, values in {
            "3 of a genre": {"at_most": {"genres": 3}},
            "1 of a director": {"at_most": {"directors": 1}},
            "2 from 2010 on": {"at_least": {"count": 2, "column": "year", "since": 2010}},
            "diversity 0.5": {"diversity": 0.5},
            "diversity 1": {"diversity": 1},
            "diversity 2": {"diversity": 2},
            "popularity -0.02": {"popularity": -0.02},
            "popularity 0.02": {"popularity": 0.02},
            "all of it": {
                "at_most": {"genres": 4, "directors": 1}, "diversity": 0.5, "popularity": -0.01,
                "at_least": {"count": 2, "column": "year", "since": 2010},
            },
        }.items()
    },
}  # fmt: skip
K = 20


def took(work: Callable[[], Any], times: int = 5) -> float:
    """The median of several times, in seconds, after one run that compiles."""
    work()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def ruled(bundle: sdk.Bundle) -> None:
    """One line of each set of rules."""
    learnt = learnt_parts(bundle.info.config)
    task = ListTask.build(bundle.interactions.only(TEST), max_users=20_000, like_at=bundle.info.config.history.like_at)
    known = bundle.interactions.only(*learnt)
    seen, catalogue = known.seen(len(bundle.encoded_users)).take(task.user_index), _catalogue(bundle, known)
    relevant = metrics.RelevanceSets(task.row, task.item_index, len(task.user_index))
    name, plain = next(iter(recommenders(bundle, learnt).items()))
    plain.threads = 1
    print(f"{len(task.user_index):,} users, {len(catalogue.ids):,} items, lists of {K} by {name}\n")
    print(f"{'rules':18} {'NDCG@10':>8} {'recall@20':>9} {'coverage':>8} {'diversity':>9} {'users/s':>8}")
    for said, rules in RULES.items():
        recommender = plain if rules is None else plain.under(bundle.item_rules(rules))
        recommender.threads = 1
        found = recommender.recommend(task.user_index, seen, K)
        rows = bundle.encoded_items.index_of(found.item_id.ravel()).reshape(found.item_id.shape)
        figures = MeasuredLists.build(said, rows, found.lengths, relevant, catalogue).whole(0).values
        seconds = took(lambda each=recommender: each.recommend(task.user_index, seen, K))
        print(
            f"{said:18} {figures['ndcg10']:8.4f} {figures['recall20']:9.4f} {figures['coverage']:8.4f} "
            f"{figures['diversity']:9.4f} {len(task.user_index) / seconds:8,.0f}"
        )


def drawn(bundle: sdk.Bundle, tau: float) -> None:
    """One line of each form: the exact engine with and without noise."""
    users = np.arange(3, len(bundle.encoded_users))
    seen, ids = bundle.interactions.seen(len(bundle.encoded_users)).take(users), bundle.encoded_items.ids
    noise = Noise.of(tau, "benchmark", bundle.encoded_users.ids, ids)
    print(f"\nlists of 100 drawn with tau {tau:g}\n\n{'form':10} {'plain':>9} {'drawn':>9} {'ratio':>6}")
    best = bundle.info.chosen_model
    for said, form in {"lists": bundle.list_form(), best: bundle.model().lower() if best else None}.items():
        if form is not None:
            engine = Engine(form, threads=1)
            plain = took(lambda engine=engine: engine.top_k(users, seen, 100))
            with_noise = took(lambda engine=engine: engine.draw(users, seen, 100, noise))
            print(f"{said:10} {plain:8.3f}s {with_noise:8.3f}s {with_noise / plain:6.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="bundle")
    parser.add_argument("--tau", type=float, default=0.1)
    args = parser.parse_args()
    bundle = sdk.load(args.bundle)
    print(f"{machine()}\n")
    ruled(bundle.measured)
    drawn(bundle, args.tau)


if __name__ == "__main__":
    main()
