"""The limits that the kernel keeps: a command line for util-linux' prlimit.

prlimit runs in front of Bun, inside the namespaces, because a process limit set
outside would be shared by all jobs of the user; it needs no code between fork and exec.
"""

import math
import shutil
from pathlib import Path

from sandbox.policy import Policy

GIB = 1024**3
# Bun reserves far more address space than it touches: with this factor a job meets its
# own limit first (at 4 GiB of address space a hog stops at 1.2 GB, measured).
ADDRESS_SPACE_FACTOR = 4
# The supervisor adds up the processor time of all processes and ends the job itself;
# the kernel's limit, for each process, stands behind it.
CPU_GRACE_SECONDS = 2


def find_prlimit() -> Path | None:
    """Find util-linux' prlimit among the system's own programs."""
    found = shutil.which("prlimit", path="/usr/bin:/bin")
    return Path(found) if found else None


def prlimit_flags(policy: Policy, *, count_processes: bool) -> list[str]:
    """The flags for a policy.

    `count_processes` only where the user id is the job's own: elsewhere the kernel
    would count every process of the user on this machine.
    """
    flags = [
        f"--as={_address_space(policy)}",
        f"--nofile={policy.open_files}",
        f"--fsize={policy.file_bytes}",
        "--core=0",
        "--memlock=65536",
        "--msgqueue=0",
    ]
    if policy.cpu_seconds is not None:
        flags.append(f"--cpu={math.ceil(policy.cpu_seconds) + CPU_GRACE_SECONDS}")
    if count_processes:
        flags.append(f"--nproc={policy.processes}")
    return flags


def _address_space(policy: Policy) -> int:
    """A whole number of GiB and a half.

    Bun 1.4.4 aborts at its start just above a whole number: with 1,152 to 1,248 MiB and
    2,176 to 2,272 MiB it does, with all other values from 384 MiB to 18 GiB it does
    not (measured in steps of 32 MiB).
    """
    whole = math.ceil(policy.memory_bytes * ADDRESS_SPACE_FACTOR / GIB)
    return whole * GIB + GIB // 2
