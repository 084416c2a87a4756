"""`migrate`, `release` and `doctor`, with a real home."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

ROOST = str(Path(sys.executable).with_name("roost"))
LINE = re.compile(r"Roost: (http://\S+)/#token=(\S+)  \(token (\S+)\)\n")


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOST, *arguments],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_migrate_prints_what_was_applied_and_then_that_nothing_is_left(home):
    first = run("migrate")
    assert (first.returncode, first.stderr) == (0, "")
    assert "0001_initial" in first.stdout.splitlines()
    assert run("migrate").stdout == "The schema is current.\n"
    assert json.loads(run("migrate", "--json").stdout) == []


def test_release_prints_the_link_with_the_token_it_made(home):
    told = run("release", PORT="8123")
    assert (told.returncode, told.stderr) == (0, "")
    found = LINE.fullmatch(told.stdout)
    assert found is not None
    token = (home / "token").read_text().strip()
    assert found.groups() == ("http://127.0.0.1:8123", token, token)
    assert stat.S_IMODE((home / "token").stat().st_mode) == 0o600


def test_release_keeps_the_token_there_is(home):
    again = [run("release", "--json").stdout for _ in range(2)]
    told = [json.loads(line) for line in again]
    assert told[0]["token"] == told[1]["token"]
    assert (bool(told[0]["migrations"]), told[1]["migrations"]) == (True, [])


def test_a_setting_that_cannot_be_used_ends_migrate_with_a_sentence(home):
    told = run("migrate", ROOST_DATABASE_URL="mysql://nowhere")
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr.startswith("Error: ROOST_DATABASE_URL must begin with")


def ready(server, *checks, status=200):
    found = [{"name": n, "status": s, "detail": d, "fix": f} for n, s, d, f in checks]
    server.gives("GET /ready", {"status": "ok", "checks": found}, status)


def test_doctor_adds_what_the_server_says(server, home):
    ready(server, ("sandbox", "warn", "bare process", "Install bubblewrap."))
    told = json.loads(run("doctor", "--json", "--url", server.url).stdout)
    assert {
        "name": "sandbox",
        "status": "warn",
        "detail": "bare process",
        "fix": "Install bubblewrap.",
    } in told["checks"]
    assert len({check["name"] for check in told["checks"]}) == len(told["checks"])


def test_doctor_asks_whoever_knows_models(server, home):
    ready(server)
    arguments = ("doctor", "--json", "--url", server.url)
    for rest in ((), ("--online",)):
        told = json.loads(run(*arguments, *rest, ROOST_MODEL="demo").stdout)
        found = {check["name"]: check for check in told["checks"]}
        assert found["model"]["detail"].startswith("demo: ")
        assert found["sdks"]["status"] == "ok"
    bad = run(*arguments, ROOST_MODEL="acme/best")
    assert bad.returncode == 1
    assert "There is no model 'acme/best'" in bad.stdout


def test_doctor_ends_with_1_when_something_fails(server, home):
    ready(server, ("queue", "fail", "stuck", "Restart."), status=503)
    text, told = (
        run("doctor", "--url", server.url, *rest) for rest in ((), ["--json"])
    )
    assert (text.returncode, told.returncode) == (1, 1)
    assert "fail\tqueue\tstuck\tRestart." in text.stdout.splitlines()
    assert json.loads(told.stdout)["status"] == "fail"


def test_doctor_without_a_server_warns_and_says_how_to_start_one(home):
    result = run("doctor", "--json", "--url", "http://127.0.0.1:9")
    told = json.loads(result.stdout)
    server = next(check for check in told["checks"] if check["name"] == "server")
    assert server["status"] == "warn"
    assert "roost up" in server["fix"]
    assert result.returncode == int(told["status"] == "fail")
