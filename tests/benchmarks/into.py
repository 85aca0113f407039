"""Runs a benchmark and puts what it prints into a page, between the marker lines of its name.

    python tests/benchmarks/into.py docs/speed.md -- scoring.py --bundle bundle
    python tests/benchmarks/into.py docs/operations.md --name warm-up -- environments.py …

What stands there then: the machine, the command, and its output as it came. A benchmark that fails leaves
the page alone. Marker lines are <!-- scoring: begin --> and <!-- scoring: end -->, once each.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from sdk.base.errors import MarqueeError
from sdk.lab.marked_page import check_page, write_into
from sdk.machine.blas import machine

HERE = Path(__file__).resolve().parent


def measured(command: Sequence[str]) -> tuple[int, str]:
    """The exit code and the output of a benchmark, which is shown as it comes."""
    lines = []
    with subprocess.Popen(
        [sys.executable, HERE / command[0], *command[1:]], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return process.returncode, "".join(lines).strip("\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; its exit code, or 2 where the page lacks the marker lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("--name", help="whose marker lines; the benchmark's own name unless given")
    parser.add_argument("command", nargs="+", help="a benchmark of this folder, with its options")
    args = parser.parse_args(argv)
    name = args.name or Path(args.command[0]).stem
    try:
        check_page(args.page, name)
        code, text = measured(args.command)
        if code == 0:
            said = f"```console\n$ python tests/benchmarks/{' '.join(args.command)}\n{text}\n```"
            write_into(args.page, name, said if machine() in text else f"{machine()}.\n\n{said}")
    except MarqueeError as error:
        print(f"into.py: {error}", file=sys.stderr)
        return error.exit_code
    return code


if __name__ == "__main__":
    raise SystemExit(main())
