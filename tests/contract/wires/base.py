"""What the contract suite of models asks of each provider's wire format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from agents.messages import Answer
from agents.models import Model

JSON = dict[str, Any]


class Wire(Protocol):
    """One provider's protocol, from the provider's side: written from its documents,
    checked by its own SDK."""

    @property
    def provider(self) -> str:
        """The provider's name, as it stands before the slash of a model's name."""

    def model(self, base_url: str, find_key: Callable[[], str | None]) -> Model:
        """Open the adapter on a server: `base_url` is `http://127.0.0.1:PORT`."""

    def frames(self, answer: Answer) -> list[bytes]:
        """Return the body of a streamed answer, in the pieces in which it is sent.

        Text, reasoning and the arguments of each tool call come in two pieces or more.
        """

    def unfinished(self, answer: Answer) -> list[bytes]:
        """Return the same without whatever says that the answer is whole."""

    def error_frame(self, message: str) -> bytes:
        """Return an error that is told inside of a stream, as an overload would be."""

    def error_body(self, status: int, message: str) -> JSON:
        """Return the JSON body of an answer with an error status."""

    def overflow(self) -> tuple[int, JSON]:
        """Return status and body for a conversation that is longer than the window."""

    def check(self, path: str, headers: Mapping[str, str], body: JSON) -> None:
        """Refuse (AssertionError, ValidationError) what the provider would: by its
        SDK's own request types, with every lazy field walked, and by its rules for
        histories (each call answered once, roles that alternate where they must)."""

    def key_of(self, headers: Mapping[str, str]) -> str:
        """Return the key that a request came with; header names are lower case."""
