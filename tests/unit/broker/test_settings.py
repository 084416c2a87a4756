"""What the environment says, and what it may not say."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from broker.errors import SettingsError
from broker.settings import Settings, ensure_token, load

Load = Callable[..., Settings]


@pytest.fixture
def settings(tmp_path: Path) -> Load:
    """Load settings in an empty directory with a home of its own."""

    def load_here(**environ: str) -> Settings:
        given = {"ROOST_HOME": str(tmp_path / "home"), **environ}
        return load(given, cwd=tmp_path)

    return load_here


@pytest.mark.line("P11")
def test_an_empty_environment_has_working_defaults(tmp_path: Path) -> None:
    found = load({"HOME": str(tmp_path)}, cwd=tmp_path)
    home = tmp_path / ".local/share/roost"
    assert (found.home, found.host, found.port, found.token, found.model) == (
        home,
        "127.0.0.1",
        8080,
        None,
        None,
    )
    assert (found.durability, found.sandbox, found.on_sqlite) == ("power", "auto", True)
    assert (found.database_path, found.queue_path, found.run_directory) == (
        home / "roost.db",
        home / "queue.db",
        home / "run",
    )


def test_the_home_follows_xdg_and_may_be_named(tmp_path: Path) -> None:
    xdg = load({"HOME": "/nowhere", "XDG_DATA_HOME": str(tmp_path)}, cwd=tmp_path)
    named = load({"HOME": str(tmp_path), "ROOST_HOME": "relative"}, cwd=tmp_path)
    assert xdg.home == tmp_path / "roost"
    assert named.home == Path.cwd() / "relative"


@pytest.mark.line("P11")
def test_the_process_wins_over_the_directory_which_wins_over_the_home(
    tmp_path: Path, settings: Load
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".env").write_text("ROOST_MODEL=home\nROOST_HOST=home\nPORT=1\n")
    (tmp_path / ".env").write_text("ROOST_HOST=directory\nPORT=2\n")
    found = settings(PORT="3")
    assert (found.model, found.host, found.port) == ("home", "directory", 3)


def test_a_dotenv_may_name_the_home(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"ROOST_HOME={tmp_path / 'there'}\n")
    assert load({}, cwd=tmp_path).home == tmp_path / "there"


@pytest.mark.line("P11")
@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "80.5", "1e3", "²"])
def test_a_port_that_is_none_is_refused(settings: Load, port: str) -> None:
    with pytest.raises(SettingsError, match="PORT is"):
        settings(PORT=port)


@pytest.mark.line("P11")
@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("ROOST_DURABILITY", "maybe", "one of power, process"),
        ("ROOST_SANDBOX", "on", "one of auto, required, off"),
        ("ROOST_DATABASE_URL", "mysql://x", "must begin with one of"),
        ("ROOST_DATABASE_URL", "redis://x", "must begin with one of"),
        ("ROOST_QUEUE_URL", "amqp://x", "must begin with one of"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_name(
    settings: Load, name: str, value: str, says: str
) -> None:
    with pytest.raises(SettingsError, match=f"{name}.*{says}"):
        settings(**{name: value})


def test_an_empty_value_is_the_default(settings: Load) -> None:
    found = settings(PORT="", ROOST_MODEL="", ROOST_DURABILITY="", ROOST_TOKEN="")
    assert (found.port, found.model, found.durability, found.token) == (
        8080,
        None,
        "power",
        None,
    )


def test_other_stores_are_named_by_url(settings: Load) -> None:
    found = settings(
        ROOST_DATABASE_URL="postgresql:///roost", ROOST_QUEUE_URL="redis://localhost"
    )
    assert not found.on_sqlite


def test_a_token_is_made_once_and_kept_private(settings: Load) -> None:
    token = ensure_token(settings())
    path = settings().home / "token"
    assert (settings().token, ensure_token(settings())) == (token, token)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(token) >= 40


def test_a_token_of_the_environment_is_taken_and_not_written(settings: Load) -> None:
    assert ensure_token(settings(ROOST_TOKEN="mine")) == "mine"
    assert not (settings().home / "token").exists()


def test_many_who_need_a_token_at_once_get_the_same(settings: Load) -> None:
    found = settings()
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(lambda _: ensure_token(found), range(8)))
    assert tokens == {settings().token}


def test_below_honcho_the_port_is_the_one_a_person_gave() -> None:
    # honcho makes up a PORT for each process and starts it below a helper of its own.
    show = "from broker.settings import load; print(load().port)"
    below = (
        "import os, subprocess, sys\n"
        "made_up = {**os.environ, 'PORT': '5000', 'HONCHO_PROCESS_NAME': 'web.1'}\n"
        f"line = sys.executable + ' -c \"{show}\"; true'\n"
        "subprocess.run(['/bin/sh', '-c', line], env=made_up, check=True)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", below],
        env={"PORT": "9123", "HOME": "/nowhere", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    assert ran.stdout == "9123\n"


def test_the_sqlite_files_are_those_in_use(tmp_path) -> None:
    home = {"ROOST_HOME": str(tmp_path)}
    names = [path.name for path in load(home, cwd=tmp_path).sqlite_files]
    assert names == ["roost.db", "queue.db"]
    elsewhere = {"ROOST_DATABASE_URL": "postgresql:///x", "ROOST_QUEUE_URL": "redis://"}
    assert load({**home, **elsewhere}, cwd=tmp_path).sqlite_files == ()


def test_prices_are_read_as_they_are(settings: Load) -> None:
    text = '{"openai/x": {"input": 2, "output": 10.5}, "ollama/*": ' + (
        '{"input": 0, "output": 0, "cache_read": 0, "cache_write": 0}}'
    )
    found = settings(ROOST_PRICES=text).prices
    assert found["openai/x"] == {"input": 2, "output": 10.5}
    assert (set(found), settings().prices) == ({"openai/x", "ollama/*"}, {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cheap", "is not JSON"),
        ("[1]", "is no JSON object"),
        ('{"a/b": 3}', "gives 'a/b' the price 3"),
        ('{"a/b": {"input": 1}}', "gives 'a/b' the price"),
        ('{"a/b": {"input": 1, "output": -1}}', "gives 'a/b' the price"),
        ('{"a/b": {"input": 1, "output": true}}', "gives 'a/b' the price"),
        ('{"a/b": {"input": NaN, "output": 1}}', "gives 'a/b' the price"),
        ('{"a/b": {"input": 1, "output": 1, "out": 1}}', "gives 'a/b' the price"),
    ],
)
def test_a_price_that_cannot_be_used_is_refused_with_an_example(
    settings: Load, text: str, said: str
) -> None:
    with pytest.raises(SettingsError, match="It must be like") as refused:
        settings(ROOST_PRICES=text)
    assert said in refused.value.detail
