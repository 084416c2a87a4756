"""Server-sent events: bytes in, messages out; pure, as the HTML standard has it.

https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One dispatched event; `id` is the last one seen, "" when there was none."""

    event: str
    data: str
    id: str


@dataclass(frozen=True, slots=True)
class Retry:
    """The server says how long to wait before connecting again."""

    milliseconds: int


@dataclass(slots=True)
class _Block:
    """What the lines since the last blank one have said."""

    id: str = ""
    event: str = ""
    data: list[str] = field(default_factory=list)

    def take(self) -> Message | None:
        """End the block; the id stays for those after it."""
        event, data = self.event, self.data
        self.event, self.data = "", []
        if not data:
            return None
        return Message(event=event or "message", data="\n".join(data), id=self.id)

    def read(self, name: str, value: str) -> Retry | None:
        """Take in one field; unknown ones mean nothing."""
        if name == "data":
            self.data.append(value)
        elif name == "event":
            self.event = value
        elif name == "id" and "\0" not in value:
            self.id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            return Retry(int(value))
        return None


def parse(chunks: Iterable[bytes]) -> Iterator[Message | Retry]:
    """Yield the messages of a stream cut anywhere; an unfinished last one is lost."""
    block = _Block()
    for line in _lines(chunks):
        if not line:
            said: Message | Retry | None = block.take()
        else:
            said = block.read(*_field(line))
        if said is not None:
            yield said


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")  # a comment is a field without a name
    return name, value.removeprefix(" ")


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield lines ended by LF, CR or CRLF, as soon as the end is there."""
    for number, line in enumerate(_raw_lines(chunks)):
        text = line.removeprefix(BYTE_ORDER_MARK) if number == 0 else line
        yield text.decode("utf-8", errors="replace")


def _raw_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest, after_cr = b"", False
    for chunk in chunks:
        if not chunk:
            continue
        # The LF of a CRLF whose CR ended the chunk before: that line is out already.
        new = chunk[1:] if after_cr and chunk.startswith(b"\n") else chunk
        pieces = (rest + new).splitlines(keepends=True)
        rest = (
            b"" if not pieces or pieces[-1].endswith((b"\r", b"\n")) else pieces.pop()
        )
        after_cr = chunk.endswith(b"\r")
        yield from (piece.rstrip(b"\r\n") for piece in pieces)
