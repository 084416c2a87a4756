"""The parser of server-sent events, against the HTML standard's rules."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.cli.sse import Message, Retry, parse


def read(*chunks: bytes) -> list[Message | Retry]:
    return list(parse(chunks))


def message(data: str, event: str = "message", id: str = "") -> Message:
    return Message(event=event, data=data, id=id)


def test_a_block_becomes_a_message_with_its_event_and_id() -> None:
    stream = b"id: 7\nevent: turn_start\ndata: {}\n\n"
    assert read(stream) == [message("{}", "turn_start", "7")]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_every_kind_of_line_end_ends_a_line(end: bytes) -> None:
    stream = end.join([b"data: one", b"data: two", b"", b"data: three", b"", b""])
    assert read(stream) == [message("one\ntwo"), message("three")]


def test_comments_and_unknown_fields_mean_nothing() -> None:
    assert read(b": heartbeat\nfancy: 1\ndata: a\n\n: again\n\n") == [message("a")]


def test_a_byte_order_mark_at_the_start_is_skipped_even_when_cut() -> None:
    assert read(b"\xef\xbb", b"\xbfdata: a\n\n") == [message("a")]


def test_one_space_after_the_colon_is_not_part_of_the_value() -> None:
    assert read(b"data:a\n\ndata:  b\n\ndata\n\n") == [
        message("a"),
        message(" b"),
        message(""),
    ]


def test_an_id_stays_until_the_next_one_even_from_a_block_without_data() -> None:
    stream = b"id: 1\n\ndata: a\n\ndata: b\nid: 2\n\n"
    assert read(stream) == [message("a", id="1"), message("b", id="2")]


def test_an_id_with_a_null_byte_is_ignored() -> None:
    assert read(b"id: 1\nid: 2\x00\ndata: a\n\n") == [message("a", id="1")]


def test_retry_is_told_at_once_and_only_when_it_is_a_number() -> None:
    assert read(b"retry: 250\nretry: soon\nretry: \xc2\xb2\ndata: a\n\n") == [
        Retry(250),
        message("a"),
    ]


def test_a_block_that_never_ended_is_lost() -> None:
    assert read(b"data: a\n\ndata: b\n") == [message("a")]


def test_a_line_separator_of_unicode_is_no_line_end() -> None:
    assert read("data: a\u2028b\x0bc\n\n".encode()) == [message("a\u2028b\x0bc")]


def test_a_message_is_out_before_the_line_feed_of_its_last_crlf_has_come() -> None:
    fed: list[bytes] = []

    def chunks():  # type: ignore[no-untyped-def]
        for chunk in (b"data: a\r\n\r", b"\ndata: b\r\n\r\n"):
            fed.append(chunk)
            yield chunk

    stream = parse(chunks())
    assert next(stream) == message("a")
    assert len(fed) == 1
    assert list(stream) == [message("b")]


fields = st.builds(
    lambda name, space, value: f"{name}{space}{value}",
    st.sampled_from(["data", "event", "id", "retry", "", "other"]),
    st.sampled_from([":", ": ", ""]),
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=5),
)
streams = st.builds(
    lambda mark, lines: mark + b"".join(f"{line}{end}".encode() for line, end in lines),
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    st.lists(st.tuples(fields | st.just(""), st.sampled_from(["\n", "\r", "\r\n"]))),
)


@given(streams, st.data())
def test_where_a_stream_is_cut_makes_no_difference(
    stream: bytes, data: st.DataObject
) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(stream))).map(sorted))
    edges = [0, *cuts, len(stream)]
    chunks = [stream[a:b] for a, b in pairwise(edges)]
    whole = read(stream)
    assert read(*chunks) == whole
    assert read(*(stream[i : i + 1] for i in range(len(stream)))) == whole


@given(st.binary(), st.data())
def test_no_bytes_at_all_can_break_the_parser(raw: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(raw)))
    assert read(raw[:cut], raw[cut:]) == read(raw)
