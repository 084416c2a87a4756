"""HTTP tools: a tool that is one HTTP request, made from a declaration.

Knows no file and no environment: whoever declares a tool hands over its headers whole
(`workers.http_tools` does). Every request carries the key of its step as
`Idempotency-Key`, so a server that honours it does a repeated call once. No secret of
the headers gets into a result: what the server sends back is searched for them.
"""

from __future__ import annotations

import difflib
import json
import re
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from email.message import Message
from typing import Annotated, Any, Final, Literal, NoReturn
from urllib.parse import quote, urlsplit

import requests
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from urllib3.exceptions import ConnectTimeoutError, HTTPError
from urllib3.util import Timeout

from agents.messages import CallStatus, ToolResult
from agents.tools.exchange import Ended, Line, LineAdapter, exchange
from agents.tools.registry import Effect, Tool, ToolContext
from agents.tools.schemas import BadSchema, check_schema

# What is read of a body; a model has no use for more at once.
BODY_BYTES: Final = 64 * 1024
HIDDEN: Final = "[hidden]"
KEY_HEADER: Final = "Idempotency-Key"
# Roost's own, and those that frame the request.
_RESERVED: Final = ("idempotency-key", "content-length", "transfer-encoding")
_BODY_METHODS: Final = ("POST", "PUT", "PATCH")
_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# The longest way to spell a character that `Secrets` knows: \u002f.
_SPELLING_BYTES: Final = 6


class BadDeclaration(Exception):
    """A declaration makes no tool; the message says what to change."""


class HttpDeclaration(BaseModel):
    """A tool as an operator declares it; `headers` hold no secret yet."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, hide_input_in_errors=True
    )

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: Annotated[str, Field(min_length=1)]
    method: Literal["GET", "DELETE", "POST", "PUT", "PATCH"]
    url: str
    parameters: dict[str, Any]
    headers: Annotated[dict[str, str], Field(repr=False)] = {}
    effect: Effect | None = None
    timeout_seconds: Annotated[float, Field(gt=0, le=300)] = 30

    @property
    def effect_of_call(self) -> Effect:
        """The effect: as declared, or GET is pure and the server honours the key."""
        return self.effect or ("pure" if self.method == "GET" else "idempotent")

    @property
    def placeholders(self) -> tuple[str, ...]:
        """The arguments that the URL needs, each once."""
        return tuple(dict.fromkeys(_PLACEHOLDER.findall(self.url)))


def declare(raw: object) -> HttpDeclaration:
    """Check a declaration; raise BadDeclaration with what to change."""
    if not isinstance(raw, dict):
        raise BadDeclaration("A tool must be a JSON object.")
    try:
        declared = HttpDeclaration.model_validate(raw)
    except ValidationError as error:
        raise BadDeclaration(_first_problem(error)) from error
    _check_url(declared.url)
    _check_headers(declared.headers)
    _check_parameters(declared)
    return declared


def http_tool(
    declared: HttpDeclaration, headers: Mapping[str, str], secrets: Iterable[str] = ()
) -> Tool:
    """Make a tool of a declaration.

    `headers` are as they are sent, printable ASCII; `secrets` are the parts of their
    values that may not be shown to anyone.
    """
    call = HttpCall(declared=declared, headers=headers, secrets=Secrets(secrets))
    return Tool(
        name=declared.name,
        description=declared.description,
        effect=declared.effect_of_call,
        parameters=_schema(declared),
        handler=call,
    )


class Secrets:
    """Values that may not be shown, in plain or as JSON and URLs spell them."""

    def __init__(self, values: Iterable[str]) -> None:
        known = sorted(set(values), key=len, reverse=True)
        spelt = ["".join(map(_spellings, value)) for value in known]
        self._pattern = re.compile("|".join(spelt) or r"(?!)")
        self.longest_bytes = _SPELLING_BYTES * max(map(len, known), default=0)

    def hide(self, text: str, end: int | None = None) -> str:
        """Return the text, up to `end`, without a secret and without a part of one."""
        for found in self._pattern.finditer(text):
            if end is not None and found.start() < end < found.end():
                end = found.start()
        return self._pattern.sub(HIDDEN, text[:end])


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCall:
    """The handler of an HTTP tool. It is called `(context, **arguments)`, and an
    argument may have any name, also `self` and `context`."""

    declared: HttpDeclaration
    headers: Mapping[str, str] = field(repr=False)
    secrets: Secrets = field(repr=False)

    def __call__(self, context: ToolContext, /, **arguments: Any) -> ToolResult:
        """Send the request and return what came of it."""
        try:
            request = self._prepare(context.key, arguments)
        except _Unsendable as why:
            return _failed(f"Nothing was sent: {why}")
        try:
            return exchange(
                lambda line: self._send(request, line),
                self.declared.timeout_seconds,
                context.stop.interrupt,
            )
        except Ended as ended:
            if ended.is_interrupted:
                context.stop.hand_over()
            return self._unanswered(ended)
        except (requests.RequestException, HTTPError) as error:
            return self._unanswered(error)

    def _prepare(self, key: str, arguments: dict[str, Any]) -> requests.PreparedRequest:
        names = self.declared.placeholders
        rest = {name: arguments[name] for name in arguments if name not in names}
        has_body = self.declared.method in _BODY_METHODS
        try:
            return requests.Request(
                method=self.declared.method,
                url=_fill(self.declared.url, arguments),
                params=None if has_body else _query(rest),
                json=rest if has_body else None,
                headers={**self.headers, KEY_HEADER: key},
            ).prepare()
        except (requests.RequestException, ValueError) as error:
            why = f"the arguments make no valid request ({type(error).__name__})."
            raise _Unsendable(why) from error

    def _send(self, request: requests.PreparedRequest, line: Line) -> ToolResult:
        """Send it once: no session, so no redirect, proxy, cookie or .netrc."""
        # The stub does not know what the library takes: one limit for all of it.
        timeout: Any = Timeout(total=self.declared.timeout_seconds)
        with (
            closing(LineAdapter(line)) as adapter,
            adapter.send(request, stream=True, timeout=timeout) as response,
        ):
            most = BODY_BYTES + 1 + self.secrets.longest_bytes
            return self._answered(response, _read(response, most))

    def _answered(self, response: requests.Response, data: bytes) -> ToolResult:
        shown: dict[str, Any] = {"status_code": response.status_code}
        if "Location" in response.headers:
            shown["location"] = self.secrets.hide(response.headers["Location"])
        encoding = _encoding(response.headers.get("Content-Type", ""))
        body = data.decode(encoding, "replace")
        end = None
        if len(data) > BODY_BYTES:
            shown["truncated"] = f"the body is longer than {BODY_BYTES} bytes"
            end = len(data[:BODY_BYTES].decode(encoding, "replace"))
        return ToolResult(
            text=_as_json(shown, self.secrets.hide(body, end)),
            status="failed" if response.status_code >= 400 else "succeeded",
            details={"status_code": response.status_code},
        )

    def _unanswered(self, error: Exception) -> ToolResult:
        """Say what went wrong, and whether it may have happened all the same."""
        host = urlsplit(self.declared.url).netloc
        why = _reason(error, self.declared.timeout_seconds)
        if _is_unsent(error):
            return _failed(f"No connection to {host}{why}. Nothing was sent.")
        happened, status = _MAY_HAVE_HAPPENED[self.declared.effect_of_call]
        return ToolResult(
            text=f"No whole answer from {host}{why}.{happened}", status=status
        )


class _Unsendable(Exception):
    """The arguments make no request; the message is for the model."""


# What is said of a request that was sent and not answered, by its effect.
_MAY_HAVE_HAPPENED: Final[Mapping[Effect, tuple[str, CallStatus]]] = {
    "pure": ("", "failed"),
    "idempotent": (
        " It may have happened all the same, and a new call has a new key: check "
        "before you repeat it.",
        "failed",
    ),
    "at_most_once": (
        " It may or may not have happened. It was not repeated: check before you "
        "repeat it.",
        "uncertain",
    ),
}


# Checking a declaration.


def _first_problem(error: ValidationError) -> str:
    """Say what is wrong; an unknown field first, for it explains a missing one."""
    problems = error.errors(include_url=False, include_input=False)
    problems.sort(key=lambda each: each["type"] != "extra_forbidden")
    first = problems[0]
    where = ".".join(map(str, first["loc"]))
    if first["type"] != "extra_forbidden":
        return f"`{where}`: {first['msg']}."
    known = list(HttpDeclaration.model_fields)
    close = difflib.get_close_matches(where, known, n=1, cutoff=0.5)
    hint = f"Did you mean `{close[0]}`?" if close else f"Known: {', '.join(known)}."
    return f"`{where}` is an unknown field. {hint}"


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname)
        is_whole = is_whole and parts.port != 0
    except ValueError as error:
        raise BadDeclaration(f"`url` is no URL: {error}.") from error
    if not is_whole:
        raise BadDeclaration("`url` must begin with http:// or https:// and a host.")
    if "@" in parts.netloc:
        raise BadDeclaration(
            "`url` may not hold a user or password: put them into a header, as ${NAME}."
        )
    if "{" in parts.netloc:
        raise BadDeclaration(
            "`url` may have placeholders after the host only: else the model could "
            "send your headers anywhere."
        )
    if "${" in url:
        raise BadDeclaration("`url` may not hold ${NAME}: a secret goes into a header.")
    if set("{}") & set(_PLACEHOLDER.sub("", url)):
        raise BadDeclaration("`url` has a brace without its partner.")
    if _has_dots(_PLACEHOLDER.sub("x", url)):
        raise BadDeclaration("`url` may not have . or .. between slashes.")


def _check_headers(headers: Mapping[str, str]) -> None:
    for name in headers:
        if not _HEADER_NAME.fullmatch(name):
            raise BadDeclaration(f"`headers`: {name!r} is no name of a header.")
        if name.lower() in _RESERVED:
            raise BadDeclaration(f"`headers`: Roost sets {name} itself; leave it out.")


def _check_parameters(declared: HttpDeclaration) -> None:
    schema = declared.parameters
    if schema.get("type", "object") != "object":
        raise BadDeclaration('`parameters` must have the type "object".')
    try:
        check_schema(schema)
    except BadSchema as error:
        raise BadDeclaration(f"`parameters` is no JSON Schema: {error}.") from error
    for name in declared.placeholders:
        if name not in schema.get("properties", {}):
            raise BadDeclaration(
                f"`url` needs `{name}`: add it to the properties of `parameters`."
            )


def _schema(declared: HttpDeclaration) -> dict[str, Any]:
    """The parameters as the model sees them: nothing unknown, and what the URL needs
    is required."""
    given = declared.parameters
    required = dict.fromkeys([*given.get("required", ()), *declared.placeholders])
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    return {**schema, **given, **({"required": list(required)} if required else {})}


# Making a request.


def _fill(url: str, arguments: Mapping[str, Any]) -> str:
    filled = _PLACEHOLDER.sub(lambda found: _part(found[1], arguments), url)
    if _has_dots(filled):
        raise _Unsendable("an argument may not be . or .. in the URL.")
    return filled


def _part(name: str, arguments: Mapping[str, Any]) -> str:
    value = arguments.get(name)
    if not isinstance(value, str | int | float):
        raise _Unsendable(f"{name} is a part of the URL: give a string or a number.")
    if value == "":
        raise _Unsendable(f"{name} is a part of the URL and may not be empty.")
    return quote(_plain(value), safe="")


def _has_dots(url: str) -> bool:
    """Whether the path has segments that lead to another path."""
    return not {".", ".."}.isdisjoint(urlsplit(url).path.split("/"))


def _query(arguments: Mapping[str, Any]) -> dict[str, list[str]]:
    """Arguments as a query: a list repeats its name, null is left out."""
    listed = {
        name: value if isinstance(value, list) else [value]
        for name, value in arguments.items()
    }
    return {
        name: [_plain(each) for each in values if each is not None]
        for name, values in listed.items()
    }


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


# Reading an answer.


def _read(response: requests.Response, most: int) -> bytes:
    """Read the body up to `most` bytes."""
    data = b""
    while len(data) < most:
        piece = response.raw.read1(most - len(data), decode_content=True)
        if not piece:
            break
        data += piece
    return data


def _encoding(content_type: str) -> str:
    """The declared charset if Python can read text in it, else UTF-8."""
    header = Message()
    header["Content-Type"] = content_type
    charset = header.get_content_charset("utf-8")
    try:
        b"a".decode(charset, "replace")
    except (LookupError, ValueError):
        return "utf-8"
    return charset


def _as_json(shown: dict[str, Any], body: str) -> str:
    """Write a result: the body as JSON where it is JSON, else as a string."""
    try:
        parsed = json.loads(body, parse_constant=_refuse_constant)
        text = json.dumps({**shown, "body": parsed}, ensure_ascii=False)
    except (ValueError, RecursionError):
        text = json.dumps({**shown, "body": body}, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _spellings(character: str) -> str:
    """A pattern of one character: plain, escaped in JSON, or quoted in a URL."""
    code = ord(character)
    plain = re.escape(character)
    ways = [plain, rf"\\{plain}", rf"(?i:\\u00{code:02x})", rf"(?i:%{code:02x})"]
    return f"(?:{'|'.join(ways)})"


# When there is no answer.


def _is_unsent(error: Exception) -> bool:
    """Whether it went wrong before any of the request could leave.

    urllib3's ConnectTimeoutError is also the root of refused and unknown hosts.
    """
    if isinstance(error, Ended):
        return not error.is_sent
    early = (ConnectTimeoutError, ssl.SSLCertVerificationError)
    return any(isinstance(each, early) for each in _causes(error))


def _reason(error: Exception, seconds: float) -> str:
    """Say why in the words of the operating system: the library's own hold the URL."""
    if isinstance(error, Ended) and error.is_interrupted:
        return ": the turn was interrupted"
    causes = list(_causes(error))
    if any(
        isinstance(each, TimeoutError | requests.Timeout | Ended) for each in causes
    ):
        return f" within {seconds:g} s"
    for each in causes:
        if isinstance(each, OSError) and each.strerror:
            return f": {each.strerror}"
    return ": the connection broke"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and all that led to it."""
    if error is not None:
        yield error
        yield from _causes(error.__cause__)
        if error.__context__ is not error.__cause__:
            yield from _causes(error.__context__)


def _failed(text: str) -> ToolResult:
    return ToolResult(text=text, status="failed")
