"""Bytes in pieces become whole characters under one cap."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from sandbox import Output
from sandbox.output import STDERR_TAIL_CHARACTERS, Meter, Stream


def emitted(pieces: list[bytes]) -> list[str]:
    outputs: list[Output] = []
    stream = Stream("stdout", outputs.append)
    for piece in pieces:
        stream.feed(piece)
    stream.feed(b"", final=True)
    return [output.text for output in outputs]


@given(st.text(), st.lists(st.integers(min_value=0, max_value=60)))
def test_no_text_is_lost_but_a_blank_end(text: str, cuts: list[int]) -> None:
    data = text.encode(errors="replace")
    places = [0, *sorted(min(place, len(data)) for place in cuts), len(data)]
    pieces = [data[a:b] for a, b in itertools.pairwise(places)]
    whole = data.decode()
    joined = "".join(emitted(pieces))
    assert whole.startswith(joined)
    assert whole[len(joined) :].strip() == ""
    assert all(part.strip() for part in emitted(pieces))


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert emitted([b"a\xff", b"b\xe2\x82"]) == ["a\ufffd", "b", "\ufffd"]


def test_only_the_end_of_stderr_is_kept() -> None:
    stream = Stream("stderr", lambda output: None)
    for _ in range(100):
        stream.feed(b"x" * 1000)
    stream.feed(b"the end")
    assert len(stream.tail) == STDERR_TAIL_CHARACTERS
    assert stream.tail.endswith("xthe end")


def test_the_meter_admits_up_to_the_cap_and_then_nothing() -> None:
    meter = Meter(5)
    assert (meter.admit(b"abc"), meter.is_over) == (b"abc", False)
    assert (meter.admit(b"de"), meter.is_over) == (b"de", False)
    assert (meter.admit(b""), meter.is_over) == (b"", False)
    assert (meter.admit(b"f"), meter.is_over) == (b"", True)
