"""An HTTP exchange that ends: at its deadline, or when the turn is interrupted.

The timeout of a socket counts anew with every byte, so a server that drips never runs
into it, and a resolver knows no timeout at all. So the exchange has a thread of its
own, and who asked for it waits as long as it may and no longer. Then its connection is
shut down, which ends what blocks in that thread, and a connection that comes about
later is closed before anything is sent on it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from requests import RequestException
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from agents.control import Interrupt

T = TypeVar("T")


class Ended(RequestException):
    """The exchange was ended before it was over; `is_sent` when something may have left
    this machine, `is_interrupted` when it was not for the time."""

    def __init__(self, *, is_sent: bool, is_interrupted: bool) -> None:
        super().__init__("interrupted" if is_interrupted else "out of time")
        self.is_sent = is_sent
        self.is_interrupted = is_interrupted


class Line:
    """What an exchange is connected by; it can be cut from another thread."""

    def __init__(self) -> None:
        self._held: list[socket.socket] = []
        self._is_cut = False
        self._lock = threading.Lock()

    def hold(self, connected: socket.socket) -> socket.socket:
        """Watch a new connection. A copy is held: TLS takes the socket itself away."""
        with self._lock:
            if self._is_cut:
                connected.close()
                raise ConnectionAbortedError("the exchange is over")
            self._held.append(connected.dup())
        return connected

    def cut(self) -> bool:
        """End every connection, and those to come; return whether there was one."""
        with self._lock:
            self._is_cut = True
            for each in self._held:
                with contextlib.suppress(OSError):  # the other side was first
                    each.shutdown(socket.SHUT_RDWR)
            return bool(self._held)

    def release(self) -> None:
        """Let go: the exchange is over."""
        with self._lock:
            self._is_cut = True
            for each in self._held:
                each.close()


class LineAdapter(HTTPAdapter):
    """An adapter of requests whose connections are held by a line."""

    def __init__(self, line: Line) -> None:
        self._line = line
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """Make the manager of the pools, with ours in them."""
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = _pools(self._line)


def exchange(
    work: Callable[[Line], T], seconds: float, interrupt: Interrupt | None = None
) -> T:
    """Run `work` over a line, and return or raise what it does; raise Ended when the
    seconds are over first, or the interrupt is raised."""
    line, done, result = Line(), threading.Event(), Future[T]()

    def run() -> None:
        try:
            result.set_result(work(line))
        except BaseException as error:  # noqa: BLE001 (raised again by who waits)
            result.set_exception(error)
        finally:
            done.set()
            line.release()

    threading.Thread(target=run, name="exchange", daemon=True).start()
    with (interrupt or Interrupt()).cutting(done.set):
        is_awake = done.wait(seconds)
    if result.done():
        return result.result()
    raise Ended(is_sent=line.cut(), is_interrupted=is_awake)


def _pools(line: Line) -> dict[str, Any]:
    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return line.hold(super()._new_conn())

    class Tls(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return line.hold(super()._new_conn())

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = Tls

    return {"http": PlainPool, "https": TlsPool}
