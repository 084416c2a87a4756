"""The worker that the crash explorer kills: one scripted turn, and what recovers it.

`python -m tests.durability.one_turn SCRATCH` reads orders, one JSON object a line, and
forks a process for each (nothing is open yet when it forks: starting Python would take
a hundred times longer):

* `run` takes the turn in a fresh home, and kills itself with SIGKILL when it reaches
  crash point number `kill_at`. Everything happens in one thread, one thing after the
  other, so the n-th point is the same point in every run.
* `recover` does what the other processes of a home would do: the sender sends its
  message again under the same key, the scheduler buries the dead worker, and another
  worker takes what is queued. Then it writes down all that there is to judge.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

import sandbox
from agents.control import Interrupt
from agents.messages import Answer, ToolResult
from agents.models import Delta, Request
from agents.models.scripted import ScriptedModel
from agents.tools import Tool, ToolContext, builtin_tools, tool
from broker import Broker, agents, processes, tasks, turns
from broker.agents import AgentChange
from broker.database import Database, Row, SqliteDialect, Transaction
from broker.doorbell import Bells, UnixBells
from broker.leases import Worker
from broker.migrate import migrate
from broker.models import ALL
from broker.queue import HintQueue
from broker.settings import load
from broker.turns import Message
from broker.updates import CHANNEL
from sandbox.processes import become_subreaper, children, read_stat
from workers.batcher import Flush
from workers.execs import ExecRunner
from workers.keeper import Keeper
from workers.process import WorkerProcess, set_up_logging
from workers.scheduler import Scheduler
from workers.turns import TurnTaker

TURN_SECONDS: Final = 30.0  # a turn that has not recovered by then never will
LOOK_SECONDS: Final = 0.05
ORPHAN_SECONDS: Final = 1.0  # what a dead worker left is gone within a second
PROMPT: Final = "You are brief."
REPLY: Final = "done"
SCRIPT: Final[list[dict[str, Any]]] = [
    {
        "text": "first",
        "tool_calls": [
            {"name": "look", "arguments": {"at": "the sky"}},
            {"name": "mail", "arguments": {"to": "ada"}},
        ],
    },
    {"tool_calls": [{"name": "book", "arguments": {"amount": 7}}]},
    {
        "tool_calls": [
            {
                "name": "exec",
                "arguments": {
                    "code": "console.log('here'); globalThis.result = 6 * 7",
                    "wait_seconds": 60,
                },
            }
        ]
    },
    {
        "tool_calls": [
            {
                "name": "exec",
                "arguments": {
                    "id": "probe",
                    "code": "globalThis.result = 'deep'",
                    "wait_seconds": 0,
                },
            },
            {
                "name": "await_task",
                "arguments": {"task_id": "probe", "wait_seconds": 60},
            },
        ]
    },
    {"text": REPLY},
]


class Points:
    """The crash points of one process, in order; the one that is `kill_at` kills it."""

    def __init__(self, log: Path, kill_at: int | None, *, in_one_thread: bool) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        self._kill_at = kill_at
        self._in_one_thread = in_one_thread
        self._numbers = itertools.count(1)

    def reach(self, what: str, where: str) -> None:
        """Note the point, and die here if it is the one."""
        if what == "House.register":
            return  # the message is not there yet
        if self._in_one_thread and threading.current_thread().name != "MainThread":
            raise RuntimeError(f"{what} is written from another thread: no order")
        os.write(self._log, f"{what}|{where}\n".encode())
        if next(self._numbers) == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


class WatchedDatabase(Database):
    """The product's database, with a crash point on each side of every COMMIT."""

    def __init__(self, dialect: SqliteDialect, bells: Bells, points: Points) -> None:
        super().__init__(dialect, bells)
        self._points = points
        self._writer = threading.local()

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Transaction]:
        what = _writer(sys._getframe(1))
        self._writer.what = what
        with super().write(durable=durable) as tx:
            yield tx
            self._points.reach(what, "before COMMIT")
        self._points.reach(what, "after COMMIT")

    def hinted_by(self, hint: Callable[[str, str], None]) -> Callable[[str, str], None]:
        """Stand between the COMMIT and the hint it was followed by."""

        def reach_and_hint(task_type: str, task_id: str) -> None:
            self._points.reach(self._writer.what, "after COMMIT, before the hint")
            hint(task_type, task_id)

        return reach_and_hint


def _writer(frame: FrameType | None) -> str:
    """Name the function that writes, and the tool whose call it writes about."""
    while frame is not None:
        code = frame.f_code
        is_ours = "/workers/" in code.co_filename or code.co_filename == __file__
        if is_ours and code.co_name not in ("_write", "<lambda>"):
            name = code.co_qualname.replace("<locals>.", "")
            return f"{name} {_about(frame.f_locals)}".strip()
        frame = frame.f_back
    raise RuntimeError("nobody of ours writes here")


def _about(known: dict[str, Any]) -> str:
    """Say which tool a write is about, or that it is about the prompt's task."""
    if call := known.get("call"):
        return str(call.name)
    task = known.get("task") or getattr(known.get("self"), "_task", None) or {}
    parked = known.get("parked")
    is_prompt = (
        str(known.get("task_id", "")).startswith("prompt-")
        or task.get("type") == "prompt"
        or (parked is not None and parked.waits[0].why["kind"] == "prompt")
    )
    return "prompt" if is_prompt else ""


class Outside:
    """The counting server of the test process, as the turn's effects reach it."""

    def __init__(self, port: int, run: str) -> None:
        self._port, self._run = port, run

    def count(self, what: str, key: str = "") -> int:
        """Have one effect counted; say how often it has happened."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            headers = {"Idempotency-Key": key} if key else {}
            connection.request("POST", f"/{self._run}/{what}", headers=headers)
            return int(connection.getresponse().read())
        finally:
            connection.close()


class CountedModel:
    """The scripted model, with a crash point before and after each answer."""

    name = "scripted/one-turn"
    context_tokens = 200_000

    def __init__(self, points: Points, outside: Outside) -> None:
        self._script = ScriptedModel(SCRIPT, self.name)
        self._points, self._outside = points, outside

    def stream(
        self, request: Request, emit: Callable[[Delta], None], interrupt: Interrupt
    ) -> Answer:
        self._points.reach("the model", "before it is asked")
        self._outside.count("ask")
        answer = self._script.stream(request, emit, interrupt)
        self._points.reach("the model", "after its answer")
        return answer


class CountedCage:
    """The real sandbox; the world outside hears of every job whose process starts."""

    def __init__(self, cage: sandbox.Sandbox, outside: Outside) -> None:
        self.level, self.detail = cage.level, cage.detail
        self._cage, self._outside = cage, outside

    def run(
        self,
        job: sandbox.Job,
        policy: sandbox.Policy,
        *,
        emit: Callable[[sandbox.Output], None],
        control: sandbox.Control,
        on_start: Callable[[sandbox.Control], None],
    ) -> sandbox.Outcome:
        def started(control: sandbox.Control) -> None:
            self._outside.count("job")
            on_start(control)

        return self._cage.run(job, policy, emit=emit, control=control, on_start=started)


def effects(points: Points, outside: Outside) -> tuple[Tool, ...]:
    """One tool of each kind of effect."""

    @tool(effect="pure")
    def look(context: ToolContext, at: str) -> ToolResult:
        """Look at something."""
        points.reach("look", "before it looks")
        outside.count("look")
        points.reach("look", "after it looked")
        return ToolResult(text=f"{at} is blue")

    @tool(effect="at_most_once")
    def mail(context: ToolContext, to: str) -> ToolResult:
        """Send a mail, by a server that knows no keys."""
        points.reach("mail", "before its request")
        outside.count("mail")
        points.reach("mail", "after its request")
        return ToolResult(text=f"mailed to {to}")

    @tool(effect="idempotent")
    def book(context: ToolContext, amount: int) -> ToolResult:
        """Book an amount, by a server that knows keys."""
        points.reach("book", "before its request")
        times = outside.count("book", key=context.key)
        points.reach("book", "after its request")
        return ToolResult(text=f"booked {amount}, {times} time")

    return look, mail, book


class InOrder(Executor):
    """A pool that makes each call when it gets it, in the thread that gave it."""

    def submit(  # type: ignore[override]
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 (so does any pool)
            future.set_exception(error)
        return future


class AtOnce:
    """A batcher that does not wait: each delta is a transaction of this thread."""

    def schedule(self, buffer: object, flush: Flush, last: float) -> None:
        flush([buffer])

    def forget(self, buffer: object) -> None:
        """Nothing is ever scheduled."""


class House:
    """One process of a home: an `agents` and an `exec` worker in one."""

    def __init__(self, order: dict[str, Any], cage: sandbox.Sandbox) -> None:
        home = Path(order["home"])
        settings = load({"ROOST_HOME": str(home), "ROOST_DURABILITY": "process"}, home)
        home.mkdir(exist_ok=True)
        (home / "PROMPT.ts").write_text(f"console.log({PROMPT!r})\n")
        is_run = order["verb"] == "run"
        log = home / ("points" if is_run else "points-of-recovery")
        points = Points(log, order["kill_at"], in_one_thread=is_run)
        bells = UnixBells(settings.run_directory)
        dialect = SqliteDialect(settings.database_path, settings.durability)
        self.database = WatchedDatabase(dialect, bells, points)
        migrate(self.database, None)
        self.broker = Broker(settings=settings, database=self.database, bells=bells)
        self.database.hint = self.database.hinted_by(self.broker.hint)
        self.process = WorkerProcess(
            settings=settings,
            broker=self.broker,
            identity=processes.identify("agents"),
            worker=Worker(owner=processes.identify("agents").owner),
            batcher=AtOnce(),  # type: ignore[arg-type]
        )
        self._bind(points, Outside(order["port"], home.name), cage)

    def _bind(self, points: Points, outside: Outside, cage: sandbox.Sandbox) -> None:
        process, broker = self.process, self.broker
        # It renews nothing unless started; a lease outlasts a run by far.
        keeper = Keeper(broker, process.worker, threading.Event())
        model = CountedModel(points, outside)
        taker = TurnTaker(
            broker=broker,
            worker=process.worker,
            keeper=keeper,
            batcher=process.batcher,
            default_model=None,
            home=process.settings.home,
            find_model=lambda _: model,
            tools=(*builtin_tools(), *effects(points, outside)),
            pool=InOrder(),
        )
        runner = ExecRunner(
            broker=broker,
            worker=process.worker,
            keeper=keeper,
            batcher=process.batcher,
            sandbox=CountedCage(cage, outside),
            home=process.settings.home,
            bell=broker.bells.listen(CHANNEL),
        )
        broker.turns.bind(taker.take)
        broker.execs.bind(runner.run)

    def register(self) -> None:
        """Tell the home which process this is, and make the agent."""
        with self.database.write() as tx:
            processes.register(tx, self.process.identity)
            agents.upsert(tx, "scout", AgentChange())

    def post(self) -> str:
        """Send the message, or send it again: the key makes it one."""
        with self.database.write() as tx:
            posted = turns.post(tx, "scout", Message(text="go", key="request/1"))
        return str(posted.turn_id)

    def is_over(self, turn_id: str) -> bool:
        return tasks.get(self.database, turn_id)["finished_at"] is not None

    def is_alone(self) -> bool:
        """Whether the dead worker has been buried."""
        return len(processes.on_this_host(self.database)) == 1


def run(house: House) -> None:
    """Take the turn, hint by hint, in one thread."""
    house.register()
    turn_id = house.post()
    queues = (house.broker.turns, house.broker.execs)
    while not house.is_over(turn_id):
        queue = next((q for q in queues if q.storage.queue_size()), None)
        if queue is None:
            raise RuntimeError(f"{turn_id} is not over, and there is no hint")
        queue.execute(queue.dequeue())


def recover(house: House) -> None:
    """Send again, schedule, and work, until the turn is over."""
    house.register()
    bell = house.broker.bells.listen(CHANNEL)
    scheduler = Scheduler(house.process)
    led = threading.Thread(target=scheduler.run)
    led.start()
    for queue in (house.broker.turns, house.broker.execs):
        threading.Thread(target=_consume, args=[queue], daemon=True).start()
    turn_id = house.post()
    seen = bell.generation
    for _ in range(int(TURN_SECONDS / LOOK_SECONDS)):
        if house.is_over(turn_id) and house.is_alone():
            break
        bell.wait(seen, LOOK_SECONDS)
        seen = bell.generation
    scheduler.stop()
    led.join()
    report(house)


def _consume(queue: HintQueue) -> None:
    while True:
        if task := queue.dequeue():
            queue.execute(task)


def report(house: House) -> None:
    """Write down every row there is, for the explorer to judge."""
    with house.database.write() as tx:
        processes.unregister(tx, house.process.identity.owner)
    found: dict[str, Any] = {
        model._meta.table_name: rows_of(house.database, model._meta.table_name)
        for model in ALL
    }
    check = house.database.read("PRAGMA integrity_check")
    found["integrity"] = [each["integrity_check"] for each in check]
    (house.process.settings.home / "report.json").write_text(json.dumps(found))


def rows_of(database: Database, table: str) -> list[Row]:
    return database.read(f"SELECT * FROM {table} ORDER BY rowid")


def serve(scratch: Path) -> None:
    """Carry out orders, each in a process of its own."""
    set_up_logging()  # away from stdout, where the answers go
    become_subreaper()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # to be waited for
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _carry_out(order, scratch)
        _, status = os.waitpid(pid, 0)
        ended = os.waitstatus_to_exitcode(status)
        left = _orphans() if order["verb"] == "recover" else []
        print(json.dumps({"ended": ended, "orphans": left}), flush=True)  # noqa: T201


def _carry_out(order: dict[str, Any], scratch: Path) -> None:
    """Never returns: what the process that forked us holds is not ours to clean up."""
    code = 1
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    try:
        # As every exec worker does; it also removes what a dead one has left.
        cage = sandbox.choose("auto", scratch=scratch, bun=sandbox.find_bun())
        {"run": run, "recover": recover}[order["verb"]](House(order, cage))
        code = 0
    except BaseException:  # noqa: BLE001 (the process's boundary: its log tells)
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _orphans() -> list[int]:
    """What dead workers left comes to us, who started them: reap it, say what lives."""
    for _ in range(int(ORPHAN_SECONDS / LOOK_SECONDS)):
        living = [pid for pid in children(os.getpid()) if not _reaped(pid)]
        if not living:
            return []
        signal.sigtimedwait({signal.SIGCHLD}, LOOK_SECONDS)
    return living


def _reaped(pid: int) -> bool:
    stat = read_stat(pid)
    if stat is not None and stat.state != "Z":
        return False
    os.waitpid(pid, 0)
    return True


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
