"""On a terminal the commands print tables; in a pipe plain text, without an escape sequence."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
from small import dataset, run_config

from sdk.__main__ import main
from sdk.base.logs import TextLines
from sdk.bundles.bundle import Bundle
from sdk.shell.terminal import Page, show, show_markdown
from sdk.training.pipeline import train_bundle

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3|4|9|10)[0-9]m")
DATA = dataset()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    config = run_config(models=("ncf", "history", "content"))
    return train_bundle(DATA, config, tmp_path_factory.mktemp("terminal") / "bundle")


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """``on_terminal(work, columns)`` is what work writes to stdout where that is a terminal of this width."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")

    def written(work: Callable[[], object], columns: int = 140) -> str:
        leader, follower = os.openpty()
        parts: list[bytes] = []
        reader = threading.Thread(target=read_all, args=(leader, parts))
        reader.start()
        with monkeypatch.context() as patch, os.fdopen(follower, "w", encoding="utf-8") as stdout:
            patch.setattr(sys, "stdout", stdout)
            patch.setenv("COLUMNS", str(columns))  # Rich asks the process's first stdout, which is pytest's
            work()
        reader.join(timeout=30)
        os.close(leader)
        return b"".join(parts).decode().replace("\r\n", "\n")

    return written


def read_all(descriptor: int, parts: list[bytes]) -> None:
    while True:
        try:
            part = os.read(descriptor, 1 << 16)
        except OSError:  # how Linux says that the other end was closed
            return
        if not part:
            return
        parts.append(part)


def plain_lines(text: str) -> list[str]:
    return [line.rstrip() for line in ESCAPE.sub("", text).splitlines() if line.strip()]


def facts(bundle: Bundle, item: int) -> tuple[str, str, str]:
    row = DATA.items["item_id"].to_pylist().index(item)
    title, year, genres = (DATA.items[name][row].as_py() for name in ("title", "year", "genres"))
    return title, str(year), ", ".join(genres)


def test_recommend_is_a_table_with_year_genres_and_reason(bundle, on_terminal):
    user = int(bundle.encoded_users.known_ids[0])
    shown = on_terminal(lambda: main(["recommend", "--user", str(user), "--k", "3", "--bundle", str(bundle.path)]), 240)
    head, names, rule, *rows = plain_lines(shown)
    ids = bundle.recommend([user], 3).row(0)[0].tolist()
    assert head.startswith(f"for user {user}, made ")
    assert names.split() == ["#", "score", "title", "year", "genres", "reason"]
    assert set(rule.strip()) == {"─"}
    for place, (row, why) in enumerate(zip(rows, bundle.explain_recommendation(user, ids), strict=True), start=1):
        title, year, genres = facts(bundle, why.item_id)
        assert re.split(r" {2,}", row.strip()) == [str(place), f"{why.score:.3f}", title, year, genres, why.describe()]


def test_similar_is_a_table(bundle, on_terminal):
    item = int(bundle.encoded_items.known_ids[3])
    asked = ["similar", bundle.titles([item])[0], "--k", "2", "--bundle", str(bundle.path)]
    rows = plain_lines(on_terminal(lambda: main(asked), 240))[3:]
    for row, other in zip(rows, bundle.similar([item], 2).row(0)[0].tolist(), strict=True):
        title, year, genres = facts(bundle, other)
        assert re.split(r" {2,}", row.strip())[2:5] == [title, year, genres]
        assert bundle.explain(item, other).describe() in row


def test_evaluate_shows_the_figures_of_its_plain_text(bundle, on_terminal, capsys):
    asked = ["evaluate", "--samples", "0", "--bundle", str(bundle.path)]
    assert main(asked) == 0
    plain = capsys.readouterr().out
    shown = ESCAPE.sub("", on_terminal(lambda: main(asked), 240))
    words = {word for line in plain.splitlines() for word in line.split()}
    assert len(words) > 50
    assert words <= set(shown.split())


def test_what_holds_for_every_title_is_said_once(bundle, capsys):
    assert main(["recommend", "--user", "99999", "--k", "3", "--bundle", str(bundle.path)]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head == "for user 99999, made of what most people like (popular; user 99999 is not in this bundle):"
    assert len(rows) == 3
    assert all("(a popular title, liked in " in row for row in rows)


def test_in_a_pipe_there_is_no_escape_sequence_and_no_rule(bundle, capsys):
    for asked in (["recommend", "--user", "14"], ["evaluate", "--samples", "0"]):
        assert main([*asked, "--bundle", str(bundle.path)]) == 0
        text = capsys.readouterr().out
        assert "\x1b" not in text
        assert "─" not in text


PAGE = Page("a title", ("name", "figure"), (("one", "1.5"), ("two", "22")), frozenset({"figure"}), "a note")


def test_a_page_has_its_title_its_note_and_figures_to_the_right(on_terminal):
    head, note, _, _, one, two = plain_lines(on_terminal(lambda: show(["plain"], lambda: [PAGE])))
    assert (head, note) == ("a title", "a note")
    assert len(one) == len(two)


def test_on_80_columns_a_list_has_title_year_and_genres_in_one_column(bundle, on_terminal):
    user = int(bundle.encoded_users.known_ids[0])
    asked = ["recommend", "--user", str(user), "--k", "2", "--bundle", str(bundle.path)]
    shown = plain_lines(on_terminal(lambda: main(asked), 80))
    assert re.split(r" {2,}", shown[1].strip()) == ["#", "score", "title, genres", "reason"]
    assert max(map(len, shown)) <= 80
    first = bundle.recommend([user], 2).row(0)[0].tolist()[0]
    title, year, genres = facts(bundle, first)
    assert f"{title} ({year})" in shown[3]
    assert genres in shown[4]


def test_a_narrow_table_keeps_the_words_of_its_header(on_terminal):
    header = ("slice", "users", "rows", "DLRM", "NCF", "biased MF", "user and item means", "popularity")
    cells = ("light users (1 to 34)", "1,420", "12,585", *["0.7919 ±0.0206"] * 5)
    page = Page("t", header, (cells,), frozenset(header[1:]))
    shown = on_terminal(lambda: show([], lambda: [page]), 80)
    assert "popularity" in shown
    assert "light users" in shown
    assert max(map(len, plain_lines(shown))) <= 80


MARKDOWN = "# Results\n\n| model | AUC |\n|---|---:|\n| DLRM \x1b[2J | 0.8 |\n"


def test_markdown_is_drawn_on_a_terminal_and_printed_as_it_is_in_a_pipe(on_terminal, capsys):
    show_markdown(MARKDOWN)
    assert capsys.readouterr().out == MARKDOWN.replace("\x1b", "\ufffd")
    shown = on_terminal(lambda: show_markdown(MARKDOWN))
    assert "|" not in shown
    assert "\x1b[2J" not in shown
    assert [line.split() for line in plain_lines(shown)[1:2]] == [["model", "AUC"]]


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_are_left_out_where_they_are_not_wanted(on_terminal, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    shown = on_terminal(lambda: show(["plain"], lambda: [PAGE]))
    assert not COLOUR.search(shown)
    assert not ESCAPE.search(shown)
    assert ("plain" in shown) == (name == "TERM")


PROGRAM = [sys.executable, "-c", "import sys; from sdk.shell.console import main; sys.exit(main())"]
BOLD, RED, YELLOW, CYAN = "\x1b[1m", "\x1b[31m", "\x1b[33m", "\x1b[36m"
NO_VARIABLES = dict.fromkeys(("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "PYTHON_COLORS", "COLUMNS"))


def said(*words: str, terminal: bool = True, **env: str) -> str:
    """What a command writes, on both streams, where they are one terminal of 80 columns, or one pipe."""
    variables = {k: v for k, v in {**os.environ, "TERM": "xterm-256color"}.items() if k not in NO_VARIABLES} | env
    if not terminal:
        done = subprocess.run(
            [*PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=variables, timeout=120
        )
        return done.stdout
    leader, follower = os.openpty()
    process = subprocess.Popen([*PROGRAM, *words], stdin=follower, stdout=follower, stderr=follower, env=variables)
    os.close(follower)
    parts: list[bytes] = []
    read_all(leader, parts)
    os.close(leader)
    process.wait(timeout=120)
    return b"".join(parts).decode().replace("\r\n", "\n")


def test_help_on_a_terminal_is_the_page_with_bold_headings_and_coloured_names():
    shown, plain = said("score", "--help"), said("score", "--help", terminal=False)
    assert "\x1b" not in plain
    assert ESCAPE.sub("", shown) == plain
    for heading in ("usage:", "required:", "newer ratings and filters:", "general:", "example:", "exit codes:"):
        assert f"{BOLD}{heading}\x1b[0m" in shown
    for option in ("--out OUT", "--rollback [YYYY-MM-DD]", "-q, --quiet", "--device {auto,cpu,cuda}"):
        assert f"  {CYAN}{option}\x1b[0m" in shown
    assert set(ESCAPE.findall(shown)) == {BOLD, CYAN, "\x1b[0m"}


def test_the_list_of_commands_is_coloured_in_the_same_way():
    shown = said("--help")
    assert f"    {CYAN}score\x1b[0m   " in shown
    assert f"{BOLD}commands:\x1b[0m" in shown


def test_an_error_is_red_and_a_warning_yellow():
    first, second = said("score", "--bundel", "b").splitlines()
    assert first == f"{RED}marquee score: unknown option --bundel; did you mean --bundle?\x1b[0m"
    assert second == "help: marquee score --help"
    assert said("evaluate", "--bundle", "/nowhere/b").startswith(f"{RED}/nowhere/b")
    record = logging.LogRecord("sdk", logging.WARNING, "x.py", 1, "of %s", ("\x1b[2J",), None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORCE_COLOR", "1")
        assert TextLines().format(record) == f"{YELLOW}of \ufffd[2J\x1b[0m"
        record.levelno = logging.INFO
        assert "\x1b" not in TextLines().format(record)


@pytest.mark.parametrize(
    ("variables", "terminal", "coloured"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, True, True),
        ({"FORCE_COLOR": "0"}, False, False),
        ({"CLICOLOR_FORCE": "1"}, False, True),
        ({"CLICOLOR_FORCE": "0"}, False, False),
        ({"PYTHON_COLORS": "0"}, True, True),  # is for Python's own messages
    ],
)
def test_help_and_errors_are_coloured_where_that_is_wanted(variables, terminal, coloured):
    for words in (["taste", "--help"], ["taste", "--nonsense"]):
        assert ("\x1b[" in said(*words, terminal=terminal, **variables)) == coloured, words


def test_results_in_a_pipe_hold_no_colour_even_where_it_is_asked_for(bundle, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["recommend", "--user", "14", "--bundle", str(bundle.path)]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_json_log_lines_and_completion_scripts_are_never_coloured():
    assert "\x1b" not in said("evaluate", "--bundle", "/nowhere/b", "--log-format", "json", FORCE_COLOR="1")
    assert "\x1b" not in said("--print-completion", "bash", FORCE_COLOR="1").replace("\\x1b", "")
    assert "\x1b" not in said("--version", FORCE_COLOR="1")


def test_every_cell_stays_readable_on_a_narrow_terminal(on_terminal):
    cells = ("light users (1 to 34)", *["0.7919 ±0.0151"] * 5)
    page = Page("t", ("slice", "a", "b", "c", "d", "e"), (cells,), frozenset("abcde"))
    shown = on_terminal(lambda: show([], lambda: [page]), 80)
    assert "…" not in shown
    assert shown.count("0.7919") == shown.count("±0.0151") == 5
    assert max(map(len, plain_lines(shown))) <= 80


def test_titles_are_shown_as_they_are_and_steer_neither_terminal_nor_markup(on_terminal):
    page = Page(
        "[red]t[/red]", ("title",), (("[bold]Brackets[/bold] :smile: \x1b[2J\x07gone\tand more",),), frozenset()
    )
    shown = on_terminal(lambda: show([], lambda: [page]))
    assert "[red]t[/red]" in shown
    assert "[bold]Brackets[/bold] :smile: \ufffd[2J\ufffdgone" in shown
    assert "\x07" not in shown
    assert "\x1b[2J" not in shown
