"""The job's stdout and stderr: bytes in, whole characters out, under one cap."""

import codecs
from collections.abc import Callable
from typing import Literal

from sandbox.outcome import Output

STDERR_TAIL_CHARACTERS = 16 * 1024  # what a failure's message repeats of stderr


class Stream:
    """Decode one stream and emit it, holding back split characters and blank text."""

    def __init__(
        self, name: Literal["stdout", "stderr"], emit: Callable[[Output], None]
    ) -> None:
        self.tail = ""
        self._name = name
        self._emit = emit
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""

    def feed(self, data: bytes, *, final: bool = False) -> None:
        """Emit what `data` completes; blank text waits for what follows it."""
        text = self._held + self._decoder.decode(data, final)
        if not text.strip():
            self._held = text
            return
        self._held = ""
        if self._name == "stderr":
            self.tail = (self.tail + text)[-STDERR_TAIL_CHARACTERS:]
        self._emit(Output(stream=self._name, text=text))


class Meter:
    """Count the bytes of both streams against the cap."""

    def __init__(self, cap_bytes: int) -> None:
        self.is_over = False
        self._left = cap_bytes

    def admit(self, data: bytes) -> bytes:
        """Return the part of `data` that is still under the cap."""
        admitted = data[: self._left]
        self._left -= len(admitted)
        self.is_over = self.is_over or len(admitted) < len(data)
        return admitted
