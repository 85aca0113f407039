"""python -m sdk train."""

from __future__ import annotations

import argparse
import json
import logging
from datetime import date
from typing import TYPE_CHECKING, Any, get_args

from sdk.base.config import ModelName, RunConfig, to_file
from sdk.base.errors import UsageError
from sdk.base.stages import Stages
from sdk.commands.datasets import add_config, add_dataset, read_config, read_dataset
from sdk.lab.tuning.space import with_fields
from sdk.machine.cluster import ClusterConfig, training_cluster
from sdk.machine.device import DEVICES, require_trainer, resolve_device
from sdk.shell.cli import (
    add_cluster_options,
    add_fields,
    add_mlflow_option,
    made_of,
    new_parser,
    path_argument,
    some_of,
)
from sdk.shell.parser import CommandParser
from sdk.shell.terminal import say, show_markdown

if TYPE_CHECKING:
    from sdk.bundles.bundle import Bundle

log = logging.getLogger(__name__)
_SETTINGS = {
    "models": "models",
    "seed": "training.seed",
    "split": "split.kind",
    "split_seed": "split.seed",
    "test_share": "split.test_share",
    "like_above": "features.like_above",
    "features": "features.engine",
    "trainer": "training.trainer",
    "max_epochs": "training.max_epochs",
    "max_reject_share": "data.max_reject_share",
}
"""The option's name -> the field of RunConfig that it overrides."""
_NAMES = {"type": some_of(get_args(ModelName)), "metavar": "NAMES"}


def add(commands: Any) -> None:
    """The command's options."""
    parser = new_parser(
        commands.add_parser, "train", "train the models on interactions and items; write one bundle",
        "python -m sdk train --movielens ml-25m.zip --tmdb tmdb-5000 --out bundle", work=_train,
    )  # fmt: skip
    add_options(parser)
    add_cluster_options(parser)
    add_mlflow_option(parser)
    printed = "print the settings as --config reads them, and stop; nothing is read or written"
    parser.group("advanced").add_argument("--print-config", action="store_true", help=printed)
    parser.group("common").add_argument(
        "--if-new",
        action="store_true",
        help="train only where the bundle that is there is of other data, options or release; implies --force",
    )


def add_options(parser: CommandParser) -> None:
    """The options of every way to train a bundle."""
    add_dataset(parser)
    written = "the bundle's folder, which is written"
    parser.group("required").add_argument("--out", type=path_argument, required=True, metavar="BUNDLE", help=written)
    common, places = parser.group("common"), "where the rankers train; auto takes a GPU where there is one"
    _add_settings(common, "models")
    common.add_argument("--device", choices=DEVICES, default="auto", help=places)
    common.add_argument("--force", action="store_true", help="replace the bundle that is there")
    add_config(parser)
    advanced = parser.group("advanced")
    _add_settings(advanced, *(option for option in _SETTINGS if option != "models"))
    only = "publish what was measured: do not learn from every rating afterwards, which takes as long again or less"
    advanced.add_argument("--no-final-fit", action="store_true", help=only)


def _add_settings(group: argparse._ArgumentGroup, *options: str) -> None:
    """Options that override the configuration; one that is not given leaves its field alone."""
    for option in options:
        section, _, name = _SETTINGS[option].rpartition(".")
        owner = getattr(RunConfig(), section) if section else RunConfig()
        value, more = getattr(owner, name), _NAMES if name == "models" else {}
        flag = f"--{option.replace('_', '-')}"
        (action,) = add_fields(group, type(owner), name, flag=flag, dest=option, default=argparse.SUPPRESS, **more)
        action.help = f"{action.help} (default: --config's, else {','.join(value) if more else value})"


def _train(args: argparse.Namespace) -> int:
    from sdk.bundles.tracking import MLflow
    from sdk.features.engine import resolved
    from sdk.training.freshness import is_up_to_date
    from sdk.training.pipeline import require_room, train_bundle

    if args.print_config:
        say(*json.dumps(to_file(run_config(args)), indent=2).split("\n"))
        return 0
    config, force, cluster = run_config(args), args.force or args.if_new, made_of(ClusterConfig, args)
    if cluster.is_used and resolved(config.features.engine) == "builtin":
        message = "--workers and --dask: NVTabular divides its work among them, --features builtin has none to divide"
        raise UsageError(f"{message}. Leave them out: it is done here.")
    require_trainer(config.training.trainer)
    resolve_device(args.device)
    require_room(args.out, force=force)
    mlflow = MLflow.of(args.mlflow)
    with Stages().time("loading the data"):
        dataset = read_dataset(args, config)
    if args.if_new and is_up_to_date(args.out, dataset, config):
        say(f"bundle: {args.out} (up to date)")
        return 0
    with training_cluster(cluster, args.out):
        bundle = train_bundle(dataset, config, args.out, force=force, device=args.device, mlflow=mlflow)
    report(bundle, whole=args.verbose)
    return 0


def report(bundle: Bundle, *, whole: bool = False) -> None:
    """Print where the bundle lies and what was measured, in a few lines or as the whole table."""
    table = bundle.path / "reports" / "metrics.md"
    if whole and table.exists():
        show_markdown(table.read_text("utf-8"))
        say("")
    best = bundle.info.chosen_model
    say(f"bundle: {bundle.path} ({', '.join(bundle.info.models)}{f'; best ranker {best}' if best else ''})")
    if measured := bundle.info.metrics.get("test"):
        found = ", ".join(f"{each['model']} {each['auc']:.4f}" for each in measured)
        say(f"AUC on {measured[0]['num_rows']:,} held-out rows: {found}")
    if table.exists():
        say(f"more: {table}, or python -m sdk evaluate --bundle {bundle.path}")
    log.info("next: python -m batch.score --bundle %s --out nightly --run-date %s", bundle.path, date.today())


def run_config(args: argparse.Namespace) -> RunConfig:
    """The configuration file's settings, or the defaults, overridden by the options that were given."""
    given = {field: getattr(args, name) for name, field in _SETTINGS.items() if hasattr(args, name)}
    given |= {"final_fit": False} if args.no_final_fit else {}
    return with_fields(read_config(args.config), given)
