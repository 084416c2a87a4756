"""The report of a job is read as what it is: untrusted."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import JSON, Limit, Policy
from sandbox.channel import Channel


def channel_after(*pieces: bytes) -> Channel:
    channel = Channel(Policy())
    for piece in pieces:
        assert channel.feed(piece) is None
    return channel


def test_the_last_result_counts_however_it_is_cut_into_pieces() -> None:
    report = b'{"started":true}\n{"result":1}\n{"result":{"a":"\xc3\xbc"}}\n'
    for size in range(1, len(report)):
        pieces = [report[at : at + size] for at in range(0, len(report), size)]
        assert channel_after(*pieces).result() == ({"a": "ü"}, None)


def test_a_line_that_was_not_finished_does_not_count() -> None:
    assert channel_after(b'{"result":1}\n{"resu').result() == (1, None)


@pytest.mark.parametrize(
    "report",
    [
        b"",
        b'{"started":true}\n',
        b"[]\n",
        b'"result"\n',
        b'{"result":NaN}\n',
        b'{"result":Infinity}\n',
        b'{"result":\xff}\n',
        b'{"result":"\\ud800"}\n',
        b'{"result":["a","\\uDFFF"]}\n',
        b'{"result":1}{"result":2}\n',
        b'{"unserialisable":7}\n',
        b'{"result":' + b"[" * 100_000 + b"\n",
        b'{"result":' + b"9" * 5000 + b"}\n",
    ],
)
def test_a_report_that_is_no_result_is_a_failure(report: bytes) -> None:
    result, failure = channel_after(report).result()
    assert result is None
    assert failure is not None
    assert failure.type == "bad_result"


def test_a_surrogate_pair_is_text() -> None:
    assert channel_after(b'{"result":"\\ud83d\\ude00"}\n').result() == ("😀", None)


def test_a_line_without_end_is_refused_at_the_limit_and_not_kept() -> None:
    channel = Channel(Policy(result_bytes=1000))
    failures = [channel.feed(b'{"result":"' + b"x" * 500) for _ in range(3)]
    assert failures[0] is None
    assert failures[-1] is not None
    assert failures[-1].limit == Limit(name="result_bytes", value=1000)


def test_many_reports_are_not_kept() -> None:
    channel = Channel(Policy(result_bytes=1000))
    for _ in range(1000):
        assert channel.feed(b'{"result":"' + b"x" * 900 + b'"}\n') is None
    assert channel.result() == ("x" * 900, None)


def test_a_reason_with_odd_characters_is_printable() -> None:
    _, failure = channel_after(b'{"unserialisable":"\\ud800 no"}\n').result()
    assert failure is not None
    assert (
        failure.message == "globalThis.result is not JSON: ? no; set it to plain data"
    )


json_values: st.SearchStrategy[JSON] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(json_values)
def test_every_value_arrives_as_it_is(value: JSON) -> None:
    report = json.dumps({"result": value}).encode() + b"\n"
    assert channel_after(report).result() == (value, None)


@given(st.binary(max_size=200))
def test_no_bytes_raise(report: bytes) -> None:
    channel = Channel(Policy())
    channel.feed(report)
    channel.result()
