"""Write docs/reference from the code; with --check, fail when a page is stale.

The facts (names, defaults, statuses, schemas) are read from the code, the sentences
from reference.toml beside this file. A name that one has and the other has not is an
error, so nothing can be added without a word about it. docs/reference/cli.md is written
by hand and has a test of its own.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
TARGET: Final = ROOT / "docs" / "reference"
PACKAGES: Final = ("agents", "broker", "sandbox", "webapp", "workers")
MADE: Final = (
    "<!-- Made by scripts/reference.py from the code. `make docs` writes it anew. -->"
)
Row = tuple[str, ...]


class Undocumented(Exception):
    """The code and reference.toml do not name the same things."""


def main(arguments: list[str]) -> int:
    """Write the pages, or compare them; return the exit code."""
    sys.path.insert(0, str(ROOT))
    try:
        pages = build()
    except Undocumented as error:
        print(f"reference: {error}", file=sys.stderr)
        return 1
    if "--check" in arguments:
        return _report([name for name, text in pages.items() if _is_stale(name, text)])
    for name, text in pages.items():
        (TARGET / name).write_text(text)
    return 0


def _is_stale(name: str, text: str) -> bool:
    path = TARGET / name
    return not path.is_file() or path.read_text() != text


def _report(stale: list[str]) -> int:
    for name in stale:
        print(f"reference: docs/reference/{name} is stale: make docs", file=sys.stderr)
    return 1 if stale else 0


def build() -> dict[str, str]:
    """Return every generated page by its file name."""
    pages = {
        "settings.md": settings_page,
        "http.md": http_page,
        "events.md": events_page,
        "errors.md": errors_page,
        "tasks.md": tasks_page,
        "tools.md": tools_page,
    }
    return {name: f"{MADE}\n\n{page().strip()}\n" for name, page in pages.items()}


@cache
def words() -> dict[str, Any]:
    """Return the sentences."""
    return tomllib.loads((ROOT / "scripts" / "reference.toml").read_text())


# --- settings -------------------------------------------------------------------------


def settings_page() -> str:
    """Every variable, its default and what it does."""
    known, system = words()["settings"], words()["system"]
    require("settings", variables_read(), {*known, *system})
    return "\n\n".join(
        [
            "# Settings",
            "Roost is configured by environment variables. A process reads them once, "
            "when it starts; the providers' keys it reads again when a `.env` changes. "
            "Its own environment wins over `.env` in the working "
            "directory, which wins over `.env` in `ROOST_HOME`. A value that cannot be "
            "used stops the process with a sentence that names the variable.",
            table(
                ("variable", "default", "means"),
                [
                    (f"`{n}`", each["default"], each["text"])
                    for n, each in known.items()
                ],
            ),
            "## Read, but not set for Roost",
            table(("variable", "use"), [(f"`{n}`", t) for n, t in system.items()]),
        ]
    )


@cache
def variables_read() -> set[str]:
    """Return the environment variables that the code reads, found in its syntax; the
    providers' stand in a table there."""
    from agents.models import PROVIDERS

    found = {each.url_name for each in PROVIDERS.values()}
    found |= {each.key_name for each in PROVIDERS.values() if each.key_name}
    for path, tree in sources():
        is_settings = path == ROOT / "broker" / "settings.py"
        for call in calls(tree):
            if _reads_environment(call, is_settings=is_settings):
                found |= {each for each in constants(call.args) if each.isupper()}
    return found | {"HONCHO_PROCESS_NAME"}


def _reads_environment(call: ast.Call, *, is_settings: bool) -> bool:
    source = ast.unparse(call.func)
    if source.endswith("environ.get"):
        return True
    return is_settings and source in ("values.get", "_url", "_one_of")


# --- HTTP -----------------------------------------------------------------------------


def http_page() -> str:
    """Every route, with what goes in and which statuses come out."""
    spec = openapi()
    parts = [
        "# HTTP routes",
        "JSON in and out. Every route but those marked *open* wants "
        "`Authorization: Bearer <token>`. An unknown field is refused by name. "
        "A POST may carry `Idempotency-Key`: the same key with the same request gets "
        "the first answer again, with another request 422, while the first still runs "
        "409. A list is `{items, next_cursor}`: ask the same list again with that "
        "`cursor`, and the same filters, for the next page; a cursor of another list "
        "is refused. "
        "[Errors](errors.md) are problem documents. A running Roost serves this as "
        "OpenAPI at `/openapi.json`, and as a page to try things on at `/docs`. The "
        "statuses are those that the OpenAPI document names; any route may also answer "
        "with another of the errors.",
        table(
            ("route", "does", "statuses"),
            [_route_row(method, path, each) for method, path, each in routes(spec)],
        ),
    ]
    for method, path, operation in routes(spec):
        fields = [*_parameters(operation), *_body_fields(spec, operation)]
        if fields:
            parts += [
                f"## {method} {path}",
                table(("field", "in", "type", "default"), fields),
            ]
    return "\n\n".join(parts)


def routes(spec: Mapping[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Return (method, path, operation), in a stable order."""
    order = ("get", "post", "put", "patch", "delete")
    return [
        (method.upper(), path, operations[method])
        for path, operations in sorted(spec["paths"].items())
        for method in order
        if method in operations
    ]


def _route_row(method: str, path: str, operation: dict[str, Any]) -> Row:
    is_open = "" if operation.get("security") else " *open*"
    statuses = " ".join(sorted(operation["responses"]))
    return f"`{method} {path}`", operation["summary"] + is_open, statuses


def _parameters(operation: dict[str, Any]) -> Iterator[Row]:
    for each in operation.get("parameters", []):
        if each["in"] != "path":
            schema = each["schema"]
            yield f"`{each['name']}`", each["in"], kind_of(schema), default_of(schema)


def _body_fields(spec: Mapping[str, Any], operation: dict[str, Any]) -> Iterator[Row]:
    content = operation.get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema", {})
    name = schema.get("$ref", "").rpartition("/")[2]
    body = spec["components"]["schemas"].get(name, schema)
    for field, each in body.get("properties", {}).items():
        is_required = field in body.get("required", ())
        default = "required" if is_required else default_of(each)
        yield f"`{field}`", "body", kind_of(each), default


@cache
def openapi() -> Mapping[str, Any]:
    """Return the OpenAPI document, built without a running system."""
    import tempfile
    from contextlib import closing

    from broker import open_broker
    from broker.settings import load
    from webapp.app import create_app

    with tempfile.TemporaryDirectory() as directory:
        environ = {"ROOST_HOME": directory, "ROOST_TOKEN": "unused"}
        settings = load(environ, cwd=Path(directory))
        broker = open_broker(settings, migrated=False)
        app = create_app(settings, broker)
        with closing(broker), app.test_request_context():
            spec: Mapping[str, Any] = app.spec  # type: ignore[assignment]
    return spec


def kind_of(schema: dict[str, Any]) -> str:
    """Say in a few words what a JSON Schema allows."""
    if "anyOf" in schema:
        return " or ".join(kind_of(each) for each in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"array of {kind_of(schema.get('items', {}))}"
    return kind + _bounds(schema)


def _bounds(schema: dict[str, Any]) -> str:
    names = {
        "minimum": "≥ {}",
        "exclusiveMinimum": "> {}",
        "maximum": "≤ {}",
        "minLength": "≥ {} characters",
        "maxLength": "≤ {} characters",
        "pattern": "`{}`",
    }
    said = [text.format(_plain(schema[n])) for n, text in names.items() if n in schema]
    return f" ({', '.join(said)})" if said else ""


def _plain(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def default_of(schema: dict[str, Any]) -> str:
    """Say what a field that is left out counts as."""
    default = schema.get("default")
    if default is None:
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


# --- events and updates ---------------------------------------------------------------


def events_page() -> str:
    """The kinds of events, of updates, the streams and the priorities."""
    from broker.states import Priority, Stream

    events, updates = words()["events"], words()["updates"]
    require("events", event_kinds(), events)
    require("updates", update_kinds(), updates)
    return "\n\n".join(
        [
            "# Events and updates",
            "An event is `{id, stream, scope, subject, kind, priority, body, payload, "
            "source, cause_id, hop, created_at}`; ids are in commit order. A field "
            "that ends in ? is not always there.",
            "## A turn's stream, in order",
            "`scope` is `agent/<id>` and `subject` the turn's id. What stands between "
            "`turn_start` and `turn_end` repeats, round by round. A turn that a worker "
            "died in goes on under the same id: a model call that nobody saw the end "
            "of begins again with the same `step` and the next `attempt`, and then "
            "the `message_update`s of the earlier attempt count no more.",
            _kinds(events),
            "## Events pushed over HTTP",
            "`POST /api/v1/events` appends any kind (`note`, when none is named) on "
            "any stream. One whose scope is `agent/<id>` becomes an input of that "
            "agent: a priority that wakes starts a turn, any other is read by the "
            "agent's next turn.",
            "## Streams",
            vocabulary("streams", Stream),
            "## Priorities",
            vocabulary("priorities", Priority),
            "## Updates of a task",
            "`GET /api/v1/tasks/{id}/updates` lists `{id, task_id, kind, payload, "
            "created_at}`. `POST` to it appends any kind of your own.",
            _kinds(updates),
        ]
    )


def _kinds(kinds: dict[str, Any]) -> str:
    streams = any("stream" in each for each in kinds.values())
    head = ("kind", "stream", "payload", "means") if streams else None
    rows = []
    for name, each in kinds.items():
        payload = ", ".join(f"`{field}`" for field in each.get("payload", ()))
        place = (f"`{each['stream']}`",) if streams else ()
        rows.append((f"`{name}`", *place, payload, each["text"]))
    return table(head or ("kind", "payload", "means"), rows)


def event_kinds() -> set[str]:
    """Return the kinds of events that the code appends by itself."""
    found: set[str] = set()
    for _, tree in sources("broker", "workers"):
        for call in calls(tree):
            name = ast.unparse(call.func).rpartition(".")[2]
            if name in ("_emit", "emit_turn"):
                found |= constants(call.args)
            if name in ("Message", "NewEvent"):
                kinds = [k.value for k in call.keywords if k.arg == "kind"]
                found |= constants(each for kind in kinds for each in _either(kind))
        found |= {*_default_kinds(tree), *_looped_kinds(tree)}
    return found


def _either(value: ast.expr) -> list[ast.expr]:
    """Both values of a condition, or the one there is."""
    return [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]


def _looped_kinds(tree: ast.Module) -> Iterator[str]:
    """The kinds of a loop that emits one after the other."""
    for node in ast.walk(tree):
        if isinstance(node, ast.For) and ast.unparse(node.target) == "kind":
            yield from constants(getattr(node.iter, "elts", ()))


def _default_kinds(tree: ast.Module) -> Iterator[str]:
    """The kind that a Message or a NewEvent has when nobody says."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name in ("Message", "NewEvent"):
            for line in node.body:
                if isinstance(line, ast.AnnAssign) and line.value is not None:
                    is_kind = ast.unparse(line.target) == "kind"
                    yield from constants([line.value] if is_kind else [])


def update_kinds() -> set[str]:
    """Return the kinds of updates that the code appends by itself."""
    from broker.states import TERMINAL

    # The two places where the kind is a variable, and what it can be there.
    variable = {"status": {str(each) for each in TERMINAL}}
    variable["output.stream"] = {"stdout", "stderr"}
    found: set[str] = set()
    for _, tree in sources("broker", "workers"):
        for call in calls(tree):
            if ast.unparse(call.func) == "updates.append":
                kind = call.args[2]
                found |= variable.get(ast.unparse(kind)) or constants([kind])
    return found


# --- errors ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Refusal:
    """One kind of error answer."""

    slug: str
    status: str
    text: str


def errors_page() -> str:
    """Every problem type, its status and when it is answered."""
    merged: dict[tuple[str, str], list[str]] = {}
    for each in sorted(refusals()):
        merged.setdefault((each.slug, each.status), []).append(each.text)
    rows = [(f"`{slug}`", status, " ".join(t)) for (slug, status), t in merged.items()]
    return "\n\n".join(
        [
            "# Errors",
            "An error is answered as `application/problem+json` (RFC 9457): "
            "`{type, title, status, detail}`, and for wrong fields `errors[]` with "
            "`{field, message}`. `type` is `urn:roost:problem:` and the slug; it does "
            "not change, while `detail` is for people. A 429 carries `Retry-After`.",
            table(("slug", "status", "when"), rows),
            "Whatever HTTP itself refuses has the standard's phrase as its slug: "
            "`bad-request` 400, `unauthorized` 401, `not-found` 404 (no such route), "
            "`method-not-allowed` 405, `request-entity-too-large` 413 (a body over "
            f"{_body_limit()} MiB), `request-uri-too-long` 414 (path and query over "
            "about 8,000 bytes), `unsupported-media-type` 415, "
            "`request-header-fields-too-large` 431.",
            "What a tool does wrong is not an error of the API: it is a result, which "
            "the model reads. What ends a task badly is in the task's `error`: "
            "`{type, message, limit?}`.",
        ]
    )


def refusals() -> set[Refusal]:
    """Return what the broker and the API refuse with."""
    return {*_of_broker(), *_of_api()}


def _of_broker() -> Iterator[Refusal]:
    import broker.query
    import broker.receipts  # noqa: F401 (their errors count, too)
    from broker.errors import BrokerError

    waiting = [BrokerError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind is not BrokerError:
            first_line = (kind.__doc__ or "").strip().splitlines()[0]
            yield Refusal(slug=kind.slug, status=str(kind.status), text=first_line)


def _of_api() -> Iterator[Refusal]:
    for _, tree in sources("webapp"):
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                yield from _of_class(node)
        for call in calls(tree):
            if ast.unparse(call.func) in ("ProblemError", "problem"):
                yield from _of_call(call, None)


def _of_class(node: ast.ClassDef) -> Iterator[Refusal]:
    if [ast.unparse(base) for base in node.bases] == ["ProblemError"]:
        for call in calls(node):
            if ast.unparse(call.func) == "super().__init__":
                yield from _of_call(call, ast.get_docstring(node))


def _of_call(call: ast.Call, text: str | None) -> Iterator[Refusal]:
    slug, status, detail = (_as_text(each) for each in call.args[:3])
    if isinstance(call.args[0], ast.Constant | ast.JoinedStr):
        said = words().get("errors", {}).get(slug, {}).get("text") or text or detail
        yield Refusal(slug=slug, status=status, text=said)


def _as_text(node: ast.expr) -> str:
    """Show an expression as a reader of the answer sees it, `…` for what varies."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            _as_text(p) if isinstance(p, ast.Constant) else "…" for p in node.values
        )
    if isinstance(node, ast.IfExp):
        return f"{_as_text(node.body)} or {_as_text(node.orelse)}"
    return "…"


def _body_limit() -> int:
    from webapp.app import MAX_BODY_BYTES

    return MAX_BODY_BYTES // 2**20


# --- tasks and tools ------------------------------------------------------------------


def tasks_page() -> str:
    """Task types, every state with the moves out of it, and the types of entries."""
    from broker.states import STEP_TRANSITIONS, TASK_TRANSITIONS, AgentState

    kinds, entries = words()["tasks"], words()["entries"]
    require("tasks", task_types(), kinds)
    require("entries", entry_types(), entries)
    return "\n\n".join(
        [
            "# Tasks, states, entries",
            "The diagrams and their reasons are in [states](../explanation/states.md).",
            "## Task types",
            table(
                ("type", "is", "payload", "result"),
                [
                    (f"`{n}`", each["text"], each["payload"], each["result"])
                    for n, each in kinds.items()
                ],
            ),
            "Any other type may be queued, for workers of yours: Roost's own leave it "
            "alone. They take it with `POST /api/v1/tasks/claim`.",
            "## A task's states",
            _states("task_statuses", TASK_TRANSITIONS),
            "## An agent's states",
            vocabulary("agent_states", AgentState),
            "## A step's states",
            _states("step_statuses", STEP_TRANSITIONS),
            "## Entries of a history",
            "An agent's history is `GET /api/v1/agents/{id}/history`: entries, each "
            "with its parent, in generations. `context_compaction` begins one. "
            "Entries are appended and never changed.",
            table(("type", "is"), [(f"`{n}`", text) for n, text in entries.items()]),
        ]
    )


def task_types() -> set[str]:
    """Return the types that Roost's own workers are hinted of."""
    tree = ast.parse((ROOT / "broker" / "opening.py").read_text())
    compared = (node for node in ast.walk(tree) if isinstance(node, ast.Compare))
    return {
        name
        for each in compared
        if ast.unparse(each.left) == "task_type"
        for value in each.comparators
        for name in constants(getattr(value, "elts", [value]))
    }


def entry_types() -> set[str]:
    """Return the types of entries that the code appends to a history."""
    return {
        name
        for _, tree in sources("broker", "workers")
        for call in calls(tree)
        if ast.unparse(call.func).endswith("NewEntry")
        for name in constants(k.value for k in call.keywords if k.arg == "type")
    }


def _states(name: str, moves: Mapping[Any, Iterable[Any]]) -> str:
    said = words()[name]
    require(name, {str(state) for state in moves}, said)
    rows = [
        (f"`{state}`", said[str(state)], _names(state, targets))
        for state, targets in moves.items()
    ]
    return table(("state", "means", "may become"), rows)


def _names(state: StrEnum, targets: Iterable[StrEnum]) -> str:
    order = {each: place for place, each in enumerate(type(state))}
    return ", ".join(f"`{each}`" for each in sorted(targets, key=order.__getitem__))


ARGUMENT: Final = ("argument", "type", "default", "means")


def tools_page() -> str:
    """The tools of every agent: description, effect, arguments."""
    from agents.tools import builtin_tools

    parts = [
        "# Tools",
        "Every agent has these, unless its `tools` names fewer. The model is sent each "
        "one's name, description and JSON Schema. Arguments that do not fit the schema "
        "are not repaired: nothing runs, and the model reads what is wrong. The effect "
        "says what happens to a call whose worker died before the result was written: "
        "`pure` and `idempotent` run again under the same key; `at_most_once` does "
        "not, and the model is told that the outcome is uncertain.",
        "Of a result longer than 16,000 characters the model is shown head, tail, size "
        "and a handle; the whole is an "
        "[artifact](../how-to/large-results-and-images.md).",
    ]
    for tool in builtin_tools():
        parts += [
            f"## {tool.name}",
            tool.description,
            f"Effect: `{tool.effect}`.",
            table(
                ("argument", "type", "default", "means"), _arguments(tool.parameters)
            ),
        ]
    return "\n\n".join(parts)


def _arguments(schema: dict[str, Any]) -> list[Row]:
    required = schema.get("required", ())
    return [
        (
            f"`{name}`",
            kind_of(each),
            "required" if name in required else default_of(each) or "none",
            each.get("description", ""),
        )
        for name, each in schema.get("properties", {}).items()
    ]


# --- shared ---------------------------------------------------------------------------


def require(what: str, there: Iterable[str], said: Iterable[str]) -> None:
    """Raise unless the code and the words name the same things."""
    there, said = set(there), set(said)
    if missing := sorted(there - said):
        raise Undocumented(
            f"{what}: {', '.join(missing)} is in the code and not in reference.toml; "
            "say there what it means."
        )
    if gone := sorted(said - there):
        raise Undocumented(
            f"{what}: {', '.join(gone)} is in reference.toml and not in the code; "
            "take it out."
        )


def vocabulary(name: str, enum: type[StrEnum]) -> str:
    """Say what each member of an enum means."""
    said = words()[name]
    require(name, {str(each) for each in enum}, said)
    return table(("name", "means"), [(f"`{each}`", said[str(each)]) for each in enum])


def table(head: Row, rows: Iterable[Row]) -> str:
    """Render a Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


@cache
def sources(*packages: str) -> tuple[tuple[Path, ast.Module], ...]:
    """Return the parsed modules of some packages, or of all."""
    paths = (
        path
        for package in packages or PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if "migrations" not in path.parts and "node_modules" not in path.parts
    )
    return tuple((path, _parsed(path)) for path in paths)


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def calls(tree: ast.AST) -> tuple[ast.Call, ...]:
    """Return the calls in a piece of code."""
    return tuple(node for node in ast.walk(tree) if isinstance(node, ast.Call))


def constants(nodes: Iterable[ast.expr]) -> set[str]:
    """Return those of the expressions that are plain strings."""
    return {
        node.value
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
