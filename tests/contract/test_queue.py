"""The queue seam: Huey's own storage suite on our storage, and our contract on all."""

from __future__ import annotations

import inspect
import json
import pickle
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import huey.tests.test_storage as hueys_own
import pytest
from huey.api import Huey
from huey.registry import Message
from hypothesis import given
from hypothesis import strategies as st

from broker.doorbell import UnixBells
from broker.errors import SettingsError
from broker.queue import HintQueue, JSONSerializer, Storage, open_queue
from broker.settings import load

CONSUME: Final = Path(__file__).parent / "children" / "consume.py"


class TestHueysOwnSuiteOnOurStorage(hueys_own.StorageTests, hueys_own.BaseTestCase):
    """As Huey runs it on its own storages.

    The suite keeps results and chords, which hints have not: so it gets a plain Huey
    with Huey's serializer, and only the storage is ours.
    """

    supports_ttl = False

    # Huey skips its slow tests unless an environment variable is set; we run them.
    test_consumer_integration = inspect.unwrap(
        hueys_own.StorageTests.test_consumer_integration
    )
    test_put_if_empty_ttl = inspect.unwrap(hueys_own.StorageTests.test_put_if_empty_ttl)

    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> Iterator[None]:
        self.bells = UnixBells(tmp_path / "run")
        self.path = tmp_path / "queue.db"
        self.signals = {number: signal.getsignal(number) for number in HANDLED}
        yield
        self.huey.storage.close()
        self.bells.close()
        restore(self.signals)

    def get_huey(self) -> Huey:
        return Huey(
            "suite",
            storage_class=Storage,
            bells=self.bells,
            filename=str(self.path),
            # The suite expects None from an empty queue, and looks often.
            read_timeout_seconds=0.05,
        )


# Huey's consumer takes these over when it starts.
HANDLED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def restore(handlers: dict[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(params=["sqlite", "redis", "postgres"])
def environ(request: pytest.FixtureRequest) -> dict[str, str]:
    """What names each queue in the environment."""
    if request.param == "sqlite":
        return {}
    return {"ROOST_QUEUE_URL": request.getfixturevalue(f"{request.param}_url")}


@pytest.fixture
def home_of_queue(environ: dict[str, str], open_house: Callable[..., Any]) -> Any:
    """A home whose hints go through that queue."""
    return open_house(**environ)


@pytest.fixture
def queue(home_of_queue) -> HintQueue:
    """The queue of turns, empty."""
    queue = home_of_queue.broker.turns
    queue.storage.flush_all()
    return queue


@contextmanager
def consuming(queue: HintQueue, workers: int = 2) -> Iterator[None]:
    """Run a consumer in this process, and end it well."""
    handlers = {number: signal.getsignal(number) for number in HANDLED}
    consumer = queue.create_consumer(workers=workers, check_worker_health=False)
    consumer.start()
    try:
        yield
    finally:
        consumer.stop(graceful=True)
        restore(handlers)


pytestmark = [
    # Huey leaves the listening connections of its PostgreSQL storage to the collector.
    pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning"),
]


def test_a_hint_reaches_the_bound_body_in_a_consumer(queue, wait_until) -> None:
    seen: list[str] = []
    queue.bind(seen.append)
    with consuming(queue):
        queue.hint("turn-1")
        queue.hint("turn-2")
        wait_until(lambda: len(seen) == 2)
    assert sorted(seen) == ["turn-1", "turn-2"]
    assert queue.pending_count() == 0


def test_hints_that_were_there_first_are_handled_when_a_consumer_comes(
    queue, wait_until
) -> None:
    seen: list[str] = []
    queue.bind(seen.append)
    for number in range(50):
        queue.hint(f"turn-{number}")
    with consuming(queue, workers=8):
        wait_until(lambda: len(seen) == 50)
    assert sorted(seen) == sorted(f"turn-{number}" for number in range(50))


def test_hints_are_handled_in_their_order(queue, wait_until) -> None:
    seen: list[str] = []
    queue.bind(seen.append)
    for number in range(20):
        queue.hint(f"turn-{number}")
    with consuming(queue, workers=1):
        wait_until(lambda: len(seen) == 20)
    assert seen == [f"turn-{number}" for number in range(20)]


def test_the_two_queues_of_a_home_do_not_mix(home_of_queue, queue) -> None:
    home_of_queue.broker.execs.storage.flush_all()
    home_of_queue.broker.hint("exec", "exec-1")
    home_of_queue.broker.hint("turn", "turn-1")
    home_of_queue.broker.hint("node", "node-1")
    execs = home_of_queue.broker.execs
    assert (queue.pending_count(), execs.pending_count()) == (1, 1)
    assert execs.dequeue().args == ("exec-1",)


def test_a_hint_wakes_another_process_within_a_second(
    home_of_queue, queue, wait_until
) -> None:
    child = subprocess.Popen(
        [sys.executable, str(CONSUME), json.dumps(home_of_queue.environ)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        took = [time_to_wake(queue, child, f"turn-{n}") for n in range(8)]
    finally:
        child.terminate()
        child.wait(10)
        child.stdout.close()
    # The first waits for the process to start. A lost ring would cost half a second on
    # average, so the middle one tells bells from polling.
    assert max(took[1:]) < 1.5
    assert statistics.median(took[1:]) < 0.25


def time_to_wake(queue: HintQueue, child: Any, task_id: str) -> float:
    began = time.monotonic()
    queue.hint(task_id)
    assert child.stdout.readline() == task_id + "\n"
    return time.monotonic() - began


def test_what_lies_in_the_queue_is_json_with_an_id(queue) -> None:
    queue.hint("turn-1")
    lying = [json.loads(each) for each in queue.storage.enqueued_items()]
    assert [each["message"]["args"] for each in lying] == [["turn-1"]]


def test_a_hint_carries_ids_only(queue) -> None:
    with pytest.raises(TypeError, match="A hint carries ids only; object"):
        queue.hint(object())
    assert queue.pending_count() == 0


def test_a_body_that_fails_does_not_end_the_consumer(queue, wait_until) -> None:
    seen: list[str] = []

    def body(task_id: str) -> None:
        seen.append(task_id)
        raise ValueError(task_id)

    queue.bind(body)
    with consuming(queue, workers=1):
        queue.hint("turn-1")
        queue.hint("turn-2")
        wait_until(lambda: seen == ["turn-1", "turn-2"])


def test_a_drain_is_told_and_ends_the_waiting_at_once(queue, wait_until) -> None:
    queue.bind(lambda task_id: None)
    before = threading.active_count()
    with consuming(queue, workers=4):
        wait_until(lambda: threading.active_count() >= before + 4)
        assert not queue.drain.is_set()
    assert queue.drain.is_set()


def test_a_process_that_bound_no_body_says_so(queue) -> None:
    queue.hint("turn-1")
    with pytest.raises(RuntimeError, match="No body is bound to the 'turns' queue"):
        queue.dequeue().execute()


# Our own storage.


@pytest.fixture
def bells(tmp_path: Path) -> Iterator[UnixBells]:
    """Bells of a directory of their own."""
    bells = UnixBells(tmp_path / "run")
    yield bells
    bells.close()


@pytest.fixture
def storage(tmp_path: Path, bells: UnixBells) -> Iterator[Callable[..., Storage]]:
    """Open our storage, several times on one file if need be."""
    opened: list[Storage] = []

    def open_one(name: str = "q", read_timeout_seconds: float = 5) -> Storage:
        path = str(tmp_path / "queue.db")
        opened.append(
            Storage(
                name,
                bells=bells,
                filename=path,
                read_timeout_seconds=read_timeout_seconds,
            )
        )
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


def test_an_empty_queue_is_waited_for_and_then_given_up(storage) -> None:
    began = time.monotonic()
    assert storage(read_timeout_seconds=0.1).dequeue() is None
    assert 0.1 <= time.monotonic() - began < 1


def test_every_waiting_thread_gets_one_of_many(storage) -> None:
    one = storage()
    taken: list[bytes | None] = []
    threads = [
        threading.Thread(target=lambda: taken.append(one.dequeue())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for number in range(8):
        one.enqueue(b"%d" % number)
    for thread in threads:
        thread.join(4)  # less than the read timeout: the bell, not the clock
    assert sorted(taken) == [b"%d" % number for number in range(8)]


def test_a_ring_that_nobody_heard_costs_nothing_when_the_hint_is_there(storage) -> None:
    storage().enqueue(b"a")
    began = time.monotonic()
    assert storage().dequeue() == b"a"
    assert time.monotonic() - began < 1


def test_those_that_wait_return_when_told_to(storage) -> None:
    one = storage(read_timeout_seconds=30)
    threads = [threading.Thread(target=one.dequeue) for _ in range(4)]
    for thread in threads:
        thread.start()
    one.stop_waiting()
    for thread in threads:
        thread.join(5)
    assert not any(thread.is_alive() for thread in threads)


def test_a_queue_file_that_is_deleted_is_made_again(open_house) -> None:
    first = open_house()
    first.broker.turns.hint("turn-1")
    path = first.broker.settings.queue_path
    first.broker.turns.storage.close()
    for each in path.parent.glob("queue.db*"):
        each.unlink()
    again = open_house()
    assert again.broker.turns.pending_count() == 0
    again.broker.turns.hint("turn-2")
    assert again.broker.turns.pending_count() == 1


def test_a_queue_that_nobody_knows_is_refused(tmp_path: Path, bells) -> None:
    with pytest.raises(SettingsError, match="ROOST_QUEUE_URL must begin with"):
        load({"ROOST_HOME": str(tmp_path), "ROOST_QUEUE_URL": "amqp://x"}, tmp_path)
    with pytest.raises(KeyError):
        open_queue("other", load({"ROOST_HOME": str(tmp_path)}, tmp_path), bells)


# The serializer.

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(plain.filter(lambda value: not _looks_like_a_message(value)))
def test_plain_values_come_back_as_they_were(value: object) -> None:
    serializer = JSONSerializer()
    assert serializer.deserialize(serializer.serialize(value)) == value


def _looks_like_a_message(value: object) -> bool:
    return isinstance(value, dict) and set(value) == {"message"}


def test_a_message_comes_back_as_a_message() -> None:
    queue_of_nobody = Huey("nobody", immediate=True, serializer=JSONSerializer())
    serializer = JSONSerializer()
    stub = queue_of_nobody.task(name="take")(lambda task_id: None)
    message = queue_of_nobody._registry.create_message(stub.s("turn-1"))
    back = serializer.deserialize(serializer.serialize(message))
    assert isinstance(back, Message)
    assert (back.id, back.name, back.args) == (message.id, message.name, ("turn-1",))


@pytest.mark.parametrize("value", [object(), b"bytes", {1, 2}, Path("x"), 1j])
def test_what_is_not_json_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="A hint carries ids only"):
        JSONSerializer().serialize({"a": value})


class Bomb:
    """Raises the alarm when it is unpickled."""

    gone_off: Final[list[str]] = []

    def __reduce__(self) -> Any:
        return Bomb.gone_off.append, ("boom",)


def test_a_pickle_in_the_queue_is_never_opened() -> None:
    with pytest.raises(ValueError, match=r".+"):
        JSONSerializer().deserialize(pickle.dumps(Bomb()))
    assert Bomb.gone_off == []
