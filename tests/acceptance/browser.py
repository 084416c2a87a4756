"""A real browser on one page: what it shows, and what it asked for."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PAGE_SECONDS: Final = 60
SCRIPT_BUDGET_MS: Final = 5_000  # of the page's own, virtual time


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The page after its scripts have run, and the URLs that it requested."""

    dom: str
    requested: list[str]


def find_browser() -> str | None:
    """Return Chromium's program, or None where there is none."""
    return shutil.which("chromium")


def open_page(program: str, url: str, directory: Path) -> Page:
    """Open a page in a fresh profile; no name but 127.0.0.1 resolves."""
    log = directory / "net.json"
    done = subprocess.run(
        [
            program,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--no-first-run",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"--user-data-dir={directory / 'profile'}",
            f"--log-net-log={log}",
            f"--virtual-time-budget={SCRIPT_BUDGET_MS}",
            "--dump-dom",
            url,
        ],
        capture_output=True,
        text=True,
        timeout=PAGE_SECONDS,
        check=True,
    )
    return Page(dom=done.stdout, requested=_requests_of_pages(log))


def _requests_of_pages(log: Path) -> list[str]:
    """Return what pages asked for; the browser asks its maker on its own account."""
    found = json.loads(log.read_text())
    start = found["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    params: list[dict[str, Any]] = [
        event.get("params", {}) for event in found["events"] if event["type"] == start
    ]
    return [
        each["url"]
        for each in params
        if each.get("initiator", "not an origin") != "not an origin"
    ]
