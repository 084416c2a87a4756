"""A process of its own and nothing more: for code its operator trusts.

Time, output, result, memory and open files are limited as everywhere; files, network
and other processes of the same user are open to the job.
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from sandbox.bun import BOOTSTRAP, bun_arguments, environment
from sandbox.control import Control
from sandbox.host import Host, give, importable, job_directory
from sandbox.job import Job, nothing
from sandbox.launch import Launch, Pipe, open_pipe
from sandbox.limits import prlimit_flags
from sandbox.outcome import Outcome, Output
from sandbox.policy import Policy
from sandbox.supervisor import failed, supervise


class BareSandbox:
    """Run jobs as plain Bun processes."""

    level = "bare"

    def __init__(self, host: Host, *, detail: str = "") -> None:
        self.detail = detail
        self._host = host

    def run(
        self,
        job: Job,
        policy: Policy,
        *,
        emit: Callable[[Output], None],
        control: Control,
        on_start: Callable[[Control], None] = nothing,
    ) -> Outcome:
        """Run the job in a directory of its own, which is removed afterwards."""
        if not job.code.strip():
            return failed("missing_code", "exec task missing code")
        with ExitStack() as held:
            directory = held.enter_context(job_directory(self._host))
            task, bindings = self._furnish(directory, job)
            launch = self._launch(directory, task, bindings, policy, open_pipe(held))
            return supervise(
                launch, policy, emit=emit, control=control, on_start=on_start
            )

    def _furnish(self, directory: Path, job: Job) -> tuple[Path, Path | None]:
        task, out, modules = (
            directory / name for name in ("task.ts", "out", "node_modules")
        )
        task.write_text(job.code, encoding="utf-8", errors="replace")
        out.mkdir()
        modules.mkdir()
        for name, source in importable(job.home, self._host, directory).items():
            if not (directory / name).exists():
                (directory / name).symlink_to(source)
            (modules / name).symlink_to(f"../{name}")
        for path in (directory, task, out, modules):
            give(path, self._host)
        return task, self._bind(directory / "results", job)

    def _bind(self, path: Path, job: Job) -> Path | None:
        if job.bindings is None:
            return None
        path.write_bytes(job.bindings)
        path.chmod(0o444)
        return path

    def _launch(
        self,
        directory: Path,
        task: Path,
        bindings: Path | None,
        policy: Policy,
        channel: Pipe,
    ) -> Launch:
        bun = bun_arguments(
            # core/ and tools/ import each other by the name they are linked under.
            "--preserve-symlinks",
            bootstrap=str(BOOTSTRAP),
            channel=channel.writer.fileno(),
            task=str(task),
            bindings=None if bindings is None else str(bindings),
        )
        limits = prlimit_flags(policy, count_processes=False)
        return Launch(
            program=self._host.prlimit or self._host.bun,
            arguments=[*limits, "--", str(self._host.bun), *bun]
            if self._host.prlimit
            else bun,
            env=environment(home=str(directory / "out"), granted=policy.env),
            cwd=str(directory),
            user=self._host.user,
            channel=channel,
        )
