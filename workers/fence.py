"""What becomes of a write that was refused because the lease is gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from agents.control import Abandoned
from broker.errors import LeaseLost


@contextmanager
def fenced() -> Iterator[None]:
    """Turn a refused write into the end of the turn, which no tool may swallow."""
    try:
        yield
    except LeaseLost as error:
        raise Abandoned from error
