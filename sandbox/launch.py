"""A command about to become a job's process, and the descriptors it inherits."""

import os
import re
import select
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, BinaryIO


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipe:
    """Both ends of a pipe."""

    reader: BinaryIO
    writer: BinaryIO


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A command to supervise.

    The bootstrap reports to `channel`; bubblewrap tells `info` which process is the
    first of its namespace. Their writing ends and `files` are inherited, nothing else.
    """

    program: Path
    arguments: list[str]
    env: Mapping[str, str]
    cwd: str
    user: int | None
    channel: Pipe
    files: list[BinaryIO] = field(default_factory=list)
    info: Pipe | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A started command and our ends of its standard streams."""

    process: subprocess.Popen[bytes]
    stdin: IO[bytes]
    stdout: IO[bytes]
    stderr: IO[bytes]


def open_pipe(held: ExitStack) -> Pipe:
    """Open a pipe for as long as `held`."""
    reader, writer = os.pipe()
    return Pipe(
        reader=held.enter_context(open(reader, "rb", buffering=0)),
        writer=held.enter_context(open(writer, "wb", buffering=0)),
    )


def memory_file(name: str, content: bytes, held: ExitStack) -> BinaryIO:
    """Make a file without a path, at its beginning, for as long as `held`."""
    file = held.enter_context(os.fdopen(os.memfd_create(name), "wb+", buffering=0))
    unwritten = memoryview(content)
    while unwritten:
        unwritten = unwritten[file.write(unwritten) :]
    file.seek(0)
    return file


def spawn(launch: Launch, held: ExitStack) -> Started:
    """Start the command, leader of its own session, with nothing of ours but `files`.

    It is spawned by the calling thread, whose end would be its end (bubblewrap's
    --die-with-parent follows the thread). Raises `OSError` when it cannot start.
    """
    inherited = [launch.channel.writer, *launch.files]
    if launch.info:
        inherited.append(launch.info.writer)
    process = subprocess.Popen(
        # By its name alone: a job can read the command line of its bubblewrap.
        [launch.program.name, *launch.arguments],
        executable=launch.program,
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=launch.env,
        cwd=launch.cwd,
        pass_fds=[file.fileno() for file in inherited],
        start_new_session=True,
        user=launch.user,
        group=launch.user,
        extra_groups=None if launch.user is None else [],
    )
    stdin, stdout, stderr = map(
        _opened, (process.stdin, process.stdout, process.stderr)
    )
    for file in (stdin, stdout, stderr):
        held.enter_context(file)
    for file in inherited:
        file.close()
    return Started(
        process=process,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
    )


def _opened(file: IO[bytes] | None) -> IO[bytes]:
    assert file is not None  # asked for as PIPE
    return file


def first_of_namespace(info: Pipe | None) -> int | None:
    """Read what bubblewrap has told by now; `None` when it came to nothing."""
    if info is None or not select.select([info.reader], [], [], 0)[0]:
        return None
    # Not parsed as JSON: a bubblewrap that was killed has told only a part of it.
    told = re.search(rb'"child-pid": (\d+)', info.reader.read(4096))
    return int(told[1]) if told else None
