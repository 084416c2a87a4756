"""`roost doctor`: what is well, what is not, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from webapp.cli.options import (
    broker_refusals,
    common_options,
    connect,
    current,
    local_settings,
)
from webapp.cli.output import emit_json, emit_table

if TYPE_CHECKING:
    from webapp.cli.client import Client

SEVERITY: Final = ("ok", "warn", "fail")
# The entry points of packages that have more to look at: `(settings, online=…)` yields
# `broker.doctor.Check`.
CHECKS: Final = "roost.checks"
Check = dict[str, Any]


@click.command(epilog="Example: roost doctor --online")
@click.option(
    "--online",
    is_flag=True,
    help="Ask the providers about keys and models; nothing is generated.",
)
@common_options
def doctor(online: bool) -> None:
    """Check this machine and the server; exit 1 when something fails."""
    local = [*_local_checks(), *_installed_checks(online=online)]
    checks = _worst_of_each([*local, *_server_checks(connect())])
    worst = max((check["status"] for check in checks), key=_severity, default="ok")
    if current().as_json:
        emit_json({"status": worst, "checks": checks})
    else:
        columns = ("status", "name", "detail", "fix")
        rows = [[check.get(column) for column in columns] for check in checks]
        emit_table(columns, rows, empty="Nothing was checked.")
    if worst == "fail":
        raise click.exceptions.Exit(1)


def _local_checks() -> list[Check]:
    from broker.doctor import checks

    with broker_refusals():
        return [
            _check(found.name, found.status, found.detail, found.fix)
            for found in checks(local_settings())
        ]


def _installed_checks(*, online: bool) -> Iterator[Check]:
    """Ask what other packages have to say: models, for one, are not known here."""
    from importlib.metadata import entry_points

    settings = local_settings()
    for point in sorted(entry_points(group=CHECKS), key=lambda point: point.name):
        for found in point.load()(settings, online=online):
            yield _check(found.name, found.status, found.detail, found.fix)


def _server_checks(client: Client) -> list[Check]:
    url = client.target.url
    ready = client.peek("/ready")
    if not isinstance(ready, dict) or "checks" not in ready:
        said = "does not answer" if ready is None else "answers, but not as Roost does"
        fix = "Start Roost with `roost up`, or name its URL with --url."
        return [_check("server", "warn", f"{url} {said}.", fix)]
    return [_check("server", "ok", f"{url} answers.", None), *ready["checks"]]


def _check(name: str, status: str, detail: str, fix: str | None) -> Check:
    return {"name": name, "status": status, "detail": detail, "fix": fix}


def _worst_of_each(checks: Iterable[Check]) -> list[Check]:
    """Keep one check of each name: here and on the server the same is looked at."""
    found: dict[str, Check] = {}
    for check in checks:
        known = found.setdefault(check["name"], check)
        if _severity(check["status"]) > _severity(known["status"]):
            found[check["name"]] = check
    return list(found.values())


def _severity(status: str) -> int:
    return SEVERITY.index(status) if status in SEVERITY else len(SEVERITY)
