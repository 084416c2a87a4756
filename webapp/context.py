"""What a request needs of its process: the broker, and the live hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import current_app

from broker import Broker
from webapp.live import Live


@dataclass(frozen=True, slots=True)
class Context:
    """The handles of one web process."""

    broker: Broker
    live: Live


def context() -> Context:
    """Return the handles of this process."""
    return cast(Context, current_app.extensions["roost"])


def broker() -> Broker:
    """Return the broker of this process."""
    return context().broker
