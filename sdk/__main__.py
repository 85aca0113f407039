"""python -m sdk: download, train, evaluate, similar, recommend. Results on stdout, everything else on stderr."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk import __version__
from sdk.cli import EXIT_CODES, HelpFormatter, add_logging_options, run_command
from sdk.config import DataConfig, FeatureConfig, RunConfig, SplitConfig, TrainingConfig
from sdk.errors import UsageError

if TYPE_CHECKING:
    from sdk.bundle import Bundle
    from sdk.evaluation import Evaluation
    from sdk.types import Dataset

SAMPLE_NAME = "ml-sample"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is returned."""
    args = build_parser().parse_args(argv)
    return run_command(args.work, args)


def build_parser() -> argparse.ArgumentParser:
    """The command line, with one real example per command."""
    parser = argparse.ArgumentParser(
        prog="python -m sdk",
        description="Learn from ratings and titles, and ask what was learnt.",
        epilog="example:\n  python -m sdk train --sample --out bundle\n\n" + EXIT_CODES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"marquee {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_download(commands)
    _add_train(commands)
    _add_evaluate(commands)
    _add_similar(commands)
    _add_recommend(commands)
    return parser


def _command(commands: Any, name: str, work: Any, summary: str, example: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n  {example}\n\n{EXIT_CODES}",
        formatter_class=HelpFormatter,
    )
    parser.set_defaults(work=work)
    add_logging_options(parser)
    return parser


def _add_download(commands: Any) -> None:
    parser = _command(
        commands, "download", _download, "fetch a public data set, resuming and checking its published checksum",
        "python -m sdk download ml-25m --to data",
    )  # fmt: skip
    parser.add_argument("name", help="ml-100k, ml-1m, ml-10m, ml-20m, ml-25m, ml-32m, ml-latest or ml-latest-small")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder to put the zip in")
    parser.add_argument("--extract", action="store_true", help="unpack it beside the zip as well")


def _add_train(commands: Any) -> None:
    parser = _command(
        commands, "train", _train, "train the models on ratings and titles, and write one bundle",
        "python -m sdk train --movielens ml-25m.zip --tmdb tmdb-5000 --out bundle",
    )  # fmt: skip
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--movielens", type=Path, metavar="DIR|ZIP", help="a MovieLens data set in any published form")
    source.add_argument("--sample", action="store_true", help="the sample that comes with Marquee, simulated ratings")
    parser.add_argument("--tmdb", type=Path, metavar="DIR", help="TMDB 5000's two files, joined through links.csv")
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="folder to write")
    parser.add_argument("--models", default="dlrm,ncf,history,content", help="which models to train, joined by commas")
    parser.add_argument("--seed", type=int, default=0, help="of initialisation, order and sampling")
    parser.add_argument(
        "--split",
        choices=("random", "time", "leave-last-out"),
        default="random",
        help="how to hold out the test ratings",
    )
    parser.add_argument("--split-seed", type=int, default=SplitConfig().seed, help="of the random split")
    parser.add_argument(
        "--like-above", type=float, default=FeatureConfig().like_above, help="ratings above this many stars are likes"
    )
    parser.add_argument("--max-epochs", type=int, default=TrainingConfig().max_epochs, help="upper limit per model")
    parser.add_argument(
        "--max-reject-share",
        type=float,
        default=DataConfig().max_reject_share,
        help="share of a file's rows that may be bad before the run stops",
    )
    parser.add_argument("--force", action="store_true", help="replace the bundle that is there")


def _add_evaluate(commands: Any) -> None:
    parser = _command(
        commands, "evaluate", _evaluate, "measure a bundle's models on the test part that training never saw",
        "python -m sdk evaluate --bundle bundle",
    )  # fmt: skip
    _add_bundle(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _add_similar(commands: Any) -> None:
    parser = _command(
        commands, "similar", _similar, "titles like a title, each with the reason",
        'python -m sdk similar "The Dark Knight" --bundle bundle',
    )  # fmt: skip
    parser.add_argument("title", help='a title, with a year if need be: "Heat (1995)"')
    _add_bundle(parser)
    parser.add_argument("--k", type=int, default=10, help="how many")


def _add_recommend(commands: Any) -> None:
    parser = _command(
        commands, "recommend", _recommend, "a user's best unseen titles",
        "python -m sdk recommend --user 42 --bundle bundle",
    )  # fmt: skip
    parser.add_argument("--user", type=int, required=True, help="user_id")
    _add_bundle(parser)
    parser.add_argument("--k", type=int, default=10, help="how many")
    parser.add_argument("--model", default="best", help="dlrm, ncf or best")
    parser.add_argument("--include-seen", action="store_true", help="list titles that the user has rated, too")


def _add_bundle(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", type=Path, default=Path("bundle"), metavar="BUNDLE", help="a trained bundle")


def _download(args: argparse.Namespace) -> int:
    from sdk.data.download import download

    print(download(args.name, args.to, extract=args.extract))
    return 0


def _train(args: argparse.Namespace) -> int:
    from sdk.training.pipeline import require_room, train_bundle

    config = _run_config(args)
    require_room(args.out, force=args.force)
    with tempfile.TemporaryDirectory(prefix="marquee-sample-") as folder:
        dataset = _read_dataset(args, config, Path(folder))
    bundle = train_bundle(dataset, config, args.out, force=args.force)
    report = bundle.path / "reports" / "metrics.md"
    print(report.read_text("utf-8") if report.exists() else f"trained {', '.join(bundle.info.models)}")
    print(f"bundle: {bundle.path} (best ranker by validation AUC: {bundle.info.chosen_model or 'none'})")
    return 0


def _run_config(args: argparse.Namespace) -> RunConfig:
    return RunConfig(
        data=DataConfig(max_reject_share=args.max_reject_share),
        split=SplitConfig(kind=args.split, seed=args.split_seed),
        features=FeatureConfig(like_above=args.like_above),
        training=TrainingConfig(seed=args.seed, max_epochs=args.max_epochs),
        models=tuple(name.strip() for name in args.models.split(",") if name.strip()),
    )


def _read_dataset(args: argparse.Namespace, config: RunConfig, folder: Path) -> Dataset:
    from sdk.data.movielens import load

    if not args.sample:
        return load(args.movielens, tmdb=args.tmdb, config=config.data)
    if args.tmdb is not None:
        message = "--tmdb: the sample brings its own titles; leave the option out, or give --movielens"
        raise UsageError(message)
    from sdk.data.sample import write_sample

    movielens, tmdb = write_sample(folder)
    return load(movielens, tmdb=tmdb, config=config.data)


def _evaluate(args: argparse.Namespace) -> int:
    from sdk.bundle import load
    from sdk.evaluation import evaluate_bundle

    evaluation = evaluate_bundle(load(args.bundle))
    print(_as_json(evaluation) if args.json else _as_table(evaluation))
    return 0


def _as_json(evaluation: Evaluation) -> str:
    rows = [dataclasses.asdict(row) for row in evaluation.rows]
    plain = [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()} for row in rows]
    return json.dumps({"split": evaluation.split, "label_rule": evaluation.label_rule, "test": plain})


def _as_table(evaluation: Evaluation) -> str:
    lines = [f"{'model':22s} {'AUC':>7s} {'log loss':>9s} {'ECE':>7s}"]
    for row in evaluation.rows:
        figures = [
            f"{row.auc:7.4f}",
            *("      –" if math.isnan(v) else f"{v:7.4f}" for v in (row.log_loss, row.calibration_error)),
        ]
        lines.append(f"{row.model:22s} {figures[0]} {figures[1]:>9s} {figures[2]}")
    head = f"{evaluation.rows[0].num_rows:,} test ratings; split: {evaluation.split}; positive: {evaluation.label_rule}"
    return "\n".join([head, "", *lines])


def _similar(args: argparse.Namespace) -> int:
    from sdk.bundle import load

    bundle = load(args.bundle)
    matches = bundle.find_title(args.title)
    if not matches:
        message = f"no title like {args.title!r} in {args.bundle}"
        raise UsageError(message)
    if not matches[0].exact:
        near = ", ".join(repr(name) for name in bundle.titles([m.item_id for m in matches]))
        message = f"no title {args.title!r} in {args.bundle}. Did you mean {near}?"
        raise UsageError(message)
    _print_similar(bundle, matches[0].item_id, args.k)
    return 0


def _print_similar(bundle: Bundle, item_id: int, k: int) -> None:
    ids, scores = bundle.similar([item_id], k).row(0)
    print(f"like {bundle.titles([item_id])[0]}:")
    for rank, (other, name, score) in enumerate(zip(ids.tolist(), bundle.titles(ids), scores, strict=True), start=1):
        print(f"{rank:3d}  {score:.3f}  {name}  ({bundle.explain(item_id, other).describe()})")
    if not len(ids):
        print("  nothing is known of it that another title shares")


def _recommend(args: argparse.Namespace) -> int:
    from sdk.bundle import load

    bundle = load(args.bundle)
    lists = bundle.recommend([args.user], args.k, model=args.model, include_seen=args.include_seen)
    ids, scores = lists.row(0)
    print(f"for user {args.user}, by {lists.source[0]}:")
    for rank, (name, score) in enumerate(zip(bundle.titles(ids), scores, strict=True), start=1):
        print(f"{rank:3d}  {score:7.3f}  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
