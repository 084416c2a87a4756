"""What bubblewrap and Bun are called with."""

from pathlib import Path

from sandbox import Policy
from sandbox.bun import bun_arguments, environment
from sandbox.limits import prlimit_flags

MIB = 1024 * 1024


def test_bun_picks_up_nothing_by_itself() -> None:
    assert bun_arguments("--flag", bootstrap="b.ts", channel=7, task="t.ts") == [
        "--no-install",
        "--config=/dev/null",
        "--env-file=/dev/null",
        "--flag",
        "b.ts",
        "7",
        "t.ts",
    ]


def test_a_grant_comes_before_what_is_fixed() -> None:
    env = environment(home="/tmp", granted={"LANG": "de_DE.UTF-8", "KEY": "1"})
    assert (env["LANG"], env["KEY"], env["HOME"]) == ("de_DE.UTF-8", "1", "/tmp")


def test_address_space_keeps_off_the_sizes_at_which_bun_aborts() -> None:
    for memory in range(128, 2049, 50):
        flags = prlimit_flags(Policy(memory_bytes=memory * MIB), count_processes=False)
        (space,) = (int(flag[5:]) for flag in flags if flag.startswith("--as="))
        assert space >= 4 * memory * MIB
        assert space % (1024 * MIB) == 512 * MIB


def test_processes_are_counted_only_where_the_user_is_the_jobs_own() -> None:
    policy = Policy(processes=50, cpu_seconds=1.2)
    assert "--nproc=50" in prlimit_flags(policy, count_processes=True)
    flags = prlimit_flags(policy, count_processes=False)
    assert not [flag for flag in flags if flag.startswith("--nproc")]
    assert "--cpu=4" in flags


def test_the_runtime_files_are_where_the_package_looks() -> None:
    runtime = Path(__file__).parents[3] / "sandbox" / "runtime"
    assert sorted(path.name for path in runtime.iterdir()) == [
        "bootstrap.ts",
        "canary.ts",
    ]
