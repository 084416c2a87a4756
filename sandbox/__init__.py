"""The cage: runs TypeScript under a policy, and leaves nothing behind.

`choose` returns the best sandbox this machine gives; its `run` takes a `Job` and a
`Policy` and returns an `Outcome`. This package imports no other package of Roost and
reads no environment variable.
"""

from sandbox.binaries import find_bubblewrap, find_bun
from sandbox.choice import Mode, choose
from sandbox.control import Control
from sandbox.errors import (
    BinaryNotFound,
    PolicyError,
    SandboxError,
    SandboxUnavailable,
    ScriptError,
)
from sandbox.job import Job, Sandbox
from sandbox.outcome import JSON, Failure, FailureType, Limit, Outcome, Output
from sandbox.policy import Policy
from sandbox.processes import sweep
from sandbox.template import ensure_home

__all__ = [
    "JSON",
    "BinaryNotFound",
    "Control",
    "Failure",
    "FailureType",
    "Job",
    "Limit",
    "Mode",
    "Outcome",
    "Output",
    "Policy",
    "PolicyError",
    "Sandbox",
    "SandboxError",
    "SandboxUnavailable",
    "ScriptError",
    "choose",
    "ensure_home",
    "find_bubblewrap",
    "find_bun",
    "sweep",
]
