"""The tables, as peewee models: what a database looks like after every migration.

Migrations carry frozen copies of these; a test proves that both describe one schema.
Hot paths run SQL through `broker.database`, so these models are read as documentation
more than they are run. JSON is TEXT, instants are microseconds in both dialects.
"""

from __future__ import annotations

from peewee import (
    BigAutoField,
    BigIntegerField,
    BlobField,
    Check,
    CompositeKey,
    DoubleField,
    IntegerField,
    Model,
    TextField,
)


def _in(column: str, *values: str) -> object:
    return Check(f"{column} IN ({', '.join(repr(value) for value in values)})")


class Agent(Model):
    """A long-lived record that takes turns."""

    id = TextField(primary_key=True)
    name = TextField()
    system = TextField()
    model = TextField(null=True)
    tools = TextField(null=True)
    metadata = TextField()
    state = TextField()
    generation = IntegerField()
    # The turn that holds the agent: at most one, from its claim to its end or back-off.
    turn_id = TextField(null=True)
    last_entry_id = BigIntegerField(null=True)
    # The agent that made this one, if an agent did.
    parent_id = TextField(null=True)
    # A fork reads the history of another agent up to this entry, and goes on from it.
    fork_agent_id = TextField(null=True)
    fork_entry_id = BigIntegerField(null=True)
    # The frozen prompt that a fork shares, in the generation of that entry.
    prompt_entry_id = BigIntegerField(null=True)
    archived_at = BigIntegerField(null=True)
    created_at = BigIntegerField()
    updated_at = BigIntegerField()
    last_activity_at = BigIntegerField(null=True)

    class Meta:
        table_name = "agents"
        constraints = [
            # An agent never completes: there is no terminal state here.
            _in("state", "idle", "queued", "running", "waiting", "stopped"),
        ]


class Task(Model):
    """Any durable piece of work."""

    seq = BigAutoField()
    id = TextField(unique=True)
    type = TextField()
    status = TextField()
    agent_id = TextField(null=True)
    parent_id = TextField(null=True)
    # The creator's own key (a step's): the same key never makes a second task.
    key = TextField(null=True, unique=True)
    payload = TextField()
    result = TextField(null=True)
    error = TextField(null=True)
    metadata = TextField()
    rank = IntegerField()
    attempts = IntegerField()
    crashes = IntegerField()
    epoch = IntegerField()
    lease_owner = TextField(null=True)
    lease_expires_at = BigIntegerField(null=True)
    # When a hint was last put into Huey's queue, so that a backlog is not hinted twice.
    hinted_at = BigIntegerField(null=True)
    not_before_at = BigIntegerField(null=True)
    waiting_for = TextField(null=True)
    stop_verb = TextField(null=True)
    stop_reason = TextField(null=True)
    process = TextField(null=True)
    cause_id = BigIntegerField(null=True)
    usage = TextField(null=True)
    cost_usd = DoubleField(null=True)
    dropped_at = BigIntegerField(null=True)
    # The running turn that read this queued turn's message: they end together.
    absorbed_by = TextField(null=True)
    # The turn that waits, or will wait, for its end: nobody else needs to be told.
    awaited_by = TextField(null=True)
    created_at = BigIntegerField()
    updated_at = BigIntegerField()
    started_at = BigIntegerField(null=True)
    finished_at = BigIntegerField(null=True)

    class Meta:
        table_name = "tasks"
        constraints = [
            # A typo in a transition must not make a state of its own.
            _in(
                "status",
                "queued",
                "running",
                "waiting",
                "completed",
                "failed",
                "cancelled",
            ),
            # A running task has a lease, and nothing else has one.
            Check("(status = 'running') = (lease_owner IS NOT NULL)"),
            # Only the end has an end.
            Check(
                "(status IN ('completed', 'failed', 'cancelled'))"
                " = (finished_at IS NOT NULL)"
            ),
            _in("stop_verb", "cancel", "interrupt"),
        ]


class Update(Model):
    """One record of a task's log."""

    id = BigAutoField()
    task_id = TextField()
    kind = TextField()
    payload = TextField()
    created_at = BigIntegerField()

    class Meta:
        table_name = "updates"
        indexes = ((("task_id", "id"), False),)


class Step(Model):
    """One journalled effect of a turn: a model call or a tool call."""

    task_id = TextField()
    number = IntegerField()
    kind = TextField()
    name = TextField()
    tool_call_id = TextField(null=True)
    effect = TextField(null=True)
    status = TextField()
    request = TextField(null=True)
    result = TextField(null=True)
    usage = TextField(null=True)
    cost_usd = DoubleField(null=True)
    attempts = IntegerField()
    created_at = BigIntegerField()
    started_at = BigIntegerField(null=True)
    finished_at = BigIntegerField(null=True)

    class Meta:
        table_name = "steps"
        primary_key = CompositeKey("task_id", "number")
        constraints = [
            _in("kind", "model", "tool"),
            _in("status", "planned", "started", "succeeded", "failed", "uncertain"),
            # An effect that nobody declared cannot be resumed.
            Check("(kind = 'tool') = (effect IS NOT NULL)"),
            _in("effect", "pure", "idempotent", "at_most_once"),
        ]


class Wait(Model):
    """One wake condition of a parked turn: a task that ends, or a time that comes."""

    task_id = TextField()
    step = IntegerField()
    target_id = TextField(null=True)
    deadline_at = BigIntegerField(null=True)
    created_at = BigIntegerField()

    class Meta:
        table_name = "waits"
        primary_key = False


class Entry(Model):
    """One item of an agent's history; appended, never changed."""

    id = BigAutoField()
    agent_id = TextField()
    parent_id = BigIntegerField(null=True)
    generation = IntegerField()
    type = TextField()
    role = TextField(null=True)
    content = TextField()
    turn_id = TextField(null=True)
    step = IntegerField(null=True)
    tool_call_id = TextField(null=True)
    tool_name = TextField(null=True)
    status = TextField(null=True)
    usage = TextField(null=True)
    data = TextField(null=True)
    created_at = BigIntegerField()

    class Meta:
        table_name = "entries"
        indexes = ((("agent_id", "generation", "id"), False),)


class Event(Model):
    """One append-only record on a stream."""

    id = BigAutoField()
    stream = TextField()
    scope = TextField()
    subject = TextField(null=True)
    kind = TextField()
    priority = TextField()
    body = TextField()
    payload = TextField()
    source = TextField(null=True)
    cause_id = BigIntegerField(null=True)
    hop = IntegerField()
    created_at = BigIntegerField()
    # A sender's own key: the same key never makes a second event.
    key = TextField(null=True, unique=True)

    class Meta:
        table_name = "events"
        indexes = (
            (("scope", "id"), False),
            (("stream", "id"), False),
        )
        constraints = [
            _in(
                "stream",
                "task_input",
                "task_output",
                "signals",
                "errors",
                "external",
                "history",
            ),
            _in("priority", "interrupt", "wake", "normal", "low"),
        ]


class Mark(Model):
    """What one reader has (read_at) or has not yet (NULL) read."""

    reader = TextField()
    event_id = BigIntegerField()
    rank = IntegerField()
    # The turn that takes it, once one does.
    turn_id = TextField(null=True)
    # What the reader is to read in place of the body: somebody edited it in time.
    text = TextField(null=True)
    read_at = BigIntegerField(null=True)

    class Meta:
        table_name = "marks"
        primary_key = CompositeKey("reader", "event_id")


class Counter(Model):
    """The last number given to a task id of this prefix."""

    prefix = TextField(primary_key=True)
    value = BigIntegerField()

    class Meta:
        table_name = "counters"


class Leader(Model):
    """Who leads a role that only one process may have."""

    role = TextField(primary_key=True)
    owner = TextField()
    expires_at = BigIntegerField()

    class Meta:
        table_name = "leaders"


class Breaker(Model):
    """How a model provider has done lately, as all processes have seen it."""

    provider = TextField(primary_key=True)
    # Failures in a row; a success makes it 0.
    failures = IntegerField()
    # Nobody tries before then; who tries then is alone until `probed_at` is long ago.
    opens_at = BigIntegerField(null=True)
    probed_at = BigIntegerField(null=True)
    error = TextField(null=True)
    updated_at = BigIntegerField()

    class Meta:
        table_name = "breakers"


class Rate(Model):
    """What is left of a provider's requests and tokens a minute: a token bucket."""

    name = TextField(primary_key=True)
    requests = DoubleField()
    tokens = DoubleField()
    filled_at = BigIntegerField()

    class Meta:
        table_name = "rates"


class Call(Model):
    """A model call under way; it counts while its turn holds the lease of the epoch."""

    task_id = TextField()
    name = TextField()
    epoch = IntegerField()
    started_at = BigIntegerField()

    class Meta:
        table_name = "calls"
        primary_key = CompositeKey("task_id", "name")
        indexes = ((("name",), False),)


class Process(Model):
    """A running process of this home, on any machine."""

    owner = TextField(primary_key=True)
    kind = TextField()
    host = TextField()
    pid = IntegerField()
    start_ticks = BigIntegerField()
    facts = TextField()
    started_at = BigIntegerField()
    seen_at = BigIntegerField()

    class Meta:
        table_name = "processes"


class Receipt(Model):
    """The first answer to a POST with an Idempotency-Key."""

    key = TextField(primary_key=True)
    request_hash = TextField()
    # The process that answers it: if it dies, nobody has to wait for its answer.
    owner = TextField()
    status = IntegerField(null=True)
    body = TextField(null=True)
    location = TextField(null=True)
    created_at = BigIntegerField()

    class Meta:
        table_name = "receipts"


class Label(Model):
    """A name for an entry, in the eyes of one agent."""

    agent_id = TextField()
    name = TextField()
    entry_id = BigIntegerField()
    created_at = BigIntegerField()

    class Meta:
        table_name = "labels"
        primary_key = CompositeKey("agent_id", "name")


class Artifact(Model):
    """What was too large, or too binary, to lie in a history; known by its handle."""

    id = BigAutoField()
    # The key of the step that made it.
    handle = TextField(unique=True)
    agent_id = TextField()
    name = TextField()
    media_type = TextField()
    size_bytes = BigIntegerField()
    content = BlobField()
    created_at = BigIntegerField()

    class Meta:
        table_name = "artifacts"


class Budget(Model):
    """How much of a unit an agent may use in a scope."""

    agent_id = TextField()
    scope = TextField()
    unit = TextField()
    # In the unit's smallest part: tokens, nano-dollars, rounds, milliseconds.
    amount = BigIntegerField()

    class Meta:
        table_name = "budgets"
        primary_key = CompositeKey("agent_id", "scope", "unit")
        constraints = [
            _in("scope", "turn", "agent", "tree", "day"),
            _in("unit", "tokens", "usd", "rounds", "seconds"),
            # A limit below nothing could never be kept.
            Check("amount >= 0"),
        ]


class Meter(Model):
    """What was used under a key (`turn/turn-5`, `day/scout/2026-11-21`), and what the
    calls under way may still use. Whole numbers, so that what is added and taken away
    again leaves nothing behind."""

    key = TextField(primary_key=True)
    spent_tokens = BigIntegerField()
    spent_nano_usd = BigIntegerField()
    spent_rounds = BigIntegerField()
    spent_ms = BigIntegerField()
    reserved_tokens = BigIntegerField()
    reserved_nano_usd = BigIntegerField()
    reserved_rounds = BigIntegerField()
    updated_at = BigIntegerField()

    class Meta:
        table_name = "meters"


class Reservation(Model):
    """What one model call under way may use; the end of its turn takes it away."""

    task_id = TextField()
    step = IntegerField()
    # Where it is reserved: `[[scope, agent, key], …]`, as the meters were at its start.
    accounts = TextField()
    tokens = BigIntegerField()
    nano_usd = BigIntegerField()
    rounds = BigIntegerField()
    created_at = BigIntegerField()

    class Meta:
        table_name = "reservations"
        primary_key = CompositeKey("task_id", "step")


ALL: tuple[type[Model], ...] = (
    Agent,
    Task,
    Update,
    Step,
    Wait,
    Entry,
    Event,
    Mark,
    Counter,
    Leader,
    Breaker,
    Rate,
    Call,
    Process,
    Receipt,
    Label,
    Artifact,
    Budget,
    Meter,
    Reservation,
)

# Indexes with a WHERE, which a Meta cannot say. Each keeps one hot query from growing
# with the age of the database.
PARTIAL_INDEXES: tuple[str, ...] = (
    # The claim: what is queued, oldest first.
    "CREATE INDEX tasks_queued ON tasks (type, rank, seq) WHERE status = 'queued'",
    # The head of an agent's line. SQLite uses a partial index only where a query has
    # the same condition word for word, so the open tasks need one of their own.
    "CREATE INDEX tasks_agent_queued ON tasks (agent_id, type, rank, seq)"
    " WHERE status = 'queued'",
    "CREATE INDEX tasks_agent_open ON tasks (agent_id, type, seq)"
    " WHERE status IN ('queued', 'running', 'waiting')",
    # Leases: what may have lost its worker.
    "CREATE INDEX tasks_leased ON tasks (lease_expires_at) WHERE status = 'running'",
    "CREATE INDEX tasks_parent ON tasks (parent_id) WHERE parent_id IS NOT NULL",
    "CREATE INDEX tasks_finished ON tasks (finished_at) WHERE finished_at IS NOT NULL",
    # Processes to be swept: of running tasks, and of those killed and not yet swept.
    "CREATE INDEX tasks_process ON tasks (id) WHERE process IS NOT NULL",
    "CREATE INDEX tasks_agent ON tasks (agent_id, seq) WHERE agent_id IS NOT NULL",
    # An agent's unread inputs, most urgent first.
    "CREATE INDEX marks_unread ON marks (reader, rank, event_id) WHERE read_at IS NULL",
    "CREATE INDEX marks_turn ON marks (turn_id) WHERE turn_id IS NOT NULL",
    "CREATE INDEX waits_target ON waits (target_id) WHERE target_id IS NOT NULL",
    "CREATE INDEX waits_deadline ON waits (deadline_at) WHERE deadline_at IS NOT NULL",
    "CREATE INDEX waits_task ON waits (task_id)",
    "CREATE INDEX receipts_age ON receipts (created_at)",
    "CREATE INDEX events_age ON events (created_at)",
    "CREATE INDEX entries_turn ON entries (turn_id) WHERE turn_id IS NOT NULL",
    # The summary that a conversation begins with, however long it has become since.
    "CREATE INDEX entries_compaction ON entries (agent_id, generation, id)"
    " WHERE type = 'context_compaction'",
    "CREATE INDEX tasks_absorbed ON tasks (absorbed_by) WHERE absorbed_by IS NOT NULL",
    "CREATE INDEX artifacts_age ON artifacts (created_at)",
    # How often one agent has written to another lately.
    "CREATE INDEX events_pair ON events (scope, source, id) WHERE source IS NOT NULL",
)

# Full-text search over entries; each store has its own. `rowid` is the entry's id.
SEARCH: dict[str, tuple[str, ...]] = {
    "sqlite": (
        "CREATE VIRTUAL TABLE entries_fts USING fts5"
        " (text, content='', contentless_delete=1, tokenize='unicode61')",
    ),
    "postgres": (
        "CREATE TABLE entries_fts (rowid BIGINT PRIMARY KEY, text TSVECTOR NOT NULL)",
        "CREATE INDEX entries_fts_text ON entries_fts USING GIN (text)",
    ),
}
