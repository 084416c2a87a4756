"""The doorbell: wake other processes after a commit.

A waiting process binds one Unix datagram socket per channel in the run directory; a
sender writes one byte to each socket of that channel. A ring is a hint: it may be lost
or doubled, so whoever waits looks at the database first, and again at least once a
second.

What loses nothing: bind, look, wait, drain, look. The sender rings after COMMIT.
Only `broker` uses this; the other packages get a `Bell` from `broker.open_broker`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Final, Protocol

# Waiters look again this often even if no bell rang: a lost ring costs a second.
FALLBACK_SECONDS: Final = 1.0
# A directory whose mtime is younger than this may change again without a new mtime,
# because the kernel stamps files with the coarse clock (one tick: up to 10 ms).
_COARSE_TICK_NS: Final = 20_000_000
# Ten undrained datagrams fill a socket (net.unix.max_dgram_qlen): it rings already.
_RINGING_ALREADY: Final = {errno.EAGAIN, errno.ENOBUFS}
_ADDRESS_BYTES: Final = 108  # of sockaddr_un.sun_path, the final zero included
_NOBODY_THERE: Final = {errno.ECONNREFUSED, errno.ENOENT}


class Bell(Protocol):
    """One channel as a waiter sees it."""

    @property
    def generation(self) -> int:
        """How often it rang; read it before you look at the database."""

    @property
    def is_closed(self) -> bool:
        """Whether it will never ring again: then a wait returns at once."""

    def wait(self, seen: int, timeout_seconds: float) -> bool:
        """Block until the generation passes `seen`; False when the time ran out."""

    def nudge(self) -> None:
        """Wake one thread of this process that waits, so that it looks again."""

    def close(self) -> None:
        """Stop listening; whoever waits returns."""


class Bells(Protocol):
    """All channels of one home."""

    def ring(self, channel: str) -> None:
        """Wake every process that listens on the channel."""

    def listen(self, channel: str, *, wake_all: bool = True) -> Bell:
        """Begin to listen; with `wake_all` off, one ring wakes one thread."""

    def close(self) -> None:
        """Close every bell and the sender; for a process that outlives its home."""


class UnixBells:
    """Doorbells as Unix datagram sockets in one run directory."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        # Socket addresses hold 108 bytes; a path through the directory's own descriptor
        # is short whatever the home is called, but takes the kernel longer.
        self._path = os.fsencode(directory.absolute())
        self._descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.setblocking(False)
        self._bells: list[UnixBell] = []
        self._names: dict[str, list[str]] = {}
        self._stamp_ns = -1
        self._lock = threading.Lock()

    def ring(self, channel: str) -> None:
        """Write one byte to each socket of the channel; never blocks, never fails."""
        for name in self._listeners(channel):
            try:
                self._sender.sendto(b"!", self._address(name))
            except OSError as error:
                if error.errno in _NOBODY_THERE:
                    self._remove(name)
                elif error.errno not in _RINGING_ALREADY:
                    raise

    def listen(self, channel: str, *, wake_all: bool = True) -> Bell:
        """Bind a socket for this process and channel."""
        name = f"{channel}.{os.getpid()}.{uuid.uuid4().hex[:8]}.bell"
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiver.setblocking(False)
        receiver.bind(self._address(name))
        bell = UnixBell(receiver, self._directory / name, wake_all=wake_all)
        self._bells.append(bell)
        return bell

    def close(self) -> None:
        """Close every bell, the sending socket and the directory."""
        if self._sender.fileno() < 0:
            return
        for bell in self._bells:
            bell.close()
        self._sender.close()
        os.close(self._descriptor)

    def _address(self, name: str) -> bytes:
        direct = self._path + b"/" + name.encode()
        if len(direct) < _ADDRESS_BYTES:
            return direct
        return f"/proc/self/fd/{self._descriptor}/{name}".encode()

    def _listeners(self, channel: str) -> list[str]:
        stamp_ns = os.fstat(self._descriptor).st_mtime_ns
        with self._lock:
            if stamp_ns != self._stamp_ns:
                self._names = self._scan()
                settled = time.time_ns() - stamp_ns > _COARSE_TICK_NS
                self._stamp_ns = stamp_ns if settled else -1
            return list(self._names.get(channel, ()))

    def _scan(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        for name in os.listdir(self._descriptor):  # noqa: PTH208 (a descriptor)
            if name.endswith(".bell"):
                names.setdefault(name.rsplit(".", 3)[0], []).append(name)
        return names

    def _remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)


class UnixBell:
    """One socket; the first thread to wait polls it, the others wait for that one."""

    def __init__(self, receiver: socket.socket, path: Path, *, wake_all: bool) -> None:
        self._socket = receiver
        self._path = path
        self._wake_all = wake_all
        self._changed = threading.Condition()
        self._generation = 0
        self._led = False
        self._closed = False
        self._nudges = 0
        self._poll = select.poll()
        self._poll.register(receiver, select.POLLIN)

    @property
    def generation(self) -> int:
        """How often it rang."""
        return self._generation

    @property
    def is_closed(self) -> bool:
        """Whether it will never ring again: then a wait returns at once."""
        return self._closed

    def wait(self, seen: int, timeout_seconds: float) -> bool:
        """Block until the generation passes `seen`, a nudge, or the time is over."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            with self._changed:
                remaining = deadline - time.monotonic()
                if self._closed or self._generation > seen or remaining <= 0:
                    return self._leave(rang=self._generation > seen)
                if self._led:
                    if self._follow(remaining):
                        return self._leave(rang=True)
                    continue
                self._led = True
            rang = False
            try:
                rang = bool(self._poll.poll(remaining * 1000))
            finally:
                self._stop_leading(rang=rang)

    def _leave(self, *, rang: bool) -> bool:
        # A wake-up meant to name a new leader may have reached a thread that leaves.
        if not self._led:
            self._changed.notify()
        return rang and not self._closed

    def _follow(self, remaining: float) -> bool:
        nudges = self._nudges
        self._changed.wait(remaining)
        return self._nudges > nudges

    def _stop_leading(self, *, rang: bool) -> None:
        # In one go: a thread that took the lead between the end of the poll and the new
        # generation would poll for a ring that has been heard already.
        with self._changed:
            if rang:
                self._heard()
            self._led = False
            self._changed.notify()
            if self._closed:
                self._socket.close()

    def _heard(self) -> None:
        with contextlib.suppress(OSError):
            while self._socket.recv(1):
                pass
        self._generation += 1
        if self._wake_all:
            self._changed.notify_all()

    def nudge(self) -> None:
        """Wake one thread of this process that waits."""
        with self._changed:
            self._nudges += 1
            self._changed.notify()

    def close(self) -> None:
        """Unlink the socket and let every waiter return."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
            is_polled = self._led
        # A datagram to oneself ends the leader's poll; closing the socket would not.
        with contextlib.suppress(OSError):
            self._socket.sendto(b"!", self._socket.getsockname())
        self._path.unlink(missing_ok=True)
        if not is_polled:  # else the leader closes it when it has left the poll
            self._socket.close()
