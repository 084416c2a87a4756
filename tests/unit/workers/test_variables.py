"""What models are reached with, read as it is now."""

from __future__ import annotations

import pytest

from broker.settings import load
from workers.variables import Variables


@pytest.mark.line("P36")
def test_a_key_that_changes_in_dotenv_counts_from_the_next_call_on(tmp_path) -> None:
    home, cwd = tmp_path / "home", tmp_path / "cwd"
    home.mkdir()
    cwd.mkdir()
    (home / ".env").write_text("KEY=old\nOTHER=home\n")
    variables = Variables(load({"ROOST_HOME": str(home)}, cwd), cwd)
    assert (variables.find("KEY"), variables.find("OTHER")) == ("old", "home")
    (home / ".env").write_text("KEY=newer\n")
    assert (variables.find("KEY"), variables.find("OTHER")) == ("newer", None)
    (cwd / ".env").write_text("KEY=nearer\n")
    assert variables.find("KEY") == "nearer"
    (cwd / ".env").unlink()
    assert variables.find("KEY") == "newer"


@pytest.mark.line("P11")
def test_the_process_s_own_variable_wins_and_an_empty_one_is_not_set(tmp_path) -> None:
    (tmp_path / ".env").write_text("KEY=file\nEMPTY=file\n")
    given = {"ROOST_HOME": str(tmp_path), "KEY": "process", "EMPTY": ""}
    variables = Variables(load(given, tmp_path), tmp_path)
    assert (variables.find("KEY"), variables.find("EMPTY")) == ("process", None)
