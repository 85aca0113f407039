"""Builds docs/api.md from the docstrings: what a downstream pipeline may import, and nothing else."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import sdk

OTHERS = {
    "batch": ("batch.job.Job", "batch.plan.plan", "batch.run.run", "batch.run.Report", "batch.gates.GateConfig"),
    "export": (
        "export.options.ExportOptions", "export.repository.export_repository", "export.server.ServerOptions",
        "export.server.TritonServer", "export.verify.verify", "export.client.ClientOptions", "export.client.Client",
        "export.client.AsyncClient",
    ),
}  # fmt: skip
SECTIONS = ("Args", "Attributes", "Returns", "Raises", "Yields")
HEAD = """\
# API reference

After this page you know every public name of Python.

Made from the docstrings by `pytest tests/house/test_docs.py --update-golden`. Names that are not here are not part of
the API. Every public name of `sdk` is imported from `sdk` itself: `from sdk import RunConfig`.
"""


def reference() -> str:
    """The whole page."""
    parts = [HEAD, "## sdk\n"]
    parts += [entry(f"sdk.{name}", getattr(sdk, name)) for name in sdk.__all__ if name != "__version__"]
    for package, names in OTHERS.items():
        parts.append(f"## {package}\n")
        parts += [entry(name, resolve(name)) for name in names]
    return "\n".join(parts)


def resolve(name: str) -> Any:
    """The object that a dotted name means."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def entry(name: str, value: Any) -> str:
    """A class or function with its public methods, as Markdown."""
    lines = [f"### {name}\n", f"```python\n{signature(name, value)}\n```\n", *markdown(docstring(value))]
    if inspect.isclass(value):
        for member, method in public_members(value):
            is_property = not callable(method)
            title = member if is_property else signature(member, method)
            lines += [f"\n**`{title}`**\n", *markdown(docstring(method))]
    return "\n".join(lines) + "\n"


def signature(name: str, value: Any) -> str:
    """A call as Python would show it; an error's or a frozen value's fields come from its docstring."""
    short = name.rpartition(".")[2]
    if inspect.isclass(value) and not dataclasses.is_dataclass(value) and issubclass(value, BaseException):
        return f"class {short}({value.__bases__[0].__name__})"
    try:
        text = str(inspect.signature(value)).replace("(self, ", "(").replace("(self)", "()")
    except (TypeError, ValueError):
        text = ""
    text = (
        re.sub(r"mappingproxy\(\{.*?\}\)|<factory>|<member.*?>", "...", text)
        .replace(" -> 'None'", "")
        .replace(" -> None", "")
    )
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)  # annotations are kept as text
    text = re.sub(r"\b(?:sdk|batch|export|pathlib|collections\.abc|typing)(?:\.[a-z_]+)*\.", "", text)
    return f"{'class ' if inspect.isclass(value) else ''}{short}{text}"


def public_members(cls: type) -> Iterator[tuple[str, Any]]:
    """Methods and properties that the class itself defines and documents, in the order written."""
    for name, member in vars(cls).items():
        inner = getattr(member, "func", None) or getattr(member, "fget", None)
        if name.startswith("_") or not (inspect.isfunction(member) or isinstance(member, classmethod) or inner):
            continue
        yield name, getattr(cls, name) if isinstance(member, classmethod) else member


def docstring(value: Any) -> str:
    """The docstring, unindented; every public thing has one."""
    found = inspect.getdoc(value)
    assert found, f"{value} has no docstring"
    return found


def markdown(text: str) -> list[str]:
    """Google style to Markdown: sections become bold words, their entries bullets."""
    lines, section = [], ""
    for line in text.replace("``", "`").splitlines():
        heading = line.rstrip(":")
        if line.endswith(":") and heading in SECTIONS:
            section = heading
            lines.append(f"*{section}*\n")
        elif section and (found := re.match(r" {4}(\*{0,2}\w+): (.*)", line)) and section != "Returns":
            lines.append(f"- `{found[1]}`: {found[2]}")
        else:
            lines.append(
                f"  {line.strip()}" if section in ("Args", "Attributes", "Raises") and line.strip() else line.strip()
            )
    return lines
