"""The provider that models.py starts: Chat Completions, streamed, each token a time.

`provider.py PORT`. A token is the CLOCK_MONOTONIC, in nanoseconds, at which it is sent:
one clock for all processes of a machine, so whoever reads it knows how old it is. The
message says how it is answered: `say-few` at once, `say-many` after some seconds, so
that the streams of a crowd begin neither in step nor while their turns do.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How the model speaks."""

    tokens: int
    gap_seconds: float
    silent_seconds: tuple[float, float]


# A piece has two tokens or three, so this is a model of middling speed. A hundred at 25
# pieces a second take all of two cores, and then waiting is all that is measured.
MANNERS: Final = {
    "say-few": Manner(tokens=8, gap_seconds=0.02, silent_seconds=(0.0, 0.0)),
    "say-many": Manner(tokens=60, gap_seconds=0.1, silent_seconds=(1.5, 4.5)),
}
USAGE: Final = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


async def main() -> None:
    """Serve until the process is ended."""
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = head.lower().partition(b"content-length:")[2].split()[0]
            asked = json.loads(await reader.readexactly(int(length)))
            said = str(asked["messages"][-1])
            await _speak(next(m for w, m in MANNERS.items() if w in said), writer)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _speak(manner: Manner, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(random.uniform(*manner.silent_seconds))
    writer.write(HEAD)
    due = asyncio.get_running_loop().time()
    for _ in range(manner.tokens):
        _send(writer, _choice({"content": f"{time.monotonic_ns()} "}))
        await writer.drain()
        due += manner.gap_seconds
        await asyncio.sleep(due - asyncio.get_running_loop().time())
    _send(writer, _choice({}, "stop"))
    _send(writer, {**_chunk([]), "usage": USAGE})
    writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
    await writer.drain()


def _send(writer: asyncio.StreamWriter, chunk: dict[str, Any]) -> None:
    text = f"data: {json.dumps(chunk)}\n\n".encode()
    writer.write(b"%x\r\n%b\r\n" % (len(text), text))


def _choice(delta: dict[str, str], ending: str | None = None) -> dict[str, Any]:
    return _chunk([{"index": 0, "delta": delta, "finish_reason": ending}])


def _chunk(choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1763740800,
        "model": "bench",
        "choices": choices,
    }


if __name__ == "__main__":
    asyncio.run(main())
