"""Marquee's web app: search titles, see what is like them, look at users' lists, try your own taste.

python examples/web_app/app.py --bundle bundle --nightly nightly
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

import sdk
from sdk.base.errors import how_to_get

try:
    import waitress
    from pages import Site, create_app
except ModuleNotFoundError as error:
    print(f"app.py: needs {error.name}, which is not installed: {how_to_get('web')}", file=sys.stderr)
    sys.exit(2)

from catalogue import Catalogue
from nights import Nights
from posters import Posters
from sources import Sources

from sdk.shell.cli import between, path_argument, port_number

log = logging.getLogger("web_app")

EXIT_CODES = (
    "exit codes: 0 stopped by SIGINT or SIGTERM, 2 usage, 4 the bundle cannot be used, 5 the port cannot be had"
)
_LARGEST_HEADER = _LARGEST_BODY = 16 << 10


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        "app.py", description=__doc__, epilog=EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=path_argument, required=True, help="a trained bundle")
    parser.add_argument(
        "--nightly", type=path_argument, required=True, help="the folder that batch.score publishes to; may be empty"
    )
    parser.add_argument(
        "--triton", metavar="HOST:PORT", help="HTTP address of a live server to ask instead of the nights"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)"
    )
    parser.add_argument(
        "--port", type=port_number, default=os.environ.get("PORT", "8080"),
        help="port to listen on; 0 takes a free one (default: the environment's PORT, else 8080)",
    )  # fmt: skip
    parser.add_argument(
        "--threads", type=between(1, 1024), default=8, help="requests answered at the same time (default: 8)"
    )
    parser.add_argument(
        "--cache-mib", type=between(0, 2**20), default=512, help="memory for parts of nights (default: 512 MiB)"
    )
    return parser


def site_of(args: argparse.Namespace) -> Site:
    """Everything that the pages need, loaded and warm.

    Raises:
        BundleError: the bundle cannot be used.
    """
    catalogue = Catalogue(sdk.load(args.bundle))
    nights = Nights(args.nightly, args.cache_mib)
    nights.warm()
    key = os.environ.get("TMDB_API_KEY", "")
    sources = Sources(catalogue, nights, args.triton)
    sources.warm()
    return Site(catalogue, nights, sources, Posters(key) if key else None)


def serve(site: Site, args: argparse.Namespace) -> None:
    """Answer until a signal comes.

    Raises:
        OSError: the port cannot be had.
    """
    server = waitress.create_server(
        create_app(site), host=args.host, port=args.port, threads=args.threads, ident=None,
        max_request_header_size=_LARGEST_HEADER, max_request_body_size=_LARGEST_BODY, channel_timeout=30,
    )  # fmt: skip
    signal.signal(signal.SIGTERM, _stop)
    print(f"ready: http://{args.host}:{server.effective_port}/", flush=True)
    try:
        server.run()
    finally:
        server.close()


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the app."""
    args = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # that a request waits a moment is no news
    try:
        serve(site_of(args), args)
    except sdk.MarqueeError as error:
        log.error("%s", error)
        return error.exit_code
    except OSError as error:
        log.error("%s:%s: cannot be listened on (%s). Choose another --port.", args.host, args.port, error)
        return 5
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
