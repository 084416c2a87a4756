"""Talking to agents: `ask`, `send` and `chat`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import click

from webapp.cli.client import Answer, Client, api
from webapp.cli.options import ID, common_options, connect, current
from webapp.cli.output import emit_json, safe

# broker.states has the same names; a test compares them, an import would cost time.
PRIORITIES: Final = ("interrupt", "wake", "normal", "low")
LONGEST_WAIT_SECONDS: Final = 55  # what the server waits at most in one request
# Between two waits: a server that is draining answers at once.
PAUSE_SECONDS: Final = 0.2
ACCEPTED: Final = 202
ENDINGS: Final = ("completed", "failed", "cancelled")


model_option = click.option(
    "--model", metavar="NAME", help="Who answers this one, in place of the agent's."
)


@click.command(epilog="Example: roost ask scout 'What is 6 * 7?'")
@click.argument("agent", type=ID)
@click.argument("text")
@click.option(
    "--wait",
    "wait_seconds",
    metavar="SECONDS",
    type=click.IntRange(min=0),
    default=60,
    show_default=True,
    help="How long to wait for the reply.",
)
@model_option
@common_options
def ask(agent: str, text: str, wait_seconds: int, model: str | None) -> None:
    """Ask an agent and print its reply; TEXT - reads standard input."""
    client = connect()
    deadline = time.monotonic() + wait_seconds
    wait = min(wait_seconds, LONGEST_WAIT_SECONDS)
    body = {"text": _text(text), "wait_seconds": wait, **_asked_of(model)}
    answer = client.post(api("agents", agent, "ask"), body)
    said = _late_reply(client, answer, deadline)
    if current().as_json:
        emit_json(said)
    else:
        click.echo(safe(said["text"]))


@click.command(epilog="Example: roost send scout 'The build is red.' --priority low")
@click.argument("agent", type=ID)
@click.argument("text")
@click.option(
    "--priority",
    type=click.Choice(PRIORITIES),
    default="wake",
    show_default=True,
    help="How much it hurries.",
)
@model_option
@common_options
def send(agent: str, text: str, priority: str, model: str | None) -> None:
    """Send an agent a message and go on; TEXT - reads standard input."""
    body = {"text": _text(text), "priority": priority, **_asked_of(model)}
    said = connect().post(api("agents", agent, "messages"), body).body
    if current().as_json:
        emit_json(said)
    else:
        click.echo(f"event {said['event_id']} turn {said.get('turn_id') or '-'}")


def _asked_of(model: str | None) -> dict[str, str]:
    return {} if model is None else {"model": model}


@click.command(epilog="Example: roost chat scout")
@click.argument("agent", type=ID)
@common_options
def chat(agent: str) -> None:
    """Talk with an agent, line by line; Ctrl-D ends it."""
    client = connect()
    client.get(api("agents", agent))
    for line in _lines(agent):
        _show_reply(client, agent, line)


def _text(argument: str) -> str:
    if argument != "-":
        return argument
    return sys.stdin.buffer.read().decode("utf-8", errors="replace")


def _late_reply(client: Client, answer: Answer, deadline: float) -> dict[str, Any]:
    """Return the reply, waiting for it until the deadline where it is not there yet."""
    said: dict[str, Any] = answer.body
    if answer.status != ACCEPTED:
        return said
    turn_id = str(said["turn_id"])
    while (left := deadline - time.monotonic()) > 0:
        wait = min(int(left) + 1, LONGEST_WAIT_SECONDS)
        task = client.get(api("tasks", turn_id), wait_seconds=wait)
        if task["status"] in ENDINGS:
            return _turn_reply(task)
        time.sleep(PAUSE_SECONDS)
    raise click.ClickException(
        f"{turn_id} is still at work. Its reply will be in: roost show {turn_id}"
    )


def _turn_reply(task: dict[str, Any]) -> dict[str, Any]:
    if task["status"] == "completed":
        text = (task.get("result") or {}).get("text", "")
        return {"text": text, "turn_id": task["id"], "usage": task.get("usage")}
    why = (task.get("error") or {}).get("message")
    raise click.ClickException(
        f"{task['id']} {task['status']}{f': {why}' if why else '.'} "
        f"More in: roost show {task['id']}"
    )


def _lines(agent: str) -> Iterator[str]:
    """Yield what is typed, or piped in, until it ends; empty lines say nothing."""
    typing = sys.stdin.isatty()
    if typing:
        import readline  # noqa: F401  (once loaded, input() edits and recalls lines)
    while line := _prompted(agent) if typing else sys.stdin.readline():
        if line.strip():
            yield line.strip()


def _prompted(agent: str) -> str:
    try:
        return input(f"you → {agent}: ") + "\n"
    except EOFError:
        click.echo()
        return ""


def _show_reply(client: Client, agent: str, line: str) -> None:
    from webapp.cli.follow import Pauses, reply
    from webapp.cli.transcript import Transcript

    transcript = Transcript(talk_only=True)
    try:
        for event in reply(client, agent, line, Pauses()):
            if current().as_json:
                emit_json(event, one_line=True)
            else:
                transcript.show(event)
    finally:
        transcript.close()
