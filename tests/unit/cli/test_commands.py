"""The set of commands: listed, documented, quick to list, well-behaved when stopped."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from broker.states import Priority, TaskStatus
from webapp.cli import roost as group
from webapp.cli.group import MODULES
from webapp.cli.look import STATUSES
from webapp.cli.talk import ENDINGS, PRIORITIES

ROOT = Path(__file__).parents[3]
ROOST = str(Path(sys.executable).with_name("roost"))
HEAVY = ("flask", "huey", "requests", "peewee", "rich", "broker", "dotenv")


def all_commands() -> list[str]:
    return group.list_commands(click.Context(group))


@pytest.mark.parametrize("name", MODULES)
def test_every_command_has_one_sentence_of_help_and_an_example(name: str) -> None:
    result = CliRunner().invoke(group, [name, "--help"])
    assert result.exit_code == 0
    command = group.get_command(click.Context(group), name)
    assert command is not None
    assert command.help is not None
    assert re.fullmatch(r"[A-Z][^.]*\.", command.help)
    assert f"Example: roost {name}" in result.output


@pytest.mark.parametrize("name", all_commands())
def test_every_command_is_in_the_reference_with_an_example(name: str) -> None:
    page = (ROOT / "docs/reference/cli.md").read_text()
    section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    assert re.search(rf"^    roost {name}\b", section, re.MULTILINE), (
        f"docs/reference/cli.md needs a section '## {name}' with an indented example."
    )


@pytest.mark.parametrize("name", MODULES)
def test_every_option_is_in_the_reference(name: str) -> None:
    page = (ROOT / "docs/reference/cli.md").read_text()
    section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    common = page.partition("\n## ")[0]
    command = group.get_command(click.Context(group), name)
    assert command is not None
    for param in command.params:
        for option in param.opts if isinstance(param, click.Option) else ():
            assert f"`{option}" in section or f"`{option}" in common, option


def test_help_lists_the_commands_of_other_packages_without_loading_them() -> None:
    result = CliRunner().invoke(group, ["--help"])
    assert result.exit_code == 0
    for name in all_commands():
        assert re.search(rf"^  {name} ", result.output, re.MULTILINE)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from webapp.cli import roost\n"
        "roost(['--help'], prog_name='roost', standalone_mode=False)\n"
        "print(sorted(name for name in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = done.stderr
    assert "'webapp.cli.tail'" in loaded
    assert [name for name in HEAVY if f"'{name}'" in loaded] == []


def test_a_misspelt_command_gets_the_nearest_one() -> None:
    result = CliRunner().invoke(group, ["agnets"])
    assert result.exit_code == 2
    assert "Did you mean 'agents'?" in result.stderr


def test_version_is_told_both_ways() -> None:
    told = [CliRunner().invoke(group, [ask]).output for ask in ("version", "--version")]
    assert told[0] == told[1]
    assert re.fullmatch(r"roost \d+\.\d+\.\d+\n", told[0])


def test_the_names_copied_for_speed_are_the_broker_s() -> None:
    assert set(PRIORITIES) == {*Priority}
    assert set(STATUSES) == {*TaskStatus}
    assert set(ENDINGS) < set(STATUSES)


def test_ctrl_c_ends_a_command_with_130_and_without_a_word(
    server, home, answer
) -> None:
    server.gives("GET /api/v1/events", {"items": [], "next_cursor": None})
    beat = b': heartbeat\n\nid: 1\nevent: x\ndata: {"id": 1}\n\n'
    server.answers("GET /api/v1/events/stream", answer(chunks=(beat,)))
    with subprocess.Popen(
        [ROOST, "tail", "-f", "--json", "--url", server.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as tail:
        assert tail.stdout is not None
        assert tail.stdout.readline() == '{"id": 1}\n'
        tail.send_signal(signal.SIGINT)
        _, said = tail.communicate()
    assert (tail.returncode, said.strip()) == (130, "")


def test_a_reader_that_leaves_early_is_no_error_to_speak_of(server, home) -> None:
    agents = [{"id": f"agent-{n}"} for n in range(100)]
    server.gives("GET /api/v1/agents", {"items": agents, "next_cursor": None})
    read, write = os.pipe()
    os.close(read)
    command = [ROOST, "agents", "--url", server.url]
    with os.fdopen(write) as out:
        done = subprocess.run(
            command, stdout=out, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.stderr == ""


def on_a_terminal(*arguments: str, **environ: str) -> str:
    """Run the command on a terminal of its own; return what it shows."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(
            ROOST, [ROOST, *arguments], {**os.environ, "TERM": "xterm", **environ}
        )
    shown = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # EIO: the other side has closed
            piece = b""
        if not piece:
            break
        shown += piece
    os.close(terminal)
    os.waitpid(pid, 0)
    return shown.decode()


SCOUT = {"id": "scout", "state": "idle", "name": "[red]\x1b]0;owned\x07", "model": "m"}


def test_a_terminal_gets_columns_and_colours_and_no_foreign_controls(
    server, home
) -> None:
    server.gives("GET /api/v1/agents", {"items": [SCOUT], "next_cursor": None})
    shown = on_a_terminal("agents", "--url", server.url, COLUMNS="200")
    assert "last_activity_at" in shown
    assert "\x1b[32midle" in shown
    assert "[red]\\x1b]0;owned\\x07" in shown


def test_no_colour_is_shown_where_none_is_wanted(server, home) -> None:
    server.gives("GET /api/v1/agents/scout", SCOUT)
    shown = on_a_terminal("show", "scout", "--url", server.url, NO_COLOR="1")
    assert "\x1b" not in shown
    assert "name: [red]\\x1b]0;owned\\x07" in shown
