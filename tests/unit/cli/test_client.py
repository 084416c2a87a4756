"""Where the server is looked for, and what is said when something is wrong."""

from __future__ import annotations

import pytest

AGENTS = "GET /api/v1/agents"
EMPTY = {"items": [], "next_cursor": None}


def test_the_detail_and_the_field_errors_of_a_problem_are_printed(server, roost):
    errors = [{"field": "txt", "message": "unknown; did you mean text?"}]
    server.refuses(AGENTS, 422, "The request has bad fields.", errors=errors)
    result = roost("agents")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "Error: The request has bad fields.\n  txt: unknown; did you mean text?\n"
    )


def test_field_errors_that_the_detail_has_told_are_not_told_again(server, roost):
    errors = [{"field": "after", "message": "not a number"}]
    server.refuses(AGENTS, 400, "after: not a number", errors=errors)
    assert roost("agents").stderr == "Error: after: not a number\n"


def test_nobody_at_the_url_is_told_with_what_to_do(home, roost):
    result = roost("agents", "--url", "http://127.0.0.1:9")
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: Nothing answers at http://127.0.0.1:9. Start Roost with `roost up` "
        "(or `make start`).\n"
    )


def test_a_refused_token_is_told_with_where_it_was_looked_for(server, roost, home):
    server.refuses(AGENTS, 401, "A bearer token is needed.")
    result = roost("agents")
    assert result.exit_code == 1
    for place in ("--token", "ROOST_TOKEN", str(home / "token"), "was refused"):
        assert place in result.stderr


def test_a_missing_token_is_told_as_missing(server, roost, home, monkeypatch):
    monkeypatch.delenv("ROOST_TOKEN")
    server.refuses(AGENTS, 401, "A bearer token is needed.")
    assert "None was found." in roost("agents").stderr
    assert "authorization" not in server.asked[0].headers


@pytest.mark.parametrize("status", [200, 502])
def test_another_program_at_the_url_is_told(server, roost, answer, status):
    server.answers(AGENTS, answer(status=status, body=b"<h1>nginx</h1>"))
    result = roost("agents")
    assert result.exit_code == 1
    assert server.url in result.stderr
    assert "Traceback" not in result.output


def test_the_token_is_read_from_the_home(server, roost, home, monkeypatch):
    monkeypatch.delenv("ROOST_TOKEN")
    home.mkdir()
    (home / "token").write_text("from-the-file\n")
    server.gives(AGENTS, EMPTY)
    assert roost("agents").exit_code == 0
    assert server.asked[0].headers["authorization"] == "Bearer from-the-file"


def test_what_the_options_say_wins(server, roost, monkeypatch):
    monkeypatch.setenv("ROOST_URL", "http://127.0.0.1:9")
    server.gives(AGENTS, EMPTY)
    for arguments in (
        ("--url", server.url, "--token", "mine", "agents"),
        ("agents", "--url", f"{server.url}/", "--token", "mine"),
    ):
        assert roost(*arguments).exit_code == 0
        assert server.asked[-1].headers["authorization"] == "Bearer mine"


def test_host_and_port_make_the_url_when_nothing_else_does(server, roost, monkeypatch):
    monkeypatch.delenv("ROOST_URL")
    monkeypatch.setenv("PORT", server.url.rpartition(":")[2])
    monkeypatch.setenv("ROOST_HOST", "0.0.0.0")
    server.gives(AGENTS, EMPTY)
    assert roost("agents").exit_code == 0


def test_a_netrc_and_a_proxy_do_not_come_between(server, roost, home, monkeypatch):
    home.mkdir()
    (home / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(home / "netrc"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    server.gives(AGENTS, EMPTY)
    assert roost("agents").exit_code == 0
    assert server.asked[0].headers["authorization"] == "Bearer secret"


def test_a_url_without_a_scheme_is_a_usage_error(roost):
    result = roost("agents", "--url", "localhost:8080")
    assert result.exit_code == 2
    assert "http://" in result.stderr


def test_a_setting_that_cannot_be_used_is_told_by_name(roost, monkeypatch):
    monkeypatch.setenv("PORT", "eighty")
    result = roost("agents")
    assert result.exit_code == 1
    assert "PORT is 'eighty'" in result.stderr
