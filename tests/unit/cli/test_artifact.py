"""`roost artifact`: to standard output, to a file, as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

PATH = "/api/v1/artifacts/turn-7/3"
PNG = b"\x89PNG\r\n\x1a\n\0\xff"


@pytest.fixture
def kept(server, answer) -> Any:
    """Make the server keep something at the handle."""

    def keep(content: bytes, media_type: str) -> None:
        headers = {"Content-Type": media_type}
        server.answers(f"GET {PATH}", answer(body=content, headers=headers))

    return keep


def test_an_artifact_is_printed_byte_for_byte(roost, server, kept) -> None:
    kept(PNG, "image/png")
    done = roost("artifact", "turn-7/3")
    assert (done.exit_code, done.stdout_bytes) == (0, PNG)
    assert [asked.path for asked in server.asked] == [PATH]


def test_an_artifact_is_written_to_a_file(roost, kept, tmp_path: Path) -> None:
    kept(PNG, "image/png")
    for option in ("-o", "--output"):
        done = roost("artifact", "turn-7/3", option, str(tmp_path / "a.png"))
        assert (done.exit_code, (tmp_path / "a.png").read_bytes()) == (0, PNG)
        assert "10 bytes of image/png in" in done.stdout


def test_a_file_that_cannot_be_written_is_a_sentence(roost, kept, tmp_path) -> None:
    kept(PNG, "image/png")
    done = roost("artifact", "turn-7/3", "-o", str(tmp_path / "none" / "a.png"))
    assert done.exit_code == 1
    assert "cannot be written" in done.stderr


def test_json_says_what_it_is(roost, kept, tmp_path: Path) -> None:
    kept("hé".encode(), "text/plain; charset=utf-8")
    assert json.loads(roost("artifact", "turn-7/3", "--json").stdout) == {
        "handle": "turn-7/3",
        "media_type": "text/plain",
        "size_bytes": 3,
        "file": None,
        "text": "hé",
    }
    kept(PNG, "image/png")
    assert json.loads(roost("artifact", "turn-7/3", "--json").stdout)["text"] is None


@pytest.mark.parametrize("handle", ["turn-7", "turn-7/", "/3", "a/b/c"])
def test_what_is_no_handle_is_refused(roost, server, handle) -> None:
    done = roost("artifact", handle)
    assert (done.exit_code, server.asked) == (2, [])
    assert "one looks like turn-7/3" in done.stderr


def test_an_unknown_handle_is_refused_as_the_server_says_it(roost, server) -> None:
    server.refuses(f"GET {PATH}", 404, "There is no artifact 'turn-7/3'.")
    done = roost("artifact", "turn-7/3")
    assert done.exit_code == 1
    assert "There is no artifact 'turn-7/3'." in done.stderr
