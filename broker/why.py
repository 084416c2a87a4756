"""Why: from the first message to a reply, with the time and the cost of each step.

Causes are written down as things happen: an event names the event that caused it, a
turn the event it answers, an exec the turn that asked for it; what a step sends carries
the step's key. So the chain is read, never guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from broker import events, json, steps, tasks
from broker.database import Database, Row
from broker.errors import NotFound
from broker.times import SECOND_US, now_us

# Fan-out is followed this far; a storm must not make its own explanation endless.
NODES: Final = 300
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
    links: list[Row] = []
    link: Row | None = _link_of(database, id)
    seen: set[tuple[str, object]] = set()
    while link is not None and (link["kind"], link["id"]) not in seen:
        seen.add((link["kind"], link["id"]))
        links.insert(0, link)
        link = _cause_of(database, link)
    return links


def _link_of(database: Database, id: str) -> Row:
    if id.isascii() and id.isdigit() and len(id) <= 18:
        found = events.find(database, int(id))
        if found is None:
            raise NotFound("event", id)
        return _event_link(found)
    return _task_link(tasks.get(database, id))


def _event_link(event: Row) -> Row:
    who = event["source"] or "somebody"
    said = event["body"][:120] or event["kind"]
    return {
        "kind": "event",
        "id": event["id"],
        "what": f"{who} to {event['scope']}: {said}",
        "at": event["created_at"],
    }


def _task_link(row: Row) -> Row:
    shown = tasks.shape(row)
    return {
        "kind": row["type"],
        "id": row["id"],
        "what": f"{row['type']} of {row['agent_id'] or 'nobody'}, {row['status']}",
        "at": shown["created_at"],
    }


def _cause_of(database: Database, link: Row) -> Row | None:
    """One step towards the root."""
    if link["kind"] == "event":
        return _cause_of_event(database, int(link["id"]))
    row = tasks.get(database, str(link["id"]))
    parent = tasks.find(database, row["parent_id"]) if row["parent_id"] else None
    if parent is not None:  # retention may have forgotten it
        return _task_link(parent)
    event = events.find(database, row["cause_id"]) if row["cause_id"] else None
    return _event_link(event) if event else None


def _cause_of_event(database: Database, id: int) -> Row | None:
    row = database.read_one("SELECT key, cause_id FROM events WHERE id = ?", id)
    turn_id = _sender(row["key"]) if row else None
    turn = tasks.find(database, turn_id) if turn_id else None
    if turn is not None:
        return _task_link(turn)
    cause = events.find(database, row["cause_id"]) if row and row["cause_id"] else None
    return _event_link(cause) if cause else None


def _sender(key: str | None) -> str | None:
    """The turn whose step sent an event: `send/turn-5/3` and `reply/turn-5/17`."""
    parts = (key or "").split("/")
    return parts[1] if len(parts) == 3 and parts[0] in ("send", "reply") else None


def _event_node(walk: _Walk, id: int) -> Row | None:
    event = events.find(walk.database, id)
    if event is None or not walk.enters(f"event {id}"):
        return None
    taken = walk.database.read(
        "SELECT DISTINCT turn_id FROM marks WHERE event_id = ? AND turn_id IS NOT NULL",
        id,
    )
    walk.depth += 1
    nodes = [_task_node(walk, row["turn_id"]) for row in taken]
    walk.depth -= 1
    return {**_event_link(event), "led_to": [node for node in nodes if node]}


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
        "unblocked_by": _unblocked_by(walk.database, row),
        "steps": _steps(walk.database, row),
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


def _consequences(walk: _Walk, row: Row) -> list[Row]:
    """What a task started and what its steps sent, oldest first."""
    children = walk.database.read(
        "SELECT id FROM tasks WHERE parent_id = ? ORDER BY seq", row["id"]
    )
    nodes = [_task_node(walk, child["id"]) for child in children]
    for prefix in ("send", "reply"):
        # '0' follows '/': the range is every key that begins with this turn's.
        sent = walk.database.read(
            "SELECT id FROM events WHERE key >= ? AND key < ? ORDER BY id",
            f"{prefix}/{row['id']}/",
            f"{prefix}/{row['id']}0",
        )
        nodes += [_event_node(walk, event["id"]) for event in sent]
    return [node for node in nodes if node]


def _unblocked_by(database: Database, row: Row) -> str | None:
    """What a task that is not over waits for, and what would let it go on."""
    if row["status"] == "waiting":
        return _awaited(database, row)
    if row["status"] != "queued":
        return None
    if row["not_before_at"] is not None:
        error = (json.load(row["error"]) or {}).get("message", "a failure")
        return f"its back-off ({tasks.shape(row)['not_before_at']}) after: {error}"
    # Turns of one agent stand in line; its execs do not.
    holder = row["type"] == "turn" and database.read_one(
        "SELECT turn_id FROM agents WHERE id = ? AND turn_id <> ?",
        row["agent_id"],
        row["id"],
    )
    if holder:
        return f"the end of {holder['turn_id']}, which the agent takes now"
    return "a worker that is free"


def _awaited(database: Database, row: Row) -> str:
    waits = database.read(
        "SELECT waits.target_id, tasks.status FROM waits LEFT JOIN tasks"
        " ON tasks.id = waits.target_id WHERE waits.task_id = ?",
        row["id"],
    )
    named = [f"{w['target_id']} ({w['status']})" for w in waits if w["target_id"]]
    due = database.read_one(
        "SELECT MIN(deadline_at) AS due FROM waits WHERE task_id = ?", row["id"]
    )
    until = f", at the latest in {_until(due['due'])} s" if due and due["due"] else ""
    return f"the end of {' or '.join(named) or 'a time'}{until}, or a waking message"


def _until(due_at: int) -> float:
    return round(max(due_at - now_us(), 0) / SECOND_US, 1)


def _seconds(start: int | None, end: int | None) -> float | None:
    if start is None or end is None:
        return None
    return round((end - start) / SECOND_US, 6)
