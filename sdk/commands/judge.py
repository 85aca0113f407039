"""python -m sdk judge."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from sdk.base.config import RANKERS
from sdk.shell.cli import add_bundle, between, finite_number, new_parser, path_argument, whole_number
from sdk.shell.terminal import Page, show

if TYPE_CHECKING:
    from sdk.measure.judging import Verdict

_SAID = {
    "logged": "the lists that were shown",
    "ips": "this bundle's, by inverse propensity",
    "snips": "self-normalised",
    "dr": "doubly robust",
}


def add(commands: Any) -> None:
    """The command's options."""
    parser = new_parser(
        commands.add_parser, "judge", "what a bundle's lists would have earned, from logged ones",
        "python -m sdk judge --logged clicks.parquet --bundle bundle --explore 0.1", work=_judge, only_prints=True,
    )  # fmt: skip
    needed, common, advanced = (parser.group(name) for name in ("required", "common", "advanced"))
    logged = "Parquet rows of randomised nights, with a column of what each earned"
    needed.add_argument("--logged", type=path_argument, metavar="LOG", required=True, help=logged)
    tau = "what the noise on this bundle's scores would be multiplied by, as batch.score takes it"
    needed.add_argument("--explore", type=_positive, metavar="TAU", required=True, help=tau)
    add_bundle(parser)
    common.add_argument("--model", choices=[*RANKERS, "best"], default="best", help="which ranker")
    common.add_argument("--reward", metavar="COLUMN", default="clicked", help="the column of what a row earned")
    common.add_argument("--k", type=whole_number, metavar="N", help="places of a list that count; all unless given")
    common.add_argument("--json", action="store_true", help="print JSON instead of a table")
    clip = "the largest weight of a place; the square root of the number of lists unless given"
    advanced.add_argument("--clip", type=_positive, metavar="W", help=clip)


_positive = between(1e-9, 1e9, "a number above 0", finite_number)


def _judge(args: argparse.Namespace) -> int:
    from sdk.bundles.bundle import load
    from sdk.measure.judging import judge_bundle, read_log
    from sdk.measure.text_tables import as_text

    log = read_log(args.logged, args.reward, args.k)
    verdict = judge_bundle(load(args.bundle), log, args.explore, model=args.model, clip=args.clip)
    if args.json:
        print(json.dumps(verdict.as_json(), allow_nan=False))
    else:
        page = _page(verdict, args.reward)
        show(as_text(page), lambda: [page])
    return 0


def _page(verdict: Verdict, reward: str) -> Page:
    from sdk.measure.text_tables import table

    values = verdict.as_json()
    rows = [
        (said, f"{found['value']:.4f}", f"{found['low']:.4f}", f"{found['high']:.4f}")
        for said, found in ((said, values[name]) for name, said in _SAID.items())
    ]
    return table(f"{reward} of a list", ("", "mean", "from", "to (95 %)"), rows, _note(verdict))


def _note(verdict: Verdict) -> str:
    found, effective = verdict.judged, verdict.judged.effective
    said = [
        f"{verdict.lists:,} lists of {verdict.users:,} users, {verdict.places} places",
        f"as good as {effective[0]:,.0f} lists at the first place and {effective[-1]:,.0f} at the last",
        f"weights up to {found.clip:g}; {found.clipped:.1%} of the places were cut to that",
        f"{verdict.never:.1%} of the places hold what this bundle would never list there",
    ]
    said += [f"{verdict.fixed:,} lists are no draws and were passed over"] if verdict.fixed else []
    said += [f"{verdict.unknown_users:,} lists are of users it does not have"] if verdict.unknown_users else []
    return "; ".join(said) + "."
