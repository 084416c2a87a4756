"""A crowd: 200 agents and what each does, drawn from a seed, as scripts of a model.

Most of them run errands: what an agent is told makes it tell, ask or await others, some
levels deep, and now and then it fails. Some never come to an end by themselves: in a
pair one agent pings again for every answer, in a ring each waits for the next, all the
way round. The hub asks many at once.

A message that comes in the middle of a turn skips what was not begun, so which errands
of an agent are run depends on the moment; that each message has its fate does not.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

JSON = dict[str, Any]

PAIRS: Final = 5
RINGS: Final = 4
RING_SIZE: Final = 3
RUNNERS: Final = 200 - 2 * PAIRS - RING_SIZE * RINGS - 1  # and one hub
HUB: Final = "hub"
HUB_ASKS: Final = 40
ROOTS: Final = 60
DEPTH: Final = 4
WAIT_SECONDS: Final = 20
MAKES: Final = 0.3  # how many of those who await others make one for it
# Long enough for turns of many agents to overlap.
DELAY: Final = {"delay_seconds": 0.02}


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What one message has an agent do: tell (`send_task`), ask in the background or
    await others, then answer; or fail."""

    key: str
    agent: str
    kind: str  # tell, ask, await, fail
    others: tuple[Errand, ...] = ()

    @property
    def text(self) -> str:
        return f"run {self.key}."

    @property
    def response(self) -> JSON:
        if self.kind == "fail":
            return {"error": {"status": 401, "message": f"No key for {self.key}"}}
        if not self.others:
            return {"text": f"answer to {self.key}", **DELAY}
        return {"tool_calls": [self._call(other) for other in self.others], **DELAY}

    def _call(self, other: Errand) -> JSON:
        if self.kind == "tell":
            return _call("send_task", task_id=other.agent, body=other.text)
        seconds = WAIT_SECONDS if self.kind == "await" else 0
        return _ask(other.agent, other.text, seconds)

    def walk(self) -> Iterator[Errand]:
        yield self
        for other in self.others:
            yield from other.walk()


@dataclass(slots=True)
class Crowd:
    """The agents with the rules of each, and what people say to begin with."""

    seed: int
    rules: dict[str, list[JSON]] = field(default_factory=lambda: defaultdict(list))
    said: list[tuple[str, str]] = field(default_factory=list)
    pairs: list[set[str]] = field(default_factory=list)
    rings: list[set[str]] = field(default_factory=list)

    @classmethod
    def draw(cls, seed: int) -> Crowd:
        crowd = cls(seed)
        chosen = random.Random(seed)
        crowd._draw_errands(chosen)
        for number in range(PAIRS):
            crowd._add_pair(number)
        for number in range(RINGS):
            crowd._add_ring([f"ring-{number}-{n}" for n in range(RING_SIZE)])
        chosen.shuffle(crowd.said)
        return crowd

    def _draw_errands(self, chosen: random.Random) -> None:
        runners = [f"runner-{n}" for n in range(RUNNERS)]
        numbers = iter(range(1_000_000))

        def draw(agent: str, depth: int) -> Errand:
            kind = chosen.choices(["tell", "ask", "await", "fail"], [4, 4, 4, 1])[0]
            count = chosen.choice([0, 1, 2, 3]) if depth < DEPTH else 0
            others = chosen.sample([r for r in runners if r != agent], count)
            if others and kind == "await" and chosen.random() < MAKES:
                others = [f"child-{next(numbers)}"]
            key = f"e{next(numbers)}"
            below = tuple(draw(other, depth + 1) for other in others)
            return Errand(key=key, agent=agent, kind=kind, others=below)

        roots = [draw(agent, 0) for agent in chosen.sample(runners, ROOTS)]
        asked = [draw(agent, DEPTH) for agent in chosen.sample(runners, HUB_ASKS)]
        roots.append(Errand(key="all", agent=HUB, kind="ask", others=tuple(asked)))
        for agent in runners:
            self.rules[agent]  # also who has nothing to do yet is somebody
        for root in roots:
            self.said.append((root.agent, root.text))
            for errand in root.walk():
                self.rules[errand.agent].append(_when(errand.text, errand.response))

    def _add_pair(self, number: int) -> None:
        """Every answer is a reason to ping again.

        In every other pair the one that answers has begun: then it is an answer that
        would be one too many, and else a ping.
        """
        pinger, ponger = f"pinger-{number}", f"ponger-{number}"
        ping = _call("send_task", task_id=ponger, body="ping")
        begin = _call("send_task", task_id=pinger, body="begin")
        self.rules[pinger] += [
            _when("so nothing was sent", {"text": "I stop.", **DELAY}),
            # A whole message, not one that a frame shows among the news.
            {"when": {"matches": "^(begin|pong)$"}, "tool_calls": [ping], **DELAY},
        ]
        self.rules[ponger] += [
            _when("open", {"tool_calls": [begin], **DELAY}),
            _when("ping", {"text": "pong", **DELAY}),
        ]
        self.said.append((ponger, "open") if number % 2 else (pinger, "begin"))
        self.pairs.append({pinger, ponger})

    def _add_ring(self, names: list[str]) -> None:
        """Each waits for the next, all the way round: nobody could ever answer."""
        for name, following in zip(names, names[1:] + names[:1], strict=True):
            ask = _ask(following, "pass it on", WAIT_SECONDS)
            self.rules[name] += [
                _when("so nothing was sent", {"text": "I stop.", **DELAY}),
                _when("pass it on", {"tool_calls": [ask], **DELAY}),
            ]
        self.said.append((names[0], "pass it on"))
        self.rings.append(set(names))

    @property
    def children(self) -> set[str]:
        """Whom agents make, if their errands get so far."""
        return {agent for agent in self.rules if agent.startswith("child-")}

    @property
    def people_make(self) -> list[str]:
        """Whom people make: all the others."""
        return [agent for agent in self.rules if agent not in self.children]

    def write_scripts(self, directory: Path) -> dict[str, str]:
        """Write a script for each agent, and one for all children; return their
        models."""
        directory.mkdir()
        scripts = {agent: self.rules[agent] for agent in self.people_make}
        scripts["children"] = [r for child in self.children for r in self.rules[child]]
        models = {}
        for name, rules in scripts.items():
            path = directory / f"{name}.json"
            otherwise = _when("", {"text": "noted", **DELAY})
            path.write_text(json.dumps([*rules, otherwise]))
            models[name] = f"scripted/{path}"
        return models


def _when(contains: str, response: JSON) -> JSON:
    return {"when": {"contains": contains}, **response}


def _call(name: str, **arguments: Any) -> JSON:
    return {"name": name, "arguments": arguments}


def _ask(agent_id: str, text: str, wait_seconds: float) -> JSON:
    return _call("delegate", agent_id=agent_id, text=text, wait_seconds=wait_seconds)
