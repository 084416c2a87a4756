"""Downloading for a tool, from public addresses only.

The host is resolved here, every address it has is judged, and the connection is made to
one that was judged: a name that resolves differently the next moment gains nothing.
Each redirect is a new address, judged anew. No proxy, no cookie, no credential of this
machine takes part.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from agents.runtime import FoundFile, RuntimeRefused
from agents.tools.exchange import Ended, Line, LineAdapter, exchange

TIMEOUT_SECONDS: Final = 20.0
MAX_REDIRECTS: Final = 3
_CHUNK_BYTES: Final = 64 * 1024
_PORTS: Final = {"http": 80, "https": 443}
# What is given out to the internet; the rest of IPv6 is none of a tool's business.
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
# Kept for protocols; Python 3.11 takes most of it for the internet's.
_PROTOCOLS: Final = IPv4Network("192.0.0.0/24")
_NAT64: Final = IPv6Network("64:ff9b::/96")

IsAllowed = Callable[[str], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a request goes: a URL, and the judged address of its host."""

    url: str
    parts: SplitResult
    host: str
    port: int
    address: str


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet's, and not of a network near us.

    An IPv4 address inside an IPv6 one (mapped, 6to4, NAT64) is judged as itself; Teredo
    is refused.
    """
    try:
        return _is_public(ipaddress.ip_address(address))
    except ValueError:
        return False


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv4Address):
        is_special = address.is_multicast or address in _PROTOCOLS
        return address.is_global and not is_special
    if address in _NAT64:
        return _is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
    inner = address.ipv4_mapped or address.sixtofour
    if inner is not None:
        return _is_public(inner)
    return address in _GLOBAL_UNICAST and address.is_global and not address.teredo


def fetch(
    url: str,
    max_bytes: int,
    *,
    is_allowed: IsAllowed = is_public,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> FoundFile:
    """Download `url`; raise RuntimeRefused with a sentence for the model."""

    def look(line: Line) -> FoundFile:
        return _fetch(url, max_bytes, is_allowed, timeout_seconds, line)

    try:
        return exchange(look, timeout_seconds)
    except Ended as error:
        raise RuntimeRefused(f"{url} cannot be fetched: {_why(error)}.") from error


def _fetch(
    url: str, max_bytes: int, is_allowed: IsAllowed, seconds: float, line: Line
) -> FoundFile:
    for _ in range(MAX_REDIRECTS + 1):
        place = _find(url, is_allowed)
        try:
            with (
                _session(place, line) as session,
                _ask(session, place, seconds) as answer,
            ):
                if not answer.is_redirect:
                    content = _take(answer, url, max_bytes)
                    return FoundFile(name=_name_of(place), content=content)
                url = urljoin(url, answer.headers["Location"])
        except (requests.RequestException, HTTPError) as error:
            raise RuntimeRefused(f"{url} cannot be fetched: {_why(error)}.") from error
    raise RuntimeRefused(f"There were more than {MAX_REDIRECTS} redirects, to {url}.")


def _find(url: str, is_allowed: IsAllowed) -> _Place:
    """Resolve and judge; all addresses of a host have to be allowed, not just one."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna").decode()
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError as error:
        raise RuntimeRefused(f"{url} is no address: {error}.") from error
    if parts.scheme not in _PORTS or not host:
        raise RuntimeRefused(f"{url} is no http or https address.")
    if parts.username is not None or parts.password is not None:
        raise RuntimeRefused(f"The address of {host} has a user name in it: leave it.")
    addresses = _addresses(host, port)
    if not addresses or not all(is_allowed(address) for address in addresses):
        raise RuntimeRefused(
            f"{host} is not fetched from: its address is private, or of this machine."
        )
    return _Place(url=url, parts=parts, host=host, port=port, address=addresses[0])


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise RuntimeRefused(f"{host} has no address: {error}.") from error
    return [str(each[4][0]) for each in found]


def _session(place: _Place, line: Line) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", LineAdapter(line))
    session.mount("https://", _PinnedTls(place.host, line))
    return session


def _ask(session: requests.Session, place: _Place, seconds: float) -> requests.Response:
    return session.get(
        _pinned_url(place),
        headers={
            "Host": _authority(place.host, place),
            "Accept": "image/*,*/*;q=0.5",
            "Accept-Encoding": "identity",
            "User-Agent": "roost",
        },
        timeout=seconds,
        allow_redirects=False,
        stream=True,
    )


class _PinnedTls(LineAdapter):
    """Speaks TLS with an address, and checks that it is the host that was asked for."""

    def __init__(self, host: str, line: Line) -> None:
        self._host = host
        super().__init__(line)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        options |= {"server_hostname": self._host, "assert_hostname": self._host}
        super().init_poolmanager(*arguments, **options)


def _pinned_url(place: _Place) -> str:
    return place.parts._replace(
        netloc=_authority(place.address, place), fragment=""
    ).geturl()


def _authority(host: str, place: _Place) -> str:
    named = f"[{host}]" if ":" in host else host
    is_usual = place.port == _PORTS[place.parts.scheme]
    return named if is_usual else f"{named}:{place.port}"


def _take(answer: requests.Response, url: str, max_bytes: int) -> bytes:
    """Read the body, as it is on the wire: nothing may grow by being unpacked."""
    if answer.status_code != HTTPStatus.OK:
        said = f"{answer.status_code} {answer.reason or ''}".rstrip()
        raise RuntimeRefused(f"{url} answered {said}.")
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise RuntimeRefused(f"{url} sent its answer packed, though asked not to.")
    content = bytearray()
    while chunk := answer.raw.read1(_CHUNK_BYTES):
        content += chunk
        if len(content) > max_bytes:
            raise RuntimeRefused(f"{url} is larger than {max_bytes:,} bytes.")
    return bytes(content)


def _why(error: Exception) -> str:
    if isinstance(error, requests.Timeout | ReadTimeoutError | Ended):
        return "it took too long"
    if isinstance(error, requests.exceptions.SSLError):
        return "it offers no TLS that can be trusted"
    if isinstance(error, requests.ConnectionError | HTTPError):
        return "the connection failed or broke off"
    return type(error).__name__


def _name_of(place: _Place) -> str:
    last = PurePosixPath(unquote(place.parts.path, errors="replace")).name
    return last[:200] or place.host
