"""A real small model end to end, where one is there: the only test that meets one.

It asks for OLLAMA_HOST (or the usual place) with ROOST_TEST_MODEL or the first model
that is pulled, or for any OpenAI-compatible OPENAI_BASE_URL with ROOST_TEST_MODEL.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.acceptance.conftest import NewAgent
from tests.acceptance.system import System

ANSWER_SECONDS = 300


def _ollama() -> dict[str, str] | None:
    host = os.environ.get("OLLAMA_HOST") or "127.0.0.1:11434"
    url = host if "://" in host else f"http://{host}"
    try:
        found = requests.get(f"{url}/api/tags", timeout=0.5).json()["models"]
    except (requests.RequestException, ValueError, LookupError):
        return None
    name = os.environ.get("ROOST_TEST_MODEL") or (found and found[0]["name"])
    return {"OLLAMA_HOST": url, "ROOST_MODEL": f"ollama/{name}"} if name else None


def _compatible() -> dict[str, str] | None:
    url = os.environ.get("OPENAI_BASE_URL")
    name = os.environ.get("ROOST_TEST_MODEL")
    key = os.environ.get("OPENAI_API_KEY") or "none"
    if not url or not name:
        return None
    try:
        headers = {"Authorization": f"Bearer {key}"}
        found = requests.get(f"{url}/models", headers=headers, timeout=5)
    except requests.RequestException:
        return None
    variables = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": key}
    return {**variables, "ROOST_MODEL": f"openai-chat/{name}"} if found.ok else None


@pytest.fixture
def real(tmp_path: Path) -> Iterator[System]:
    """A Roost on the real model."""
    variables = _ollama() or _compatible()
    if variables is None:
        pytest.skip("neither Ollama nor an OpenAI-compatible server answers here")
    system = System(tmp_path / "home")
    system.home.mkdir()
    lines = [f"{name}={value}\n" for name, value in variables.items()]
    (system.home / ".env").write_text("".join(lines))
    system.model = variables["ROOST_MODEL"]
    try:
        system.start()
        yield system
    finally:
        system.clean_up()


@pytest.mark.outside
def test_a_real_model_answers_and_its_tokens_are_counted(
    real: System, new_agent: NewAgent
) -> None:
    agent = new_agent(real.api, system="Answer in one short sentence. Use no tools.")
    turn_id = agent.send("Which colour is the sky on a clear day?")["turn_id"]
    turn = real.api.finished(turn_id, ANSWER_SECONDS)
    assert turn["status"] == "completed", turn["error"]
    assert turn["result"]["text"].strip()
    assert turn["usage"]["output_tokens"] > 0
