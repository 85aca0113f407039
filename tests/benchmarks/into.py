"""Runs a benchmark and puts what it prints into a page, between the marker lines of its name.

    python tests/benchmarks/into.py docs/speed.md -- scoring.py --bundle bundle
    python tests/benchmarks/into.py docs/operations.md --name warm-up -- environments.py …

What stands there then: the command, the machine, and the output as it came; its tables as tables. A benchmark that
fails leaves the page alone. Marker lines are <!-- scoring: begin --> and <!-- scoring: end -->, once each.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from sdk.base.errors import MarqueeError
from sdk.machine.blas import machine
from sdk.measure.marked_page import check_page, write_into

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


def as_markdown(command: Sequence[str], text: str) -> str:
    """The output as a page shows it: in a block, or with a paragraph between its lines and its tables."""
    called, about = f"python tests/benchmarks/{' '.join(command)}", [] if machine() in text else [machine()]
    if "\n|" not in f"\n{text}":
        return "\n".join(["```console", f"$ {called}", *about, text, "```"])
    parts = (list(lines) for _, lines in groupby(text.splitlines(), lambda line: line.startswith("|")))
    return "\n\n".join([f"`{called}`", *about, *("\n".join(lines) for lines in parts)])


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
            write_into(args.page, name, as_markdown(args.command, text))
    except MarqueeError as error:
        print(f"into.py: {error}", file=sys.stderr)
        return error.exit_code
    return code


if __name__ == "__main__":
    raise SystemExit(main())
