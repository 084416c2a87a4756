"""What goes in and what comes out, as pydantic models; the OpenAPI document shows them.

Unknown fields are refused by name. Shapes that the broker makes are described here, not
built here: `broker` owns what an agent, a task, an event or an entry looks like.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

JSONObject = dict[str, Any]
# More than any model reads at once; each text is held whole by whoever handles it.
TEXT_CHARACTERS: Final = 500_000
Text = Annotated[str, StringConstraints(min_length=1, max_length=TEXT_CHARACTERS)]
# For this one turn, in place of the agent's own.
ModelName = Annotated[str, Field(min_length=1, max_length=300)] | None
Id = Annotated[str, Field(max_length=64, examples=["scout"])]
Label = Annotated[str, Field(min_length=1, max_length=64, examples=["good"])]
Limit = Annotated[int, Field(ge=1, le=1000)]
PriorityName = Literal["interrupt", "wake", "normal", "low"]
# However it is written (G15).
PriorityGiven = Annotated[
    PriorityName,
    BeforeValidator(lambda said: said.lower() if isinstance(said, str) else said),
]
ReaderName = Annotated[str, Field(min_length=1, max_length=200, examples=["scout"])]
StreamName = Literal[
    "task_input", "task_output", "signals", "errors", "external", "history"
]
TaskStatusName = Literal[
    "queued", "running", "waiting", "completed", "failed", "cancelled"
]

# More than anybody uses, and few enough that a sum of them fits into 64 bits.
AMOUNT_LIMIT: Final = 10**15
# pydantic writes no JSON deeper than 255: what went in must come out again in a list.
DEPTH_LIMIT: Final = 100
# The stores' integers have 64 bits.
INTEGER_LIMIT: Final = 2**63 - 1


class Input(BaseModel):
    """A request's body or query: no field that is not named here."""

    model_config = ConfigDict(extra="forbid")

    @field_validator("*")
    @classmethod
    def refuse_unstorable(cls, value: Any) -> Any:
        """Refuse what a store cannot hold, or cannot give back."""
        if isinstance(value, int) and abs(value) > INTEGER_LIMIT:
            raise ValueError("must fit into 64 bits")
        if isinstance(value, str) and "\0" in value:
            raise ValueError("must not have a NUL character in it")
        level = [value]
        for _ in range(DEPTH_LIMIT):
            level = [inner for outer in level for inner in _inside(outer)]
            if not level:
                return value
        raise ValueError(f"must not be nested deeper than {DEPTH_LIMIT}")


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


class AgentIn(Input):
    """Make an agent, or change the one with this id."""

    id: Id | None = None
    name: Annotated[str, Field(max_length=200)] | None = None
    system: Annotated[str, Field(max_length=200_000)] | None = None
    model: Annotated[str, Field(max_length=300)] | None = None
    tools: list[str] | None = None
    metadata: JSONObject | None = None


class ForkIn(Input):
    """Make an agent that goes on from an entry of this one: the entry, or the one that
    has the label; the last, when neither is named. What else is not named stays."""

    entry_id: Annotated[int, Field(ge=1)] | None = None
    label: Label | None = None
    id: Id | None = None
    name: Annotated[str, Field(max_length=200)] | None = None
    model: Annotated[str, Field(max_length=300)] | None = None
    system: Annotated[str, Field(max_length=200_000)] | None = None

    @model_validator(mode="after")
    def refuse_two_places(self) -> ForkIn:
        """Refuse an entry beside a label."""
        if self.entry_id is not None and self.label is not None:
            raise ValueError("Name an entry_id or a label, not both.")
        return self


class LabelIn(Input):
    """Which entry the label names."""

    entry_id: Annotated[int, Field(ge=1)]


class LimitsIn(Input):
    """Limits of one scope; null takes one away. A turn may begin a model call while it
    has worked for less than `seconds`."""

    tokens: Annotated[int, Field(ge=0, le=AMOUNT_LIMIT)] | None = None
    usd: Annotated[float, Field(ge=0, le=1_000_000_000)] | None = None
    rounds: Annotated[int, Field(ge=0, le=AMOUNT_LIMIT)] | None = None
    seconds: Annotated[float, Field(ge=0, le=1_000_000_000)] | None = None


class BudgetsIn(Input):
    """Limits by scope: of each turn, of the agent for ever, of it and all agents that
    it has made, of its day in UTC. Null takes all of a scope away."""

    turn: LimitsIn | None = None
    agent: LimitsIn | None = None
    tree: LimitsIn | None = None
    day: LimitsIn | None = None


class AgentPatch(Input):
    """Change an agent; what is not named stays."""

    name: Annotated[str, Field(max_length=200)] | None = None
    system: Annotated[str, Field(max_length=200_000)] | None = None
    model: Annotated[str, Field(max_length=300)] | None = None
    tools: list[str] | None = None
    metadata: JSONObject | None = None


class MessageIn(Input):
    """Say something to an agent."""

    text: Text
    priority: PriorityGiven = "wake"
    source: Annotated[str, Field(max_length=200)] | None = None
    context: JSONObject = Field(default_factory=dict)
    request_id: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    model: ModelName = None


class AskIn(Input):
    """Say something and wait for the reply."""

    text: Text
    wait_seconds: Annotated[float, Field(ge=0, le=600)] = 60
    model: ModelName = None


class StreamIn(Input):
    """Say something and watch the turn."""

    text: Text
    model: ModelName = None


class TaskIn(Input):
    """Queue a task; an id that exists gives that task back."""

    type: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$", max_length=40)]
    payload: JSONObject = Field(default_factory=dict)
    id: Annotated[str, Field(max_length=64)] | None = None
    agent_id: Id | None = None
    parent_id: Annotated[str, Field(max_length=64)] | None = None
    metadata: JSONObject = Field(default_factory=dict)


class ExecPayload(Input):
    """What an exec runs; the policy's fields are the sandbox's to judge."""

    model_config = ConfigDict(extra="forbid", strict=True)

    code: Text
    timeout_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    stdin: str | None = None
    policy: JSONObject | None = None


class UpdateIn(Input):
    """Append to a task's update log."""

    kind: Annotated[str, Field(min_length=1, max_length=60)]
    payload: JSONObject = Field(default_factory=dict)


class EventIn(Input):
    """Push an event. `cause_id` is the event that led to it, which must exist."""

    stream: StreamName
    body: Annotated[str, Field(min_length=1, max_length=TEXT_CHARACTERS)]
    scope: Annotated[
        str, Field(pattern=r"^(global|(agent|task)/[a-z0-9-]+)$", max_length=80)
    ] = "global"
    kind: Annotated[str, Field(min_length=1, max_length=60)] = "note"
    subject: Annotated[str, Field(max_length=200)] | None = None
    priority: PriorityGiven = "normal"
    payload: JSONObject = Field(default_factory=dict)
    source: Annotated[str, Field(max_length=200)] | None = None
    cause_id: Annotated[int, Field(ge=1)] | None = None


class AckIn(Input):
    """Who has read it."""

    reader: ReaderName


class EditIn(Input):
    """What the agent is to read instead."""

    text: Text


class PageQuery(Input):
    """A page of a list."""

    limit: Limit = 100
    cursor: Annotated[str, Field(max_length=80)] | None = None


class TaskQuery(PageQuery):
    """Which tasks."""

    type: Annotated[str, Field(max_length=40)] | None = None
    status: TaskStatusName | None = None
    agent: Id | None = None
    parent: Annotated[str, Field(max_length=64)] | None = None
    dead_letter: bool = False


class WaitQuery(Input):
    """How long to wait for a task's end before answering."""

    wait_seconds: Annotated[float, Field(ge=0, le=55)] = 0


class UpdateQuery(Input):
    """Which updates."""

    kind: Annotated[str, Field(max_length=60)] | None = None
    after: Annotated[int, Field(ge=0)] = 0
    cursor: Annotated[str, Field(max_length=80)] | None = None
    limit: Limit = 200


class HistoryQuery(Input):
    """Which entries."""

    after: Annotated[int, Field(ge=0)] = 0
    cursor: Annotated[str, Field(max_length=80)] | None = None
    generation: Annotated[int, Field(ge=1)] | None = None
    limit: Limit = 200


class ArtifactQuery(Input):
    """Which characters of a text; without these, the whole."""

    offset: Annotated[int, Field(ge=0)] | None = None
    limit: Annotated[int, Field(ge=1)] | None = None


class ExportQuery(Input):
    """In which form."""

    format: Literal["jsonl", "markdown", "html"] = "jsonl"


class SearchQuery(PageQuery):
    """What to look for: entries that have all the words, or else any of them."""

    q: Annotated[str, Field(min_length=1, max_length=1000)]
    agent: Id | None = None
    type: Annotated[str, Field(max_length=60)] | None = None
    limit: Limit = 20


class EventQuery(Input):
    """Which events. Of one stream, `task_input` comes oldest first and any other newest
    first; what comes `after` an event, and a list of all streams, oldest first; `order`
    says otherwise. `reader` lists what that reader sees, each with `read`; `unread`
    only what it has not read, or (false) only what it has."""

    stream: StreamName | None = None
    scope: Annotated[str, Field(max_length=80)] | None = None
    subject: Annotated[str, Field(max_length=200)] | None = None
    after: Annotated[int, Field(ge=0)] | None = None
    cursor: Annotated[str, Field(max_length=80)] | None = None
    order: Literal["asc", "desc"] | None = None
    limit: Limit = 200
    reader: ReaderName | None = None
    unread: bool | None = None


class EventStreamQuery(Input):
    """Which events to follow, and from where; without `after`, from now on."""

    stream: StreamName | None = None
    scope: Annotated[str, Field(max_length=80)] | None = None
    subject: Annotated[str, Field(max_length=200)] | None = None
    after: Annotated[int, Field(ge=0)] | None = None


class AgentOut(BaseModel):
    """An agent."""

    id: str
    name: str
    state: Literal["idle", "queued", "running", "waiting", "stopped"]
    model: str | None
    system: str
    tools: list[str] | None
    generation: int
    unread: int
    turn_id: str | None
    created_at: str
    updated_at: str
    last_activity_at: str | None
    cost_usd_today: float
    metadata: JSONObject
    forked_from: ForkedFrom | None


class ForkedFrom(BaseModel):
    """The entry that a fork goes on from, and the agent that appended it."""

    agent_id: str
    entry_id: int


class TokensOut(BaseModel):
    """A limit in whole numbers (null: none), and what is used of it; `reserved` is the
    most that the model calls under way will use."""

    limit: int | None
    spent: int
    reserved: int
    left: int | None


class AmountOut(BaseModel):
    """A limit (null: none), and what is used of it; `reserved` is the most that the
    model calls under way will use."""

    limit: float | None
    spent: float
    reserved: float
    left: float | None


class ScopeOut(BaseModel):
    """A scope's limits; `key` names its meter, and is null before an agent's first
    turn."""

    key: str | None
    tokens: TokensOut
    usd: AmountOut
    rounds: TokensOut
    seconds: AmountOut


class BudgetsOut(BaseModel):
    """An agent's budgets; the turn is the one that holds it, or its last."""

    turn: ScopeOut
    agent: ScopeOut
    tree: ScopeOut
    day: ScopeOut


class TaskOut(BaseModel):
    """A task."""

    id: str
    type: str
    status: TaskStatusName
    agent_id: str | None
    parent_id: str | None
    payload: JSONObject
    result: Any = None
    error: JSONObject | None
    attempts: int
    epoch: int
    waiting_for: JSONObject | None
    cause_id: int | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    not_before_at: str | None
    lease_expires_at: str | None
    dropped_at: str | None
    usage: JSONObject | None
    cost_usd: float | None
    metadata: JSONObject
    steps: list[JSONObject] | None = None
    created: bool | None = None


class UpdateOut(BaseModel):
    """One record of a task's log."""

    id: int
    task_id: str
    kind: str
    payload: JSONObject
    created_at: str


class EventOut(BaseModel):
    """An event."""

    id: int
    stream: StreamName
    scope: str
    subject: str | None
    kind: str
    priority: PriorityName
    body: str
    payload: JSONObject
    source: str | None
    cause_id: int | None
    hop: int
    created_at: str


class ReadEventOut(EventOut):
    """An event as one reader has it."""

    read: bool


class InputOut(ReadEventOut):
    """An unread input of an agent: the event as it was sent, the text as the agent will
    read it, and the turn that takes it, if one does yet."""

    text: str
    turn_id: str | None
    turn_status: TaskStatusName | None


class WithdrawnOut(BaseModel):
    """The events of an inbox that will not be read, oldest first."""

    withdrawn: list[int]


class EntryOut(BaseModel):
    """One item of an agent's history."""

    id: int
    agent_id: str
    parent_id: int | None
    generation: int
    type: str
    role: str | None
    content: list[JSONObject]
    turn_id: str | None
    step: int | None
    tool_call_id: str | None
    tool_name: str | None
    status: str | None
    usage: JSONObject | None
    created_at: str
    data: JSONObject | None


class AgentPage(BaseModel):
    """A page of agents."""

    items: list[AgentOut]
    next_cursor: str | None


class TaskPage(BaseModel):
    """A page of tasks, newest first."""

    items: list[TaskOut]
    next_cursor: str | None


class UpdatePage(BaseModel):
    """A page of updates, oldest first."""

    items: list[UpdateOut]
    next_cursor: str | None


class EventPage(BaseModel):
    """A page of events."""

    items: list[ReadEventOut | EventOut]
    next_cursor: str | None


class InboxPage(BaseModel):
    """A page of unread inputs, most urgent first."""

    items: list[InputOut]
    next_cursor: str | None


class EntryPage(BaseModel):
    """A page of entries, oldest first."""

    items: list[EntryOut]
    next_cursor: str | None


class LabelOut(BaseModel):
    """A name for an entry of an agent's history."""

    agent_id: str
    name: str
    entry_id: int
    created_at: str


class LabelPage(BaseModel):
    """A page of labels, by name."""

    items: list[LabelOut]
    next_cursor: str | None


class HitOut(BaseModel):
    """An entry that was found, and the piece of it around the first word."""

    entry_id: int
    agent_id: str
    generation: int
    type: str
    turn_id: str | None
    snippet: str
    created_at: str


class HitPage(BaseModel):
    """A page of what was found, newest first."""

    items: list[HitOut]
    next_cursor: str | None


class CassetteOut(BaseModel):
    """The answers of a turn, each with the messages heard before it."""

    turn_id: str
    agent_id: str
    model: str
    answers: list[JSONObject]


class PostedOut(BaseModel):
    """What became of a message; `turn_id` is null when it woke nobody."""

    event_id: int
    turn_id: str | None
    request_id: str


class AskOut(BaseModel):
    """A reply; without `text` when the wait ended before it came (status 202)."""

    text: str | None = None
    turn_id: str
    usage: JSONObject | None = None


class CompactOut(BaseModel):
    """A new generation has begun."""

    status: Literal["compacted"]
    agent_id: str
    generation: int


class WhyOut(BaseModel):
    """How something came about."""

    id: str
    chain: list[JSONObject]
    tree: JSONObject | None
    is_cut: bool


class OkOut(BaseModel):
    """It is done."""

    ok: bool = True


class CircuitOut(BaseModel):
    """A model provider whose last call has failed; `open`: it is left alone."""

    provider: str
    state: Literal["closed", "open", "half_open"]
    failures: int
    error: str | None
    rests_for_seconds: float


class StateOut(BaseModel):
    """The dashboard's snapshot."""

    generated_at: str
    newest_event_id: int
    agents: list[AgentOut]
    tasks: list[TaskOut]
    processes: list[JSONObject]
    queues: JSONObject
    circuits: list[CircuitOut]
    database: JSONObject


class CheckOut(BaseModel):
    """One check of the readiness."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    fix: str | None


class ReadyOut(BaseModel):
    """Whether the whole can do its work."""

    status: Literal["ready", "not ready"]
    checks: list[CheckOut]


class HealthOut(BaseModel):
    """This process answers."""

    status: Literal["ok"]
    version: str


class StopIn(Input):
    """Why."""

    reason: Annotated[str, Field(max_length=1000)] | None = None


class SendIn(Input):
    """What to write to a task's input: `{"text": "a line"}`, or any JSON."""

    input: JSONObject


class RetryIn(Input):
    """What to change before it is tried again: a turn's text, or another's payload."""

    payload: JSONObject | None = None
    text: Text | None = None


class ClaimIn(Input):
    """Claim tasks of a type for a worker outside Roost."""

    type: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$", max_length=40)]
    worker: Annotated[str, Field(min_length=1, max_length=100)]
    limit: Annotated[int, Field(ge=1, le=100)] = 1
    wait_seconds: Annotated[float, Field(ge=0, le=55)] = 0
    lease_seconds: Annotated[float, Field(ge=1, le=3600)] = 30


class HeartbeatIn(Input):
    """Renew the lease."""

    epoch: Annotated[int, Field(ge=0)]
    lease_seconds: Annotated[float, Field(ge=1, le=3600)] = 30


class CompleteIn(Input):
    """End the task well."""

    epoch: Annotated[int, Field(ge=0)]
    result: Any = None


class ErrorIn(Input):
    """What went wrong."""

    type: Annotated[str, Field(min_length=1, max_length=60)] = "failed"
    message: Annotated[str, Field(min_length=1, max_length=20_000)]


class FailIn(Input):
    """End the task badly."""

    epoch: Annotated[int, Field(ge=0)]
    error: ErrorIn


class ClaimOut(BaseModel):
    """The claimed tasks; each has the `epoch` that every later call must carry."""

    items: list[TaskOut]
