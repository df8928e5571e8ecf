"""What came of a call to each of many nodes: a value that has to be opened before it is used."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from ganeti.errors import GanetiError

R = TypeVar("R")


class Answer(msgspec.Struct, Generic[R], frozen=True):
    """The node answered."""

    value: R


class NodeFailed(msgspec.Struct, frozen=True):
    """The node gave no result; `error` says why, class included."""

    error: GanetiError

    @property
    def reason(self) -> str:
        """Why, for the operator."""
        return str(self.error)


Outcome = Answer[R] | NodeFailed
