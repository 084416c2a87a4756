"""A request's body: JSON as RFC 8259 has it, without what Python adds to it.

A body is parsed here, whatever its content type says, so what is refused here reaches
no database.
"""

from __future__ import annotations

import math
from typing import Any

import flask
from flask.json.provider import DefaultJSONProvider

from webapp.problems import ProblemError


class Request(flask.Request):
    """A request whose empty body is an empty object: `curl -X POST …/kill` will do."""

    def get_json(self, *args: Any, **options: Any) -> Any:
        """Return the JSON body; `{}` where there is none."""
        if not self.get_data(cache=True):
            return {}
        return super().get_json(*args, **options)


class StrictJSON(DefaultJSONProvider):
    """JSON that every other program can read again."""

    def loads(self, s: str | bytes, **options: Any) -> Any:
        """Parse a body; refuse what is no JSON, or more than Python can hold."""
        try:
            return super().loads(
                s, parse_constant=_refuse_constant, parse_float=_finite, **options
            )
        except RecursionError:
            raise ProblemError(
                "too-deep", 400, "The body is nested too deep."
            ) from None


def _refuse_constant(_name: str) -> None:
    # Kept, it would come out again as `NaN`, at which every browser's parser stops.
    raise ProblemError(
        "bad-number", 400, "JSON has no NaN and no Infinity: send null, or a string."
    )


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ProblemError(
            "bad-number", 400, "A number in the body is larger than 64 bits hold."
        )
    return number
