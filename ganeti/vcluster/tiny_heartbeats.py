"""Reads the heartbeats of the tiny guest from its disk image or the log of its console.

The numbers go on over reboots, failovers and migrations. A number that is missing between others is
a write that was acknowledged to the guest and then lost; another boot id means that it booted anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

SECTOR = 512
FIRST_SECTOR = 2048
SLOTS = 1024
LABEL = "tiny-guest-disk 1"

_RECORD = re.compile(rb"HB (\d+) (\S+) ([\d.]+)\n")
_CONSOLE = re.compile(rb"^heartbeat (\d+)\s*$", re.MULTILINE)


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """One heartbeat."""

    number: int
    boot: str
    """Differs for each boot of the guest."""
    uptime_s: float


class DiskHeartbeats(msgspec.Struct, frozen=True, kw_only=True):
    """What a disk has."""

    newest: Heartbeat
    missing: tuple[int, ...]
    """Numbers between the oldest and the newest that are not there: lost writes."""
    boots: tuple[str, ...]
    """Boot ids in the order of their heartbeats; one: it ran through."""


def disk_heartbeats(path: str) -> DiskHeartbeats | None:
    """Heartbeats on a raw disk image or device, or None if there are none.

    Raises:
        ValueError: an image that is not raw.
    """
    with open(path, "rb", buffering=0) as disk:
        if disk.read(4) == b"QFI\xfb":
            raise ValueError(f"{path} is a qcow2 image; only raw ones can be read while they are in use")
        disk.seek(FIRST_SECTOR * SECTOR)
        data = disk.read(SLOTS * SECTOR)
    return summary(_records(data))


def summary(beats: Iterable[Heartbeat]) -> DiskHeartbeats | None:
    """Newest, gaps and boots of heartbeats in any order; None if there are none."""
    by_number = {beat.number: beat for beat in beats}
    if not by_number:
        return None
    ordered = [by_number[number] for number in sorted(by_number)]
    newest = ordered[-1]
    # Older ones may have been overwritten: only the last round of the ring must be whole.
    oldest = max(ordered[0].number, newest.number - SLOTS + 1)
    return DiskHeartbeats(
        newest=newest,
        missing=tuple(number for number in range(oldest, newest.number) if number not in by_number),
        boots=tuple(dict.fromkeys(beat.boot for beat in ordered)),
    )


def console_heartbeats(log: bytes) -> tuple[int, ...]:
    """Numbers of the heartbeats in the output of a console, in order of appearance."""
    return tuple(int(match.group(1)) for match in _CONSOLE.finditer(log))


def label(name: str) -> bytes:
    """First sector of a disk that was installed for an instance."""
    return f"{LABEL}\nname={name}\n".encode().ljust(SECTOR, b"\0")


def _records(data: bytes) -> Iterable[Heartbeat]:
    for start in range(0, len(data), SECTOR):
        match = _RECORD.match(data[start : start + SECTOR])
        if match is not None:
            number, boot, uptime = match.groups()
            yield Heartbeat(number=int(number), boot=boot.decode("ascii", "replace"), uptime_s=float(uptime))
