"""The HTTP client: requests in, JSON out, and every failure as one sentence.

Whatever goes wrong on the way is raised as a click exception, so commands need no
handlers of their own; only `webapp.cli.follow` catches some of them, to reconnect.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote, urlsplit

import click

if TYPE_CHECKING:
    from types import TracebackType

    import requests

    from broker.settings import Settings

CONNECT_SECONDS: Final = 5
READ_SECONDS: Final = 30  # on top of whatever the server was asked to wait
# Three of the server's heartbeats, which come every 15 s.
SILENCE_SECONDS: Final = 45
PAGE: Final = 100
CHUNK_BYTES: Final = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the server is, and what opens it."""

    url: str
    token: str | None
    token_path: str


class Answer(NamedTuple):
    """A status and the JSON that came with it."""

    status: int
    body: Any


class Download(NamedTuple):
    """A body as it came, and what it is."""

    media_type: str
    content: bytes


class Unreachable(click.ClickException):
    """Nobody answered, or the answer broke off."""


class Refused(click.ClickException):
    """The server answered with an error."""

    def __init__(self, message: str, *, status: int, retry_after: str | None) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after


def find_target(settings: Settings, *, url: str | None, token: str | None) -> Target:
    """Choose the server: what was said, else ROOST_URL, else this machine's."""
    named = url or settings.environ.get("ROOST_URL") or local_url(settings)
    return Target(
        url=named.rstrip("/"),
        token=token or settings.token,
        token_path=str(settings.home / "token"),
    )


def local_url(settings: Settings) -> str:
    """Return the URL at which this machine's Roost is reached from this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def api(*parts: str) -> str:
    """Return the API's path of those parts, each quoted."""
    return "/".join(("/api/v1", *(quote(part, safe="") for part in parts)))


class Client:
    """One session with one server; a context manager."""

    def __init__(self, target: Target) -> None:
        import requests

        self.target = target
        self._session = requests.Session()
        self._session.headers["Accept-Encoding"] = "identity"
        self._session.auth = self._authorize
        # A proxy meant for the outer world is not asked for one's own machine.
        self._session.trust_env = not _is_loopback(target.url)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._session.close()

    def get(self, path: str, **params: Any) -> Any:
        """Return the JSON at a path; raise Refused or Unreachable."""
        answer = self._send("GET", path, _patience(params), params=params)
        return self._json(answer).body

    def download(self, path: str) -> Download:
        """Return the body at a path as it is; raise Refused or Unreachable."""
        answer = self._send("GET", path, READ_SECONDS)
        if not answer.ok:
            raise self._refusal(answer)
        media_type = answer.headers.get("Content-Type", "").partition(";")[0]
        return Download(media_type, answer.content)

    def post(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Send JSON, return the answer; raise Refused or Unreachable."""
        return self._json(self._send("POST", path, _patience(body), json=body))

    def put(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Put JSON, return the answer; raise Refused or Unreachable."""
        return self._json(self._send("PUT", path, READ_SECONDS, json=body))

    def patch(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Change what is at a path, return the answer; raise Refused or Unreachable."""
        return self._json(self._send("PATCH", path, READ_SECONDS, json=body))

    def delete(self, path: str) -> Answer:
        """Delete what is at a path, return the answer; raise Refused or Unreachable."""
        return self._json(self._send("DELETE", path, READ_SECONDS))

    def peek(self, path: str) -> Any:
        """Return the JSON at a path whatever the status; None when nobody answers."""
        try:
            answer = self._send("GET", path, READ_SECONDS)
        except Unreachable:
            return None
        return _parsed(answer)

    def items(self, path: str, limit: int, **params: Any) -> list[dict[str, Any]]:
        """Return up to `limit` items of a list, following its cursor."""
        found: list[dict[str, Any]] = []
        while len(found) < limit:
            size = min(limit - len(found), PAGE)
            page = self.get(path, limit=size, **params)
            found += page["items"]
            params["cursor"] = page.get("next_cursor")
            if params["cursor"] is None:
                break
        return found[:limit]

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: object = None,
        last_event_id: str | None = None,
    ) -> Iterator[Iterator[bytes]]:
        """Open an event stream and give its bytes as they arrive."""
        headers = {"Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        answer = self._send(
            method,
            path,
            SILENCE_SECONDS,
            params=params,
            json=body,
            headers=headers,
            stream=True,
        )
        try:
            if not answer.ok:
                raise self._refusal(answer)
            yield self._chunks(answer)
        finally:
            answer.close()

    def _send(
        self, method: str, path: str, seconds: float, **rest: Any
    ) -> requests.Response:
        import requests

        url = self.target.url + path
        timeout = (CONNECT_SECONDS, seconds)
        try:
            return self._session.request(method, url, timeout=timeout, **rest)
        except requests.RequestException as exc:
            raise self._unreachable(exc) from exc

    def _chunks(self, answer: requests.Response) -> Iterator[bytes]:
        """Yield what has come; requests' own iterator waits for the end of a stream
        that is not chunked.
        """
        from urllib3.exceptions import HTTPError

        try:
            while chunk := answer.raw.read1(CHUNK_BYTES):
                yield chunk
        except (HTTPError, OSError) as exc:
            raise Unreachable(f"The stream from {self.target.url} broke off.") from exc

    def _json(self, answer: requests.Response) -> Answer:
        if not answer.ok:
            raise self._refusal(answer)
        body = _parsed(answer)
        if body is None:
            raise click.ClickException(
                f"What answers at {self.target.url} is not Roost. "
                "Name Roost's own URL with --url, or its port with PORT."
            )
        return Answer(answer.status_code, body)

    def _refusal(self, answer: requests.Response) -> Refused:
        problem = _parsed(answer)
        said = problem if isinstance(problem, dict) else {}
        sentence = said.get("detail") or said.get("title")
        lines = [sentence or f"{self.target.url} answered {_status(answer)}."]
        fields = [_field_error(error) for error in said.get("errors") or ()]
        lines += [f"  {field}" for field in fields if field not in lines[0]]
        if answer.status_code == 401:
            lines.append(self._about_the_token())
        return Refused(
            "\n".join(lines),
            status=answer.status_code,
            retry_after=answer.headers.get("Retry-After"),
        )

    def _about_the_token(self) -> str:
        found = "None was found." if self.target.token is None else "That was refused."
        return (
            "The token is looked for in --token, then ROOST_TOKEN (the environment, "
            f"then .env), then {self.target.token_path}. {found}"
        )

    def _unreachable(self, exc: requests.RequestException) -> Unreachable:
        import requests

        url = self.target.url
        if isinstance(exc, requests.ReadTimeout):
            return Unreachable(f"{url} took too long to answer. Try `roost doctor`.")
        if isinstance(exc, requests.exceptions.SSLError):
            return Unreachable(f"{url} offers no TLS that can be trusted: {exc}")
        if isinstance(exc, requests.ConnectionError) and not _was_open(exc):
            return Unreachable(
                f"Nothing answers at {url}. Start Roost with `roost up` "
                "(or `make start`)."
            )
        if isinstance(exc, requests.ConnectionError):
            return Unreachable(f"{url} closed the connection before it had answered.")
        return Unreachable(f"{url} cannot be asked: {exc}")

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        # As an auth hook, because a line in ~/.netrc would replace a plain header.
        if self.target.token is not None:
            request.headers["Authorization"] = f"Bearer {self.target.token}"
        return request


def _patience(said: Mapping[str, Any]) -> float:
    """Return the seconds after which a silent server is given up."""
    return READ_SECONDS + float(said.get("wait_seconds") or 0)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _was_open(exc: requests.ConnectionError) -> bool:
    """Say whether there was a connection that then broke."""
    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

    cause = exc.args[0] if exc.args else None
    reason = getattr(cause, "reason", cause)
    return not isinstance(reason, NewConnectionError | ConnectTimeoutError)


def _parsed(answer: requests.Response) -> Any:
    import requests

    try:
        return answer.json()
    except requests.JSONDecodeError:
        return None


def _status(answer: requests.Response) -> str:
    return f"{answer.status_code} {answer.reason or ''}".rstrip()


def _field_error(error: object) -> str:
    if not isinstance(error, dict):
        return str(error)
    field = error.get("field") or error.get("pointer")
    said = error.get("message") or error.get("detail")
    return f"{field}: {said}" if field and said else json.dumps(error)
