"""python -m export: write a model repository; serve: run a real server; verify: compare a server with the SDK."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from export.options import BACKENDS, INSTANCE_KINDS, WORKFLOW_FORMS, ExportOptions
from sdk.shell.cli import (
    EXIT_CODES,
    CommandParser,
    HelpFormatter,
    add_logging_options,
    between,
    did_you_mean,
    path_argument,
    port_number,
    run_command,
    seconds,
    seed_number,
    whole_number,
)
from sdk.shell.terminal import say

log = logging.getLogger(__name__)
_EXAMPLE = """\
examples:
  python -m export --bundle bundle --out repository
  python -m export serve repository --http-port 8000 --grpc-port 8001
  python -m export verify repository --bundle bundle --url 127.0.0.1:8000

exporting again to the same folder adds a next version, which a running server picks up
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is returned."""
    given = list(sys.argv[1:] if argv is None else argv)
    commands = {"serve": (_serve_parser, _serve), "verify": (_verify_parser, _verify)}
    if given and given[0] in commands:
        parser, work = commands[given[0]]
        return run_command(work, parser().parse_args(given[1:]))
    if given and not given[0].startswith("-"):
        hint = did_you_mean(given[0], commands)
        build_parser().error(f"got {given[0]!r}, expected serve, verify or the export's options{hint}")
    return run_command(_export, build_parser().parse_args(given))


def build_parser() -> argparse.ArgumentParser:
    """The command line of the export itself."""
    defaults = ExportOptions()
    parser = _parser("python -m export", "Write a bundle as a Triton model repository.", _EXAMPLE)
    parser.add_argument(
        "--bundle", type=path_argument, required=True, metavar="BUNDLE", help="a trained bundle; only read"
    )
    parser.add_argument("--out", type=path_argument, required=True, metavar="REPO", help="the repository's folder")
    parser.add_argument("--model", default=defaults.model, help="dlrm, ncf, or best by validation AUC")
    parser.add_argument("--backend", choices=BACKENDS, default=defaults.backend, help="what runs the ranker")
    parser.add_argument(
        "--workflow",
        choices=WORKFLOW_FORMS,
        default=defaults.workflow,
        help="form of nvt_workflow: NVTabular itself, or its vocabularies as sorted arrays",
    )
    parser.add_argument(
        "--instances", type=whole_number, default=defaults.instances, metavar="N", help="processes per model"
    )
    parser.add_argument(
        "--instance-kind",
        choices=INSTANCE_KINDS,
        default=defaults.instance_kind,
        help="where recommend and a pytorch or onnxruntime ranker run",
    )
    parser.add_argument(
        "--max-batch",
        type=whole_number,
        default=defaults.max_batch,
        metavar="N",
        help="pairs in one request to rank, and scored together",
    )
    parser.add_argument(
        "--max-queue-delay-us",
        type=whole_number,
        default=defaults.max_queue_delay_us,
        metavar="N",
        help="microseconds that a request waits for others to join it",
    )
    parser.add_argument(
        "--max-ids",
        type=whole_number,
        default=defaults.max_ids,
        metavar="N",
        help="ids in one request to recommend or similar_items",
    )
    parser.add_argument("--max-k", type=whole_number, default=defaults.max_k, metavar="N", help="longest list")
    parser.add_argument(
        "--max-results",
        type=whole_number,
        default=defaults.max_results,
        metavar="N",
        help="titles in one answer, over all its lists",
    )
    parser.add_argument(
        "--keep-versions",
        type=whole_number,
        default=defaults.keep_versions,
        metavar="N",
        help="versions of recommend and similar_items served at once",
    )
    parser.add_argument(
        "--no-warm-up",
        dest="warm_up",
        action="store_false",
        help="a native ranker counts as loaded before it scored a pair",
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON on stdout")
    return parser


def _parser(prog: str, description: str, example: str) -> argparse.ArgumentParser:
    parser = CommandParser(
        prog=prog, description=description, epilog=f"{example}\n{EXIT_CODES}", formatter_class=HelpFormatter
    )
    add_logging_options(parser)
    return parser


def _export(args: argparse.Namespace) -> int:
    options = ExportOptions(**{field.name: getattr(args, field.name) for field in fields(ExportOptions)})
    from export.repository import export_repository

    _print(args, asdict(export_repository(args.bundle, args.out, options)))
    log.info("serve it: python -m export serve %s", args.out)
    return 0


def _print(args: argparse.Namespace, values: dict[str, Any]) -> None:
    if args.json:
        print(json.dumps(values))
    else:
        say(*(f"{name.replace('_', ' ')}: {_shown(value)}" for name, value in values.items()))


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _serve_parser() -> argparse.ArgumentParser:
    example = "example:\n  python -m export serve repository --http-port 8000\n"
    parser = _parser(
        "python -m export serve", "Run a real tritonserver on a repository until it is interrupted.", example
    )
    parser.add_argument("repository", type=path_argument, metavar="REPO", help="a folder that python -m export wrote")
    for kind in ("http", "grpc", "metrics"):
        parser.add_argument(
            f"--{kind}-port", type=port_number, metavar="N", help=f"port of {kind}; not given: a free one"
        )
    parser.add_argument("--host", default="127.0.0.1", help="address to bind; anything but loopback is open to others")
    parser.add_argument(
        "--poll",
        type=between(0, 2**31 - 1),
        default=2,
        metavar="SECONDS",
        dest="poll_s",
        help="how often new versions are looked for; 0 never",
    )
    parser.add_argument(
        "--start-timeout",
        type=seconds,
        default=180.0,
        metavar="SECONDS",
        dest="start_timeout_s",
        help="how long the models may take to load",
    )
    parser.add_argument(
        "--allow-model-control", action="store_true", help="let clients use the model-repository extension"
    )
    parser.add_argument(
        "--allow-shared-memory", action="store_true", help="let clients use the shared-memory extensions"
    )
    parser.add_argument("--json", action="store_true", help="print the ready line as JSON")
    parser.set_defaults(after_a_stop="the server is stopped")
    return parser


def _serve(args: argparse.Namespace) -> int:
    from export.manifest import check_repository
    from export.server import ServerOptions, TritonServer

    facts = check_repository(args.repository)
    options = ServerOptions(
        host=args.host, http_port=args.http_port, grpc_port=args.grpc_port, metrics_port=args.metrics_port,
        poll_s=args.poll_s, start_timeout_s=args.start_timeout_s, model_control=args.allow_model_control,
        shared_memory=args.allow_shared_memory, verbose=args.verbose, end_with_parent=sys.platform == "linux",
    )  # fmt: skip
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


def _verify_parser() -> argparse.ArgumentParser:
    example = "example:\n  python -m export verify repository --bundle bundle --url 127.0.0.1:8000\n"
    summary = "Compare a server with the SDK on a sample of pairs, users and titles; exit code 4 if they differ."
    parser = _parser("python -m export verify", summary, example)
    parser.add_argument("repository", type=path_argument, metavar="REPO", help="the repository that is served")
    parser.add_argument(
        "--bundle", type=path_argument, required=True, metavar="BUNDLE", help="the bundle it was exported from"
    )
    parser.add_argument("--url", required=True, metavar="HOST:PORT", help="the server's address")
    parser.add_argument("--protocol", choices=("http", "grpc"), default="http", help="what the address speaks")
    parser.add_argument("--pairs", type=between(1, 10**7), default=2000, metavar="N", help="pairs to score")
    parser.add_argument(
        "--lists", type=between(1, 10**6), default=50, metavar="N", help="users and titles whose lists are compared"
    )
    parser.add_argument("--k", type=between(1, 2**31 - 1), default=20, help="list length")
    parser.add_argument("--seed", type=seed_number, default=0, help="of the sample")
    parser.add_argument("--json", action="store_true", help="print one line of JSON on stdout")
    return parser


def _verify(args: argparse.Namespace) -> int:
    from export.verify import verify

    url = args.url.removeprefix("http://").rstrip("/")
    report = verify(
        args.repository, args.bundle, url, protocol=args.protocol, num_pairs=args.pairs, num_lists=args.lists,
        k=args.k, seed=args.seed,
    )  # fmt: skip
    _print(args, asdict(report))
    log.info("the server's answers are the SDK's, within rounding")
    return 0


if __name__ == "__main__":
    sys.exit(main())
