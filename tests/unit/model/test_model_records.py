"""Framed records: what was written is read, what was not is told from what was lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.model.records import Record, frame, header, read_journal, split_batches

records = st.builds(
    Record,
    kind=st.sampled_from(["job", "config", "archive"]),
    id=st.from_regex(r"[A-Za-z0-9_.:+@/-]{1,20}", fullmatch=True),
    seq=st.integers(0, 10**12),
    payload=st.binary(max_size=60),
)
batches = st.lists(st.lists(records, min_size=1, max_size=4), max_size=5)


def written(content: list[list[Record]], first: int) -> bytes:
    """A journal file with these batches."""
    return header(first) + b"".join(frame(first + at, batch) for at, batch in enumerate(content))


class ReadTests(SynchronousTestCase):
    """Journal files."""

    @given(batches, st.integers(0, 1000))
    def test_round_trip(self, content: list[list[Record]], first: int) -> None:
        """All records come back, and the number of the next batch."""
        data = written(content, first)
        found = read_journal(data)
        self.assertEqual(found.records, tuple(record for batch in content for record in batch))
        self.assertEqual((found.next_batch, found.good_bytes), (first + len(content), len(data)))
        self.assertEqual((found.damage, found.torn_bytes), (None, 0))
        self.assertEqual(read_journal(data[: found.last_batch_offset]).records, _flat(content[:-1]))

    @given(batches.filter(bool), st.data())
    def test_torn(self, content: list[list[Record]], data: st.DataObject) -> None:
        """Cut anywhere in the last batch, or followed by rubbish, a file has all batches before it."""
        whole, before = written(content, 1), len(written(content[:-1], 1))
        cut = data.draw(st.integers(before, len(whole) - 1))
        found = read_journal(whole[:cut] + data.draw(st.sampled_from([b"", bytes(100)])))
        self.assertEqual((found.records, found.damage), (_flat(content[:-1]), None))
        self.assertEqual(found.good_bytes, before)

    @given(batches.filter(lambda content: len(content) > 1), st.data())
    @hypothesis_settings(max_examples=200)
    def test_damaged(self, content: list[list[Record]], data: st.DataObject) -> None:
        """A changed byte in any batch but the last is found, and told from a torn write."""
        whole, before = written(content, 1), len(written(content[:-1], 1))
        at = data.draw(st.integers(len(header(1)), before - 1))
        value = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[at]))
        found = read_journal(whole[:at] + bytes([value]) + whole[at + 1 :])
        self.assertIsNotNone(found.damage)

    def test_damaged_line_break(self) -> None:
        """The byte between two batches is damaged: that is damage, not a torn write of both of them."""
        content = [[Record(kind="job", id=name, seq=1, payload=b"x")] for name in ("1", "2")]
        whole, at = written(content, 1), len(written(content[:1], 1)) - 1
        self.assertIsNotNone(read_journal(whole[:at] + b"\0" + whole[at + 1 :]).damage)


class BatchTests(SynchronousTestCase):
    """Batches in a message."""

    @given(batches)
    def test_split(self, content: list[list[Record]]) -> None:
        """Batches come back with their numbers."""
        data = b"".join(frame(at, batch) for at, batch in enumerate(content, 5))
        found = [(one.number, list(one.records)) for one in split_batches(data)]
        self.assertEqual(found, list(enumerate(content, 5)))

    @given(batches.filter(bool), st.data())
    def test_incomplete(self, content: list[list[Record]], data: st.DataObject) -> None:
        """A message that is not whole has no batches at all."""
        last = frame(9, content[-1])
        cut = data.draw(st.integers(1, len(last) - 1))
        self.assertEqual(split_batches(frame(8, content[0]) + last[:cut]), ())

    def test_names(self) -> None:
        """Kinds and ids with spaces or nothing in them cannot be framed."""
        for kind, name in (("a b", "x"), ("a", ""), ("a", "x\n")):
            self.assertRaises(ValueError, frame, 1, [Record(kind=kind, id=name, seq=1, payload=b"")])


def _flat(content: list[list[Record]]) -> tuple[Record, ...]:
    return tuple(record for batch in content for record in batch)
