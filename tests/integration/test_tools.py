"""The tools of every agent, in whole turns on a real database; the code runs in Bun."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import pytest
from pydantic import Field

from agents.messages import ToolMessage, ToolResult
from agents.tools import ToolContext, tool
from agents.tools.builtin import RESULT_CHARACTERS
from agents.transcript import to_messages
from broker import agents, artifacts, entries, results, steps, tasks, updates
from broker.agents import AgentChange
from sandbox import Outcome
from webapp.app import create_app

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"tool_calls": [{"name": name, "arguments": arguments}]}


def run(code: str, **more: Any) -> dict[str, Any]:
    return call("exec", code=code, **{"wait_seconds": 30, **more})


@tool(effect="pure")
def recite(
    context: ToolContext,
    text: Annotated[str, Field(description="What.")],
    times: Annotated[int, Field(description="How often.")],
) -> ToolResult:
    """Say a text over and over."""
    return ToolResult(text=text * times)


@pytest.fixture
def take(house, workshop, scripted) -> Callable[..., str]:
    """Have a turn taken whose model makes these calls; return its id."""

    def turn(*calls: dict[str, Any], runner: Any = None, to: str = "scout") -> str:
        id = house.post("go", to=to).turn_id
        model = scripted(*calls, {"text": "done"})
        taker = workshop.taker(lambda _: Fresh(model), tools=[recite])
        while house.hints:
            hinted = house.hints.pop(0)
            if hinted == id:
                taker.take(id)
            elif runner and house.task(hinted)["type"] == "exec":
                runner.run(hinted)
        assert house.status(id) == "completed", tasks.shape(house.task(id))["error"]
        return str(id)

    return turn


class Fresh:
    """A script that counts the answers of the newest turn alone."""

    name = "scripted"
    context_tokens = 200_000

    def __init__(self, model: Any) -> None:
        self._model = model

    def stream(self, request: Any, emit: Any, interrupt: Any) -> Any:
        messages = list(request.messages)
        starts = [i for i, each in enumerate(messages) if hasattr(each, "content")]
        own = type(request)(
            system=request.system,
            messages=tuple(messages[starts[-1] :]),
            tools=request.tools,
            attempt=request.attempt,
        )
        return self._model.stream(own, emit, interrupt)


@pytest.fixture
def bun(workshop, bare_sandbox) -> Any:
    """A worker that runs code for real."""
    return workshop.runner(bare_sandbox)


def results_of(house: Any, turn_id: str) -> list[str]:
    return [
        each["content"][0]["text"]
        for each in entries.list_after(house.database, "scout")
        if each["type"] == "tool_result" and each["turn_id"] == turn_id
    ]


def shown(house: Any, turn_id: str) -> list[Any]:
    return [json.loads(text) for text in results_of(house, turn_id)]


def execs(house: Any) -> list[Any]:
    found = tasks.list_page(house.database, type="exec")
    return [tasks.shape(row) for row in found]


# exec, await_task, send_task, kill_task, noop (G75 to G80).


@pytest.mark.line("G75", "G31")
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"code": "1"}, "'wait_seconds' is a required property"),
        ({"code": "1", "wait_seconds": -1}, "wait_seconds"),
        ({"code": "", "wait_seconds": 0}, "code"),
        ({"wait_seconds": 0}, "'code' is a required property"),
    ],
)
def test_g75_an_exec_that_says_too_little_makes_no_task(
    house, take, arguments, named
) -> None:
    id = take(call("exec", **arguments))
    (text,) = results_of(house, id)
    assert "Nothing was run" in text
    assert named in text
    assert execs(house) == []


@pytest.mark.line("G75")
def test_g75_the_task_is_the_agents_and_knows_the_call(
    house, take, workshop, sandbox
) -> None:
    call_ = {"id": "call-1", "name": "exec"}
    arguments = {"code": "1", "wait_seconds": 5, "id": "mine"}
    runner = workshop.runner(sandbox(Outcome(status="completed", result=4)))
    id = take({"tool_calls": [{**call_, "arguments": arguments}]}, runner=runner)
    (task,) = execs(house)
    assert (task["id"], task["agent_id"], task["parent_id"]) == ("mine", "scout", id)
    assert task["metadata"] == {"tool_call_id": "call-1", "variable": 1}


@pytest.mark.line("G75")
def test_g75_an_id_that_is_taken_or_breaks_the_rule_runs_nothing(
    house, take, bun
) -> None:
    house.agent("ranger")
    take(run("globalThis.result = 1", id="mine"), runner=bun, to="ranger")
    again = run("globalThis.result = 2", id="mine")
    taken, broken = results_of(
        house, take(again, run("globalThis.result = 2", id="Not Ok"), runner=bun)
    )
    assert taken.startswith("There is a task 'mine' already, so nothing was run.")
    assert broken.startswith("The id 'Not Ok' is not allowed")
    (task,) = execs(house)
    assert (task["id"], task["agent_id"], task["result"]) == ("mine", "ranger", 1)


@pytest.mark.line("G76")
def test_g76_an_exec_without_a_wait_goes_on_in_the_background(house, take) -> None:
    id = take(run("1", wait_seconds=0, id="mine"))
    assert shown(house, id) == [
        {"task_id": "mine", "status": "queued", "pending": True, "background": True}
    ]


@pytest.mark.line("G76")
def test_g76_an_exec_with_a_wait_gives_its_result_or_its_error(
    house, take, bun
) -> None:
    good, bad = shown(
        house,
        take(
            run("globalThis.result = [1, 'é']", id="good"),
            run("throw new Error('boom')", id="bad"),
            runner=bun,
        ),
    )
    assert good == {
        "task_id": "good",
        "status": "completed",
        "variable": "$result1",
        "result": [1, "é"],
    }
    assert (bad["task_id"], bad["status"]) == ("bad", "failed")
    assert bad["error"]["type"] == "exec_failed"
    assert "boom" in bad["error"]["message"]


@pytest.mark.line("G77")
def test_g77_a_task_in_the_background_is_awaited_later(house, take, bun) -> None:
    _, waited = shown(
        house,
        take(
            run("globalThis.result = 4", wait_seconds=0, id="mine"),
            call("await_task", task_id="mine", wait_seconds=30),
            runner=bun,
        ),
    )
    assert waited == {
        "task_id": "mine",
        "status": "completed",
        "variable": "$result1",
        "result": 4,
    }


@pytest.mark.line("G77")
def test_g77_a_wait_for_no_time_is_refused(house, take) -> None:
    (text,) = results_of(house, take(call("await_task", task_id="x", wait_seconds=0)))
    assert "wait_seconds" in text


@pytest.mark.line("G78")
def test_g78_a_line_reaches_an_exec_and_a_message_an_agent(house, take) -> None:
    house.agent("ranger")
    _, line, message = shown(
        house,
        take(
            run("1", wait_seconds=0, id="mine"),
            call("send_task", task_id="mine", body="a line"),
            call("send_task", task_id="ranger", body="hello"),
        ),
    )
    assert line == {"ok": True}
    (update,) = updates.list_after(house.database, "mine", kind="input")
    assert update["payload"] == {"text": "a line"}
    (event,) = [e for e in house.events(scope="agent/ranger") if e["body"] == "hello"]
    assert (message["ok"], message["event_id"]) == (True, event["id"])
    assert event["source"] == "agent/scout"


@pytest.mark.line("G77", "G78", "G79")
def test_what_is_not_there_or_over_is_refused_with_its_name(house, take) -> None:
    house.create(id="done")
    with house.write() as tx:
        tasks.kill(tx, "done", None)
    id = take(
        call("send_task", task_id="done", body="x"),
        call("send_task", task_id="ghost", body="x"),
        call("await_task", task_id="ghost", wait_seconds=5),
        call("kill_task", task_id="ghost"),
        call("kill_task", task_id="turn-1"),
        call("kill_task", task_id="done"),
    )
    assert results_of(house, id) == [
        "Task done (type exec) is cancelled; only an exec that is not over takes"
        " input.",
        "There is no agent 'ghost'.",
        "There is no task or agent 'ghost' to wait for.",
        "There is no task 'ghost'.",
        "A turn cannot kill itself; just answer.",
        '{"ok": true}',
    ]


@pytest.mark.line("G79")
def test_g79_a_kill_takes_the_children_too(house, take) -> None:
    for id, parent in (("top", None), ("middle", "top"), ("leaf", "middle")):
        house.create("exec", id=id, parent_id=parent)
    id = take(call("kill_task", task_id="top", reason="enough"))
    assert shown(house, id) == [{"ok": True}]
    assert {house.status(each) for each in ("top", "middle", "leaf")} == {"cancelled"}


@pytest.mark.line("G79")
def test_g79_a_task_of_another_agent_is_not_killed_unless_it_is_below(
    house, take
) -> None:
    house.agent("owl")
    with house.write() as tx:
        agents.upsert(tx, "owlet", AgentChange(), parent_id="scout")
    for id, owner in (("owls", "owl"), ("owlets", "owlet"), ("mine", "scout")):
        house.create("exec", id=id, agent_id=owner)
    for id in ("owlets", "mine"):
        assert shown(house, take(call("kill_task", task_id=id))) == [{"ok": True}]
    (refusal,) = results_of(house, take(call("kill_task", task_id="owls")))
    assert "is of the agent owl, which is neither yours" in refusal
    assert house.status("owls") == "queued"


@pytest.mark.line("G80")
def test_g80_doing_nothing_says_so(house, take) -> None:
    id = take(call("noop", comment="rest"), call("noop"))
    assert shown(house, id) == [
        {"status": "idle", "comment": "rest"},
        {"status": "idle", "comment": None},
    ]


# view_image (G81).


@pytest.mark.line("G81")
def test_g81_an_image_of_the_home_is_kept_and_named_in_the_history(house, take) -> None:
    home = house.broker.settings.home
    (home / "cat.png").write_bytes(PNG)
    id = take(call("view_image", path="cat.png", fidelity="medium"))
    assert shown(house, id) == [
        {
            "source": {"path": "cat.png"},
            "fidelity": "medium",
            "name": "cat.png",
            "path": "cat.png",
        }
    ]
    history = entries.list_after(house.database, "scout")
    (entry,) = [each for each in history if each["type"] == "tool_result"]
    block = {
        "type": "image",
        "media_type": "image/png",
        "artifact": f"{id}/2.1",
        "name": "cat.png",
        "fidelity": "medium",
        "size_bytes": len(PNG),
    }
    assert entry["content"][1:] == [block]
    messages = [each for each in to_messages(history) if isinstance(each, ToolMessage)]
    assert messages[0].result.blocks == (block,)
    assert artifacts.read_bytes(house.database, f"{id}/2.1") == PNG


@pytest.mark.line("G81")
@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({}, "Give either path or url"),
        ({"path": "roost.db"}, "is not for tools to read"),
        ({"path": "../home.png"}, "cannot be read"),
        ({"url": "http://127.0.0.1:1/a.png"}, "its address is private"),
        ({"url": "http://169.254.169.254/latest/meta-data"}, "its address is private"),
        ({"url": "file:///etc/passwd"}, "is no http or https address"),
    ],
)
def test_g81_what_may_not_be_seen_is_refused(house, take, arguments, why) -> None:
    (text,) = results_of(house, take(call("view_image", **arguments)))
    assert why in text
    assert house.database.read("SELECT handle FROM artifacts") == []


@pytest.mark.line("G81")
@pytest.mark.parametrize(("more", "fits"), [(0, True), (1, False)])
def test_g81_an_image_may_have_four_mebibytes(house, take, more, fits) -> None:
    size = 4 * 1024 * 1024 + more
    home = house.broker.settings.home
    (home / "cat.png").write_bytes(PNG + bytes(size - len(PNG)))
    (text,) = results_of(house, take(call("view_image", path="cat.png")))
    assert ("is larger than 4,194,304 bytes" in text) is not fits
    assert len(house.database.read("SELECT handle FROM artifacts")) == int(fits)


# Earlier results (G82, G96).


@pytest.mark.line("G82")
def test_g82_later_code_has_the_results_of_earlier_code(house, take, bun) -> None:
    look = "globalThis.result = [$results, $last, $result1, typeof $result9]"
    first = take(
        run("globalThis.result = { a: 'é\\n\\u2028' }"),
        run("1"),
        run("globalThis.result = 2"),
        runner=bun,
    )
    names = [each.get("variable") for each in shown(house, first)]
    assert names == ["$result1", None, "$result2"]
    (seen,) = shown(house, take(run(look), runner=bun))
    a = {"a": "é\n\u2028"}
    assert (seen["variable"], seen["result"]) == (
        "$result3",
        [[a, 2], 2, a, "undefined"],
    )


@pytest.mark.line("G82")
def test_g82_the_first_exec_finds_an_empty_array(house, take, bun) -> None:
    code = "globalThis.result = [$results, typeof $last, typeof $result1]"
    (seen,) = shown(house, take(run(code), runner=bun))
    assert seen["result"] == [[], "undefined", "undefined"]


@pytest.mark.line("G82")
def test_g82_an_agent_does_not_have_anothers_results(house, take, bun) -> None:
    house.agent("ranger")
    take(run("globalThis.result = 'rangers'"), runner=bun, to="ranger")
    (seen,) = shown(house, take(run("globalThis.result = $results"), runner=bun))
    assert seen["result"] == []
    assert [each.number for each in results.latest(house.database, "ranger")] == [1]


def test_code_of_nobody_has_no_results(house, workshop, bun, scripted) -> None:
    with house.write() as tx:
        code = {"code": "globalThis.result = typeof $results"}
        id = tasks.create(tx, tasks.NewTask(type="exec", payload=code))[0]["id"]
    workshop.work(workshop.taker(scripted()), bun)
    assert tasks.shape(house.task(id))["result"] == "undefined"


# Results above the limit.


@pytest.mark.line("G67")
def test_a_long_result_is_kept_whole_and_shown_in_part(house, take, bun) -> None:
    code = "globalThis.result = 'a'.repeat(50_000) + '\\u0000é'"
    id = take(run(code, id="mine"), runner=bun)
    (text,) = results_of(house, id)
    note = json.loads(text)
    whole = artifacts.read_bytes(house.database, f"{id}/2").decode()
    assert len(text) <= RESULT_CHARACTERS
    assert json.loads(whole)["result"] == "a" * 50_000 + "\0é"
    assert (note["task_id"], note["status"]) == ("mine", "completed")
    assert (note["variable"], note["artifact"]) == ("$result1", f"{id}/2")
    assert note["size_characters"] == len(whole)
    assert "read_artifact" in note["truncated"]
    assert "$result1 is the result whole" in note["truncated"]
    assert whole.startswith(note["head"])
    assert whole.endswith(note["tail"])


def test_the_model_is_shown_the_same_part_in_the_turn_and_after_it(
    house, workshop, scripted
) -> None:
    seen: list[str] = []

    class Listening:
        name = "listening"
        context_tokens = 200_000

        def stream(self, request: Any, emit: Any, interrupt: Any) -> Any:
            seen.extend(
                each.result.text
                for each in request.messages
                if isinstance(each, ToolMessage)
            )
            model = scripted(call("recite", text="é", times=20_000), {"text": "ok"})
            return model.stream(request, emit, interrupt)

    id = house.post().turn_id
    workshop.work(workshop.taker(lambda _: Listening(), tools=[recite]))
    (kept,) = results_of(house, id)
    ends = [e["payload"] for e in house.events() if e["kind"] == "tool_execution_end"]
    (step,) = [s for s in steps.list_of(house.database, id) if s["kind"] == "tool"]
    assert seen == [kept]
    assert [each["text"] for each in ends] == [kept]
    assert step["result"]["text"] == kept


@pytest.mark.line("G67")
@pytest.mark.parametrize("text", ["é", '"', "\\", "\0", "\n", "😀"])
def test_any_tools_long_text_is_shown_below_the_limit(house, take, text) -> None:
    id = take(call("recite", text=text, times=20_000))
    (note,) = results_of(house, id)
    assert len(note) <= RESULT_CHARACTERS
    assert json.loads(note)["head"].startswith(text)
    found = artifacts.get(house.database, f"{id}/2")
    assert (found["name"], found["media_type"]) == ("recite.txt", "text/plain")
    kept = artifacts.read_bytes(house.database, f"{id}/2")
    assert kept.decode() == text * 20_000


@pytest.mark.line("G67")
def test_a_text_at_the_limit_is_shown_whole(house, take) -> None:
    assert RESULT_CHARACTERS == 16_000
    id = take(call("recite", text="x", times=RESULT_CHARACTERS))
    assert results_of(house, id) == ["x" * RESULT_CHARACTERS]
    assert house.database.read("SELECT handle FROM artifacts") == []


def test_an_artifact_is_read_page_by_page(house, take) -> None:
    first = take(call("recite", text="0123456789", times=3_000))
    handle = f"{first}/2"
    page = "x"
    text, offset = "", 0
    while page:
        id = take(call("read_artifact", handle=handle, offset=offset))
        (told,) = results_of(house, id)
        head, _, page = told.partition("\n\n")
        text, offset = text + page, offset + len(page)
        if "the end" in head:
            break
        assert f"next offset {offset}:" in head
    assert text == "0123456789" * 3_000


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"handle": "turn-99/1"}, "There is no artifact 'turn-99/1'."),
        ({"handle": "image"}, "is image/png; only text is read in pieces."),
        ({"handle": "foreign"}, "There is no artifact 'foreign'."),
        ({"handle": "text", "offset": 9}, "text has 5 characters; none is at 9."),
    ],
)
def test_what_cannot_be_read_is_refused(house, take, arguments, why) -> None:
    for handle, media_type, agent_id in (
        ("image", "image/png", "scout"),
        ("foreign", "text/plain", "ranger"),
        ("text", "text/plain", "scout"),
    ):
        new = artifacts.NewArtifact(
            handle=handle,
            agent_id=agent_id,
            name="a",
            media_type=media_type,
            content=b"hello",
        )
        with house.write() as tx:
            artifacts.store(tx, new)
    (text,) = results_of(house, take(call("read_artifact", **arguments)))
    assert why in text


# Over HTTP.


@pytest.fixture
def get(open_house) -> Iterator[Callable[..., Any]]:
    """Ask the API of a home that has a text, a JSON and an image."""
    house = open_house(ROOST_TOKEN="secret")
    app = create_app(house.broker.settings, house.broker)
    for number, (name, media_type, content) in enumerate(KEPT, start=1):
        new = artifacts.NewArtifact(
            handle=f"turn-1/{number}",
            agent_id="scout",
            name=name,
            media_type=media_type,
            content=content,
        )
        with house.write() as tx:
            artifacts.store(tx, new)

    def ask(path: str, token: str = "secret") -> Any:
        headers = {"Authorization": f"Bearer {token}"}
        return app.test_client().get(f"/api/v1/artifacts/{path}", headers=headers)

    yield ask
    app.extensions["roost"].live.stop()


KEPT = [
    ("a.txt", "text/plain", "añb\0c".encode()),
    ("exec.json", "application/json", b'{"a": 1}'),
    ("k\u00e4tzchen\r\n.png", "image/png", PNG),
]


def test_an_artifact_is_an_attachment_in_its_own_type(get) -> None:
    for number, (_, media_type, content) in enumerate(KEPT, start=1):
        answer = get(f"turn-1/{number}")
        assert (answer.status_code, answer.data) == (200, content)
        assert answer.mimetype == media_type
        assert answer.headers["Content-Disposition"].startswith("attachment; filename")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert get("turn-1/1").content_type == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("offset=1", "ñb\0c"),
        ("limit=2", "añ"),
        ("offset=1&limit=2", "ñb"),
        ("offset=9", ""),
    ],
)
def test_a_text_is_read_by_characters(get, query, text) -> None:
    answer = get(f"turn-1/1?{query}")
    assert (answer.status_code, answer.data.decode()) == (200, text)
    assert get(f"turn-1/2?{query}").mimetype == "text/plain"


@pytest.mark.parametrize(
    ("path", "status", "why"),
    [
        ("turn-9/1", 404, "There is no artifact 'turn-9/1'."),
        ("turn-1/3?offset=1", 400, "turn-1/3 is image/png: only text has an offset."),
        ("turn-1/1?offset=-1", 400, "offset"),
        ("turn-1/1?limit=0", 400, "limit"),
        ("turn-1/1?page=2", 400, "page: unknown field"),
    ],
)
def test_what_cannot_be_given_is_a_problem(get, path, status, why) -> None:
    answer = get(path)
    assert answer.content_type == "application/problem+json"
    assert answer.status_code == status
    assert why in answer.get_json()["detail"]


def test_an_artifact_wants_a_token(get) -> None:
    assert get("turn-1/1", token="wrong").status_code == 401
