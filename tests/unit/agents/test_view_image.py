"""Looking at images: what the tool takes, where a file may be, what is downloaded."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agents.messages import ToolCall, ToolResult
from agents.runtime import FoundFile, RuntimeRefused
from agents.tools.images import MAX_IMAGE_BYTES, media_type_of, view_image
from agents.tools.registry import Registry, ToolContext
from workers.fetch import MAX_REDIRECTS, fetch, is_public
from workers.home_files import read_home_file

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 16
REGISTRY = Registry([view_image])


@dataclass
class Gallery:
    """A runtime with one file in the home and one on the net; it notes what is kept."""

    content: bytes = PNG
    kept: list[tuple[str, str, str, bytes]] = field(default_factory=list)

    def read_home_file(self, path: str, max_bytes: int) -> FoundFile:
        assert max_bytes == MAX_IMAGE_BYTES
        return FoundFile(name="cat.png", content=self.content, path=path)

    def fetch(self, url: str, max_bytes: int) -> FoundFile:
        assert max_bytes == MAX_IMAGE_BYTES
        return FoundFile(name="dog.png", content=self.content)

    def keep_file(self, key: str, name: str, media_type: str, content: bytes) -> str:
        self.kept.append((key, name, media_type, content))
        return f"{key}.1"


@pytest.fixture
def gallery() -> Gallery:
    return Gallery()


@pytest.fixture
def look(gallery: Gallery) -> Callable[..., ToolResult]:
    """Call the tool as the loop does."""

    def call(**arguments: Any) -> ToolResult:
        made = ToolCall(id="id", name="view_image", arguments=arguments)
        context = ToolContext(
            key="turn-1/2", step=2, agent_id="scout", turn_id="turn-1", runtime=gallery
        )
        return REGISTRY.refuse(made) or REGISTRY.execute(made, context)

    return call


# The tool (G81).


@pytest.mark.line("G81")
def test_a_file_becomes_a_block_that_names_its_artifact(look, gallery) -> None:
    result = look(path="pictures/cat.png")
    assert json.loads(result.text) == {
        "source": {"path": "pictures/cat.png"},
        "fidelity": "low",
        "name": "cat.png",
        "path": "pictures/cat.png",
    }
    assert result.blocks == (
        {
            "type": "image",
            "media_type": "image/png",
            "artifact": "turn-1/2.1",
            "name": "cat.png",
            "fidelity": "low",
            "size_bytes": len(PNG),
        },
    )
    assert gallery.kept == [("turn-1/2", "cat.png", "image/png", PNG)]


@pytest.mark.line("G81")
def test_an_address_is_downloaded(look) -> None:
    result = look(url="https://example.com/dog.png", fidelity="high")
    shown = json.loads(result.text)
    assert shown["source"] == {"url": "https://example.com/dog.png"}
    assert (shown["path"], shown["fidelity"]) == (None, "high")
    assert result.blocks[0]["fidelity"] == "high"


@pytest.mark.line("G81")
@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ({}, "neither"),
        ({"path": "", "url": ""}, "neither"),
        ({"path": "a.png", "url": "https://example.com/"}, "both"),
    ],
)
def test_neither_or_both_is_refused_by_name(look, gallery, arguments, given) -> None:
    result = look(**arguments)
    told = f"Give either path or url; {given} was given."
    assert (result.status, result.text, gallery.kept) == ("failed", told, [])


@pytest.mark.line("G81")
def test_an_unknown_fidelity_is_refused(look) -> None:
    result = look(path="a.png", fidelity="best")
    assert result.status == "failed"
    assert "fidelity" in result.text


def test_what_is_no_image_is_refused_and_not_kept(look, gallery) -> None:
    gallery.content = b"<svg/>"
    result = look(path="a.png")
    assert result.text == "a.png is no PNG, JPEG, GIF or WebP image."
    assert (result.status, gallery.kept) == ("failed", [])


@pytest.mark.parametrize(
    ("start", "media_type"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "image/webp"),
        (b"RIFF\x10\0\0\0WAVE", None),
        (b"<svg xmlns=", None),
        (b"\x89PNG", None),
        (b"SQLite format 3\0", None),
        (b"", None),
    ],
)
def test_the_first_bytes_say_what_an_image_is(start, media_type) -> None:
    assert media_type_of(start) == media_type


# Files of the home.


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a picture, and with everything that is nobody's to read."""
    home = tmp_path / "home"
    for directory in ("pictures", "run", "backups", "tools/x"):
        (home / directory).mkdir(parents=True)
    (home / "pictures/cat.png").write_bytes(PNG)
    for name in CLOSED:
        (home / name).write_bytes(PNG)
    (tmp_path / "outside.png").write_bytes(PNG)
    return home


CLOSED = [
    "roost.db",
    "roost.db-wal",
    "roost.db.gate",
    "queue.db",
    "token",
    "token.draft",
    ".env",
    "tools/x/.env",
    "tools/x/.env.local",
    "run/web.sock",
    "backups/copy.png",
]


def read(home: Path, path: str, max_bytes: int = 1000) -> FoundFile:
    stores = (home / "roost.db", home / "queue.db")
    return read_home_file(home, path, max_bytes, stores=stores)


def test_a_file_of_the_home_is_read(home) -> None:
    found = read(home, "pictures/cat.png")
    assert found == FoundFile(name="cat.png", content=PNG, path="pictures/cat.png")
    assert read(home, "pictures/../pictures/cat.png") == found
    assert read(home, str(home / "pictures/cat.png")) == found


def test_a_link_within_the_home_is_followed_to_where_it_leads(home) -> None:
    (home / "mine.png").symlink_to("pictures/cat.png")
    (home / "album").symlink_to("pictures")
    for path in ("mine.png", "album/cat.png"):
        assert read(home, path).path == "pictures/cat.png"


@pytest.mark.line("P22")
@pytest.mark.parametrize("path", CLOSED)
def test_what_is_closed_stays_closed_also_behind_a_link(home, path) -> None:
    (home / "link.png").symlink_to(path)
    (home / "hard.png").hardlink_to(home / path)
    for asked in (path, "link.png", f"pictures/../{path}"):
        with pytest.raises(RuntimeRefused, match=r"is not for tools to read\.$"):
            read(home, asked)
    if path.startswith(("roost.db", "queue.db")):
        with pytest.raises(RuntimeRefused, match=r"hard\.png is not for tools"):
            read(home, "hard.png")


def test_a_store_with_a_name_of_its_own_is_known_by_what_it_is(home) -> None:
    (home / "truth.sqlite-wal").write_bytes(PNG)
    with pytest.raises(RuntimeRefused, match="is not for tools to read"):
        read_home_file(home, "truth.sqlite-wal", 1000, stores=[home / "truth.sqlite"])


def test_a_refused_store_is_not_opened_so_its_locks_stay(home) -> None:
    """Closing any descriptor of a file drops all POSIX locks of the process on it."""
    with open(home / "roost.db", "rb+") as file:
        os.lockf(file.fileno(), os.F_LOCK, 0)
        for path in ("roost.db", "pictures/../roost.db"):
            with pytest.raises(RuntimeRefused):
                read(home, path)
        child = os.fork()
        if child == 0:
            with open(home / "roost.db", "rb+") as other:
                try:
                    os.lockf(other.fileno(), os.F_TLOCK, 0)
                except OSError:
                    os._exit(7)
            os._exit(0)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7


@pytest.mark.parametrize(
    "path",
    ["../outside.png", "/etc/hostname", "link.png", "pictures/../../outside.png"],
)
def test_nothing_outside_of_the_home_is_read(home, path) -> None:
    (home / "link.png").symlink_to(home.parent / "outside.png")
    with pytest.raises(RuntimeRefused, match="is outside of the home directory"):
        read(home, path)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("ghost.png", "No such file or directory"),
        ("loop", "Symlink loop"),
        ("pictures", "is not a file"),
        ("pipe", "is not a file"),
        ("nul\0", "null byte"),
        ("x" * 300, "File name too long"),
        ("", "is not a file"),
    ],
)
def test_what_is_no_file_is_refused_with_the_reason(home, path, why) -> None:
    (home / "loop").symlink_to("loop")
    os.mkfifo(home / "pipe")
    with pytest.raises(RuntimeRefused, match=why):
        read(home, path)


def test_a_large_file_is_refused_with_the_limit(home) -> None:
    (home / "large.png").write_bytes(b"x" * 1001)
    with pytest.raises(RuntimeRefused, match=r"is larger than 1,000 bytes\.$"):
        read(home, "large.png")
    (home / "large.png").write_bytes(b"x" * 1000)
    assert len(read(home, "large.png").content) == 1000


# Addresses.


@pytest.mark.parametrize(
    "address",
    [
        "93.184.216.34",
        "1.1.1.1",
        "2606:4700:4700::1111",
        "::ffff:1.1.1.1",
        "64:ff9b::101:101",
        "2002:101:101::1",
    ],
)
def test_an_address_of_the_internet_is_public(address) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "192.0.0.8",
        "192.0.2.1",
        "198.18.0.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::a00:1",
        "2002:7f00:1::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:db8::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "fc00::1",
        "fd12:3456::1",
        "ff02::1",
        "4000::1",
        "localhost",
        "",
    ],
)
def test_an_address_near_us_is_not(address) -> None:
    assert not is_public(address)


# Downloading.


@dataclass
class Net:
    """A loopback server that gives one answer by path, and notes what it was asked."""

    port: int = 0
    answers: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    is_stuck: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def gives(self, path: str, body: bytes, status: int = 200, **headers: str) -> str:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers[path] = (status, named, body)
        return self.url(path)


class Handler(BaseHTTPRequestHandler):
    net: Net

    def do_GET(self) -> None:
        headers = self.headers
        self.net.asked.append((self.path, headers["Host"], headers["Cookie"]))
        if self.path == "/drip":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
            while not self.net.is_stuck.wait(0.02):
                self.wfile.write(b".")
            return
        status, named, body = self.net.answers[self.path]
        self.send_response(status)
        for name, value in named.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        if self.path == "/stuck":
            self.wfile.flush()
            self.net.is_stuck.wait()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class QuietServer(ThreadingHTTPServer):
    def handle_error(self, *arguments: Any) -> None:
        """Say nothing: a client that refuses a certificate hangs up."""


@pytest.fixture
def net() -> Iterator[Net]:
    net = Net()
    handler = type("BoundHandler", (Handler,), {"net": net})
    with QuietServer(("127.0.0.1", 0), handler) as server:
        net.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield net
        net.is_stuck.set()
        server.shutdown()
        thread.join()


def get(url: str, max_bytes: int = 1000, **more: Any) -> FoundFile:
    return fetch(url, max_bytes, is_allowed=lambda address: True, **more)


def test_a_body_is_downloaded_and_named_after_its_path(net) -> None:
    url = net.gives("/a/d%C3%B6g.png", PNG)
    assert get(url + "#part") == FoundFile(name="dög.png", content=PNG)
    assert get(net.gives("/", PNG)).name == "127.0.0.1"
    assert net.asked[0] == ("/a/d%C3%B6g.png", f"127.0.0.1:{net.port}", None)


def test_the_connection_goes_to_the_address_that_was_judged(net) -> None:
    judged: list[str] = []

    def is_allowed(address: str) -> bool:
        judged.append(address)
        return True

    net.gives("/", PNG)
    found = fetch(net.url("/", "127.1"), 1000, is_allowed=is_allowed)
    assert (found.content, judged) == (PNG, ["127.0.0.1"])
    assert net.asked == [("/", f"127.1:{net.port}", None)]


def test_no_private_address_is_asked_however_it_is_written(net) -> None:
    net.gives("/", PNG)
    for host in (
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "[::1]",
    ):
        with pytest.raises(RuntimeRefused, match="is private, or of this machine"):
            fetch(net.url("/", host), 1000)
    assert net.asked == []


def test_all_addresses_of_a_host_have_to_be_allowed(net) -> None:
    judged: list[str] = []

    def is_allowed(address: str) -> bool:
        judged.append(address)
        return len(judged) > 1

    with pytest.raises(RuntimeRefused, match="is private"):
        fetch(net.url("/"), 1000, is_allowed=is_allowed)
    assert net.asked == []


def test_redirects_are_followed_and_each_is_judged_anew(net) -> None:
    net.gives("/end.png", PNG)
    net.gives("/2", b"", 302, Location="end.png", Set_Cookie="a=1")
    url = net.gives("/1", b"", 301, Location=net.url("/2"))
    assert get(url) == FoundFile(name="end.png", content=PNG)
    assert [(path, cookie) for path, _, cookie in net.asked] == [
        ("/1", None),
        ("/2", None),
        ("/end.png", None),
    ]
    with pytest.raises(RuntimeRefused, match="localhost is not fetched from"):
        fetch(
            net.gives("/out", b"", 302, Location=net.url("/end.png", "localhost")),
            1000,
            is_allowed=lambda address: len(net.asked) < 4,
        )
    assert net.asked[-1][0] == "/out"


def test_tls_is_checked_against_the_name_and_not_the_address(
    net, tmp_path, monkeypatch
) -> None:
    net.gives("/", PNG)
    certificate = make_certificate(tmp_path)
    with tls_server(net, certificate):
        named, bare = (f"https://{host}:{net.port}/" for host in ("localhost", "127.1"))
        with pytest.raises(RuntimeRefused, match="no TLS that can be trusted"):
            get(named)
        bundle = "requests.adapters.DEFAULT_CA_BUNDLE_PATH"
        monkeypatch.setattr(bundle, str(certificate))
        assert get(named) == FoundFile(name="localhost", content=PNG)
        with pytest.raises(RuntimeRefused, match="no TLS that can be trusted"):
            get(bare)


def make_certificate(directory: Path) -> Path:
    """Make a key, and a certificate for `localhost` that it has signed itself."""
    path = directory / "localhost.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(directory / "key.pem"), "-out", str(path)),
        ],
        check=True,
        capture_output=True,
    )
    return path


@contextmanager
def tls_server(net: Net, certificate: Path) -> Iterator[None]:
    """Give the same answers over TLS, at another port, for a while."""
    handler = type("BoundHandler", (Handler,), {"net": net})
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    with QuietServer(("127.0.0.1", 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        net.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield
        server.shutdown()
        thread.join()


@pytest.mark.line("G81")
def test_too_many_redirects_are_refused(net) -> None:
    url = net.gives("/round", b"", 302, Location="/round")
    with pytest.raises(RuntimeRefused, match=f"more than {MAX_REDIRECTS} redirects"):
        get(url)
    assert len(net.asked) == MAX_REDIRECTS + 1


@pytest.mark.line("G81")
@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://example.com/a"])
def test_a_redirect_to_another_scheme_is_refused(net, location) -> None:
    url = net.gives("/", b"", 302, Location=location)
    with pytest.raises(RuntimeRefused, match="is no http or https address"):
        get(url)


@pytest.mark.line("G81")
@pytest.mark.parametrize("status", [204, 304, 403, 404, 500])
def test_an_http_error_is_reported(net, status) -> None:
    with pytest.raises(RuntimeRefused, match=rf"answered {status} "):
        get(net.gives("/", b"", status))


@pytest.mark.parametrize("length", [None, "10", "100000000"])
def test_a_body_is_cut_off_at_the_limit_whatever_it_said_of_itself(net, length) -> None:
    headers = {} if length is None else {"Content_Length": length}
    url = net.gives("/", b"x" * 100_000, **headers)
    if length == "10":
        assert len(get(url).content) == 10
    else:
        with pytest.raises(RuntimeRefused, match=r"is larger than 1,000 bytes"):
            get(url)


def test_a_packed_body_is_refused(net) -> None:
    with pytest.raises(RuntimeRefused, match="packed"):
        get(net.gives("/", b"x", Content_Encoding="gzip"))


def test_a_body_that_breaks_off_is_refused(net) -> None:
    with pytest.raises(RuntimeRefused, match="broke off"):
        get(net.gives("/", b"x", Content_Length="10"))


def test_a_server_that_says_no_more_is_given_up(net) -> None:
    began = time.monotonic()
    with pytest.raises(RuntimeRefused, match="it took too long"):
        get(net.gives("/stuck", b"x", Content_Length="10"), timeout_seconds=0.2)
    assert time.monotonic() - began < 5


def test_headers_that_drip_end_in_time(net) -> None:
    with pytest.raises(RuntimeRefused, match="it took too long"):
        get(net.url("/drip"), timeout_seconds=0.2)


def test_nobody_at_home_is_reported() -> None:
    with pytest.raises(RuntimeRefused, match="the connection failed"):
        get("http://127.0.0.1:1/")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("file:///etc/passwd", "no http or https address"),
        ("cat.png", "no http or https address"),
        ("http://", "no http or https address"),
        ("http://me:secret@example.com/", "user name"),
        ("http://example.com:99999/", "is no address"),
        ("http://[::1/", "is no address"),
        ("http://no-such-host.invalid/", "has no address"),
        (f"http://{'a' * 70}.example/", "is no address"),
    ],
)
def test_what_is_no_address_is_refused(url, why) -> None:
    with pytest.raises(RuntimeRefused, match=why) as refused:
        fetch(url, 1000)
    assert "secret" not in str(refused.value)
