"""Agents together: how far they may go on among themselves, with nobody else's word.

Every event carries its cause and its hop: how many messages between agents led to it.
What an agent *asks* beyond a limit is refused, with a sentence that its model reads.
What *answers*, or tells of an end, was promised: beyond a limit it is written all the
same, and wakes nobody. docs/explanation/agents-together.md says why each is so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from broker import events
from broker.database import Row, Transaction
from broker.errors import AgentLimit, ChainStopped, TooManyWaiting
from broker.events import NewEvent
from broker.states import Priority, Stream
from broker.times import SECOND_US, now_us

# A chain of messages from agent to agent ends here, whatever they say to one another:
# a deep delegation and its answers fit (eight down, eight up), a circle does not last.
HOPS_LIMIT: Final = 16
# Two agents and nobody else: five questions and five answers are a conversation, more
# is taken for ping-pong.
PING_PONG_HOPS: Final = 10
# Agents that agents made, above one another: as deep as half a chain can reach.
DEPTH_LIMIT: Final = 8
# Agents that one agent made and nobody has stopped: a mistake in a loop stays small.
CHILDREN_LIMIT: Final = 256
# What one turn has under way at once (execs, and turns of others that it asked for):
# more than a crowd of workers finishes soon, less than a task queue's limit by far.
FAN_OUT_LIMIT: Final = 64
# Messages from one agent to one other within the window: one each two seconds.
PAIR_LIMIT: Final = 30
# News (answers, and ends of tasks) that wake one agent within the window, with no word
# of a person: more than one turn's fan-out brings, so that never counts as a storm.
STORM_LIMIT: Final = 100
WINDOW_SECONDS: Final = 60
# How much of a chain a report names: hops, and news of tasks between them.
CHAIN_SHOWN: Final = 64
# A storm is told from this many of the newest waking events.
STORM_LOOK_BACK: Final = 1_000

_AGENT: Final = "agent/"
_ADVICE: Final = (
    "Answer with what you have, or ask somebody else; "
    "a message from a person begins a new chain."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a turn's doings come from: an event, and how many hops it is away."""

    cause_id: int | None
    hop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """A chain of messages that goes no further: its events, oldest first, and who
    wrote them. `in_turn` counts those that only the last two wrote, in turn."""

    chain: tuple[int, ...]
    agents: tuple[str, ...]
    hops: int
    in_turn: int

    @property
    def said(self) -> str:
        """Say what was found, as the beginning of a sentence."""
        if self.in_turn > PING_PONG_HOPS:
            one, other = self.agents[-2:]
            return (
                f"{one} and {other} have written to each other {self.in_turn} times in"
                f" a row, with no news of anybody else (the limit is {PING_PONG_HOPS})"
            )
        names = ", ".join(self.agents)
        return (
            f"A chain of messages among {names} is {self.hops} long"
            f" (the limit is {HOPS_LIMIT})"
        )


def agent_of(source: str | None) -> str | None:
    """Return the id of the agent that a source is; None for anybody else."""
    if source is None or not source.startswith(_AGENT):
        return None
    return source.removeprefix(_AGENT)


def origin(inputs: Sequence[Row], cause_id: int | None) -> Origin:
    """Return where the doings of a turn with these inputs come from.

    A person's message begins a new chain. What came after it goes on with its own, also
    in the same turn: else a circle that comes back to a turn would never grow longer.
    What wakes nobody counts for nothing: no loop can live on it.
    """
    waking = [event for event in inputs if Priority(event["priority"]).wakes]
    if not waking:
        return Origin(cause_id=cause_id, hop=0)
    said = max((event["id"] for event in waking if _is_a_persons(event)), default=0)
    chosen = max(
        (event for event in waking if event["id"] >= said),
        key=lambda event: (event["hop"], event["id"] == cause_id),
    )
    return Origin(cause_id=chosen["id"], hop=chosen["hop"])


def _is_a_persons(event: Row) -> bool:
    return event["kind"] == "message" and agent_of(event["source"]) is None


def hop_after(tx: Transaction, cause_id: int | None) -> int:
    """Return the hop of what an agent writes because of an event."""
    row = tx.one("SELECT hop FROM events WHERE id = ?", cause_id) if cause_id else None
    return 0 if row is None else int(row["hop"]) + 1


def refuse_too_much(
    tx: Transaction, sender: str, target: str, cause_id: int | None, hop: int
) -> None:
    """Refuse what an agent asks of another when their chain is too long, or when it
    writes to that one too often."""
    if loop := find_loop(tx, sender, target, cause_id, hop):
        raise ChainStopped(
            f"{loop.said}, so nothing was sent. The chain: {_drawn(loop)}. {_ADVICE}",
            chain=loop.chain,
            agents=loop.agents,
            hops=loop.hops,
            target=target,
        )
    _refuse_often(tx, sender, target)


def _drawn(loop: Loop) -> str:
    return "events " + " → ".join(str(id) for id in loop.chain)


def _refuse_often(tx: Transaction, sender: str, target: str) -> None:
    last = tx.one(
        "SELECT created_at FROM events WHERE scope = ? AND source = ?"
        " AND kind <> 'reply' ORDER BY id DESC LIMIT 1 OFFSET ?",
        f"{_AGENT}{target}",
        f"{_AGENT}{sender}",
        PAIR_LIMIT - 1,
    )
    age = WINDOW_SECONDS if last is None else (now_us() - last["created_at"]) / 1e6
    if age < WINDOW_SECONDS:
        raise TooManyWaiting(
            f"What {sender} may write to {target} within {WINDOW_SECONDS} seconds",
            PAIR_LIMIT,
            retry_after_seconds=int(WINDOW_SECONDS - age) + 1,
        )


def find_loop(
    tx: Transaction, sender: str, target: str, cause_id: int | None, hop: int
) -> Loop | None:
    """Return the chain that one more message would make too long, if it would."""
    if hop <= PING_PONG_HOPS:
        return None
    chain = _chain(tx, cause_id)
    hops = [(agent_of(each["source"]), agent_of(each["scope"])) for each in chain]
    pair = {sender, target}
    in_turn = 1
    while in_turn <= len(hops) and set(hops[-in_turn]) == pair:
        in_turn += 1
    if in_turn <= PING_PONG_HOPS and hop <= HOPS_LIMIT:
        return None
    writers = [writer for writer, _ in hops if writer is not None]
    return Loop(
        chain=tuple(each["id"] for each in chain),
        agents=_in_order([*writers, target, sender]),
        hops=hop,
        in_turn=in_turn,
    )


def _in_order(names: list[str]) -> tuple[str, ...]:
    """Each name once, where it comes last."""
    return tuple(reversed(dict.fromkeys(reversed(names))))


def _chain(tx: Transaction, cause_id: int | None) -> list[Row]:
    """The events that led here, oldest first; retention may have forgotten some."""
    links: list[Row] = []
    while cause_id is not None and len(links) < CHAIN_SHOWN:
        row = tx.one(
            "SELECT id, source, scope, cause_id FROM events WHERE id = ?", cause_id
        )
        if row is None:
            break
        links.append(row)
        cause_id = row["cause_id"]
    return links[::-1]


def report_refused(tx: Transaction, error: ChainStopped, by: str, turn_id: str) -> None:
    """Tell people of a message that was refused, once for a turn and whom it was to."""
    loop = {"chain": error.chain, "agents": error.agents, "hops": error.hops}
    _report_loop(tx, by, turn_id, error.target, error.detail, loop)


def report_quieted(
    tx: Transaction, loop: Loop, target: str, event_id: int, turn_id: str
) -> None:
    """Tell people of an answer that wakes nobody."""
    chain = (*loop.chain, event_id)
    said = f"{loop.said}, so this answer waits in the inbox of {target}, waking nobody."
    fields = {"chain": chain, "agents": loop.agents, "hops": loop.hops}
    _report_loop(tx, target, turn_id, target, said, fields)


def _report_loop(
    tx: Transaction,
    agent_id: str,
    turn_id: str,
    target: str,
    said: str,
    loop: dict[str, Any],
) -> None:
    events.append(
        tx,
        NewEvent(
            stream=Stream.ERRORS,
            scope=f"{_AGENT}{agent_id}",
            subject=turn_id,
            kind="loop_stopped",
            body=said,
            payload={**loop, "turn_id": turn_id},
            cause_id=loop["chain"][-1] if loop["chain"] else None,
            hop=loop["hops"],
            # `broker.why` finds the turn in it.
            key=f"loop/{turn_id}/{target}",
        ),
    )


def is_storm(tx: Transaction, agent_id: str) -> bool:
    """Whether the agent has been woken by too much news lately to be woken by more."""
    first = tx.one(
        "SELECT id FROM events WHERE created_at >= ? ORDER BY created_at, id LIMIT 1",
        now_us() - WINDOW_SECONDS * SECOND_US,
    )
    recent = (agent_id, first["id"] if first else 2**62, Priority.WAKE.rank)
    woken = tx.execute(
        "SELECT COUNT(*) AS n FROM (SELECT 1 FROM marks WHERE reader = ?"
        " AND event_id >= ? AND rank <= ? LIMIT ?) AS woken",
        *recent,
        STORM_LIMIT,
    )[0]["n"]
    return woken >= STORM_LIMIT and _news(tx, recent) >= STORM_LIMIT


def _news(tx: Transaction, recent: tuple[str, int, int]) -> int:
    """Count the news that woke an agent since a person's word."""
    news = 0
    for event in tx.execute(
        "SELECT events.kind, events.source FROM marks JOIN events"
        " ON events.id = marks.event_id WHERE marks.reader = ?"
        " AND marks.event_id >= ? AND marks.rank <= ?"
        " ORDER BY marks.event_id DESC LIMIT ?",
        *recent,
        STORM_LOOK_BACK,
    ):
        if _is_a_persons(event):
            break
        news += event["kind"] in ("reply", "task_update")
    return news


def report_storm(tx: Transaction, agent_id: str, event_id: int) -> None:
    """Tell people, once a minute, that news wakes an agent no longer."""
    minute = now_us() // (WINDOW_SECONDS * SECOND_US)
    events.append(
        tx,
        NewEvent(
            stream=Stream.ERRORS,
            scope=f"{_AGENT}{agent_id}",
            kind="wake_storm",
            body=f"News has woken {agent_id} {STORM_LIMIT} times within"
            f" {WINDOW_SECONDS} seconds, with no word of a person. More of it waits in"
            " the inbox for the next turn, and wakes nobody.",
            payload={
                "event_id": event_id,
                "limit": STORM_LIMIT,
                "window_seconds": WINDOW_SECONDS,
            },
            cause_id=event_id,
            key=f"storm/{agent_id}/{minute}",
        ),
    )


def refuse_fan_out(tx: Transaction, turn_id: str) -> None:
    """Refuse one more exec or question of a turn that has too many under way."""
    execs = tx.execute(
        "SELECT COUNT(*) AS n FROM tasks WHERE parent_id = ? AND type <> 'prompt'"
        " AND status IN ('queued', 'running', 'waiting')",
        turn_id,
    )[0]["n"]
    # What a step sent carries the step's key; its mark says which turn has it.
    asked = tx.execute(
        "SELECT COUNT(*) AS n FROM steps"
        " JOIN events ON events.key = 'send/' || steps.task_id || '/' || steps.number"
        " JOIN marks ON marks.reader = SUBSTR(events.scope, 7)"
        "  AND marks.event_id = events.id"
        " JOIN tasks ON tasks.id = marks.turn_id"
        " WHERE steps.task_id = ? AND steps.kind = 'tool'"
        " AND tasks.status IN ('queued', 'running', 'waiting')",
        turn_id,
    )[0]["n"]
    if execs + asked >= FAN_OUT_LIMIT:
        raise AgentLimit(
            f"This turn has {execs + asked} execs and questions to agents under way",
            FAN_OUT_LIMIT,
            "Wait for some of them with await_task, or kill some, before the next.",
        )


def refuse_child(tx: Transaction, parent_id: str) -> None:
    """Refuse to have one agent make another: it has made too many, or it is itself at
    the end of a line of agents that made one another."""
    depth = _depth(tx, parent_id) + 1
    if depth > DEPTH_LIMIT:
        raise AgentLimit(
            f"A new agent would be {depth} agents below the one that a person made",
            DEPTH_LIMIT,
            "Do the work yourself, or ask an agent that there is.",
        )
    made = tx.execute(
        "SELECT COUNT(*) AS n FROM agents WHERE parent_id = ? AND archived_at IS NULL",
        parent_id,
    )[0]["n"]
    if made >= CHILDREN_LIMIT:
        raise AgentLimit(
            f"You have made {made} agents",
            CHILDREN_LIMIT,
            "Ask one of them again: an agent keeps what it knows.",
        )


def _depth(tx: Transaction, agent_id: str) -> int:
    return len(_above(tx, agent_id))


def _above(tx: Transaction, agent_id: str) -> list[str]:
    """The agents above one, nearest first, no further than the limit."""
    above: list[str] = []
    id: str = agent_id
    while len(above) < DEPTH_LIMIT:
        row = tx.one("SELECT parent_id FROM agents WHERE id = ?", id)
        if row is None or row["parent_id"] is None:
            break
        id = row["parent_id"]
        above.append(id)
    return above


def may_stop(tx: Transaction, agent_id: str, task: Row) -> bool:
    """Whether an agent may kill a task: nobody's, its own, one of an agent below it, or
    one that answers its own question."""
    owner = task["agent_id"]
    if owner in (None, agent_id) or agent_id in _above(tx, owner):
        return True
    cause = tx.one("SELECT source FROM events WHERE id = ?", task["cause_id"] or 0)
    return cause is not None and agent_of(cause["source"]) == agent_id
