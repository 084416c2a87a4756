"""A policy can be narrowed and never widened."""

import contextlib
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import Policy, PolicyError

NUMBERS = (
    "wall_seconds",
    "cpu_seconds",
    "memory_bytes",
    "processes",
    "open_files",
    "file_bytes",
    "disk_bytes",
    "output_bytes",
    "result_bytes",
)


def test_narrowing_changes_what_is_named_and_nothing_else() -> None:
    policy = Policy(env={"A": "1", "B": "2"})
    narrowed = policy.narrow(wall_seconds=5, cpu_seconds=1.5, env={"A": "1"})
    changed = {"wall_seconds": 5, "cpu_seconds": 1.5, "env": {"A": "1"}}
    assert asdict(narrowed) == asdict(policy) | changed


def test_a_wider_value_is_refused_with_field_asked_and_allowed() -> None:
    with pytest.raises(PolicyError) as refusal:
        Policy(wall_seconds=60).narrow(wall_seconds=61)
    error = refusal.value
    assert (error.field, error.asked, error.allowed) == (
        "wall_seconds",
        61,
        "at most 60",
    )
    assert str(error) == "policy.wall_seconds: asked for 61, allowed is at most 60"


@given(
    field=st.sampled_from(NUMBERS),
    asked=st.one_of(
        st.integers(),
        st.floats(allow_nan=True, allow_infinity=True),
        st.none(),
        st.booleans(),
        st.text(max_size=3),
    ),
)
def test_whatever_is_asked_no_number_gets_wider(field: str, asked: object) -> None:
    policy = Policy(cpu_seconds=10)
    with contextlib.suppress(PolicyError):
        policy = policy.narrow(**{field: asked})
    assert 0 < getattr(policy, field) <= getattr(Policy(cpu_seconds=10), field)


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("network", True),
        ("network", "no"),
        ("env", {"A": "2"}),
        ("env", {"B": "1"}),
        ("env", "A=1"),
        ("env", {"LD_PRELOAD": "x"}),
        ("memory_bytes", 1000),
        ("processes", 1),
        ("wall_seconds", 0),
        ("wall_second", 5),
    ],
)
def test_every_other_widening_is_refused_by_name(field: str, asked: object) -> None:
    with pytest.raises(PolicyError) as refusal:
        Policy(env={"A": "1"}).narrow(**{field: asked})
    assert refusal.value.field == field


def test_no_limit_on_processor_time_can_be_narrowed_to_one_and_not_back() -> None:
    narrowed = Policy().narrow(cpu_seconds=3)
    with pytest.raises(PolicyError, match="at most 3"):
        narrowed.narrow(cpu_seconds=None)


@pytest.mark.parametrize("name", ["", "1A", "A B", "A=B", "A\n", "Ä", "A\0"])
def test_a_name_no_shell_would_take_is_no_grant(name: str) -> None:
    with pytest.raises(PolicyError):
        Policy(env={name: "x"})


def test_a_refused_value_of_the_environment_is_not_repeated() -> None:
    with pytest.raises(PolicyError) as refusal:
        Policy(env={"TOKEN": "s3cr3t\0"})
    assert "s3cr3t" not in str(refusal.value)
    with pytest.raises(PolicyError) as refusal:
        Policy(env={"TOKEN": "s3cr3t"}).narrow(env={"TOKEN": "0ther"})
    assert "s3cr3t" not in str(refusal.value)
    assert "0ther" not in str(refusal.value)
