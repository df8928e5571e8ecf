"""Backend parameters: memory and processors of an instance (objects.md section 10)."""

from __future__ import annotations

from ganeti.errors import ErrorCode, PrereqError
from ganeti.model.param_tables.rows import flag, number, size
from ganeti.model.params import ParamTable, ParamValue, ParamValues

BACKEND = ParamTable(
    "the backend",
    (
        size("maxmem", 128, "memory the instance gets when it starts"),
        size("minmem", 128, "memory below which it is never ballooned"),
        number("vcpus", 1, "number of virtual processors", at_least=1),
        flag("auto_balance", True, "memory for a failover of this instance is kept free (N+1)"),
        flag("always_failover", False, "never migrate, always stop and start on the other node"),
        number("spindle_use", 1, "weight of its disk activity", at_least=0),
    ),
)
"""What instances and the cluster store. `memory` is no row: see `expand_memory`."""


def expand_memory(values: ParamValues) -> dict[str, ParamValue]:
    """Values with the input-only `memory` written out as `maxmem` and `minmem`.

    Raises:
        PrereqError: `memory` stands beside one of the two.
    """
    expanded = dict(values)
    if "memory" not in expanded:
        return expanded
    memory = expanded.pop("memory")
    for name in ("maxmem", "minmem"):
        if expanded.get(name, memory) != memory:
            raise PrereqError(
                f"memory sets both minmem and maxmem; leave out memory or {name}", code=ErrorCode.INPUT
            )
        expanded[name] = memory
    return expanded


def check_memory_order(values: ParamValues) -> None:
    """Refuse filled values whose minimum is above the maximum.

    Raises:
        PrereqError: wrong_input.
    """
    least, most = BACKEND.fill(values)["minmem"], BACKEND.fill(values)["maxmem"]
    assert isinstance(least, int) and isinstance(most, int)
    if least > most:
        raise PrereqError(f"minmem ({least} MiB) is larger than maxmem ({most} MiB)", code=ErrorCode.INPUT)
