"""Completion scripts. For ``python -m`` the shell sees one command, python, so what follows ``-m`` decides.

Each script brings one command's completion, made by shtab, and the same small dispatcher: several may be loaded.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar, get_args

Shell = Literal["bash", "zsh"]
SHELLS: tuple[Shell, ...] = get_args(Shell)

Parse = TypeVar("Parse", bound=Callable[[str], Any])


def completes_files(parse: Parse) -> Parse:
    """Marks an option's ``type`` as one of paths: shells complete file names for it."""
    parse.completes_files = True  # type: ignore[attr-defined]
    return parse


_DISPATCH = {
    "bash": """\
# Which command follows python -m, and what completes it. Anything else after python is completed as file names.
_marquee_python() {
  local words
  for words in 2 1; do
    local name="${COMP_WORDS[*]:2:$words}"
    name="_shtab_marquee_${name//[. ]/_}"
    if [[ ${COMP_WORDS[1]} == -m && COMP_CWORD -gt words+1 ]] && declare -F "$name" > /dev/null; then
      local -a COMP_WORDS=("$name" "${COMP_WORDS[@]:words+2}")
      local COMP_CWORD=$((COMP_CWORD - words - 1))
      "$name"
      if ((COMP_CWORD == 1)); then  # a second word that has a script of its own
        COMPREPLY+=($(compgen -W "$(compgen -A function "${name}_" | sed "s/^${name}_//")" -- "${COMP_WORDS[1]}"))
      fi
      return
    fi
  done
}
complete -o default -F _marquee_python python python3
""",
    "zsh": """\
# Which command follows python -m, and what completes it. Anything else after python is zsh's own business.
_marquee_python() {
  local -i count
  local name
  for count in 2 1; do
    name="_shtab_marquee_${${(j: :)words[3,2+count]}//[. ]/_}"
    if [[ $words[2] == -m ]] && (( CURRENT > count + 2 )) && (( $+functions[$name] )); then
      words=("$name" "${(@)words[count+3,-1]}")
      (( CURRENT -= count + 1 ))
      if (( CURRENT == 2 )); then  # a second word that has a script of its own
        local -a seconds=(${${(Mk)functions:#${name}_*}#${name}_})
        compadd -- ${seconds:#*commands}
      fi
      $name
      return
    fi
  done
  _python
}
compdef _marquee_python python python3
""",
}


def completion_script(parser: argparse.ArgumentParser, shell: Shell) -> str:
    """The script that teaches a shell a command's subcommands and options; options that take a path complete files.

    Args:
        parser: its ``prog`` is ``python -m`` and the command, or one word.
        shell: which one; the script is for ``eval``.
    """
    import shtab

    command = "marquee_" + "_".join(parser.prog.split()[2:]).replace(".", "_")
    for action in _actions(parser):
        if hasattr(action.type, "completes_files"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    if " " not in parser.prog:
        return str(shtab.complete(parser, shell, root_prefix=f"{parser.prog}_console"))
    before, parser.prog = parser.prog, command
    try:
        return shtab.complete(parser, shell, root_prefix=command) + "\n" + _DISPATCH[shell]
    finally:
        parser.prog = before


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                yield from _actions(subparser)
