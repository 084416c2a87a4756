"""A message becomes a reply: by the demo's rules, by scripts with tools and errors."""

from __future__ import annotations

import json

import pytest

from tests.acceptance.conftest import NewAgent
from tests.acceptance.system import JSON, Agent, Api, System, call, run, text_of


def _last_result(agent: Agent) -> JSON:
    return agent.entries("tool_result")[-1]


def test_the_first_agent_computes_what_the_readme_asks(system: System) -> None:
    api = system.api
    answer = api.send("POST", "/api/v1/agents/scout/ask", json={"text": "17 * 23 + 4"})

    said = answer.json()
    assert answer.status_code == 200
    assert said["text"].startswith("17 * 23 + 4 = 395")
    assert set(said) == {"text", "turn_id", "usage"}
    execs = api.items("/tasks", type="exec", parent=said["turn_id"])
    assert [(each["status"], each["result"]) for each in execs] == [("completed", 395)]


def test_the_demo_says_once_what_it_is(demo: Agent) -> None:
    first, second = demo.ask("hello"), demo.ask("hello again")

    assert "demo model" in first
    assert "demo model" not in second


def test_a_fenced_block_imports_from_core(demo: Agent) -> None:
    text = (
        "Please run\n```ts\n"
        'import { table } from "core/table";\n'
        'globalThis.result = table([{ name: "roost", legs: 2 }]);\n'
        "```\nand tell me."
    )

    reply = demo.ask(text)

    assert "name   legs" in reply
    assert "roost     2" in reply


def test_what_code_throws_is_told(demo: Agent) -> None:
    reply = demo.ask("fail")

    assert reply.startswith("The code failed:")
    assert "this failed because you asked for it" in reply


def test_a_text_is_the_reply(scripted: NewAgent) -> None:
    usage = {"input_tokens": 7, "output_tokens": 3}
    agent = scripted({"text": "Good morning to you.", "usage": usage})

    turn = agent.turn("Good morning")

    assert turn["status"] == "completed"
    assert turn["result"] == {"text": "Good morning to you."}
    assert turn["usage"] == {
        **usage,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
    }
    assert [
        (each["type"], each["role"], text_of(each)) for each in agent.conversation()
    ] == [
        ("user_message", "user", "Good morning"),
        ("assistant_message", "assistant", "Good morning to you."),
    ]


def test_one_tool_runs_between_question_and_reply(scripted: NewAgent) -> None:
    agent = scripted(
        run("globalThis.result = { sum: 2 + 3 };"),
        {"when": {"contains": '"sum": 5'}, "text": "It is five."},
    )

    assert agent.ask("2 + 3?") == "It is five."

    kinds = [each["type"] for each in agent.conversation()]
    assert kinds == [
        "user_message",
        "assistant_message",
        "tool_call",
        "tool_result",
        "assistant_message",
    ]
    _, asked, tool_call, result, _ = agent.conversation()
    assert tool_call["tool_name"] == result["tool_name"] == "exec"
    assert tool_call["tool_call_id"] == result["tool_call_id"]
    assert result["status"] == "succeeded"
    assert json.loads(text_of(result))["result"] == {"sum": 5}
    assert (asked["step"], tool_call["step"], result["step"]) == (1, 2, 2)


def test_several_tools_of_one_answer_run_in_their_order(scripted: NewAgent) -> None:
    calls = [
        {"name": "noop", "arguments": {"comment": word}} for word in ("a", "b", "c")
    ]
    agent = scripted({"tool_calls": calls}, {"text": "done"})

    assert agent.ask("go") == "done"

    results = [json.loads(text_of(each)) for each in agent.entries("tool_result")]
    assert [each["comment"] for each in results] == ["a", "b", "c"]


def test_the_model_sees_what_a_tool_throws_and_goes_on(scripted: NewAgent) -> None:
    agent = scripted(
        run('throw new Error("the bridge is out");'),
        {"when": {"contains": "the bridge is out"}, "text": "Then we swim."},
    )

    turn = agent.turn("Cross the river")

    assert turn["status"] == "completed"
    assert turn["result"] == {"text": "Then we swim."}
    assert _last_result(agent)["status"] == "failed"
    (failed,) = agent.tasks(type="exec")
    assert failed["status"] == "failed"
    assert "the bridge is out" in failed["error"]["message"]


def test_an_unknown_tool_is_an_error_that_the_model_reads(scripted: NewAgent) -> None:
    agent = scripted(
        call("teleport", to="Mars"),
        {"when": {"contains": "unknown tool: teleport"}, "text": "I walk."},
    )

    assert agent.ask("Go to Mars") == "I walk."

    result = _last_result(agent)
    assert (result["tool_name"], result["status"]) == ("teleport", "failed")
    assert "exec" in text_of(result)  # it is told what there is


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"wait_seconds": 1}, "'code' is a required property"),
        ({"code": 7, "wait_seconds": 1}, "code: 7 is not of type 'string'"),
        ({"code": "1", "wait_seconds": -1}, "wait_seconds: -1"),
        ({"code": "1", "wait_seconds": 1, "speed": "high"}, "'speed' was unexpected"),
    ],
)
def test_arguments_that_fail_the_schema_run_nothing(
    scripted: NewAgent, arguments: JSON, named: str
) -> None:
    agent = scripted(call("exec", **arguments), {"text": "I see."})

    assert agent.ask("go") == "I see."

    assert named in text_of(_last_result(agent))
    assert _last_result(agent)["status"] == "failed"
    assert agent.tasks(type="exec") == []


def test_arguments_that_are_no_json_run_nothing(scripted: NewAgent) -> None:
    broken = {"name": "exec", "raw_arguments": '{"code": "globalThis.'}
    agent = scripted({"tool_calls": [broken]}, {"text": "I see."})

    assert agent.ask("go") == "I see."

    assert "not a JSON object" in text_of(_last_result(agent))
    assert agent.tasks(type="exec") == []


def test_an_answer_cut_off_by_its_limit_runs_nothing(scripted: NewAgent) -> None:
    cut = run("globalThis.result = 1;") | {"stop_reason": "length"}
    agent = scripted(cut, {"text": "I see."})

    assert agent.ask("go") == "I see."

    assert _last_result(agent)["status"] == "failed"
    assert agent.tasks(type="exec") == []


def test_200_kilobytes_arrive_whole(scripted: NewAgent) -> None:
    text = "0123456789abcdéf" * 12_500
    agent = scripted(
        {"when": {"matches": r"\A(0123456789abcdéf){12500}\Z"}, "text": "ok"}
    )

    assert agent.ask(text) == "ok"

    assert text_of(agent.entries("user_message")[0]) == text


def test_a_long_result_is_cut_for_the_model_and_kept_in_the_task(
    scripted: NewAgent,
) -> None:
    agent = scripted(
        run('globalThis.result = "x".repeat(100_000);'), {"text": "That is long."}
    )

    assert agent.ask("go") == "That is long."

    assert len(text_of(_last_result(agent))) < 20_000
    assert agent.tasks(type="exec")[0]["result"] == "x" * 100_000


def test_reasoning_is_kept_beside_the_reply(scripted: NewAgent) -> None:
    agent = scripted({"reasoning": "They greet me.", "text": "Hello."})

    assert agent.ask("Hi") == "Hello."

    assert [text_of(each) for each in agent.entries("reasoning")] == ["They greet me."]


def test_a_passing_model_error_is_tried_again(scripted: NewAgent) -> None:
    broken = {"error": {"status": 500, "message": "the provider is on fire"}}
    agent = scripted(broken, broken, {"text": "Back again."})

    turn = agent.turn("Are you there?")

    assert (turn["status"], turn["attempts"]) == ("completed", 3)
    assert turn["result"] == {"text": "Back again."}
    assert len(agent.entries("user_message")) == 1
    assert len(agent.entries("assistant_message")) == 1


def test_a_stream_that_breaks_off_is_tried_again(scripted: NewAgent) -> None:
    agent = scripted(
        {"text": "one two three four", "cut_after_tokens": 2},
        {"text": "one two three four five"},
    )

    assert agent.ask("Count") == "one two three four five"

    assert len(agent.entries("assistant_message")) == 1


def test_a_lasting_model_error_fails_the_turn_and_the_agent_goes_on(
    scripted: NewAgent,
) -> None:
    agent = scripted(
        {"when": {"contains": "bad"}, "error": {"status": 400, "message": "not that"}},
        {"when": {"contains": "good"}, "text": "Gladly."},
    )

    failed, fine = agent.turn("something bad"), agent.turn("something good")

    assert (failed["status"], failed["result"]) == ("failed", None)
    assert failed["error"]["message"] == "not that"
    assert failed["attempts"] == 1
    assert (fine["status"], fine["result"]) == ("completed", {"text": "Gladly."})
    assert [text_of(each) for each in agent.entries("error")] == ["not that"]


def test_an_ask_whose_turn_fails_is_a_problem_that_says_why(scripted: NewAgent) -> None:
    agent = scripted({"error": {"status": 401, "message": "the key is wrong"}})

    answer = agent.api.send(
        "POST", f"/api/v1/agents/{agent.id}/ask", json={"text": "Hello"}
    )

    problem = answer.json()
    assert answer.status_code == 502
    assert problem["type"] == "urn:roost:problem:turn-failed"
    assert "the key is wrong" in problem["detail"]
    assert agent.api.task(problem["turn_id"])["status"] == "failed"


def test_a_model_that_never_stops_calling_tools_is_stopped(scripted: NewAgent) -> None:
    agent = scripted({"when": {"contains": ""}, **call("noop", comment="again")})

    turn = agent.turn("Begin")

    assert turn["status"] == "failed"
    assert turn["error"]["type"] == "limit"
    assert turn["error"]["limit"]["name"] == "rounds"


def test_a_model_that_does_not_exist_fails_the_turn_with_what_to_do(
    api: Api, new_agent: NewAgent
) -> None:
    agent = new_agent(api, model="psychic/crystal-ball")

    turn = agent.turn("What will be?")

    assert turn["status"] == "failed"
    assert "psychic/crystal-ball" in turn["error"]["message"]


def test_an_agent_has_only_the_tools_it_was_given(
    api: Api, new_agent: NewAgent
) -> None:
    script = [run("globalThis.result = 1;"), {"text": "I may not."}]
    agent = new_agent(api, script, tools=["noop"])

    assert agent.ask("Compute") == "I may not."

    assert "unknown tool: exec" in text_of(_last_result(agent))


def test_spawn_asks_another_agent_and_tells_its_answer(
    api: Api, demo: Agent, new_agent: NewAgent
) -> None:
    helper = new_agent(api, [{"text": "It is green."}])

    reply = demo.ask(f"spawn {helper.id}: What colour is it?")

    assert reply.startswith(f"{helper.id} says: It is green.")
    (asked,) = helper.entries("user_message")
    assert text_of(asked) == "What colour is it?"


def test_spawn_makes_an_agent_that_is_not_there(api: Api, demo: Agent) -> None:
    name = f"{demo.id}-child"

    reply = demo.ask(f"spawn {name}: 6 * 7")

    assert f"{name} says: 6 * 7 = 42" in reply
    assert api.agent(name).read()["state"] == "idle"


def test_an_ask_that_may_not_wait_is_accepted_and_answered_later(
    scripted: NewAgent,
) -> None:
    agent = scripted({"text": "Here I am.", "delay_seconds": 0.5})

    answer = agent.api.send(
        "POST",
        f"/api/v1/agents/{agent.id}/ask",
        json={"text": "Where are you?", "wait_seconds": 0},
    )

    turn_id = answer.json()["turn_id"]
    assert answer.status_code == 202
    assert answer.headers["Location"].endswith(f"/api/v1/tasks/{turn_id}")
    assert agent.api.finished(turn_id)["result"] == {"text": "Here I am."}


def test_a_message_in_any_script_comes_back_as_it_was(scripted: NewAgent) -> None:
    text = "Grüße 🐓 — \u202e العربية \x07 ‮ 漢字\r\n\ttab"
    agent = scripted({"text": text})

    assert agent.ask(text) == text

    assert text_of(agent.entries("user_message")[0]) == text
