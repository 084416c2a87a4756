"""When a conversation is too long, and where it may be cut: arithmetic, nothing else.

A cut keeps the newest part of a conversation and gives the rest to be summarised. It
never stands between a call and its result, nor after a message that nobody has answered
yet. The rules and numbers are pi's (`badlogic/pi-mono`, `core/compaction`). Called by
`workers.compaction`; what a summary says is in `agents.summaries`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agents.messages import (
    AssistantMessage,
    Message,
    ToolMessage,
    UserMessage,
)
from agents.transcript import to_messages

# Room for the next answer and its surprises, below the model's window, in tokens.
RESERVE_TOKENS: Final = 16_384
# What stays as it was said, in tokens.
KEEP_TOKENS: Final = 20_000
# No tokenizer: four characters a token is near enough for English and code, and a
# conversation that is denser meets the provider's own count at the next answer.
CHARACTERS_PER_TOKEN: Final = 4
IMAGE_CHARACTERS: Final = 4_800
ENTRY: Final = "context_compaction"

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A message of the conversation, and the entry that it was read from."""

    entry: Entry
    message: Message

    @property
    def entry_id(self) -> int:
        """The entry's id: the younger, the greater."""
        return int(self.entry["id"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The newest summary of a conversation, as its entry keeps it."""

    text: str
    reason: str
    by: str
    generation: int
    details: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A conversation in up to three parts, in order.

    `head` is the beginning of a turn that the cut goes through, and is empty when the
    cut stands between turns.
    """

    past: tuple[Item, ...]
    head: tuple[Item, ...]
    kept: tuple[Item, ...]

    @property
    def first_kept_entry_id(self) -> int:
        """The entry from which the conversation stays as it was said."""
        return min(item.entry_id for item in self.kept)

    @property
    def summarised(self) -> tuple[Item, ...]:
        """What a summary takes the place of."""
        return (*self.past, *self.head)


# --- How long it is -------------------------------------------------------------------


def threshold(window: int) -> int:
    """Return how many tokens of a window a conversation may fill."""
    return window - min(RESERVE_TOKENS, window // 4)


def keep_limit(window: int, conversation: int) -> int:
    """Return how many tokens a cut keeps: never more than half of what there is."""
    return min(KEEP_TOKENS, window // 2, conversation // 2)


def estimate(message: Message) -> int:
    """Estimate a message's tokens."""
    return tokens_in(_characters(message))


def estimate_all(messages: Sequence[Message]) -> int:
    """Estimate the tokens of messages."""
    return sum(estimate(message) for message in messages)


def tokens_in(characters: int) -> int:
    """Estimate the tokens of so many characters, rounded up."""
    return -(-characters // CHARACTERS_PER_TOKEN)


def context_tokens(
    messages: Sequence[Message], *, before: int = 0, fresh_from: int = 0
) -> int:
    """Return the tokens of a conversation: what the model itself last counted, and an
    estimate of what has come since.

    `fresh_from` is where answers begin whose count may be believed: not one from before
    a compaction, nor another model's (P48). Without any, all is estimated, and `before`
    is what stood before the messages.
    """
    for index in range(len(messages) - 1, fresh_from - 1, -1):
        if counted := _counted(messages[index]):
            return counted + estimate_all(messages[index + 1 :])
    return before + estimate_all(messages)


def has_count(messages: Sequence[Message]) -> bool:
    """Whether a model has said how long the conversation is."""
    return any(_counted(message) for message in messages)


def _counted(message: Message) -> int:
    """What a good answer says that it and all before it took; else 0."""
    if not isinstance(message, AssistantMessage):
        return 0
    if message.answer.stop_reason == "interrupted":
        return 0
    return sum(message.answer.usage.as_json().values())


def _characters(message: Message) -> int:
    if isinstance(message, UserMessage):
        return sum(map(_block_characters, message.for_model))
    if isinstance(message, ToolMessage):
        result = message.result
        return len(result.text) + sum(map(_block_characters, result.blocks))
    answer = message.answer
    calls = sum(
        len(call.name) + len(call.raw_arguments or json.dumps(call.arguments))
        for call in answer.tool_calls
    )
    return len(answer.text) + len(answer.reasoning) + calls


def _block_characters(block: Mapping[str, Any]) -> int:
    if block["type"] == "text":
        return len(block["text"])
    if block["type"] == "image":
        return IMAGE_CHARACTERS
    return len(json.dumps(block, default=str))


# --- What it is made of ---------------------------------------------------------------


def items_of(entries: Sequence[Entry]) -> list[Item]:
    """Read the messages of a conversation, each with its entry; summaries are none."""
    return [
        Item(entry=entry, message=message)
        for entry in entries
        if entry["type"] != ENTRY
        for message in to_messages([entry])
    ]


def fresh_from(items: Sequence[Item], generation: int) -> int:
    """Return where the items begin that were all said in this generation.

    What a model counted before has counted what is not in the conversation any more.
    """
    index = len(items)
    while index and items[index - 1].entry["generation"] == generation:
        index -= 1
    return index


def find_summary(entries: Sequence[Entry]) -> Summary | None:
    """Return the newest summary among entries: only that one counts (P46)."""
    found = [entry for entry in entries if _has_summary(entry)]
    if not found:
        return None
    newest = max(found, key=lambda entry: int(entry["id"]))
    return Summary(
        text=newest["data"]["summary"],
        reason=newest["data"]["reason"],
        by=newest["data"]["summarised_by"],
        generation=newest["generation"],
        details=newest["data"].get("details") or {},
    )


def _has_summary(entry: Entry) -> bool:
    data = entry["data"] or {}
    return entry["type"] == ENTRY and isinstance(data.get("summary"), str)


# --- Where it may be cut --------------------------------------------------------------


def find_cut(
    items: Sequence[Item],
    keep_tokens: int,
    *,
    keep_messages: int = 2**31,
    before_id: int | None = None,
) -> Cut | None:
    """Cut so that about the last `keep_tokens` stay, in no more than `keep_messages`;
    None when nothing can be cut off. Nothing from `before_id` on is cut off.

    The walk goes back from the end until it has seen so many tokens, and takes the
    first place after that; where there is none, the last before it.
    """
    wanted = _walk_back(items, keep_tokens, keep_messages)
    places = _places(items, 2**63 if before_id is None else before_id)
    if wanted is None or not places:
        return None
    place = min((p for p in places if p >= wanted), default=places[-1])
    begin = _turn_start(items, place)
    return Cut(
        past=tuple(items[:begin]),
        head=tuple(items[begin:place]),
        kept=tuple(items[place:]),
    )


def _walk_back(
    items: Sequence[Item], keep_tokens: int, keep_messages: int
) -> int | None:
    """Where so much from the end has been seen; None when there is less."""
    seen = 0
    for index in range(len(items) - 1, -1, -1):
        seen += estimate(items[index].message)
        if seen >= keep_tokens or len(items) - index >= keep_messages:
            return index
    return None


def _places(items: Sequence[Item], before_id: int) -> list[int]:
    """Where a cut may stand, before these indexes."""
    within = _within_calls(items)
    in_order = _in_order(items, before_id)
    return [
        index
        for index in range(1, _unanswered_from(items) + 1)
        if index < len(items)
        and not isinstance(items[index].message, ToolMessage)
        and index not in within
        and index in in_order
    ]


def _unanswered_from(items: Sequence[Item]) -> int:
    """Where the messages begin that nobody has answered yet: they stay."""
    index = len(items)
    while index and isinstance(items[index - 1].message, UserMessage):
        index -= 1
    return index


def _within_calls(items: Sequence[Item]) -> set[int]:
    """The places between a call and its result."""
    asked: dict[str, int] = {}
    within: set[int] = set()
    for index, item in enumerate(items):
        message = item.message
        if isinstance(message, AssistantMessage):
            asked.update((call.id, index) for call in message.answer.tool_calls)
        elif isinstance(message, ToolMessage) and message.call_id in asked:
            within.update(range(asked[message.call_id] + 1, index + 1))
    return within


def _in_order(items: Sequence[Item], before_id: int) -> set[int]:
    """The places with every older entry before them and every younger one behind, up to
    an id.

    A turn that was tried again stands behind others that are younger, and what is kept
    is told by an entry's id.
    """
    youngest_before, oldest_after = 0, [0] * len(items)
    oldest = before_id
    for index in range(len(items) - 1, -1, -1):
        oldest = oldest_after[index] = min(oldest, items[index].entry_id)
    found = set()
    for index, item in enumerate(items):
        if youngest_before < oldest_after[index]:
            found.add(index)
        youngest_before = max(youngest_before, item.entry_id)
    return found


def _turn_start(items: Sequence[Item], place: int) -> int:
    """Where the turn begins that a cut goes through; the cut itself between turns.

    A turn whose message is not here any more has been cut before: the next summary
    takes its head up as it takes everything else.
    """
    if isinstance(items[place].message, UserMessage):
        return place
    messages = (
        index
        for index in range(place - 1, -1, -1)
        if isinstance(items[index].message, UserMessage)
    )
    return next(messages, place)
