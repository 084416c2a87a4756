"""The sandbox seam: one suite for every level, with real Bun and real processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sandbox import (
    Control,
    Failure,
    Job,
    Limit,
    Outcome,
    Output,
    Policy,
    Sandbox,
    SandboxUnavailable,
    choose,
    ensure_home,
    sweep,
)
from sandbox.binaries import SYSTEM_BUBBLEWRAP, bubblewraps
from sandbox.processes import children, read_stat, tree

DEADLINE_SECONDS = 10.0  # how long a test waits for what has to happen
BUNDLED = [path for path in bubblewraps() if path != SYSTEM_BUBBLEWRAP]
CAGES = ["bundled", *(["system"] if SYSTEM_BUBBLEWRAP.exists() else [])]


@dataclass
class Ran:
    """What a job came to, and what it printed on the way."""

    outcome: Outcome
    outputs: list[Output] = field(default_factory=list)

    @property
    def stdout(self) -> str:
        return "".join(o.text for o in self.outputs if o.stream == "stdout")

    @property
    def stderr(self) -> str:
        return "".join(o.text for o in self.outputs if o.stream == "stderr")


@dataclass
class Box:
    """A sandbox under test, its scratch directory and a home."""

    sandbox: Sandbox
    scratch: Path
    home: Path

    def run(
        self,
        code: str,
        *,
        policy: Policy | None = None,
        control: Control | None = None,
        home: Path | None = None,
        emit: Callable[[Output], None] | None = None,
        on_start: Callable[[Control], None] = lambda control: None,
    ) -> Ran:
        outputs: list[Output] = []
        outcome = self.sandbox.run(
            Job(id="exec-1", code=code, home=home or self.home),
            policy or Policy(wall_seconds=DEADLINE_SECONDS),
            emit=emit or outputs.append,
            control=control or Control(),
            on_start=on_start,
        )
        return Ran(outcome, outputs)

    def result(self, code: str, **options: object) -> object:
        ran = self.run(code, **options)  # type: ignore[arg-type]
        assert ran.outcome.status == "completed", ran
        return ran.outcome.result


def make(level: str, directory: Path) -> Box:
    scratch, home = directory / "scratch", directory / "home"
    ensure_home(home)
    if level == "bare":
        return Box(choose("off", scratch=scratch), scratch, home)
    program = SYSTEM_BUBBLEWRAP if level == "system" else BUNDLED[0]
    try:
        caged = choose("required", scratch=scratch, bubblewrap=program)
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    return Box(caged, scratch, home)


@pytest.fixture(scope="module", params=[*CAGES, "bare"])
def box(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Box:
    return make(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module", params=CAGES)
def cage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Box:
    return make(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Box:
    return make("bare", tmp_path_factory.mktemp("bare"))


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """After every test: no process and no descriptor more than before."""
    processes, descriptors = set(children(os.getpid())), count_descriptors()
    yield
    wait_until(lambda: set(children(os.getpid())) <= processes)
    assert count_descriptors() <= descriptors


def count_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        os.sched_yield()


def processes_with(mark: str) -> list[int]:
    """The processes of this machine that have `mark` in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if mark.encode() in arguments:
                found.append(int(entry.name))
    return found


def bury_adopted(before: set[int]) -> None:
    """Reap what a killed worker left to this process, as pid 1 would have."""

    def nothing_adopted() -> bool:
        for child in set(children(os.getpid())) - before:
            os.waitpid(child, os.WNOHANG)
        return set(children(os.getpid())) <= before

    wait_until(nothing_adopted)


@pytest.mark.skipif(not SYSTEM_BUBBLEWRAP.exists(), reason="no system bubblewrap")
def test_the_systems_own_bubblewrap_is_among_the_cages_tested() -> None:
    assert "system" in CAGES


# The result.


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("{a: [1, {b: null}], é: 'ü😀'}", {"a": [1, {"b": None}], "é": "ü😀"}),
        ("[1, 2.5]", [1, 2.5]),
        ("'text'", "text"),
        ("0", 0),
        ("false", False),
        ("null", None),
        ("undefined", None),
        ("{started: true}", {"started": True}),
    ],
)
def test_the_result_is_the_value_the_code_has_set(
    box: Box, expression: str, result: object
) -> None:
    assert box.result(f"globalThis.result = {expression}") == result


def test_code_that_sets_nothing_completes_with_null(box: Box) -> None:
    outcome = box.run("const nothing: number = 1;").outcome
    assert (outcome.status, outcome.result, outcome.exit_code) == ("completed", None, 0)


def test_types_top_level_await_and_dynamic_import_work(box: Box) -> None:
    code = """
      enum Colour { Red = "red" }
      const { basename } = await import("node:path");
      const later = await new Promise<string>((done) => setTimeout(() => done("x"), 1));
      globalThis.result = [Colour.Red, basename("/a/b" satisfies string), later];
    """
    assert box.result(code) == ["red", "b", "x"]


def test_a_result_set_after_the_code_has_been_read_counts(box: Box) -> None:
    code = "globalThis.result = 1; setTimeout(() => { globalThis.result = 2 }, 5)"
    assert box.result(code) == 2


def test_a_megabyte_of_result_arrives_whole(box: Box) -> None:
    room = Policy().result_bytes - 2
    assert box.result(f"globalThis.result = 'x'.repeat({room})") == "x" * room


def test_a_larger_result_fails_and_names_the_limit(box: Box) -> None:
    policy = Policy(result_bytes=1000)
    outcome = box.run("globalThis.result = 'x'.repeat(999)", policy=policy).outcome
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert outcome.error.type == "result_too_large"
    assert outcome.error.limit == Limit(name="result_bytes", value=1000)


def test_two_hundred_kilobytes_of_code_run(box: Box) -> None:
    code = f"globalThis.result = `{'x' * 200_000}`.length"
    assert box.result(code) == 200_000


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("10n", "BigInt"),
        ("(() => { const a: any = {}; a.a = a; return a })()", "cyclic"),
        ("() => 1", "a function is not JSON"),
    ],
)
def test_a_result_that_is_not_json_fails_and_says_why(
    box: Box, expression: str, reason: str
) -> None:
    outcome = box.run(f"globalThis.result = {expression}").outcome
    assert outcome.error is not None
    assert (outcome.status, outcome.error.type) == ("failed", "bad_result")
    assert reason in outcome.error.message


def test_a_process_that_ends_without_a_word_is_no_success(box: Box) -> None:
    """Exit 0 is what any job can have; the report is what counts."""
    outcome = box.run("globalThis.result = 1; process.reallyExit(0)").outcome
    assert outcome.error is not None
    assert (outcome.status, outcome.error.type) == ("failed", "bad_result")


# Failing.


def test_an_exception_keeps_the_result_and_tells_the_users_own_line(box: Box) -> None:
    code = """globalThis.result = { kept: true };
type Pair = { left: number };
function inner(pair: Pair): never {
  throw new TypeError(`boom ${pair.left}`);
}
inner({ left: 1 });
"""
    ran = box.run(code)
    assert (ran.outcome.status, ran.outcome.exit_code) == ("failed", 1)
    assert ran.outcome.result == {"kept": True}
    assert "TypeError: boom 1" in ran.stderr
    assert "task.ts:4:" in ran.stderr
    assert "task.ts:6:" in ran.stderr
    assert "bootstrap" not in ran.stderr
    assert ran.outcome.error == Failure(
        type="exec_failed",
        message=f"exec failed with exit code 1\n{ran.stderr}".rstrip(),
    )


def test_the_failure_repeats_only_the_end_of_a_long_stderr(box: Box) -> None:
    code = "console.error('a'.repeat(40000)); throw new Error('the end')"
    error = box.run(code).outcome.error
    assert error is not None
    assert "error: the end" in error.message
    assert 16_000 < len(error.message) < 17_000


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("const x = ;", "Unexpected ;"),
        ("import { x } from 'nowhere'; console.log(x)", "nowhere"),
        ("setTimeout(() => { throw new Error('late') }, 1)", "error: late"),
        ("Promise.reject(new Error('refused'))", "error: refused"),
        ("throw 'a string'", "a string"),
    ],
)
def test_every_way_to_fail_is_told(box: Box, code: str, told: str) -> None:
    outcome = box.run(code).outcome
    assert outcome.error is not None
    assert (outcome.status, outcome.error.type) == ("failed", "exec_failed")
    assert told in outcome.error.message


def test_leaving_early_delivers_the_result_set_so_far(box: Box) -> None:
    assert box.result("globalThis.result = 5; process.exit(0)") == 5


def test_leaving_with_an_exit_code_is_a_failure_with_that_code(box: Box) -> None:
    outcome = box.run("globalThis.result = 5; process.exit(3)").outcome
    assert (outcome.status, outcome.result, outcome.exit_code) == ("failed", 5, 3)


@pytest.mark.parametrize("code", ["", " \n\t"])
def test_empty_code_fails_without_a_process(box: Box, code: str) -> None:
    control = Control()
    assert box.run(code, control=control).outcome == Outcome(
        status="failed",
        error=Failure(type="missing_code", message="exec task missing code"),
    )
    assert control.pid is None


# Output and input.


def test_both_streams_are_emitted_as_they_come(box: Box) -> None:
    code = """
      console.log("one");
      for await (const line of console) { console.error("two", line); break; }
    """
    control = Control()
    outputs: list[Output] = []

    def emit(output: Output) -> None:
        outputs.append(output)
        if output.stream == "stdout":
            control.write_line("told while it runs")

    assert box.run(code, control=control, emit=emit).outcome.status == "completed"
    assert outputs == [
        Output(stream="stdout", text="one\n"),
        Output(stream="stderr", text="two told while it runs\n"),
    ]


def test_a_character_split_over_two_writes_is_emitted_whole(box: Box) -> None:
    code = """
      const bytes = Buffer.from("a😀b");
      process.stdout.write(bytes.subarray(0, 3));
      await Bun.sleep(30);
      process.stdout.write(bytes.subarray(3));
    """
    assert [output.text for output in box.run(code).outputs] == ["a", "😀b"]


def test_blank_output_is_not_emitted_by_itself_and_not_lost(box: Box) -> None:
    code = """
      for (const text of ["\\n", "a", "\\n ", "b"]) {
        process.stdout.write(text);
        await Bun.sleep(20);
      }
      process.stdout.write("\\n\\n");
    """
    ran = box.run(code)
    assert all(output.text.strip() for output in ran.outputs)
    assert ran.stdout == "\na\n b"


def test_a_flood_of_output_ends_the_job_at_the_cap(box: Box) -> None:
    policy = Policy(wall_seconds=DEADLINE_SECONDS, output_bytes=100_000)
    ran = box.run("for (;;) console.log('x'.repeat(999))", policy=policy)
    assert len(ran.stdout) == 100_000
    assert ran.outcome.output_truncated
    assert ran.outcome.status == "failed"
    assert ran.outcome.error == Failure(
        type="output_limit",
        message="exec printed more than 100,000 bytes (output_bytes) and was ended",
        limit=Limit(name="output_bytes", value=100_000),
    )


def test_lines_of_stdin_can_be_read_to_their_end(box: Box) -> None:
    control = Control()
    control.write_line("eins")
    control.write_line("zwei ü")
    control.close_stdin()
    code = """
      const lines: string[] = [];
      for await (const line of console) lines.push(line);
      globalThis.result = lines;
    """
    # Bun's own console iterator gives an empty line at the end of its input.
    assert box.result(code, control=control) == ["eins", "zwei ü", ""]


def test_stdin_nobody_reads_holds_nothing_up(box: Box) -> None:
    control = Control()
    control.write_line("x" * 1_000_000)
    assert box.result("globalThis.result = 1", control=control) == 1


# Limits.


def test_wall_time_ends_a_job_that_ignores_sigterm(box: Box) -> None:
    code = """
      process.on("SIGTERM", () => {});
      console.log("ready");
      for (;;) {}
    """
    ran = box.run(code, policy=Policy(wall_seconds=0.4))
    assert ran.outcome.error == Failure(
        type="timeout",
        message="exec ran longer than 0.4 s (wall_seconds) and was ended",
        limit=Limit(name="wall_seconds", value=0.4),
    )
    assert ran.outcome.status == "failed"
    assert 0.4 <= ran.outcome.wall_seconds < 1.4
    assert ran.stdout == "ready\n"


def test_an_open_handle_ends_with_wall_time_and_keeps_the_result(box: Box) -> None:
    code = "globalThis.result = 'set'; setInterval(() => {}, 1000)"
    outcome = box.run(code, policy=Policy(wall_seconds=0.3)).outcome
    assert outcome.error is not None
    assert (outcome.error.type, outcome.result) == ("timeout", "set")


def test_memory_is_limited(box: Box) -> None:
    code = """
      const hoard: Uint8Array[] = [];
      for (;;) { hoard.push(new Uint8Array(4e6).fill(1)); await Bun.sleep(1); }
    """
    policy = Policy(wall_seconds=DEADLINE_SECONDS, memory_bytes=200 * 1024 * 1024)
    outcome = box.run(code, policy=policy).outcome
    assert outcome.error is not None
    assert outcome.error.type == "memory_limit"
    assert outcome.error.limit == Limit(name="memory_bytes", value=policy.memory_bytes)
    assert (outcome.peak_memory_bytes or 0) > policy.memory_bytes


def test_processor_time_is_limited(box: Box) -> None:
    policy = Policy(wall_seconds=DEADLINE_SECONDS, cpu_seconds=0.3)
    outcome = box.run("for (;;) {}", policy=policy).outcome
    assert outcome.error is not None
    assert outcome.error.type == "cpu_limit"
    assert outcome.error.limit == Limit(name="cpu_seconds", value=0.3)


def test_a_file_cannot_grow_over_its_limit(box: Box) -> None:
    code = """
      import { writeFileSync } from "node:fs";
      process.on("SIGXFSZ", () => {});
      writeFileSync("out/large", Buffer.alloc(2_000_000));
    """
    outcome = box.run(code, policy=Policy(file_bytes=1_000_000)).outcome
    assert outcome.status == "failed"


def test_the_disk_of_a_cage_is_limited(cage: Box) -> None:
    code = """
      import { writeFileSync } from "node:fs";
      globalThis.result = ["/tmp/x", "/job/out/x", "/dev/shm/x"].map((path) => {
        try { writeFileSync(path, Buffer.alloc(2_000_000)); return "written" }
        catch (error) { return error.code }
      });
    """
    policy = Policy(disk_bytes=2_000_000)
    assert cage.result(code, policy=policy) == ["ENOSPC", "ENOSPC", "EROFS"]


def test_the_processes_of_a_cage_are_limited(cage: Box) -> None:
    code = """
      let started = 0;
      try {
        for (; started < 40; started++) {
          Bun.spawn([process.execPath, "-e", "setInterval(() => {}, 1000)"]);
          await Bun.sleep(2);
        }
      } catch (error) {
        globalThis.result = { started, code: error.code };
      }
      process.exit(0);
    """
    result = cage.result(code, policy=Policy(wall_seconds=10, processes=32))
    assert isinstance(result, dict)
    assert result["code"] == "EAGAIN"


# Killing.


def test_kill_ends_a_job_within_a_second(box: Box) -> None:
    control = Control()
    killed_at: list[float] = []

    def emit(output: Output) -> None:
        killed_at.append(time.monotonic())
        control.kill("asked by its agent")

    code = "process.on('SIGTERM', () => {}); console.log('up'); for (;;) {}"
    outcome = box.run(code, control=control, emit=emit).outcome
    assert time.monotonic() - killed_at[0] < 1.0
    assert outcome.status == "killed"
    assert outcome.error == Failure(type="killed", message="asked by its agent")


def test_kill_reaches_a_job_whose_output_is_stuck_with_its_caller(box: Box) -> None:
    control = Control()
    died_in_time: list[bool] = []

    def emit(output: Output) -> None:
        """The caller's database is slow: it is held up here while another kills."""
        assert control.pid is not None
        threading.Thread(target=control.kill).start()
        deadline = time.monotonic() + 1.0
        while is_running(control.pid) and time.monotonic() < deadline:
            os.sched_yield()
        died_in_time.append(not is_running(control.pid))

    box.run("console.log('up'); for (;;) {}", control=control, emit=emit)
    assert died_in_time == [True]


def is_running(pid: int) -> bool:
    stat = read_stat(pid)
    return stat is not None and stat.state != "Z"


def test_a_job_killed_before_its_start_gets_no_process(box: Box) -> None:
    control = Control()
    control.kill("cancelled while it was queued")
    outcome = box.run("globalThis.result = 1", control=control).outcome
    assert outcome == Outcome(
        status="killed",
        error=Failure(type="killed", message="cancelled while it was queued"),
    )


def test_killing_and_writing_after_the_end_do_nothing(box: Box) -> None:
    control = Control()
    assert box.result("globalThis.result = 1", control=control) == 1
    control.kill()
    control.write_line("late")
    control.close_stdin()


def test_a_kill_in_the_first_milliseconds_leaves_nothing(box: Box) -> None:
    """Bubblewrap's inner child outlives a kill of its first 8 ms, left to itself."""
    mark = f"mark{os.getpid()}"
    for attempt in range(60):
        control = Control()
        timer = threading.Timer(attempt % 20 * 0.0005, control.kill)
        box.run(
            f"for (;;) {{}} // {mark}",
            control=control,
            on_start=lambda _control, timer=timer: timer.start(),  # type: ignore[misc]
        )
        timer.join()
        assert not is_running(control.pid or 0)
    assert session_members(control) == []


def session_members(control: Control) -> list[int]:
    """Living processes below this one that belong to the job's session."""
    return [
        pid
        for pid in tree(os.getpid())
        if (stat := read_stat(pid)) and stat.session == control.pid
    ]


def test_an_exception_of_the_caller_kills_the_job_and_passes_through(box: Box) -> None:
    control = Control()

    def emit(output: Output) -> None:
        raise LookupError("the lease is lost")

    with pytest.raises(LookupError, match="the lease is lost"):
        box.run("console.log('up'); for (;;) {}", control=control, emit=emit)
    assert not is_running(control.pid or 0)


def test_a_daemon_dies_with_its_job(cage: Box) -> None:
    mark = f"daemon-{os.getpid()}-{time.monotonic_ns()}"
    code = f"""
      const daemon = Bun.spawn(
        [process.execPath, "-e", "setInterval(() => {{}}, 1000)", "{mark}"],
        {{ detached: true, stdio: ["ignore", "ignore", "ignore"] }},
      );
      daemon.unref();
      console.log("up");
      for await (const line of console) break;
    """
    control = Control()
    alive_meanwhile: list[int] = []

    def emit(output: Output) -> None:
        wait_until(lambda: processes_with(mark) != [])
        alive_meanwhile.extend(processes_with(mark))
        control.write_line("go on")

    ran = cage.run(code, control=control, emit=emit)
    assert ran.outcome.status == "completed"
    assert alive_meanwhile != []
    assert processes_with(mark) == []


def test_children_of_a_killed_job_die_with_it(box: Box) -> None:
    mark = f"child-{os.getpid()}-{time.monotonic_ns()}"
    code = f"""
      Bun.spawn([process.execPath, "-e", "setInterval(() => {{}}, 1000)", "{mark}"]);
      console.log("up");
      for (;;) {{}}
    """
    control = Control()
    box.run(code, control=control, emit=lambda _: control.kill())
    wait_until(lambda: processes_with(mark) == [])


# What a job can see.


def test_the_environment_holds_what_is_granted_and_nothing_else(box: Box) -> None:
    policy = Policy(wall_seconds=10, env={"API_URL": "http://x/?a=b", "TZ": "UTC"})
    seen = box.result("globalThis.result = process.env", policy=policy)
    assert isinstance(seen, dict)
    home = seen["HOME"]
    assert {name: seen[name] for name in sorted(seen) if name != "PWD"} == {
        "API_URL": "http://x/?a=b",
        "BUN_RUNTIME_TRANSPILER_CACHE_PATH": "0",
        "DO_NOT_TRACK": "1",
        "HOME": home,
        "LANG": "C.UTF-8",
        "PATH": "/bin",
        "TMPDIR": home,
        "TZ": "UTC",
    }


def test_no_command_line_tells_what_was_granted(cage: Box) -> None:
    code = """
      import { readFileSync } from "node:fs";
      globalThis.result = [1, 2].map((pid) => ({
        environ: readFileSync(`/proc/${pid}/environ`, "utf8").length,
        cmdline: readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\\0"),
      }));
    """
    policy = Policy(wall_seconds=10, env={"SECRET": "s3cr3t"})
    outside: list[bytes] = []

    def look(control: Control) -> None:
        outside.append(Path(f"/proc/{control.pid}/cmdline").read_bytes())
        outside.append(Path(f"/proc/{control.pid}/environ").read_bytes())

    result = cage.result(code, policy=policy, on_start=look)
    assert isinstance(result, list)
    assert result[0]["environ"] == 0
    assert result[0]["cmdline"][0] == "bwrap"
    assert b"s3cr3t" not in b"".join(outside)
    assert "s3cr3t" not in json.dumps([part["cmdline"] for part in result])


def test_a_job_inherits_no_descriptor_but_its_own(box: Box) -> None:
    with open("/etc/hostname", "rb") as secret:
        os.set_inheritable(secret.fileno(), True)
        code = """
          import { readdirSync, readlinkSync } from "node:fs";
          globalThis.result = readdirSync("/proc/self/fd").map((fd) => {
            try { return readlinkSync(`/proc/self/fd/${fd}`) } catch { return "" }
          });
        """
        seen = box.result(code)
    assert isinstance(seen, list)
    assert len([name for name in seen if name.startswith("pipe:")]) == 4
    assert [name for name in seen if name.startswith("/")] == []


def test_a_cage_shows_no_file_of_the_host(cage: Box) -> None:
    code = """
      import { existsSync, readdirSync } from "node:fs";
      globalThis.result = [
        readdirSync("/").filter((name) => !name.startsWith("lib")),
        readdirSync("/bin"),
        readdirSync("/job"),
        ["/etc", "/usr", "/home", "/root", "/work", "/sys", "/run"].filter(existsSync),
      ];
    """
    names = ["bootstrap.ts", "core", "node_modules", "out", "task.ts", "tools"]
    root, programs, job, found = cage.result(code)  # type: ignore[misc]
    assert sorted(root) == ["bin", "dev", "job", "proc", "tmp"]
    assert sorted(programs) in (["bun"], ["bun", "prlimit"])
    assert sorted(job) == names
    assert found == []


def test_a_cage_lets_a_job_write_to_two_places_alone(cage: Box) -> None:
    code = """
      import { writeFileSync } from "node:fs";
      const places = ["/", "/job", "/job/core", "/job/tools", "/job/node_modules",
        "/bin", "/dev", "/dev/shm", "/proc/sys/kernel", "/job/out", "/tmp"];
      globalThis.result = places.filter((place) => {
        try { writeFileSync(`${place}/x`, "x"); return true } catch { return false }
      });
    """
    assert cage.result(code) == ["/job/out", "/tmp"]


def test_a_cage_has_no_network(cage: Box) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"""
          import {{ networkInterfaces }} from "node:os";
          const tried = await fetch("http://127.0.0.1:{port}/").then(
            () => "reached", () => "refused");
          globalThis.result = [Object.keys(networkInterfaces()), tried];
        """
        assert cage.result(code) == [["lo"], "refused"]


def test_a_policy_with_network_is_refused_by_a_cage_not_ignored(cage: Box) -> None:
    policy = Policy(network=True)
    outcome = cage.run("globalThis.result = 1", policy=policy).outcome
    assert outcome.error is not None
    assert (outcome.status, outcome.error.type) == ("failed", "setup_failed")


def test_a_job_in_a_cage_has_no_power_over_other_processes(cage: Box) -> None:
    code = """
      import { readdirSync, readFileSync } from "node:fs";
      const status = readFileSync("/proc/self/status", "utf8");
      globalThis.result = [
        readdirSync("/proc").filter((name) => /^\\d+$/.test(name)).length,
        status.match(/CapEff:\\s*(\\S+)/)?.[1],
        process.getuid?.(),
      ];
    """
    assert cage.result(code) == [2, "0" * 16, 65534]


# Imports.


def test_core_and_tools_are_imported_by_name(box: Box) -> None:
    code = """
      import { cut } from "core/text.ts";
      import { words } from "core/text";
      import { replaceText } from "tools/edit";
      const { table } = await import("core/table");
      globalThis.result = [typeof cut, words("a b"), replaceText("ab", "a", "c"),
        typeof table];
    """
    assert box.result(code) == ["function", 2, "cb", "function"]


def test_core_and_tools_import_each_other_through_a_symlinked_home(
    box: Box, tmp_path: Path
) -> None:
    real = tmp_path / "real"
    (real / "core").mkdir(parents=True)
    (real / "tools" / "sum").mkdir(parents=True)
    (real / "core" / "one.ts").write_text("export const one: number = 1;")
    (real / "core" / "two.ts").write_text(
        'import { sum } from "tools/sum"; import { one } from "./one";'
        "export const two = sum(one, one);"
    )
    (real / "tools" / "sum" / "index.ts").write_text(
        'import { one } from "core/one";'
        "export const sum = (a: number, b: number) => a + b - one + 1;"
    )
    home = tmp_path / "home"
    home.symlink_to(real)
    code = 'import { two } from "core/two"; globalThis.result = two'
    assert box.result(code, home=home) == 2


def test_no_file_of_the_home_runs_before_the_code(box: Box, tmp_path: Path) -> None:
    """Bun would load each of these by itself from where it runs or looks."""
    home = tmp_path / "home"
    for directory in (home, home / "core", home / "tools"):
        directory.mkdir()
        (directory / "evil.ts").write_text("globalThis.hijacked = true;")
        (directory / "bunfig.toml").write_text('preload = ["./evil.ts"]')
        (directory / ".env").write_text("HIJACKED=1")
        scripts = {"task.ts": "bun evil.ts", "pretask.ts": "bun evil.ts"}
        (directory / "package.json").write_text(json.dumps({"scripts": scripts}))
    (home / "core" / "x.ts").write_text("export const x = 1;")
    code = """
      import { x } from "core/x";
      const hijacked = globalThis.hijacked ?? process.env.HIJACKED ?? null;
      globalThis.result = [x, hijacked];
    """
    assert box.result(code, home=home) == [1, None]


def test_a_job_without_a_home_has_nothing_to_import(box: Box) -> None:
    outcome = box.sandbox.run(
        Job(id="homeless", code='import { cut } from "core/text"; cut("", 1)'),
        Policy(wall_seconds=DEADLINE_SECONDS),
        emit=lambda output: None,
        control=Control(),
    )
    assert outcome.error is not None
    assert "core/text" in outcome.error.message


# The worker.


def test_the_scratch_directory_is_empty_afterwards(box: Box) -> None:
    code = """
      import { mkdirSync, writeFileSync, chmodSync } from "node:fs";
      mkdirSync("out/closed"); writeFileSync("out/closed/x", "x");
      chmodSync("out/closed", 0);
    """
    assert box.run(code).outcome.status == "completed"
    places = (box.scratch, Path(tempfile.gettempdir()))
    assert [
        found
        for place in places
        for found in place.glob("roost-sandbox-scratch-*/job-*")
    ] == []


def test_jobs_run_side_by_side(box: Box) -> None:
    results: list[object] = []

    def run(number: int) -> None:
        code = f"await Bun.sleep(20); globalThis.result = {number}"
        results.append(box.result(code))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, results)) == ["0", "1", "2", "3"]


def test_usage_is_measured(box: Box) -> None:
    # Work between the looks: a look is a system call, and would be most of it.
    work = "for (let n = 0; n < 1_000_000; n++) Math.sqrt(n);"
    outcome = box.run(f"while (process.cpuUsage().user < 200_000) {work}").outcome
    assert 0.2 <= (outcome.cpu_seconds or 0) < 2
    assert 10_000_000 < (outcome.peak_memory_bytes or 0) < 500_000_000
    assert outcome.wall_seconds >= 0.2


WORKER = """
import sys
from pathlib import Path
from sandbox import Control, Job, Policy, choose

mode, scratch, program = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
box = choose(mode, scratch=scratch, bubblewrap=Path(program) if program else None)

def tell(control):
    print(control.pid, control.started_at_ticks, flush=True)

box.run(Job(id="orphan", code="for (;;) {}"), Policy(), emit=print, control=Control(),
        on_start=tell)
"""


def abandoned_job(box: Box, tmp_path: Path) -> tuple[int, int]:
    """Start a worker with an endless job, kill the worker; the job's process."""
    bare = box.sandbox.level == "bare"
    program = "" if bare else box.sandbox.detail.split("(")[1].split(")")[0]
    worker = subprocess.Popen(
        [
            *(sys.executable, "-c", WORKER, "off" if bare else "required"),
            *(str(tmp_path / "scratch"), program),
        ],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
    )
    assert worker.stdout is not None
    with worker, worker.stdout as told:
        pid, ticks = map(int, told.readline().split())
        if bare:  # Bun ends with its parent when it can: stopped, it outlives it surely
            os.kill(pid, signal.SIGSTOP)
        worker.send_signal(signal.SIGKILL)
    return pid, ticks


def test_a_caged_job_dies_with_its_worker(cage: Box, tmp_path: Path) -> None:
    before = set(children(os.getpid()))
    pid, ticks = abandoned_job(cage, tmp_path)
    wait_until(lambda: not is_running(pid))
    sweep(pid, ticks)  # killed in its first milliseconds it leaves its inner process
    assert not sweep(pid, ticks)
    bury_adopted(before)


def test_a_bare_job_that_outlived_its_worker_is_swept(
    bare: Box, tmp_path: Path
) -> None:
    before = set(children(os.getpid()))
    pid, ticks = abandoned_job(bare, tmp_path)
    assert is_running(pid)
    assert not sweep(pid, ticks + 1)
    assert is_running(pid)
    assert sweep(pid, ticks)
    assert not is_running(pid)
    assert not sweep(pid, ticks)
    bury_adopted(before)


# Earlier results.


def bound(box: Box, code: str, bindings: bytes | None) -> object:
    """Run code that has earlier results; return what it sets."""
    outcome = box.sandbox.run(
        Job(id="exec-1", code=code, home=box.home, bindings=bindings),
        Policy(wall_seconds=DEADLINE_SECONDS),
        emit=lambda output: None,
        control=Control(),
    )
    assert outcome.status == "completed", outcome
    return outcome.result


def test_a_job_has_earlier_results_by_their_names(box: Box) -> None:
    bindings = '7\n8 {"a":[1,"é\\n"]}\n10 null\n11 "end"\n'.encode()
    code = """
      globalThis.result = [
        $results, $last, $result8.a, $result10,
        typeof $result7, "$result7" in globalThis, typeof $result9,
        $results[0] === $result8, process.argv.length,
      ];
    """
    assert bound(box, code, bindings) == [
        [{"a": [1, "é\n"]}, None, "end"],
        "end",
        [1, "é\n"],
        None,
        "undefined",
        True,
        "undefined",
        True,
        2,
    ]


def test_a_job_may_use_the_names_for_itself(box: Box) -> None:
    code = "const $last = 1, $results = 2; globalThis.result = [$last, $results]"
    assert bound(box, code, b"1 4\n") == [1, 2]


def test_a_job_without_earlier_results_has_an_empty_array(box: Box) -> None:
    code = "globalThis.result = [$results, typeof $last, typeof $result1]"
    assert bound(box, code, b"") == [[], "undefined", "undefined"]


def test_a_job_that_is_nobodys_has_no_such_names(box: Box) -> None:
    code = 'globalThis.result = ["$results" in globalThis, "$last" in globalThis]'
    assert bound(box, code, None) == [False, False]


def test_eight_mebibytes_of_results_reach_a_job_whole(box: Box) -> None:
    large = b"".join(b'%d "%s"\n' % (n, b"x" * 2**20) for n in range(1, 9))
    code = "globalThis.result = $results.map((each) => each.length)"
    assert bound(box, code, large) == [2**20] * 8


def test_earlier_results_cannot_be_changed_in_a_cage(cage: Box) -> None:
    code = """
      import { readFileSync, writeFileSync } from "node:fs";
      let wrote = "refused";
      try { writeFileSync("/job/results", "1 5"); wrote = "wrote" } catch {}
      globalThis.result = [wrote, readFileSync("/job/results", "utf8")];
    """
    assert bound(cage, code, b"1 4\n") == ["refused", "1 4\n"]
