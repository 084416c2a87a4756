"""Why: from the first message to a reply, with the time and the cost of each step.

Causes are written down as things happen: an event names the event that caused it, a
turn the event it answers, an exec the turn that asked for it; what a step sends carries
the step's key. So the chain is read, never guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from broker import blockers, events, json, readers, steps, tasks
from broker.database import Database, Row
from broker.errors import NotFound
from broker.times import SECOND_US

# Fan-out is followed this far; a storm must not make its own explanation endless.
NODES: Final = 300
# What the keys of a task's events begin with: what its steps sent, its replies, how it
# failed, where its chain was stopped, and that it is over.
# Of ends, only those that somebody had to read are worth a word.
_TOLD: Final = {
    "send": "",
    "reply": "",
    "failed": "",
    "loop": "",
    "end": " AND EXISTS (SELECT 1 FROM marks WHERE marks.event_id = events.id"
    " AND marks.reader = SUBSTR(events.scope, 7))",
}
# Events of our own that name the task whose doing they are.
_DONE: Final = frozenset({"agent_run_start", "agent_run_complete", "agent_run_error"})
# How much of a text, and how many of a turn's other inputs, are shown.
_SHOWN: Final = 120
_INPUTS_SHOWN: Final = 32
# The tree is JSON, two levels a node, and JSON's writers stop at 255.
DEPTH: Final = 100


@dataclass(slots=True)
class _Walk:
    database: Database
    left: int = NODES
    depth: int = 0
    is_cut: bool = False
    seen: set[str] = field(default_factory=set)

    def enters(self, name: str) -> bool:
        """Whether a node is new, and there is room for it."""
        if name in self.seen:
            return False
        if self.left <= 0 or self.depth >= DEPTH:
            self.is_cut = True
            return False
        self.seen.add(name)
        self.left -= 1
        return True


def explain(database: Database, id: str) -> Row:
    """Return `{id, chain, tree, is_cut}`: how `id` (a task's or an event's) came about,
    from its root down, and everything that came of that root."""
    chain = _chain(database, id)
    walk = _Walk(database)
    root = chain[0]
    tree = (
        _event_node(walk, int(root["id"]))
        if root["kind"] == "event"
        else _task_node(walk, str(root["id"]))
    )
    return {"id": id, "chain": chain, "tree": tree, "is_cut": walk.is_cut}


def _chain(database: Database, id: str) -> list[Row]:
    """From the root to `id`."""
    links = [_link_of(database, id)]
    seen = {_name(links[0])}
    while before := _before(database, links[0]):
        names = {_name(link) for link in before}
        if names & seen:  # somebody made a circle
            break
        seen |= names
        links = [*before, *links]
    return links


def _name(link: Row) -> tuple[str, object]:
    return link["kind"], link["id"]


def _link_of(database: Database, id: str) -> Row:
    if id.isascii() and id.isdigit():
        found = events.find(database, events.parse_id(id))
        if found is None:
            raise NotFound("event", id)
        return _event_link(found)
    return _task_link(tasks.get(database, id))


def _event_link(event: Row) -> Row:
    who = event["source"] or "somebody"
    said = _cut(event["body"]) or event["kind"]
    return {
        "kind": "event",
        "id": event["id"],
        "what": f"{who} to {event['scope']}: {said}",
        "at": event["created_at"],
    }


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN].rstrip()} …"


def _task_link(row: Row) -> Row:
    shown = tasks.shape(row)
    what = f"{row['type']} of {row['agent_id'] or 'nobody'}, {row['status']}"
    if row["absorbed_by"] is not None:
        to_be = "" if row["status"] == "completed" else "to be "
        what += f", {to_be}answered by {row['absorbed_by']}"
    return {
        "kind": row["type"],
        "id": row["id"],
        "what": what,
        "at": shown["created_at"],
    }


def _before(database: Database, link: Row) -> list[Row]:
    """What led to a link, as far as it can be told from that alone; root first."""
    if link["kind"] == "event":
        row = database.read_one("SELECT * FROM events WHERE id = ?", link["id"])
        doer = tasks.find(database, _doer(row) or "") if row else None
    else:
        row = tasks.get(database, str(link["id"]))
        doer = tasks.find(database, row["parent_id"]) if row["parent_id"] else None
    if row is None:  # retention was quicker
        return []
    if doer is not None:
        return [*_read_by(database, doer, row["cause_id"]), _task_link(doer)]
    cause = events.find(database, row["cause_id"]) if row["cause_id"] else None
    return [_event_link(cause)] if cause else []


def _doer(event: Row) -> str | None:
    """The task whose doing an event is, where it says so."""
    payload = json.load(event["payload"])
    if event["kind"] == "task_update":
        return str(event["subject"])
    is_turns_own = event["subject"] == payload.get("turn_id")
    if event["kind"] in _DONE or (event["subject"] and is_turns_own):
        return str(payload.get("turn_id"))
    return _sender(event["key"])


def _read_by(database: Database, doer: Row, cause_id: int | None) -> list[Row]:
    """The message that a turn did something for, where that is not the turn's own: it
    has read others, too, and may have answered their turns."""
    if doer["type"] != "turn" or cause_id in (None, doer["cause_id"]):
        return []
    found = database.read_one(
        "SELECT 1 AS x FROM marks WHERE turn_id = ? AND event_id = ?",
        doer["id"],
        cause_id,
    )
    cause = events.find(database, int(cause_id)) if found and cause_id else None
    if cause is None:
        return []
    absorbed = _absorbed(database, doer["id"], cause["id"])
    return [_event_link(cause), *([_task_link(absorbed)] if absorbed else [])]


def _absorbed(database: Database, by: str, event_id: int) -> Row | None:
    """The turn of a message that another turn has answered."""
    return database.read_one(
        "SELECT * FROM tasks WHERE absorbed_by = ? AND cause_id = ?", by, event_id
    )


def _sender(key: str | None) -> str | None:
    """The task that sent an event: `send/turn-5/3`, `failed/turn-5/2/17`, …"""
    kind, _, rest = (key or "").partition("/")
    return rest.partition("/")[0] if kind in _TOLD and "/" in rest else None


def _event_node(walk: _Walk, id: int) -> Row | None:
    event = events.find(walk.database, id)
    if event is None or not walk.enters(f"event {id}"):
        return None
    taken = walk.database.read(
        "SELECT turn_id FROM marks WHERE reader = ? AND event_id = ?"
        " AND turn_id IS NOT NULL",
        readers.name_of(event["scope"]),
        id,
    )
    walk.depth += 1
    nodes = [_answer_node(walk, row["turn_id"], id) for row in taken]
    walk.depth -= 1
    return {**_event_link(event), "led_to": [node for node in nodes if node]}


def _answer_node(walk: _Walk, turn_id: str, event_id: int) -> Row | None:
    """The turn that a message was given, also where another has answered it."""
    absorbed = _absorbed(walk.database, turn_id, event_id)
    return _task_node(walk, absorbed["id"] if absorbed else turn_id)


def _task_node(walk: _Walk, id: str) -> Row | None:
    row = tasks.find(walk.database, id)
    if row is None or not walk.enters(id):
        return None
    node = {
        **_task_link(row),
        "status": row["status"],
        "waited_seconds": _seconds(row["created_at"], row["started_at"]),
        "took_seconds": _seconds(row["started_at"], row["finished_at"]),
        "cost_usd": row["cost_usd"],
        "usage": json.load(row["usage"]),
        "unblocked_by": blockers.said_of(walk.database, row),
        "waits": blockers.waits_of(walk.database, row),
        "steps": _steps(walk.database, row),
        "summaries": _summaries(walk.database, row),
        "also_read": _also_read(walk, row),
        "reply": _reply(row),
        "error": _error(row),
    }
    walk.depth += 1
    led_to = _consequences(walk, row)
    walk.depth -= 1
    return {**node, "led_to": led_to}


def _steps(database: Database, row: Row) -> list[Row]:
    if row["type"] != "turn":
        return []
    timed = database.read(
        "SELECT number, started_at, finished_at, cost_usd FROM steps WHERE task_id = ?",
        row["id"],
    )
    times = {each["number"]: each for each in timed}
    return [
        {
            "key": step["key"],
            "what": f"{step['kind']} {step['name']}",
            "status": step["status"],
            "attempts": step["attempts"],
            "took_seconds": _seconds(
                times[step["number"]]["started_at"],
                times[step["number"]]["finished_at"],
            ),
            "cost_usd": times[step["number"]]["cost_usd"],
            "usage": step["usage"],
        }
        for step in steps.list_of(database, row["id"])
    ]


def _summaries(database: Database, row: Row) -> list[Row]:
    """How often a turn has summarised what was said before, and at what cost."""
    if row["type"] != "turn":
        return []
    found = database.read(
        "SELECT id, generation, data FROM entries WHERE turn_id = ?"
        " AND type = 'context_compaction' ORDER BY id",
        row["id"],
    )
    return [_summary(entry, json.load(entry["data"]) or {}) for entry in found]


def _summary(entry: Row, data: Row) -> Row:
    details = data.get("details") or {}
    return {
        "entry_id": entry["id"],
        "what": f"summary, {data.get('reason')}, by {data.get('summarised_by')}",
        "generation": entry["generation"],
        "took_seconds": details.get("took_seconds"),
        "cost_usd": details.get("cost_usd"),
        "usage": details.get("usage"),
    }


def _also_read(walk: _Walk, row: Row) -> list[Row]:
    """What a turn has read besides the message that led the walk to it: news, and what
    came meanwhile; with the turn that was to answer it, if that had one."""
    if row["type"] != "turn":
        return []
    found = walk.database.read(
        "SELECT events.*, absorbed.id AS absorbed_id FROM marks"
        " JOIN events ON events.id = marks.event_id"
        " LEFT JOIN tasks AS absorbed ON absorbed.absorbed_by = marks.turn_id"
        " AND absorbed.cause_id = marks.event_id"
        " WHERE marks.turn_id = ? ORDER BY events.id LIMIT ?",
        row["id"],
        _INPUTS_SHOWN,
    )
    return [
        {**_event_link(events.shape(each)), "turn_id": each["absorbed_id"]}
        for each in found
        if f"event {each['id']}" not in walk.seen
    ]


def _reply(row: Row) -> str | None:
    if row["type"] != "turn" or row["status"] != "completed":
        return None
    return _cut(str(json.load(row["result"])["text"]))


def _error(row: Row) -> str | None:
    """Why a task ended without a result."""
    if row["status"] not in ("failed", "cancelled"):
        return None
    message = (json.load(row["error"]) or {}).get("message")
    return None if message is None else _cut(str(message))


def _consequences(walk: _Walk, row: Row) -> list[Row]:
    """What a task started and what its steps sent, oldest first, each with the `step`
    that did; whom its end woke, and who has answered in its place."""
    children = walk.database.read(
        "SELECT id, key FROM tasks WHERE parent_id = ? ORDER BY seq", row["id"]
    )
    nodes = [
        _done_in(row, each["key"], _task_node(walk, each["id"])) for each in children
    ]
    for prefix in _TOLD:
        # '0' follows '/': the range is every key that begins with this turn's.
        sent = walk.database.read(
            f"SELECT id, key FROM events WHERE key >= ? AND key < ?{_TOLD[prefix]}"
            " ORDER BY id",
            f"{prefix}/{row['id']}/",
            f"{prefix}/{row['id']}0",
        )
        nodes += [
            _done_in(row, each["key"], _event_node(walk, each["id"])) for each in sent
        ]
    if row["absorbed_by"] is not None:
        nodes.append(_done_in(row, None, _task_node(walk, row["absorbed_by"])))
    return [node for node in nodes if node]


def _done_in(row: Row, key: str | None, node: Row | None) -> Row | None:
    """Say in which step of a task something was done, where its key tells."""
    step = (key or "").removeprefix("send/")
    if node is not None:
        node["step"] = step if step.startswith(f"{row['id']}/") else None
    return node


def _seconds(start: int | None, end: int | None) -> float | None:
    if start is None or end is None:
        return None
    return round((end - start) / SECOND_US, 6)
