"""The store seam: forks and what they share, compacted histories, labels, search."""

from __future__ import annotations

from typing import Any

import pytest

from agents.messages import AssistantMessage, ToolMessage, close_abandoned_calls
from agents.transcript import COMPACTED, to_messages
from broker import entries, forks, lineage, search
from broker.entries import HISTORY_LIMIT, NewEntry
from broker.errors import BadId, BadLabel, Conflict, NotFound
from broker.forks import NewFork
from broker.lineage import DEPTH_LIMIT

NOBODY = "turn-of-nobody"


def user(text: str, **more: Any) -> NewEntry:
    return NewEntry(type="user_message", role="user", content=text_of(text), **more)


def answer(text: str, *calls: str) -> NewEntry:
    made = [{"id": id, "name": "exec", "arguments": {}} for id in calls]
    data = {"reasoning": "", "stop_reason": "end", "tool_calls": made}
    return NewEntry(
        type="assistant_message", role="assistant", content=text_of(text), data=data
    )


def result(call: str, text: str = "4", tool: str = "exec") -> NewEntry:
    return NewEntry(
        type="tool_result",
        role="tool",
        content=text_of(text),
        tool_call_id=call,
        tool_name=tool,
        status="succeeded",
    )


def prompt(text: str) -> NewEntry:
    return NewEntry(type="system_prompt", role="system", content=text_of(text))


def compaction(summary: str | None = None, **data: Any) -> NewEntry:
    said = data if summary is None else {"summary": summary, **data}
    return NewEntry(
        type="context_compaction", role=None, content=text_of("asked for"), data=said
    )


def text_of(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text}]


def write(
    store: Any,
    agent: str,
    *new: NewEntry,
    generation: int = 1,
    turn: str | None = None,
) -> list[int]:
    with store.write() as tx:
        return entries.append(tx, agent, generation, turn, *new)


def fork(store: Any, base: str, **wanted: Any) -> str:
    with store.write() as tx:
        return forks.fork(tx, base, NewFork(**wanted))


def rebuild(
    store: Any, agent: str, generation: int = 1, turn: str = NOBODY
) -> list[dict[str, Any]]:
    with store.write() as tx:
        return entries.rebuild(tx, agent, generation, turn)


def texts(rows: list[dict[str, Any]]) -> list[str]:
    return [block["text"] for row in rows for block in row["content"]]


def ids(rows: list[dict[str, Any]]) -> list[int]:
    return [row["id"] for row in rows]


def row_of(store: Any, agent: str) -> dict[str, Any]:
    return store.database.read_one("SELECT * FROM agents WHERE id = ?", agent)


def label(store: Any, name: str, entry_id: int, agent: str = "scout") -> Any:
    with store.write() as tx:
        return forks.put_label(tx, agent, name, entry_id)


@pytest.fixture
def talk(store) -> list[int]:
    """Three messages and their answers, of an agent `scout`; the ids."""
    store.agent(system="Be brief.", tools=["exec"], metadata={"a": 1})
    made: list[int] = []
    for number in (1, 2, 3):
        turn = f"turn-{number}"
        pair = user(f"question {number}"), answer(f"answer {number}")
        made += write(store, "scout", *pair, turn=turn)
    return made


# A fork begins.


def test_a_fork_shares_its_past_and_goes_on_by_itself(store, talk) -> None:
    assert fork(store, "scout", entry_id=talk[1], id="other") == "other"
    (own,) = write(store, "other", user("something else"), turn="turn-9")
    assert texts(rebuild(store, "other")) == [
        "question 1",
        "answer 1",
        "something else",
    ]
    assert texts(rebuild(store, "scout"))[-1] == "answer 3"
    rows = entries.list_after(store.database, "other")
    assert [(row["id"], row["agent_id"], row["parent_id"]) for row in rows] == [
        (talk[0], "scout", None),
        (talk[1], "scout", talk[0]),
        (own, "other", talk[1]),
    ]


def test_a_fork_is_like_its_base_but_for_what_it_is_told(store, talk) -> None:
    fork(store, "scout", entry_id=talk[1], id="same")
    fork(store, "scout", entry_id=talk[1], id="new", model="demo", system="", name="N")
    same, new = row_of(store, "same"), row_of(store, "new")
    assert [same[name] for name in ("name", "system", "model", "generation")] == [
        "same",
        "Be brief.",
        None,
        1,
    ]
    assert (same["tools"], same["metadata"]) == ('["exec"]', '{"a":1}')
    assert (new["name"], new["system"], new["model"]) == ("N", "", "demo")
    assert (new["last_entry_id"], new["fork_agent_id"], new["fork_entry_id"]) == (
        talk[1],
        "scout",
        talk[1],
    )


def test_without_an_entry_a_fork_begins_at_the_last(store, talk) -> None:
    assert fork(store, "scout") == "agent-1"
    assert ids(rebuild(store, "agent-1")) == talk


def test_a_fork_of_a_fork_reads_back_to_the_first(store, talk) -> None:
    fork(store, "scout", entry_id=talk[3], id="b")
    in_b = write(store, "b", user("b asks"), answer("b hears"), turn="turn-b")
    fork(store, "b", entry_id=in_b[0], id="c")
    in_c = write(store, "c", answer("c hears"), turn="turn-c")
    assert ids(rebuild(store, "c")) == [*talk[:4], in_b[0], *in_c]
    assert ids(entries.list_after(store.database, "c")) == [*talk[:4], in_b[0], *in_c]


def test_a_fork_may_begin_at_an_entry_that_its_base_inherits(store, talk) -> None:
    fork(store, "scout", entry_id=talk[3], id="b")
    write(store, "b", user("b asks"))
    fork(store, "b", entry_id=talk[1], id="c")
    assert ids(rebuild(store, "c")) == talk[:2]
    assert row_of(store, "c")["fork_agent_id"] == "scout"
    with pytest.raises(Conflict, match="not in the history of agent b"):
        fork(store, "b", entry_id=talk[4])


def test_what_cannot_be_forked_is_refused_with_a_reason(store, talk) -> None:
    store.agent("empty")
    for wanted, error, why in [
        ({"entry_id": 10**9}, NotFound, "no entry"),
        ({"label": "good"}, NotFound, "no label 'good'"),
        ({"id": "empty"}, Conflict, "an agent empty already"),
        ({"id": "No Id"}, BadId, "not allowed"),
    ]:
        with pytest.raises(error, match=why):
            fork(store, "scout", **wanted)
    with pytest.raises(NotFound, match="no agent 'ghost'"):
        fork(store, "ghost")
    with pytest.raises(Conflict, match="no history yet"):
        fork(store, "empty")
    with pytest.raises(Conflict, match="one of agent scout"):
        fork(store, "empty", entry_id=talk[0])


def test_a_chain_of_forks_has_an_end(store, talk) -> None:
    last = "scout"
    for _ in range(DEPTH_LIMIT - 1):
        last = fork(store, last)
        write(store, last, user("and on"))
    assert len(lineage.trace(store.database, last)) == DEPTH_LIMIT
    assert len(rebuild(store, last)) == len(talk) + DEPTH_LIMIT - 1
    with pytest.raises(Conflict, match=f"is a fork {DEPTH_LIMIT} deep"):
        fork(store, last)


def test_a_fork_s_history_is_paged_and_narrowed_like_any_other(store, talk) -> None:
    fork(store, "scout", entry_id=talk[3], id="other")
    own = write(store, "other", user("x"), answer("y"), generation=2)
    for size in (1, 2, 3, 4):
        seen: list[int] = []
        while page := entries.list_after(
            store.database, "other", after=seen[-1] if seen else 0, limit=size
        ):
            assert len(page) <= size
            seen += ids(page)
        assert seen == [*talk[:4], *own]
    one = entries.list_after(store.database, "other", generation=1)
    two = entries.list_after(store.database, "other", generation=2)
    assert (ids(one), ids(two)) == (talk[:4], own)


def test_a_fork_within_an_older_generation_shares_nothing_newer(store, talk) -> None:
    # A turn that runs while its agent is compacted ends in the generation before.
    write(store, "scout", compaction("all of it"), generation=2)
    (late,) = write(store, "scout", answer("late"), turn="turn-3")
    fork(store, "scout", entry_id=late, id="other")
    assert row_of(store, "other")["generation"] == 1
    assert ids(entries.list_after(store.database, "other")) == [*talk, late]
    write(store, "other", user("fresh"), generation=2)
    assert texts(rebuild(store, "other", 2)) == ["fresh"]


def test_a_long_past_is_read_from_its_end(store) -> None:
    store.agent()
    many = [user(f"number {number}") for number in range(HISTORY_LIMIT + 50)]
    made = write(store, "scout", *many)
    fork(store, "scout", entry_id=made[-2], id="other")
    own = write(store, "other", user("and on"))
    assert ids(rebuild(store, "other")) == [*made[-HISTORY_LIMIT:-1], *own]


# A fork's prompt.


def test_a_fork_keeps_the_frozen_prompt_unless_it_has_a_system_text(store) -> None:
    store.agent(system="Be brief.")
    asked, _, told = write(store, "scout", user("hi"), prompt("P1"), answer("ho"))
    fork(store, "scout", entry_id=told, id="same")
    fork(store, "scout", entry_id=asked, id="early")
    fork(store, "same", entry_id=told, id="again")
    fork(store, "scout", entry_id=told, id="new", system="Be long.")
    fork(store, "new", entry_id=told, id="newer")
    found = [
        entries.find_prompt(store.database, id, 1)
        for id in ("scout", "same", "early", "again", "new", "newer")
    ]
    assert found == ["P1", "P1", "P1", "P1", None, None]
    assert entries.find_prompt(store.database, "same", 2) is None
    write(store, "new", prompt("P2"))
    fork(store, "new", entry_id=told, id="newest")
    assert entries.find_prompt(store.database, "newest", 1) == "P2"


# A fork within a turn.


def test_a_fork_within_a_turn_has_that_turn_s_entries(store) -> None:
    store.agent()
    turn = store.take_turn("what is it?")
    (said,) = write(store, "scout", answer("I look.", "call-1"), turn=turn.id)
    write(store, "scout", result("call-1"), turn=turn.id)
    fork(store, "scout", entry_id=said, id="other")
    past = rebuild(store, "other")
    assert texts(past) == ["what is it?", "I look."]
    closed = close_abandoned_calls(to_messages(past))
    assert isinstance(closed[-1], ToolMessage)
    assert (closed[-1].call_id, closed[-1].result.status) == ("call-1", "uncertain")


def test_a_base_s_turn_that_is_not_finished_stays_out_of_a_fork(store) -> None:
    store.agent()
    failing = store.take_turn("one")
    with store.write() as tx:
        tx.execute(
            "UPDATE tasks SET status = 'queued', lease_owner = NULL WHERE id = ?",
            failing.id,
        )
        tx.execute("UPDATE agents SET turn_id = NULL WHERE id = 'scout'")
    made = write(store, "scout", user("two"), answer("done"), turn="turn-9")
    fork(store, "scout", entry_id=made[-1], id="other")
    assert texts(rebuild(store, "other")) == ["two", "done"]


def test_at_every_entry_a_fork_has_one_result_for_every_call(store) -> None:
    store.agent()
    script = [
        (user("a"), answer("", "c1", "c2"), result("c1"), result("c2"), answer("b")),
        (user("c"), answer("", "c3"), user("wait", data={"steering": True})),
        (answer("", "c4", "c5"), result("c5"), answer("", "c6"), result("c6")),
        (prompt("P"), user("d"), answer("e"), user("f"), answer("", "c7")),
    ]
    made: list[int] = []
    for number, said in enumerate(script):
        made += write(store, "scout", *said, turn=f"turn-{number}")
    for entry_id in made:
        id = fork(store, "scout", entry_id=entry_id)
        write(store, id, user("and now?"), turn="turn-of-fork")
        messages = close_abandoned_calls(to_messages(rebuild(store, id)))
        calls = [
            call.id
            for message in messages
            if isinstance(message, AssistantMessage)
            for call in message.answer.tool_calls
        ]
        results = [m.call_id for m in messages if isinstance(m, ToolMessage)]
        assert sorted(results) == sorted(calls) == sorted(set(calls))


# A compacted generation.


@pytest.mark.line("P46")
def test_a_summary_heads_its_generation_and_the_kept_tail_follows(store, talk) -> None:
    kept = {"first_kept_entry_id": talk[4]}
    write(store, "scout", prompt("P2"), generation=2)
    write(store, "scout", compaction("S", **kept), prompt("P3"), generation=2)
    write(store, "scout", user("question 4"), turn="turn-4", generation=2)
    found = rebuild(store, "scout", 2)
    assert found[0]["type"] == "context_compaction"
    assert texts(found[1:]) == ["question 3", "answer 3", "question 4"]
    assert to_messages(found)[0].text == f"{COMPACTED}S"
    assert texts(rebuild(store, "scout", 1))[0] == "question 1"


def test_without_a_kept_tail_the_summary_is_all_that_is_left(store, talk) -> None:
    nothing = {"first_kept_entry_id": None}
    write(store, "scout", compaction("S", **nothing), generation=2)
    write(store, "scout", user("question 4"), turn="turn-4", generation=2)
    found = rebuild(store, "scout", 2)
    assert texts(found) == ["asked for", "question 4"]


@pytest.mark.line("P46")
def test_only_the_newest_summary_of_a_generation_counts(store, talk) -> None:
    first = {"first_kept_entry_id": talk[0]}
    last = {"first_kept_entry_id": talk[5]}
    write(store, "scout", compaction("S1", **first), generation=2)
    write(store, "scout", user("question 4"), turn="turn-4", generation=2)
    write(store, "scout", compaction("S2", **last), generation=2)
    write(store, "scout", compaction(), answer("answer 4"), generation=2)
    messages = to_messages(rebuild(store, "scout", 2))
    assert [getattr(m, "text", None) or m.answer.text for m in messages] == [
        f"{COMPACTED}S2",
        "answer 3",
        "question 4",
        "answer 4",
    ]


@pytest.mark.line("G72")
def test_a_compaction_without_a_summary_empties_the_conversation(store, talk) -> None:
    write(store, "scout", compaction(reason="manual"), generation=2)
    write(store, "scout", user("question 4"), turn="turn-4", generation=2)
    found = rebuild(store, "scout", 2)
    assert len(to_messages(found)) == 1
    # Whoever makes the summary that was asked for finds the wish.
    assert found[0]["data"] == {"reason": "manual"}


@pytest.mark.line("P46")
def test_a_kept_tail_may_reach_over_several_generations(store, talk) -> None:
    write(store, "scout", compaction("S", first_kept_entry_id=talk[2]), generation=2)
    two = write(store, "scout", user("q"), answer("a"), turn="turn-4", generation=2)
    write(store, "scout", compaction("T", first_kept_entry_id=talk[4]), generation=3)
    three = write(store, "scout", user("r"), turn="turn-5", generation=3)
    found = rebuild(store, "scout", 3)
    assert found[0]["data"]["summary"] == "T"
    assert ids(found[1:]) == [*talk[4:], *two, *three]


def test_a_turn_that_was_compacted_goes_on_from_what_was_kept(store, talk) -> None:
    turn = "turn-4"
    made = write(
        *(store, "scout", user("go"), answer("", "c1"), result("c1")),
        *(answer("", "c2"), result("c2")),
        turn=turn,
    )
    details = {"first_kept_entry_id": made[3], "details": {"turn_id": turn}}
    write(store, "scout", compaction("S", **details), generation=2, turn=turn)
    (last,) = write(store, "scout", answer("done"), generation=2, turn=turn)
    found = rebuild(store, "scout", 2, turn)
    assert ids([row for row in found if row["turn_id"] == turn]) == [*made[3:], last]
    assert found[0]["data"]["summary"] == "S"
    assert len(found) == 4


def test_a_turn_that_was_unfinished_keeps_its_message_through_a_compaction(
    store, talk
) -> None:
    early = write(store, "scout", user("wait for me"), turn="turn-4")
    details = {"first_kept_entry_id": None, "details": {"turn_id": "turn-5"}}
    write(store, "scout", compaction("S", **details), generation=2, turn="turn-5")
    found = rebuild(store, "scout", 2, "turn-4")
    assert ids(found[1:]) == early


def test_a_summary_that_comes_after_its_turn_s_message_leaves_it_there(store) -> None:
    store.agent()
    write(store, "scout", compaction(reason="manual"), generation=2)
    made = write(store, "scout", user("go on"), generation=2, turn="turn-4")
    details = {"first_kept_entry_id": None, "details": {"turn_id": "turn-4"}}
    write(store, "scout", compaction("S", **details), generation=2)
    found = rebuild(store, "scout", 2, "turn-4")
    assert ids([row for row in found if row["turn_id"] == "turn-4"]) == made


def test_a_fork_of_a_compacted_agent_shares_summary_and_tail(store, talk) -> None:
    write(store, "scout", compaction("S", first_kept_entry_id=talk[4]), generation=2)
    two = write(store, "scout", user("q"), answer("a"), turn="turn-4", generation=2)
    fork(store, "scout", entry_id=two[0], id="other")
    own = write(store, "other", user("r"), generation=2)
    found = rebuild(store, "other", 2)
    assert ids(found[1:]) == [*talk[4:], two[0], *own]
    first = {"first_kept_entry_id": two[0]}
    write(store, "other", compaction("T", **first), generation=3)
    found = rebuild(store, "other", 3)
    assert (found[0]["data"]["summary"], ids(found[1:])) == ("T", [two[0], *own])


def test_a_kept_tail_counts_against_the_limit_of_a_history(store) -> None:
    store.agent()
    made = write(store, "scout", *(user(str(n)) for n in range(HISTORY_LIMIT + 9)))
    write(store, "scout", compaction("S", first_kept_entry_id=made[0]), generation=2)
    own = write(store, "scout", user("x"), generation=2)
    found = rebuild(store, "scout", 2)
    # The summary itself is one of them.
    assert ids(found[1:]) == [*made[-HISTORY_LIMIT + 2 :], *own]


# Labels.


def test_a_label_names_an_entry_and_moves(store, talk) -> None:
    label(store, "good", talk[1])
    assert label(store, "good", talk[3])["entry_id"] == talk[3]
    label(store, "bad", talk[5])
    found = forks.list_labels(store.database, "scout")
    assert [(each["name"], each["entry_id"]) for each in found] == [
        ("bad", talk[5]),
        ("good", talk[3]),
    ]
    fork(store, "scout", label="good", id="other")
    assert ids(rebuild(store, "other")) == talk[:4]
    assert forks.list_labels(store.database, "other") == []


def test_a_label_is_one_agent_s_and_of_its_own_history(store, talk) -> None:
    store.agent("owl")
    label(store, "good", talk[1])
    with pytest.raises(NotFound, match="no label 'good'"):
        forks.get_label(store.database, "owl", "good")
    with pytest.raises(Conflict, match="one of agent scout"):
        label(store, "good", talk[1], "owl")
    with pytest.raises(NotFound, match="no entry"):
        label(store, "good", 10**9)
    for name in ("", "-a", "a b", "a/b", "x" * 65, "é"):
        with pytest.raises(BadLabel):
            label(store, name, talk[1])


def test_a_label_that_is_dropped_is_gone_and_its_entry_is_not(store, talk) -> None:
    label(store, "good", talk[1])
    with store.write() as tx:
        assert forks.drop_label(tx, "scout", "good")["entry_id"] == talk[1]
    with pytest.raises(NotFound, match="no label"), store.write() as tx:
        forks.drop_label(tx, "scout", "good")
    assert ids(rebuild(store, "scout")) == talk


# Search.


def find(store: Any, query: str, **wanted: Any) -> list[int]:
    return [hit["entry_id"] for hit in search.search(store.database, query, **wanted)]


def test_an_entry_is_found_by_its_words_newest_first(store, talk) -> None:
    assert find(store, "question") == [talk[4], talk[2], talk[0]]
    assert find(store, "QUESTION 2") == [talk[2]]
    assert find(store, "quest") == [talk[4], talk[2], talk[0]]
    assert find(store, "uestion") == []
    (hit,) = search.search(store.database, "answer 3")
    assert hit == {
        "entry_id": talk[5],
        "agent_id": "scout",
        "generation": 1,
        "type": "assistant_message",
        "turn_id": "turn-3",
        "snippet": "answer 3",
        "created_at": hit["created_at"],
    }


def test_what_has_all_the_words_comes_before_what_has_any(store, talk) -> None:
    assert find(store, "question 3") == [talk[4]]
    assert find(store, "question zebra") == [talk[4], talk[2], talk[0]]


def test_a_search_is_narrowed_and_paged(store, talk) -> None:
    store.agent("owl")
    (other,) = write(store, "owl", user("an owl's question"))
    assert find(store, "question", limit=2) == [other, talk[4]]
    assert find(store, "question", limit=2, before=talk[4]) == [talk[2], talk[0]]
    assert find(store, "question", agent_id="owl") == [other]
    assert find(store, "1", type="assistant_message") == [talk[1]]
    assert find(store, "1", type="tool_result") == []


def test_a_fork_finds_what_it_inherits_and_nothing_after(store, talk) -> None:
    fork(store, "scout", entry_id=talk[2], id="other")
    (own,) = write(store, "other", user("a question of its own"))
    found = find(store, "question", agent_id="other")
    assert found == [own, talk[2], talk[0]]


def test_what_is_worth_finding_is_found_and_the_rest_is_not(store) -> None:
    store.agent()
    thought = NewEntry(type="reasoning", role="assistant", content=text_of("zebra"))
    failed = NewEntry(type="error", role=None, content=text_of("zebra"))
    said = [user("zebra"), answer("zebra"), result("c", "zebra"), thought, failed]
    worth = [*said, compaction("zebra")]
    rest = [
        prompt("zebra"),
        compaction(),
        # What was recalled is found where it was said.
        result("d", "zebra", tool="recall"),
        NewEntry(type="tool_call", role=None, content=[{"type": "json", "json": {}}]),
        user(""),
    ]
    made = write(store, "scout", *worth, *rest)
    assert find(store, "zebra") == made[len(worth) - 1 :: -1]


@pytest.mark.parametrize(
    "query",
    [
        *('"', "'", '"a', "a*", "*", "a AND", "NEAR(", "NOT a", "text:a", "a:*", "& |"),
        *("a''b", "\\", "(a", "-a", "^a", "a + b", "", "  ", "%", "?", "\0", "\ud800"),
        *("😀", "x" * 5000, " ".join("abc" for _ in range(500)), "<->", "!!", "ⅳ ß"),
    ],
)
def test_no_query_is_a_syntax_error(store, talk, query) -> None:
    assert isinstance(find(store, query), list)
    assert isinstance(find(store, query, agent_id="scout"), list)


def test_case_accents_and_scripts_do_not_hide_a_word(store) -> None:
    store.agent()
    first = write(store, "scout", user("Das Café in der STRASSE, snake_case/path.txt"))
    second = write(store, "scout", user("東京タワーで会う\0\ud800"))
    for query in ("cafe", "CAFÉ", "straße", "snake", "path", "txt", "case/path"):
        assert find(store, query) == first, query
    for query in ("東京", "タワー", "会う"):
        assert find(store, query) == second, query


def test_a_very_long_text_is_found_by_its_beginning(store) -> None:
    store.agent()
    words = " ".join(f"w{number}" for number in range(200_000))
    made = write(store, "scout", user(words), user("x" * 1_000_000 + " y"))
    assert find(store, "w7") == made[:1]
    assert find(store, "w199999") == []


def test_a_snippet_shows_the_words_in_their_place(store) -> None:
    store.agent()
    write(
        store, "scout", user("before " * 100 + "the\nneedle is here" + " after" * 100)
    )
    (hit,) = search.search(store.database, "needle")
    shown = hit["snippet"]
    assert "the needle is here" in shown
    assert (shown[0], shown[-1]) == ("…", "…")
    assert len(shown) <= search.SNIPPET_CHARACTERS


def test_an_agent_recalls_its_past_but_not_the_question_itself(store, talk) -> None:
    write(store, "scout", compaction("they met at question 2"), generation=2)
    long = "x " * 400 + "question 2"
    write(store, "scout", result("c", long), generation=2, turn="turn-4")
    write(store, "scout", user("what was question 2?"), generation=2, turn="turn-5")
    found = search.recall(
        store.database, "scout", "question 2", but_turn_id="turn-5", limit=10
    )
    assert [each["who"] for each in found] == ["tool exec", "summary", "user"]
    assert [set(each) for each in found] == [{"entry_id", "at", "who", "snippet"}] * 3
    assert max(len(each["snippet"]) for each in found) <= search.RECALL_CHARACTERS
