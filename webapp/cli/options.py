"""The options every command takes: --url, --token, --json; before or after its name.

The values are kept on the outermost context, so that `roost --json agents` and
`roost agents --json` are the same; the one said last wins.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker.settings import Settings
    from webapp.cli.client import Client

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class Options:
    """What the common options said."""

    url: str | None = None
    token: str | None = None
    as_json: bool = False


def common_options(function: F) -> F:
    """Add --url, --token and --json to a command that talks to the server."""
    for add in (_URL, _TOKEN, json_option):
        function = add(function)
    return function


def current() -> Options:
    """Return the common options of the command that is running."""
    return click.get_current_context().find_root().ensure_object(Options)


def connect() -> Client:
    """Return a client of the server that the options and settings name."""
    from webapp.cli.client import Client, find_target

    options = current()
    target = find_target(local_settings(), url=options.url, token=options.token)
    return click.get_current_context().with_resource(Client(target))


def local_settings() -> Settings:
    """Read this machine's settings; a bad one ends the command with its sentence."""
    from broker import settings

    with broker_refusals():
        return settings.load()


@contextmanager
def broker_refusals() -> Iterator[None]:
    """Turn what the broker refuses into a sentence on stderr and exit 1."""
    from broker.errors import BrokerError

    try:
        yield
    except BrokerError as exc:
        raise click.ClickException(exc.detail) from exc


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value and param.name:
        setattr(ctx.find_root().ensure_object(Options), param.name, value)


def _check_url(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value and not value.startswith(("http://", "https://")):
        raise click.BadParameter(f"{value!r} must begin with http:// or https://.")
    _remember(ctx, param, value)


_URL = click.option(
    "--url",
    metavar="URL",
    expose_value=False,
    callback=_check_url,
    help="The server; else ROOST_URL, else this machine's.",
)
_TOKEN = click.option(
    "--token",
    metavar="TOKEN",
    expose_value=False,
    callback=_remember,
    help="The bearer token; else ROOST_TOKEN, else ROOST_HOME/token.",
)
json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    expose_value=False,
    callback=_remember,
    help="Print JSON.",
)


class Id(click.ParamType[str]):
    """An agent's or task's id: anything that can stand as one part of a path."""

    name = "id"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Refuse what would name another route."""
        if value in ("", ".", ".."):
            self.fail(f"{value!r} is not an id; `roost agents` lists them.", param, ctx)
        return str(value)


ID = Id()
