"""The command group: which commands there are, where they live; loaded when named."""

from __future__ import annotations

import io
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import click

from webapp.cli.options import Options, common_options

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

# Section of the help page -> command -> module that has a command of that name.
SECTIONS: Final[dict[str, dict[str, str]]] = {
    "Run Roost": {
        "up": "webapp.cli.up",
        "doctor": "webapp.cli.doctor",
        "migrate": "webapp.cli.operate",
        "release": "webapp.cli.operate",
        "version": "webapp.cli.operate",
    },
    "Keep the data": {
        "backup": "webapp.cli.keep",
        "restore": "webapp.cli.keep",
        "gc": "webapp.cli.keep",
        "sql": "webapp.cli.keep",
    },
    "Talk to agents": {
        "ask": "webapp.cli.talk",
        "send": "webapp.cli.talk",
        "chat": "webapp.cli.talk",
        "tail": "webapp.cli.tail",
    },
    "See what there is": {
        "agents": "webapp.cli.look",
        "tasks": "webapp.cli.look",
        "show": "webapp.cli.look",
        "why": "webapp.cli.reasons",
        "artifact": "webapp.cli.artifact",
    },
    "Work with histories": {
        "fork": "webapp.cli.histories",
        "label": "webapp.cli.histories",
        "export": "webapp.cli.histories",
        "record": "webapp.cli.histories",
        "search": "webapp.cli.histories",
    },
    "Change what waits": {
        "inbox": "webapp.cli.inbox",
        "edit": "webapp.cli.inbox",
        "withdraw": "webapp.cli.inbox",
    },
    "Bound what agents use": {
        "budget": "webapp.cli.budget",
    },
    "Steer a task": {
        "cancel": "webapp.cli.steer",
        "kill": "webapp.cli.steer",
        "retry": "webapp.cli.steer",
        "drop": "webapp.cli.steer",
    },
}
MODULES: Final = {name: at for names in SECTIONS.values() for name, at in names.items()}
PLUGINS: Final = "roost.commands"
INTERRUPTED: Final = 130  # 128 + SIGINT, as shells count


class LazyGroup(click.Group):
    """A group whose commands are imported when they are named."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return every command's name, those of other packages last."""
        return [*MODULES, *sorted(_plugins())]

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command; None when nobody has that name."""
        if cmd_name in MODULES:
            return _command(import_module(MODULES[cmd_name]), cmd_name)
        plugin = _plugins().get(cmd_name)
        return plugin.load() if plugin else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or refuse with the nearest names there are."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as exc:
            names = self.list_commands(ctx)
            raise click.NoSuchCommand(args[0], possibilities=names, ctx=ctx) from exc

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """List the commands by section; those of other packages are not loaded."""
        for section, names in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name, self._help(ctx, name)) for name in names])
        if plugins := _plugins():
            rows = [(name, f"From {at.module}.") for name, at in plugins.items()]
            with formatter.section("From other packages"):
                formatter.write_dl(sorted(rows))

    def _help(self, ctx: click.Context, name: str) -> str:
        command = self.get_command(ctx, name)
        return command.get_short_help_str(limit=200) if command else ""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; Ctrl-C ends it with 130 and without a word."""
        _never_fail_to_encode()
        if os.environ.get("NO_COLOR"):
            ctx.color = False
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


def _plugins() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    found = entry_points(group=PLUGINS)
    return {point.name: point for point in found if point.name not in MODULES}


def _command(module: object, name: str) -> click.Command:
    command = getattr(module, name)
    assert isinstance(command, click.Command)
    return command


def _never_fail_to_encode() -> None:
    """Escape what the terminal's encoding lacks: half an answer beats a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        from importlib.metadata import version

        click.echo(f"roost {version('roost')}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: roost ask scout 'What can you do?'",
)
@common_options
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Print the version and end.",
)
@click.pass_context
def roost(ctx: click.Context) -> None:
    """Roost runs durable agents: talk to them, watch them, steer their tasks."""
    ctx.ensure_object(Options)
