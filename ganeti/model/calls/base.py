"""What every call to a node has: a name, arguments, a type of result and a class of duration."""

from __future__ import annotations

from enum import Enum
from typing import Any, ClassVar, Generic, TypeVar, get_args, get_origin

import msgspec

R = TypeVar("R")


class Duration(Enum):
    """How long a function may take before the master gives up, seconds (rpc.md section 1)."""

    URGENT = 60.0
    FAST = 300.0
    NORMAL = 900.0
    SLOW = 3600.0
    HOURS = 14400.0
    DAY = 86400.0


class NodeCall(msgspec.Struct, Generic[R], frozen=True, kw_only=True, tag_field="fn"):
    """A call: its fields are the arguments. `R` is the type of the result.

    Subclasses give the function's name as `tag`; `duration` bounds the wait; `inline` is set for
    the few that are so short that the node daemon answers them itself, without a process.
    """

    duration: ClassVar[Duration] = Duration.NORMAL
    inline: ClassVar[bool] = False
    contacts_offline: ClassVar[bool] = False
    """Sent to nodes marked offline, too."""

    @classmethod
    def function(cls) -> str:
        """Name of the function on the wire."""
        tag = cls.__struct_config__.tag
        assert isinstance(tag, str)
        return tag

    @classmethod
    def result_type(cls) -> Any:
        """Type to which the result is decoded."""
        for klass in cls.__mro__:
            for base in getattr(klass, "__orig_bases__", ()):
                if get_origin(base) is NodeCall:
                    return get_args(base)[0]
        raise TypeError(f"{cls.__name__} does not say what it returns")
