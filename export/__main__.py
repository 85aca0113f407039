"""python -m export: write a model repository; serve: run a real server; verify: compare a server with the SDK."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from export.options import ExportOptions
from sdk.shell import cli
from sdk.shell.cli import add_bundle, add_fields, made_of, new_parser, path_argument, run_command
from sdk.shell.parser import CommandParser, did_you_mean
from sdk.shell.terminal import say

log = logging.getLogger(__name__)
_EXAMPLE = """\
python -m export --bundle bundle --out repository
  python -m export serve repository --http-port 8000 --grpc-port 8001
  python -m export verify repository --bundle bundle --url 127.0.0.1:8000

Exporting again to the same folder adds a next version, which a running server picks up."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is returned."""
    given = list(sys.argv[1:] if argv is None else argv)
    commands = {"serve": _serve_parser, "verify": _verify_parser}
    if given and given[0] in commands:
        args = commands[given[0]]().parse_args(given[1:])
        return run_command(args.work, args)
    if given and not given[0].startswith("-"):
        hint = did_you_mean(given[0], commands)
        build_parser().error(f"got {given[0]!r}, expected serve, verify or the export's options{hint}")
    args = build_parser().parse_args(given)
    return run_command(args.work, args)


def add(commands: Any) -> None:
    """The export as a command of ``marquee``."""
    build_parser(commands.add_parser, "export")


def add_serve(commands: Any) -> None:
    """The server as a command of ``marquee``."""
    _serve_parser(commands.add_parser, "serve")


def add_verify(commands: Any) -> None:
    """The comparison as a command of ``marquee``."""
    _verify_parser(commands.add_parser, "verify")


def build_parser(make: Callable[..., Any] = CommandParser, name: str = "python -m export") -> CommandParser:
    """The command line of the export itself: the fields of its options."""
    summary = "write a bundle as a Triton model repository"
    parser = new_parser(make, name, summary, _EXAMPLE, work=_export)
    add_bundle(parser, required=True, default=None, help="folder of a trained bundle; only read")
    required, common, advanced = parser.group("required"), parser.group("common"), parser.group("advanced")
    required.add_argument("--out", type=path_argument, required=True, metavar="REPO", help="the repository's folder")
    add_fields(common, ExportOptions, "model", "kind", "backend", "workflow")
    add_fields(common, ExportOptions, "rules", type=path_argument, metavar="FILE.json")
    common.add_argument("--json", action="store_true", help="print one line of JSON on stdout")
    add_fields(advanced, ExportOptions, "instances", "instance_kind")
    add_fields(advanced, ExportOptions, "max_batch", "max_queue_delay_us", "max_ids", "max_k", "max_results")
    add_fields(advanced, ExportOptions, "keep_versions")
    advanced.add_argument(
        "--no-warm-up", dest="warm_up", action="store_false",
        help="a native ranker counts as loaded before it scored a pair",
    )  # fmt: skip
    return parser


def _export(args: argparse.Namespace) -> int:
    from export.repository import export_repository
    from sdk.base.config import to_json
    from sdk.scoring.rules import rules_of

    args.rules = None if args.rules is None else json.dumps(to_json(rules_of(args.rules, "--rules")))
    _print(args, asdict(export_repository(args.bundle, args.out, made_of(ExportOptions, args))))
    log.info("serve it: python -m export serve %s", args.out)
    return 0


def _print(args: argparse.Namespace, values: dict[str, Any]) -> None:
    if args.json:
        print(json.dumps(values))
    else:
        say(*(f"{name.replace('_', ' ')}: {_shown(value)}" for name, value in values.items()))


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _serve_parser(make: Callable[..., Any] = CommandParser, name: str = "python -m export serve") -> CommandParser:
    from export.server import ServerOptions

    parser = new_parser(
        make, name, "run a Triton server on a repository until it is interrupted",
        "python -m export serve repository --http-port 8000", after_a_stop="the server is stopped", work=_serve,
    )  # fmt: skip
    exported = "a repository: the folder that an export wrote"
    parser.group("required").add_argument("repository", type=path_argument, metavar="REPO", help=exported)
    common, advanced = parser.group("common"), parser.group("advanced")
    add_fields(common, ServerOptions, "http_port", "grpc_port", "metrics_port", type=cli.port_number)
    common.add_argument("--json", action="store_true", help="print the ready line as JSON")
    add_fields(advanced, ServerOptions, "host")
    add_fields(advanced, ServerOptions, "poll_s", flag="--poll", type=cli.between(0, 2**31 - 1), metavar="SECONDS")
    add_fields(advanced, ServerOptions, "start_timeout_s", flag="--start-timeout", type=cli.seconds, metavar="SECONDS")
    for name in ("model_control", "shared_memory"):
        add_fields(advanced, ServerOptions, name, flag=f"--allow-{name.replace('_', '-')}")
    return parser


def _serve(args: argparse.Namespace) -> int:
    from export.manifest import check_repository
    from export.server import ServerOptions, TritonServer

    facts = check_repository(args.repository)
    options = made_of(ServerOptions, args, end_with_parent=sys.platform == "linux")
    with TritonServer(args.repository, options) as server:
        addresses = {"http": server.http_url, "grpc": server.grpc_url, "metrics": f"{server.metrics_url}/metrics"}
        if args.json:
            print(json.dumps({**addresses, "models": facts["models"]}), flush=True)
        else:
            say(" ".join(["ready:", *(f"{name} {address}" for name, address in addresses.items())]))
        check = f"python -m export verify {args.repository} --bundle BUNDLE --url {server.http_url}"
        log.info("compare it with the SDK: %s; stop it: Ctrl-C", check)
        server.wait_until_stopped()
    return 0


def _verify_parser(make: Callable[..., Any] = CommandParser, name: str = "python -m export verify") -> CommandParser:
    from export.calls import ClientOptions

    parser = new_parser(
        make, name, "compare a server's answers with the SDK's on a sample",
        "python -m export verify repository --bundle bundle --url 127.0.0.1:8000",
        "The sample is of pairs, users and items; exit code 4 if they differ.", work=_verify,
    )  # fmt: skip
    required, common, advanced = parser.group("required"), parser.group("common"), parser.group("advanced")
    required.add_argument("repository", type=path_argument, metavar="REPO", help="the repository that is served")
    add_bundle(parser, required=True, default=None, help="the bundle it was exported from")
    required.add_argument("--url", required=True, metavar="HOST:PORT", help="the server's address")
    add_fields(common, ClientOptions, "protocol")
    common.add_argument("--json", action="store_true", help="print one line of JSON on stdout")
    advanced.add_argument("--pairs", type=cli.between(1, 10**7), default=2000, metavar="N", help="pairs to score")
    compared = "users and items whose lists are compared"
    advanced.add_argument("--lists", type=cli.between(1, 10**6), default=50, metavar="N", help=compared)
    advanced.add_argument("--k", type=cli.between(1, 2**31 - 1), default=20, metavar="N", help="list length")
    advanced.add_argument("--seed", type=cli.seed_number, default=0, metavar="N", help="of the sample")
    return parser


def _verify(args: argparse.Namespace) -> int:
    from export.verify import verify

    url = args.url.removeprefix("http://").rstrip("/")
    sample = {"num_pairs": args.pairs, "num_lists": args.lists, "k": args.k, "seed": args.seed}
    _print(args, asdict(verify(args.repository, args.bundle, url, protocol=args.protocol, **sample)))
    log.info("the server's answers are the SDK's, within rounding")
    return 0


if __name__ == "__main__":
    sys.exit(main())
