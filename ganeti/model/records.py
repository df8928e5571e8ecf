"""Records of a journal and how they lie in a file or in a message: framed, numbered, with a checksum.

A journal file is one header line and then batches. A batch is what was written, and made durable,
at once; all records of a batch carry its number, and each says how many of the batch still follow.
So whoever reads the file can tell a write that never ended (harmless: nobody was told that it had)
from damage to something that was durable:

    ganeti-journal 1 17
    6f3a0c11 17 0 config cluster 42 19
    {"serial_no":42...}

Fields of a record's first line: CRC-32 of all that follows, batch, records that follow in the
batch, kind, id, sequence number, bytes of the payload. Pure.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import msgspec

_HEADER = re.compile(rb"ganeti-journal 1 (\d+)\n")
_FIRST_LINE = re.compile(rb"([0-9a-f]{8}) (\d+) (\d+) (\S+) (\S+) (\d+) (\d+)\n")
_NAME = re.compile(r"[A-Za-z0-9_.:+@/-]+")
_LONGEST_FIRST_LINE = 1024


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One entry: something of a kind, with an id, in its state number `seq`."""

    kind: str
    id: str
    seq: int
    payload: bytes


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """What a journal file holds."""

    records: tuple[Record, ...]
    """Those of complete batches."""
    good_bytes: int
    """Length of the file without what was not written to its end; 0: there is not even a header."""
    next_batch: int
    last_batch_offset: int
    """Where the newest complete batch begins."""
    torn_bytes: int = 0
    """Length of what is to be cut off."""
    damage: str | None = None
    """Set if durable records were lost: what and where."""


def header(first_batch: int) -> bytes:
    """The line that a journal file begins with."""
    return b"ganeti-journal 1 %d\n" % first_batch


def frame(batch: int, records: Sequence[Record]) -> bytes:
    """The bytes of a batch.

    Raises:
        ValueError: a kind or id that cannot be framed.
    """
    last = len(records) - 1
    return b"".join([_frame_one(batch, last - at, record) for at, record in enumerate(records)])


def _frame_one(batch: int, remaining: int, record: Record) -> bytes:
    if not _NAME.fullmatch(record.kind) or not _NAME.fullmatch(record.id):
        raise ValueError(
            f"kind {record.kind!r} or id {record.id!r} of a journal record has forbidden letters"
        )
    rest = b" %d %d %s %s %d %d\n%s\n" % (
        batch,
        remaining,
        record.kind.encode(),
        record.id.encode(),
        record.seq,
        len(record.payload),
        record.payload,
    )
    return b"%08x%s" % (zlib.crc32(rest), rest)


class _Framed(msgspec.Struct, frozen=True, kw_only=True):
    """A record with its place."""

    record: Record
    batch: int
    remaining: int
    end: int


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What was written at once."""

    number: int
    records: tuple[Record, ...]


def split_batches(data: bytes) -> tuple[Batch, ...]:
    """The batches in framed bytes without a header; none if anything is damaged or incomplete."""
    batches: list[Batch] = []
    pending: list[Record] = []
    offset = 0
    while offset < len(data):
        framed = _parse(data, offset)
        if framed is None:
            return ()
        pending.append(framed.record)
        offset = framed.end
        if not framed.remaining:
            batches.append(Batch(number=framed.batch, records=tuple(pending)))
            pending = []
    return () if pending else tuple(batches)


def read_journal(data: bytes) -> Contents:
    """The contents of a journal file, with a torn last batch left out and damage found."""
    start = _HEADER.match(data)
    if start is None:
        return _without_header(data)
    records: list[Record] = []
    pending: list[Record] = []
    good = offset = last_batch_offset = start.end()
    next_batch = int(start.group(1))
    while (framed := _parse(data, offset)) is not None:
        pending.append(framed.record)
        offset = framed.end
        if not framed.remaining:
            records += pending
            pending = []
            last_batch_offset, good, next_batch = good, offset, framed.batch + 1
    return Contents(
        records=tuple(records),
        good_bytes=good,
        next_batch=next_batch,
        last_batch_offset=last_batch_offset,
        torn_bytes=len(data) - good,
        damage=_damage_after(data, offset, next_batch) if offset < len(data) else None,
    )


def _parse(data: bytes, offset: int) -> _Framed | None:
    line = _FIRST_LINE.match(data, offset, offset + _LONGEST_FIRST_LINE)
    if line is None:
        return None
    end = line.end() + int(line.group(7)) + 1
    if end > len(data) or zlib.crc32(memoryview(data)[offset + 8 : end]) != int(line.group(1), 16):
        return None
    record = Record(
        kind=line.group(4).decode(),
        id=line.group(5).decode(),
        seq=int(line.group(6)),
        payload=data[line.end() : end - 1],
    )
    return _Framed(record=record, batch=int(line.group(2)), remaining=int(line.group(3)), end=end)


def _without_header(data: bytes) -> Contents:
    intact = _next_intact(data, 0)
    damage = None
    if intact is not None:
        damage = f"its first line is not that of a journal, but a record follows at byte {intact[0]}"
    return Contents(
        records=(),
        good_bytes=0,
        next_batch=1,
        last_batch_offset=0,
        torn_bytes=len(data),
        damage=damage,
    )


def _damage_after(data: bytes, offset: int, torn_batch: int) -> str | None:
    """What is wrong if the record at `offset` is not merely part of a batch that never ended.

    A batch is begun only when the one before is durable: an intact record of a later batch proves
    that the unreadable one had been.
    """
    found = _next_intact(data, offset)
    while found is not None:
        at, framed = found
        if framed.batch > torn_batch:
            return (
                f"the record at byte {offset} (batch {torn_batch}) cannot be read, but one at byte {at} "
                f"(batch {framed.batch}) is intact"
            )
        found = _next_intact(data, framed.end - 1)
    return None


def _next_intact(data: bytes, offset: int) -> tuple[int, _Framed] | None:
    # Anywhere, not only behind a line break: that may be the byte that was damaged.
    while (line := _FIRST_LINE.search(data, offset + 1)) is not None:
        offset = line.start()
        framed = _parse(data, offset)
        if framed is not None:
            return offset, framed
    return None
