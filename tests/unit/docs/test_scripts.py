"""The page about scripted models shows scripts that work, and names every field."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from agents.models.scripted import FIELDS, ScriptedModel

ROOT: Final = Path(__file__).resolve().parents[3]
PAGE: Final = (ROOT / "docs" / "how-to" / "scripted-model-tests.md").read_text()
SCRIPTS: Final = re.findall(r"^<!-- script -->\n```json\n(.*?)^```$", PAGE, re.M | re.S)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_on_the_page_is_taken(script: str, tmp_path: Path) -> None:
    path = tmp_path / "script.json"
    path.write_text(script)
    assert ScriptedModel.from_file(path).unconsumed(answers=99) == []


def test_what_is_left_of_the_first_script_is_as_the_page_says() -> None:
    responses: list[dict[str, Any]] = json.loads(SCRIPTS[0])
    model = ScriptedModel(responses)
    assert model.unconsumed(answers=2) == responses[2:]
    assert model.unconsumed(answers=3) == []


def test_every_field_has_a_line() -> None:
    said = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.M))
    assert said == FIELDS
