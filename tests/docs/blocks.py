"""The blocks of a document that are meant to be run, and what they are to print.

A `console` block after `<!-- run -->` is a session: `$ ` begins a command, `> `
goes on with it, anything else is what the command before prints.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

# A document must not keep a test run waiting for ever.
SESSION_SECONDS: Final = 60
_BLOCK: Final = re.compile(
    r"^<!-- run -->\n(?P<fence>`{3,})console\n(?P<body>.*?)^(?P=fence)$", re.M | re.S
)
_MARK: Final = "=== the command before is over: "
# What differs from run to run.
_MASKS: Final = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z"), "TIME"),
    (re.compile(r"\bevent \d+\b"), "event N"),
)


@dataclass(slots=True)
class Command:
    """A command as it stands in a document, and what it is to print."""

    text: str
    shown: list[str] = field(default_factory=list)

    @property
    def expected(self) -> str:
        return masked("\n".join(self.shown))


def commands(document: Path) -> list[Command]:
    """Return the commands of a document's blocks, in order."""
    found: list[Command] = []
    for block in _BLOCK.finditer(document.read_text()):
        for line in block["body"].splitlines():
            if line.startswith("$ "):
                found.append(Command(line.removeprefix("$ ")))
            elif line.startswith(">"):
                found[-1].text += "\n" + line.removeprefix(">").removeprefix(" ")
            else:
                found[-1].shown.append(line)
    return found


def run(
    session: list[Command], environ: dict[str, str], directory: Path
) -> Iterator[tuple[Command, str, int]]:
    """Run a document's commands in one shell; yield each with its output and status."""
    script = directory / "session.sh"
    mark = f"status=$?; echo; echo '{_MARK}'$status"
    script.write_text("".join(f"{each.text}\n{mark}\n" for each in session))
    done = subprocess.run(
        ["bash", script],
        cwd=directory,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SESSION_SECONDS,
        check=False,
    )
    pieces = re.split(rf"\n{re.escape(_MARK)}(\d+)\n", done.stdout)
    outputs, statuses = pieces[0::2], pieces[1::2]
    for command, output, status in zip(session, outputs, statuses, strict=False):
        yield command, masked(output), int(status)


def masked(text: str) -> str:
    """Replace what differs from run to run."""
    for pattern, word in _MASKS:
        text = pattern.sub(word, text)
    return text.strip()
