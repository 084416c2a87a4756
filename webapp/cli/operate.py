"""What an operator runs beside the server: `migrate`, `release` and `version`."""

from __future__ import annotations

import signal
from contextlib import closing
from typing import TYPE_CHECKING, Final

import click

from webapp.cli.options import (
    broker_refusals,
    common_options,
    current,
    json_option,
    local_settings,
)
from webapp.cli.output import emit_json

if TYPE_CHECKING:
    from broker.settings import Settings

# Honcho names its processes so; it ends them all as soon as one has ended.
PROCESS_NAME: Final = "HONCHO_PROCESS_NAME"
STOPS: Final = (signal.SIGTERM, signal.SIGINT)


@click.command(epilog="Example: roost migrate")
@json_option
def migrate() -> None:
    """Bring the database's schema up to date."""
    applied = _migrate(local_settings())
    if current().as_json:
        emit_json(applied)
    elif applied:
        click.echo("\n".join(applied))
    else:
        click.echo("The schema is current.")


@click.command(epilog="Example: roost release")
@json_option
def release() -> None:
    """Prepare a first or new start: schema, token, agent scout; print the link."""
    settings = local_settings()
    # From here on a stop waits until the work is done.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    applied = _migrate(settings)
    token = _prepare(settings)
    _tell(settings, applied, token)
    if PROCESS_NAME in settings.environ:
        _wait_beside_the_others(settings)


@click.command(epilog="Example: roost version")
@common_options
def version() -> None:
    """Print the version of this command."""
    from importlib.metadata import version as version_of

    if current().as_json:
        emit_json({"version": version_of("roost")})
    else:
        click.echo(f"roost {version_of('roost')}")


def _migrate(settings: Settings) -> list[str]:
    from broker.migrate import migrate
    from broker.opening import open_broker

    with (
        broker_refusals(),
        closing(open_broker(settings, migrated=False)) as broker,
    ):
        return migrate(broker.database, settings.home / "backups")


def _prepare(settings: Settings) -> str:
    from broker.first_start import prepare
    from broker.settings import ensure_token

    with broker_refusals():
        token = ensure_token(settings)
        prepare(settings)
    return token


def _wait_beside_the_others(settings: Settings) -> None:
    from broker.lifeline import end_with_parent

    end_with_parent(settings.environ)
    signal.sigwait(STOPS)


def _tell(settings: Settings, applied: list[str], token: str) -> None:
    from webapp.cli.client import local_url

    url = settings.environ.get("ROOST_URL") or local_url(settings)
    link = f"{url}/#token={token}"
    if current().as_json:
        emit_json({"url": link, "token": token, "migrations": applied}, one_line=True)
    else:
        click.echo(f"Roost: {link}  (token {token})")
