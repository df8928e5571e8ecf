"""Values in AMP boxes."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted.protocols import amp
from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import GanetiError, PrereqError
from ganeti.wire.arguments import CHUNK, Chunked, Json, RawJson, Trace, Typed

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A typed value."""

    x: int
    y: int = 0


def through(argument: amp.Argument, value: object) -> object:
    """A value after it was put into a box and taken out."""
    box: dict[bytes, bytes] = {}
    argument.toBox(b"a", box, {"a": value}, None)
    found: dict[str, object] = {}
    argument.fromBox(b"a", amp.AmpBox(box), found, None)
    return found["a"]


class ArgumentTests(SynchronousTestCase):
    """Single values."""

    @given(json_values)
    def test_json_round_trip(self, value: object) -> None:
        """Any JSON value arrives as it was."""
        self.assertEqual(through(Json(), value), value)

    def test_json_goes_through_raw(self) -> None:
        """What is encoded already is not encoded again."""
        self.assertEqual(through(Json(), msgspec.Raw(b"[1, 2]")), [1, 2])

    def test_typed_round_trip(self) -> None:
        """A struct arrives as a struct."""
        self.assertEqual(through(Typed(Point), Point(x=1, y=2)), Point(x=1, y=2))

    def test_wrong_type_names_the_path(self) -> None:
        """A value of another shape is refused with the place of the mistake."""
        with self.assertRaisesRegex(PrereqError, r"\$\.x"):
            Typed(Point).fromString(b'{"x": "one"}')

    def test_trace_may_be_left_out(self) -> None:
        """No job, no trace."""
        self.assertIsNone(through(Trace(), None))


class ChunkedTests(SynchronousTestCase):
    """Values over several keys."""

    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 4 * CHUNK))
    def test_any_length_round_trips(self, length: int) -> None:
        """Every length arrives, also those at the edge of a key."""
        value = b"7" * length
        self.assertEqual(through(Chunked(RawJson()), value), value)

    def test_edges(self) -> None:
        """Exactly one key full, and one byte more."""
        for length, keys in ((CHUNK, 1), (CHUNK + 1, 2), (2 * CHUNK, 2), (2 * CHUNK + 1, 3)):
            box: dict[bytes, bytes] = {}
            Chunked(RawJson()).toBox(b"a", box, {"a": b"x" * length}, None)
            self.assertEqual(len(box), keys)
            self.assertEqual(through(Chunked(RawJson()), b"x" * length), b"x" * length)

    def test_names_of_keys(self) -> None:
        """The keys are the name, the name with .1, .2 and so on."""
        box: dict[bytes, bytes] = {}
        Chunked(RawJson()).toBox(b"args", box, {"args": b"x" * (2 * CHUNK + 5)}, None)
        self.assertEqual(sorted(box), [b"args", b"args.1", b"args.2"])
        self.assertEqual([len(box[key]) for key in sorted(box)], [CHUNK, CHUNK, 5])

    def test_too_long_is_not_sent(self) -> None:
        """The sender refuses a value above the cap and names it."""
        with self.assertRaisesRegex(GanetiError, "'a' has 11 bytes"):
            through(Chunked(RawJson(), at_most=10), b"x" * 11)

    def test_too_long_is_not_put_together(self) -> None:
        """The receiver refuses it, too."""
        box = amp.AmpBox({b"a": b"x" * 6, b"a.1": b"x" * 6})
        with self.assertRaisesRegex(GanetiError, "at most 10"):
            Chunked(RawJson(), at_most=10).fromBox(b"a", box, {}, None)

    def test_missing(self) -> None:
        """A missing value is the caller's mistake, unless it is optional."""
        with self.assertRaisesRegex(PrereqError, "'a' is missing"):
            Chunked(Json()).fromBox(b"a", amp.AmpBox(), {}, None)
        self.assertIsNone(through(Chunked(Json(), optional=True), None))
