"""python -m sdk train."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk.commands.options import new_command
from sdk.config import DataConfig, FeatureConfig, RunConfig, SplitConfig, TrainingConfig
from sdk.errors import UsageError

if TYPE_CHECKING:
    from sdk.types import Dataset


def add(commands: Any) -> None:
    """The command's options."""
    parser = new_command(
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
    parser.add_argument(
        "--if-new",
        action="store_true",
        help="train only where the bundle that is there is of other data, options or release; implies --force",
    )


def _train(args: argparse.Namespace) -> int:
    from sdk.training.freshness import is_up_to_date
    from sdk.training.pipeline import require_room, train_bundle

    config, force = _run_config(args), args.force or args.if_new
    require_room(args.out, force=force)
    with tempfile.TemporaryDirectory(prefix="marquee-sample-") as folder:
        dataset = _read_dataset(args, config, Path(folder))
    if args.if_new and is_up_to_date(args.out, dataset, config):
        print(f"bundle: {args.out} (up to date)")
        return 0
    bundle = train_bundle(dataset, config, args.out, force=force)
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
