"""The cage: one bubblewrap for each job, with everything unshared.

Two rules were paid for and hold here. No mount point lies below anything a job can
write: /job is on bubblewrap's own root, which becomes read-only, and of it only the
leaf /job/out can be written. And nothing of this process' environment is inherited,
because bubblewrap's own environment can be read inside at /proc/1/environ.
"""

import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from sandbox.bun import BOOTSTRAP, bun_arguments, environment
from sandbox.control import Control
from sandbox.host import Host, importable, job_directory
from sandbox.job import Job, nothing
from sandbox.launch import Launch, memory_file, open_pipe
from sandbox.limits import prlimit_flags
from sandbox.outcome import Outcome, Output
from sandbox.policy import Policy
from sandbox.supervisor import failed, supervise

UNSHARED = [
    *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts"),
    *("--unshare-cgroup-try", "--unshare-net"),
    *("--die-with-parent", "--new-session", "--cap-drop", "ALL", "--disable-userns"),
    *("--hostname", "job", "--uid", "65534", "--gid", "65534", "--clearenv"),
]

BINDINGS = "/job/results"


class BubblewrapSandbox:
    """Run jobs in bubblewrap."""

    level = "bubblewrap"

    def __init__(self, bubblewrap: Path, host: Host, *, detail: str = "") -> None:
        self.detail = detail
        self._bubblewrap = bubblewrap
        self._host = host
        programs = [host.bun, *([host.prlimit] if host.prlimit else [])]
        self._libraries = libraries(programs)

    @property
    def root_listing(self) -> list[str]:
        """What a job sees in its root directory: this and nothing else."""
        library_roots = {Path(path).parts[1] for path in self._libraries}
        return sorted({"bin", "dev", "job", "proc", "tmp", *library_roots})

    def run(
        self,
        job: Job,
        policy: Policy,
        *,
        emit: Callable[[Output], None],
        control: Control,
        on_start: Callable[[Control], None] = nothing,
    ) -> Outcome:
        """Run the job in namespaces of its own; nothing of it is left afterwards."""
        if not job.code.strip():
            return failed("missing_code", "exec task missing code")
        if policy.network:
            message = "this sandbox cannot grant network: narrow the policy's network"
            return failed("setup_failed", message)
        with ExitStack() as held:
            launch = self._launch(job, policy, held)
            return supervise(
                launch, policy, emit=emit, control=control, on_start=on_start
            )

    def _launch(self, job: Job, policy: Policy, held: ExitStack) -> Launch:
        channel, info = open_pipe(held), open_pipe(held)
        # By this name the next worker knows what a killed one has left.
        name = self._host.scratch.path.name
        task = memory_file(f"{name}/task", job.code.encode(errors="replace"), held)
        bootstrap = memory_file(f"{name}/bootstrap", BOOTSTRAP.read_bytes(), held)
        bindings = [] if job.bindings is None else [job.bindings]
        results = [memory_file(f"{name}/results", each, held) for each in bindings]
        arguments = [
            *("--info-fd", str(info.writer.fileno())),
            *UNSHARED,
            *self._set_environment(policy),
            *self._bind_programs(),
            *self._mount_writable(policy),
            *self._bind_home(job.home, held),
            *place(task, "/job/task.ts"),
            *place(bootstrap, "/job/bootstrap.ts"),
            *(word for file in results for word in place(file, BINDINGS)),
            *("--remount-ro", "/dev", "--remount-ro", "/"),
            *("--chdir", "/job"),
        ]
        # Out of sight: a command line can be read by everyone, inside and outside.
        listed = "\0".join(arguments).encode() + b"\0"
        arguments_file = memory_file(f"{name}/arguments", listed, held)
        command = self._command(
            policy, channel.writer.fileno(), BINDINGS if bindings else None
        )
        return Launch(
            program=self._bubblewrap,
            arguments=["--args", str(arguments_file.fileno()), "--", *command],
            env={},
            cwd="/",
            user=self._host.user,
            channel=channel,
            files=[arguments_file, task, bootstrap, *results],
            info=info,
        )

    def _command(self, policy: Policy, channel: int, bindings: str | None) -> list[str]:
        bun = bun_arguments(
            bootstrap="/job/bootstrap.ts",
            channel=channel,
            task="/job/task.ts",
            bindings=bindings,
        )
        if not self._host.prlimit:
            return ["/bin/bun", *bun]
        limits = prlimit_flags(policy, count_processes=True)
        return ["/bin/prlimit", *limits, "--", "/bin/bun", *bun]

    def _set_environment(self, policy: Policy) -> list[str]:
        pairs = environment(home="/tmp", granted=policy.env).items()
        return [word for name, value in pairs for word in ("--setenv", name, value)]

    def _bind_programs(self) -> list[str]:
        binds = [("/bin/bun", self._host.bun), *self._libraries.items()]
        if self._host.prlimit:
            binds.append(("/bin/prlimit", self._host.prlimit))
        return [
            word
            for inside, outside in binds
            for word in ("--ro-bind", str(outside), inside)
        ]

    def _mount_writable(self, policy: Policy) -> list[str]:
        half = str(policy.disk_bytes // 2)  # /tmp and /job/out share what is granted
        return [
            *("--proc", "/proc", "--dev", "/dev", "--dir", "/job"),
            *("--size", half, "--tmpfs", "/tmp", "--size", half, "--tmpfs", "/job/out"),
        ]

    def _bind_home(self, home: Path | None, held: ExitStack) -> list[str]:
        arguments = ["--dir", "/job/node_modules"]
        for name, source in self._importable(home, held).items():
            arguments += ["--ro-bind", str(source), f"/job/{name}"]
            arguments += ["--symlink", f"../{name}", f"/job/node_modules/{name}"]
        return arguments

    def _importable(self, home: Path | None, held: ExitStack) -> dict[str, Path]:
        """What a home gives; copies are only ever made for a user who is not us."""
        if home is None or self._host.user is None:
            return importable(home, self._host, self._host.scratch.path)
        return importable(
            home, self._host, held.enter_context(job_directory(self._host))
        )


def place(file: BinaryIO, inside: str) -> list[str]:
    """Put a memory file into the cage, for everyone to read."""
    return ["--perms", "0444", "--file", str(file.fileno()), inside]


def libraries(programs: list[Path]) -> dict[str, Path]:
    """The shared libraries that programs load: where they look, and the real file."""
    found: dict[str, Path] = {}
    for program in programs:
        listing = subprocess.run(
            ["/usr/bin/ldd", str(program)],
            env={"LC_ALL": "C"},
            capture_output=True,
            check=True,
            text=True,
        )
        for line in listing.stdout.splitlines():
            path = next((word for word in line.split() if word.startswith("/")), None)
            if path:
                found[path] = Path(path).resolve()
    return found
