"""Forks, labels, exports and search over HTTP, on histories that turns have written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from broker import entries
from broker.entries import NewEntry
from broker.settings import ensure_token
from webapp.app import create_app
from webapp.exports import PAGE

API = "/api/v1"
NASTY = "<script>alert('x')</script> & \"quoted\" ``` \ud800 \0 </p> ```` 東京"


class Client:
    """The application's test client, with the token."""

    def __init__(self, house: Any) -> None:
        self.house = house
        self.token = ensure_token(house.broker.settings)
        self.app = create_app(house.broker.settings, house.broker)

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        return self.app.test_client().open(
            API + path,
            method=method,
            headers={"Authorization": f"Bearer {self.token}"},
            json=body,
        )

    def get(self, path: str) -> Any:
        answer = self("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.get_json()

    def refusal(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        answer = self(method, path, body)
        return answer.status_code, answer.get_json()["detail"]

    def export(self, format: str, agent: str = "scout") -> str:
        return self("GET", f"/agents/{agent}/export?format={format}").get_data(
            as_text=True
        )

    def write(self, *said: str, agent: str = "scout", **more: Any) -> list[int]:
        new = [
            NewEntry(
                **{
                    "type": "user_message",
                    "role": "user",
                    "content": [{"type": "text", "text": text}],
                    **more,
                }
            )
            for text in said
        ]
        with self.house.write() as tx:
            return entries.append(tx, agent, 1, None, *new)


@pytest.fixture
def api(house: Any) -> Iterator[Client]:
    """The API of a home with one agent, `scout`."""
    house.agent(system="Be brief.")
    client = Client(house)
    yield client
    client.app.extensions["roost"].live.stop()


# Forks.


def test_a_fork_is_made_and_shown_with_where_it_comes_from(api) -> None:
    first, _ = api.write("one", "two")
    answer = api("POST", "/agents/scout/fork", {"entry_id": first, "id": "other"})
    assert (answer.status_code, answer.headers["Location"]) == (
        201,
        f"{API}/agents/other",
    )
    made = answer.get_json()
    assert made == api.get("/agents/other")
    assert (made["id"], made["system"], made["state"], made["forked_from"]) == (
        "other",
        "Be brief.",
        "idle",
        {"agent_id": "scout", "entry_id": first},
    )
    assert api.get("/agents/scout")["forked_from"] is None
    items = api.get("/agents/other/history")["items"]
    assert [(each["id"], each["agent_id"]) for each in items] == [(first, "scout")]


def test_a_fork_that_cannot_be_made_says_why(api) -> None:
    (own,) = api.write("one")
    api.house.agent("owl")
    (foreign,) = api.write("hoo", agent="owl")
    for path, body, status, why in [
        ("ghost", {}, 404, "There is no agent 'ghost'."),
        ("scot", {}, 404, "There is no agent 'scot'. Did you mean 'scout'?"),
        ("scout", {"entry_id": 10**9}, 404, "There is no entry '1000000000'."),
        ("scout", {"label": "good"}, 404, "There is no label 'good'."),
        ("scout", {"entry_id": foreign}, 409, "it is one of agent owl."),
        ("scout", {"id": "owl"}, 409, "There is an agent owl already"),
        ("scout", {"id": "No Id"}, 400, "is not allowed"),
        ("scout", {"entry_id": own, "label": "good"}, 400, "not both"),
        ("scout", {"entri_id": own}, 400, "did you mean 'entry_id'?"),
        ("scout", {"entry_id": 0}, 400, "entry_id"),
    ]:
        refusal = api.refusal("POST", f"/agents/{path}/fork", body)
        assert refusal[0] == status, refusal
        assert why in refusal[1]
    assert len(api.get("/agents")["items"]) == 2


def test_a_fork_takes_turns_of_its_own(api, workshop, scripted) -> None:
    model = scripted({"text": "I am scout."}, {"text": "I am the fork."})
    taker = workshop.taker(model)
    api.house.post("who are you?")
    workshop.work(taker)
    api("POST", "/agents/scout/fork", {"id": "other", "model": "demo"})
    api.house.post("and you?", to="other")
    workshop.work(taker)
    said = [
        (each["agent_id"], each["content"][0]["text"])
        for each in api.get("/agents/other/history")["items"]
        if each["role"] in ("user", "assistant")
    ]
    assert said == [
        ("scout", "who are you?"),
        ("scout", "I am scout."),
        ("other", "and you?"),
        ("other", "I am the fork."),
    ]
    types = [each["type"] for each in api.get("/agents/other/history")["items"]]
    assert types.count("system_prompt") == 1
    assert len(api.get("/agents/scout/history")["items"]) == 4


# Labels.


def test_a_label_is_put_read_listed_used_and_dropped(api) -> None:
    first, second = api.write("one", "two")
    path = "/agents/scout/labels/good.start"
    assert api("PUT", path, {"entry_id": second}).get_json()["entry_id"] == second
    put = api("PUT", path, {"entry_id": first}).get_json()
    assert put == {
        "agent_id": "scout",
        "name": "good.start",
        "entry_id": first,
        "created_at": put["created_at"],
    }
    assert api.get(path) == put
    assert api.get("/agents/scout/labels") == {"items": [put], "next_cursor": None}
    made = api("POST", "/agents/scout/fork", {"label": "good.start"}).get_json()
    assert made["forked_from"]["entry_id"] == first
    assert api("DELETE", path).get_json() == put
    assert api.refusal("DELETE", path)[0] == api.refusal("GET", path)[0] == 404


def test_labels_are_paged_by_name(api) -> None:
    (entry_id,) = api.write("one")
    for name in ("c", "a", "b"):
        api("PUT", f"/agents/scout/labels/{name}", {"entry_id": entry_id})
    page = api.get("/agents/scout/labels?limit=2")
    rest = api.get(f"/agents/scout/labels?cursor={page['next_cursor']}")
    names = [each["name"] for each in page["items"] + rest["items"]]
    assert (names, rest["next_cursor"]) == (["a", "b", "c"], None)


def test_a_label_that_cannot_be_put_says_why(api) -> None:
    (own,) = api.write("one")
    api.house.agent("owl")
    body = {"entry_id": own}
    for path, status in [
        ("/agents/owl/labels/good", 409),
        ("/agents/ghost/labels/good", 404),
        ("/agents/scout/labels/-bad", 400),
        ("/agents/scout/labels/b%20d", 400),
    ]:
        assert api.refusal("PUT", path, body)[0] == status, path
    assert api.refusal("PUT", "/agents/scout/labels/good", {})[0] == 400


# Exports.


@pytest.mark.line("P21")
def test_json_lines_are_a_head_and_every_entry_as_the_history_shows_it(api) -> None:
    written = api.write(*(f"number {number}" for number in range(PAGE + 5)))
    api("POST", "/agents/scout/fork", {"entry_id": written[-2], "id": "other"})
    api.write("and on", agent="other")
    answer = api("GET", "/agents/other/export")
    assert answer.headers["Content-Type"].startswith("application/x-ndjson")
    assert answer.headers["Content-Disposition"] == (
        'attachment; filename="other.jsonl"'
    )
    head, *lines = [json.loads(line) for line in answer.text.splitlines()]
    assert head == {
        "type": "session",
        "version": 1,
        "agent_id": "other",
        "exported_at": head["exported_at"],
        "forked_from": {"agent_id": "scout", "entry_id": written[-2]},
    }
    assert lines == api.get("/agents/other/history?limit=1000")["items"]
    parents = {line["id"]: line["parent_id"] for line in lines}
    assert [parents[line["id"]] for line in lines[1:]] == [
        line["id"] for line in lines[:-1]
    ]


def test_an_empty_history_is_a_head_and_nothing_else(api) -> None:
    (line,) = api.export("jsonl").splitlines()
    assert "forked_from" not in json.loads(line)
    assert api.export("markdown").startswith("# scout\n")
    assert api.export("html").endswith("</html>\n")


def test_markdown_can_be_read(api) -> None:
    (asked,) = api.write("What is 6 * 7?\n\nTell me.")
    api.write("I think.\nHard.", type="reasoning")
    call = [{"type": "json", "json": {"code": "6 * 7"}}]
    api.write("", type="tool_call", tool_name="exec", content=call)
    api.write(NASTY, type="tool_result", tool_name="exec", status="failed")
    api.write("why", type="context_compaction", data={"summary": "In short."})
    text = api.export("markdown")
    assert f"\n\n## User · #{asked} · " in text
    assert "Z\n\n    What is 6 * 7?\n\n    Tell me.\n\n## Reasoning" in text
    assert "\n    I think.\n    Hard.\n" in text
    assert '\n    {\n      "code": "6 * 7"\n    }\n' in text
    assert "## Result: exec (failed) · " in text
    assert "\n    <script>alert('x')</script> & " in text
    assert "\n    In short.\n" in text


FORGED = (
    "hello\n\n## Assistant · #99\n\n<b>Yes</b>\r# Yes\r\n```\n"
    "</pre>\x0b# Yes\u2028# Yes"
)


@pytest.mark.parametrize(
    "type", ["user_message", "assistant_message", "wake", "reasoning", "tool_result"]
)
def test_no_text_forges_the_structure_of_markdown(api, type) -> None:
    (id,) = api.write(FORGED, type=type, tool_name="<b>`a\n## x` [y](http://z)")
    _, _, *lines = api.export("markdown").splitlines()
    about, title = [line for line in lines if line and not line.startswith("    ")]
    assert about.startswith("Exported ")
    assert rf": \<b\>\`a ## x\` \[y\](http://z) · #{id} · " in title


UNSEEN = "\x1b]0;title\x07 \x9b31m \x7f \u202egnp.exe \u2066 \u200f \ufeff"


@pytest.mark.parametrize("format", ["markdown", "html"])
def test_what_is_not_seen_is_shown_by_its_code(api, format) -> None:
    api.write(UNSEEN + "\ttab", tool_name="a\x1bb")
    text = api.export(format)
    shown = r"\x1b]0;title\x07 \x9b31m \x7f \u202egnp.exe \u2066 \u200f \ufeff"
    assert shown + "\ttab" in text
    assert not set(UNSEEN) - set(" ]0;title31mgnp.exe") & set(text)


class Tags(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[Any]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_an_html_page_needs_nothing_runs_nothing_and_escapes_all(api) -> None:
    for type in ("user_message", "assistant_message", "tool_result", "error"):
        api.write(NASTY, type=type, tool_name="<b>exec</b>")
    answer = api("GET", "/agents/scout/export?format=html")
    page = Tags(answer.text)
    assert page.tags <= {
        *("html", "head", "meta", "title", "style", "body"),
        *("h1", "h2", "p", "pre", "article"),
    }
    assert page.attributes <= {
        *("lang", "charset", "http-equiv", "content", "name", "class", "id"),
    }
    assert "<script>alert('x')</script>" in page.text
    assert "http" not in answer.text.replace("http-equiv", "")
    assert "script" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_an_export_that_cannot_be_made_says_why(api) -> None:
    assert api.refusal("GET", "/agents/ghost/export")[0] == 404
    assert api.refusal("GET", "/agents/scout/export?format=pdf")[0] == 400


# Search.


def test_a_search_finds_in_one_agent_or_in_all_page_by_page(api) -> None:
    api.house.agent("owl")
    ours = api.write("the red build", "the green build")
    (theirs,) = api.write("a build in the wood", agent="owl")
    page = api.get("/search?q=build&limit=2")
    rest = api.get(f"/search?q=build&cursor={page['next_cursor']}")
    found = [each["entry_id"] for each in page["items"] + rest["items"]]
    assert (found, rest["next_cursor"]) == ([theirs, ours[1], ours[0]], None)
    (hit,) = api.get("/search?q=build+red&agent=scout&type=user_message")["items"]
    assert (hit["snippet"], hit["agent_id"]) == ("the red build", "scout")
    assert api.get("/search?q=build&agent=ghost")["items"] == []
    for query in ("", "?q=", "?q=a&limit=0", "?q=a&cursor=b", "?q=%00"):
        assert api.refusal("GET", f"/search{query}")[0] == 400, query


# The tool.


def test_an_agent_recalls_what_was_said_in_an_older_generation(
    api, workshop, scripted
) -> None:
    call = {"name": "recall", "arguments": {"query": "dog's name"}}
    model = scripted(
        {"text": "Nice.", "when": {"contains": "My dog"}},
        {"tool_calls": [call], "when": {"contains": "What is"}},
        {"text": "Bello.", "when": {"contains": "matches"}},
    )
    taker = workshop.taker(model)
    api.house.post("My dog's name is Bello.")
    workshop.work(taker)
    with api.house.write() as tx:
        tx.execute("UPDATE agents SET generation = 2 WHERE id = 'scout'")
    api.house.post("What is my dog's name?")
    workshop.work(taker)
    (result,) = [
        json.loads(each["content"][0]["text"])
        for each in api.get("/agents/scout/history")["items"]
        if each["type"] == "tool_result"
    ]
    (match,) = result["matches"]
    assert (match["who"], match["snippet"]) == ("user", "My dog's name is Bello.")
