"""How old a token is in a subscriber's hands, beside the same stream read with the SDK
alone, in one run: one stream at a time, then a hundred in one `agents` process.

The provider is a process of its own that sends times for tokens (provider.py); the
subscriber reads server-sent events over HTTP, as `roost tail -f` does. Nothing outlives
the run and nothing is written outside a temporary directory.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parent.parent))

from measure import (
    ROOT,
    free_port,
    percentile,
    print_table,
    shuffled,
    start_home,
    started,
    verdict,
    wait_until,
)
from openai import AsyncOpenAI
from provider import MANNERS

from webapp.cli.client import Client, Target, Unreachable
from webapp.cli.sse import Message, parse
from workers.batcher import INTERVAL_SECONDS

ROUNDS: Final = 6
SAMPLES: Final = 4
CROWD: Final = 100
FACTOR: Final = 1.5
FEW: Final = "say-few"
MANY: Final = "say-many"
MODEL: Final = "openai-chat/bench"
INTERVAL_MS: Final = INTERVAL_SECONDS * 1000
TURN_SECONDS: Final = 40.0
WANTED: Final = ("message_update", "agent_end")
SIDES: Final = {"sdk": "the SDK alone", "ours": "Roost, to a subscriber"}


@dataclass(slots=True)
class Stream:
    """The ages of one stream's tokens when they came."""

    ages_ms: list[float] = field(default_factory=list)

    def take(self, text: str) -> None:
        """Note the tokens in a piece of text."""
        now = time.monotonic_ns()
        self.ages_ms += [(now - int(token)) / 1e6 for token in text.split()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """A hundred streams at once: what came, and the processor time of each token."""

    streams: list[Stream]
    cpu_us: dict[str, float]


class Side(Protocol):
    """One way to read the provider's streams."""

    def one(self) -> Stream:
        """Read one stream."""

    def crowd(self) -> Crowd:
        """Read a hundred at once."""


class Direct:
    """Reads the provider's streams with the SDK and nothing else."""

    def __init__(self, url: str) -> None:
        self._url = url

    def one(self) -> Stream:
        """Read one stream."""
        return self._read(FEW, 1)[0]

    def crowd(self) -> Crowd:
        """Read a hundred."""
        began = time.process_time()
        streams = self._read(MANY, CROWD)
        return Crowd(
            streams=streams, cpu_us=_each({"all": time.process_time() - began})
        )

    def _read(self, text: str, count: int) -> list[Stream]:
        async def all_of_them() -> list[Stream]:
            async with AsyncOpenAI(api_key="none", base_url=self._url) as client:
                asked = [_read_one(client, text) for _ in range(count)]
                return await asyncio.gather(*asked)

        return asyncio.run(all_of_them())


async def _read_one(client: AsyncOpenAI, text: str) -> Stream:
    stream = Stream()
    async for chunk in await client.chat.completions.create(
        model="bench", messages=[{"role": "user", "content": text}], stream=True
    ):
        for choice in chunk.choices:
            stream.take(choice.delta.content or "")
    return stream


class Roost:
    """A web process, an `agents` process, and a subscriber to all of its events."""

    def __init__(self, stack: ExitStack, where: Path, provider: str) -> None:
        self._cpu = str(where / "cpu")
        self._streams: dict[str, Stream] = {}
        self._open: set[str] = set()
        self._are_over = threading.Event()
        home = start_home(
            stack,
            where,
            "talking.huey",
            workers=CROWD,
            OPENAI_API_KEY="none",
            OPENAI_BASE_URL=provider,
        )
        self._url, self._session = home.url, home.session
        wait_until(lambda: Path(self._cpu).exists())
        self._subscribe(home.token)

    def one(self) -> Stream:
        """Have one answer; return its stream, as the subscriber saw it."""
        return self._have(FEW, [self._agent()])[0]

    def crowd(self) -> Crowd:
        """Have a hundred agents answer."""
        agents = [self._agent() for _ in range(CROWD)]
        self._have(FEW, agents)  # their prompts are made once, and their connections
        before = self._cpu_seconds()
        streams = self._have(MANY, agents)
        used = self._cpu_seconds()
        spent = {name: used[name] - before.get(name, 0.0) for name in used}
        return Crowd(
            streams=streams,
            cpu_us=_each(
                {"all": spent["all"], **{n: spent[n] for n in ("models", "batcher")}}
            ),
        )

    def _have(self, text: str, agents: Sequence[str]) -> list[Stream]:
        self._streams = {agent: Stream() for agent in agents}
        self._open = set(agents)
        self._are_over.clear()
        for agent in agents:
            self._post(f"agents/{agent}/messages", {"text": text})
        if not self._are_over.wait(TURN_SECONDS):
            raise TimeoutError(f"{len(self._open)} of the turns did not end in time.")
        streams = [self._streams[agent] for agent in agents]
        if any(len(each.ages_ms) != MANNERS[text].tokens for each in streams):
            raise RuntimeError("Some tokens never came.")
        return streams

    def _subscribe(self, token: str) -> None:
        is_open = threading.Event()

        def listen() -> None:
            target = Target(url=self._url, token=token, token_path="")
            path = "/api/v1/events/stream"
            # It ends when the web process does.
            with (
                suppress(Unreachable),
                Client(target) as client,
                client.stream("GET", path) as chunks,
            ):
                is_open.set()
                for said in parse(chunks):
                    if isinstance(said, Message) and said.event in WANTED:
                        self._hear(json.loads(said.data))

        threading.Thread(target=listen, daemon=True).start()
        is_open.wait(5)

    def _hear(self, event: dict[str, Any]) -> None:
        agent = event["scope"].removeprefix("agent/")
        if event["kind"] == "message_update" and agent in self._streams:
            self._streams[agent].take(event["payload"]["text"])
        elif event["kind"] == "agent_end":
            self._open.discard(agent)
            if not self._open:
                self._are_over.set()

    def _cpu_seconds(self) -> dict[str, float]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asker:
            asker.connect(self._cpu)
            with asker.makefile("rb") as told:
                used: dict[str, float] = json.load(told)
                return used

    def _agent(self) -> str:
        return str(self._post("agents", {"model": MODEL})["id"])

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self._session.post(f"{self._url}/api/v1/{path}", json=body, timeout=30)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


def main() -> None:
    """Measure one by one in shuffled rounds, then the crowds, then print."""
    with ExitStack() as stack:
        where = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="roost-")))
        port = free_port()
        provider = [Path(sys.executable), ROOT / "bench/provider.py", str(port)]
        stack.enter_context(started(provider, {}, where / "provider.log"))
        url = f"http://127.0.0.1:{port}/v1"
        sides: dict[str, Side] = {"sdk": Direct(url), "ours": Roost(stack, where, url)}
        for side in sides.values():
            side.one()  # warms up
        alone: dict[str, list[Stream]] = {name: [] for name in SIDES}
        for name in shuffled([*SIDES], ROUNDS):
            alone[name] += [sides[name].one() for _ in range(SAMPLES)]
        crowds = {name: sides[name].crowd() for name in SIDES}
    _print_alone(alone)
    _print_crowds(crowds)


def _each(seconds: dict[str, float]) -> dict[str, float]:
    tokens = CROWD * MANNERS[MANY].tokens
    return {name: each * 1e6 / tokens for name, each in seconds.items()}


def _print_alone(found: dict[str, list[Stream]]) -> None:
    first = {name: [each.ages_ms[0] for each in found[name]] for name in SIDES}
    rest = {name: _joined(each.ages_ms[1:] for each in found[name]) for name in SIDES}
    rows = [
        (SIDES[name], *_p50_p99(first[name]), *_p50_p99(rest[name])) for name in SIDES
    ]
    head = ("", "first p50 ms", "first p99 ms", "later p50 ms", "later p99 ms")
    title = f"How old a token is, one stream at a time, {ROUNDS} rounds of {SAMPLES}"
    print_table(title, head, rows)
    _judge("one stream", first)


def _print_crowds(found: dict[str, Crowd]) -> None:
    first = {name: [s.ages_ms[0] for s in found[name].streams] for name in SIDES}
    every = {name: _joined(s.ages_ms for s in found[name].streams) for name in SIDES}
    rows = [
        (SIDES[name], *_p50_p99(first[name]), *_p50_p99(every[name])) for name in SIDES
    ]
    head = ("", "first p50 ms", "first p99 ms", "all p50 ms", "all p99 ms")
    print_table(f"{CROWD} streams at once", head, rows)
    used = [
        ("the SDK alone, whole process", found["sdk"].cpu_us["all"]),
        ("agents process, whole", found["ours"].cpu_us["all"]),
        ("agents process, event loop", found["ours"].cpu_us["models"]),
        ("agents process, batcher", found["ours"].cpu_us["batcher"]),
    ]
    print_table(
        f"Processor time of a token, {CROWD} streams at once",
        ("", "µs", "÷ the SDK"),
        [(name, f"{us:.0f}", f"{us / used[0][1]:.2f}") for name, us in used],
    )
    _judge(f"{CROWD} streams", first)


def _judge(what: str, first: dict[str, list[float]]) -> None:
    rows = []
    for name, part in (("p50", 0.5), ("p99", 0.99)):
        sdk, ours = (percentile(first[side], part) for side in SIDES)
        bar = FACTOR * sdk + INTERVAL_MS
        met = verdict(ours, bar, at_most=True)
        rows.append((f"first token, {name}, ms", f"{ours:.2f}", f"≤ {bar:.2f}", met))
    target = f"{FACTOR} times the SDK + {INTERVAL_MS:.0f} ms"
    print_table(f"{what}, against {target}", ("", "measured", "target", ""), rows)


def _joined(ages_ms: Iterable[list[float]]) -> list[float]:
    return [ms for each in ages_ms for ms in each]


def _p50_p99(ages_ms: list[float]) -> tuple[str, str]:
    return f"{percentile(ages_ms, 0.5):.2f}", f"{percentile(ages_ms, 0.99):.2f}"


if __name__ == "__main__":
    main()
