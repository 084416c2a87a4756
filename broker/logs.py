"""Logging: sentences for people on a terminal, JSON lines elsewhere.

Tracebacks are plain on purpose: a pretty one prints local variables, and those hold
prompts and tokens.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog


def set_up_logging() -> None:
    """Configure structlog; every process of ours calls this first."""
    renderer: Any = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=logging.WARNING)
