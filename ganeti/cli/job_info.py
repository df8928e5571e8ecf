"""The text of `gnt-job info`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ganeti.cli.info import Pairs
from ganeti.cli.tables import timestamp_us

FIELDS = (
    "id",
    "status",
    "ops",
    "opresult",
    "opstatus",
    "oplog",
    "opstart",
    "opexec",
    "opend",
    "received_ts",
    "start_ts",
    "end_ts",
)
"""What is queried of a job."""

Time = Sequence[int] | None

_HIDDEN = ("osparams_private", "osparams_secret")


def describe(row: Mapping[str, Any]) -> Pairs:
    """One job; times that are missing are `unknown` or `N/A`."""
    received, start, end = row["received_ts"], row["start_ts"], row["end_ts"]
    count = range(len(row["ops"]))
    return Pairs(
        [
            ("Job ID", row["id"]),
            ("Status", row["status"]),
            # Blanks in front of the values make them stand below each other.
            ("Received", f"        {_moment(received)}"),
            ("Processing start", _moment(start) + _delta(received, start)),
            ("Processing end", f"  {_moment(end)}{_delta(start, end)}"),
            ("Total processing time", _total(received, end)),
            ("Opcodes", [_opcode(row, index) for index in count]),
        ]
    )


def _moment(when: Time) -> str:
    return "unknown (None)" if when is None else timestamp_us(when)


def _seconds(since: Sequence[int], until: Sequence[int]) -> float:
    return until[0] - since[0] + (until[1] - since[1]) / 1e6


def _delta(since: Time, until: Time) -> str:
    if since is None or until is None:
        return ""
    return f" (delta {_seconds(since, until):.6f}s)"


def _total(received: Time, end: Time) -> str:
    if received is None or end is None:
        return "N/A"
    return f"{_seconds(received, end):.6f} seconds"


def _opcode(row: Mapping[str, Any], index: int) -> Pairs:
    op = dict(row["ops"][index])
    for name in _HIDDEN:
        if op.get(name):
            op[name] = "<redacted>"
    return Pairs(
        [
            ("Opcode", op.get("OP_ID")),
            ("Status", row["opstatus"][index]),
            ("Processing start", _op_moment(row["opstart"][index])),
            ("Execution start", f" {_op_moment(row['opexec'][index])}"),
            ("Processing end", f"  {_op_moment(row['opend'][index])}"),
            ("Input fields", op),
            ("Result", row["opresult"][index]),
            ("Execution log", [_entry(entry) for entry in row["oplog"][index]]),
        ]
    )


def _op_moment(when: Time) -> str:
    return "N/A" if when is None else timestamp_us(when)


def _entry(entry: Sequence[Any]) -> Pairs:
    serial, when, kind, content = entry
    return Pairs([("Time", timestamp_us(when)), ("Content", (serial, kind, content))])
