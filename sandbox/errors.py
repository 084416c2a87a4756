"""The errors of this package: one root, a message that says what to do.

What a *job* does wrong is never an exception: it is the `Failure` of an `Outcome`.
"""


class SandboxError(Exception):
    """Anything this package refuses."""


class PolicyError(SandboxError):
    """A policy field has a value that is not allowed."""

    def __init__(self, field: str, *, asked: object, allowed: object) -> None:
        self.field = field
        self.asked = asked
        self.allowed = allowed
        super().__init__(f"policy.{field}: asked for {asked!r}, allowed is {allowed}")


class SandboxUnavailable(SandboxError):
    """No sandbox of the wanted level works on this machine."""


class BinaryNotFound(SandboxUnavailable):
    """A program that the sandbox needs is not on this machine."""


class ScriptError(SandboxError):
    """A scripted sandbox was asked for a job its script does not have."""
