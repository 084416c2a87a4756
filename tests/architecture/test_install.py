"""What `make install` installs: a small base, and the SDKs that settings ask for."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
SETS: Final = ("base", "models", "dev")
SDKS: Final = {"anthropic", "openai", "google-genai", "genai-prices"}


def pins(name: str) -> dict[str, str]:
    """The packages of a lock file, with their versions."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^\s;]+)", text, re.M))


def extra(name: str) -> set[str]:
    """The packages that an extra of setup.cfg asks for."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options.extras_require"][name].split()
    return {re.split(r"[\[<>=]", line)[0] for line in lines}


def wanted(cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """What the settings of a directory ask `make install` for."""
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "sdks.py"],
        cwd=cwd,
        env={"HOME": str(cwd), "PATH": "/usr/bin:/bin", **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_larger_set_has_all_of_a_smaller_one_at_the_same_versions() -> None:
    base, models, dev = map(pins, SETS)
    assert len(base) > 20
    assert base.items() <= models.items() <= dev.items()


def test_the_base_has_no_sdk_and_the_models_have_all_of_them() -> None:
    assert pins("base").keys() & SDKS == set()
    assert extra("models") == SDKS == pins("models").keys() & SDKS
    for provider in ("anthropic", "openai", "google"):
        assert extra(provider) <= extra("models")


@pytest.mark.parametrize("name", SETS)
def test_a_lock_file_names_hashes_and_no_host(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert text.count("--hash=sha256:") >= len(pins(name))
    assert re.findall(r"\S*://\S*|--(?:index|extra-index|find|trusted)\S*", text) == []


def test_without_a_key_nothing_is_added(tmp_path: Path) -> None:
    assert (wanted(tmp_path).stdout, wanted(tmp_path).returncode) == ("", 0)
    assert wanted(tmp_path, ROOST_MODEL="demo", OPENAI_API_KEY="").stdout == ""


@pytest.mark.line("P11")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ANTHROPIC_API_KEY", "a-key"),
        ("OPENAI_API_KEY", "a-key"),
        ("GEMINI_API_KEY", "a-key"),
        ("OPENROUTER_API_KEY", "a-key"),
        ("OLLAMA_HOST", "127.0.0.1"),
        ("ROOST_MODEL", "ollama/qwen3"),
    ],
)
@pytest.mark.parametrize("place", ["environment", ".env", "home/.env"])
def test_a_provider_that_is_set_anywhere_has_its_sdk_installed(
    place: str, name: str, value: str, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environ = {"ROOST_HOME": str(home)}
    if place == "environment":
        environ[name] = value
    else:
        (tmp_path / place).write_text(f"{name}={value}\n")
    assert wanted(tmp_path, **environ).stdout == "models\n"


def test_a_setting_that_cannot_be_used_stops_the_install_with_a_sentence(
    tmp_path: Path,
) -> None:
    told = wanted(tmp_path, PORT="many")
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr.startswith("roost: PORT is 'many'")
