"""Tests of the filter language of queries."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import FilterError, ParameterError
from ganeti.logic.fields.base import NO_DATA, Field, FieldKind, Table, table
from ganeti.logic.qlang import MAX_DEPTH, compile_filter

ITEM: dict[str, Any] = {
    "name": "web1.example.com",
    "os": "debian+small",
    "memory": 512,
    "load": 1.5,
    "up": True,
    "down": False,
    "tags": ["blue", "rack:4"],
    "ports": [80, 443],
    "received": [1000, 250000],
    "gone": NO_DATA,
}


def _field(name: str, kind: FieldKind, **flags: bool) -> Field[Any, Any]:
    return Field(name=name, title=name, kind=kind, doc="Test", get=lambda item, world: item[name], **flags)


FIELDS: Table = table(
    [
        _field("name", FieldKind.TEXT, is_host_name=True),
        _field("os", FieldKind.TEXT),
        _field("memory", FieldKind.UNIT),
        _field("load", FieldKind.FLOAT),
        _field("up", FieldKind.BOOL),
        _field("down", FieldKind.BOOL),
        _field("tags", FieldKind.OTHER),
        _field("ports", FieldKind.OTHER),
        _field("received", FieldKind.OTHER, is_stamp=True),
        _field("gone", FieldKind.TEXT),
    ]
)


def matches(qfilter: Any) -> bool:
    """Whether the item passes."""
    return compile_filter(qfilter, FIELDS, "name").test(ITEM, None)


class OperatorTests(SynchronousTestCase):
    """What each operator means (query.md section 3)."""

    def test_true(self) -> None:
        """Filters that the item passes."""
        for qfilter in (
            None,
            ["&"],
            ["==", "os", "debian+small"],
            ["=", "os", "debian+small"],
            ["!=", "os", "fedora"],
            ["==", "memory", 512],
            ["<", "memory", 513],
            ["<=", "memory", 512],
            [">", "memory", 511],
            [">=", "memory", 512],
            [">", "load", 1],
            ["<", "os", "e"],
            ["?", "up"],
            ["!", ["?", "down"]],
            ["=~", "os", "small$"],
            ["=~", "os", "(?i)DEBIAN"],
            ["=[]", "tags", "rack:4"],
            ["=[]", "ports", 443],
            ["&", ["?", "up"], ["==", "memory", 512]],
            ["|", ["?", "down"], ["==", "memory", 512]],
        ):
            self.assertTrue(matches(qfilter), qfilter)

    def test_false(self) -> None:
        """Filters that it does not pass."""
        for qfilter in (
            ["|"],
            ["==", "os", "debian"],
            ["!=", "os", "debian+small"],
            ["<", "memory", 512],
            [">", "memory", 512],
            ["?", "down"],
            ["!", ["?", "up"]],
            ["=~", "os", "^small"],
            ["=[]", "tags", "rack"],
            ["=[]", "tags", 4],
            ["&", ["?", "up"], ["?", "down"]],
            ["|", ["?", "down"], ["==", "memory", 1]],
        ):
            self.assertFalse(matches(qfilter), qfilter)

    def test_host_names(self) -> None:
        """A short name is enough for a host name, not for other texts."""
        self.assertTrue(matches(["==", "name", "web1"]))
        self.assertTrue(matches(["==", "name", "WEB1.example"]))
        self.assertFalse(matches(["==", "name", "web"]))
        self.assertFalse(matches(["!=", "name", "web1"]))

    def test_times(self) -> None:
        """A pair of seconds and microseconds is compared by its seconds."""
        self.assertTrue(matches(["==", "received", 1000]))
        self.assertTrue(matches(["<", "received", 1001]))
        self.assertFalse(matches([">", "received", 1000]))

    def test_absent_values(self) -> None:
        """Where there is no value the single test counts as true, so its negation as false."""
        for qfilter in (["==", "gone", "x"], ["=~", "gone", "x"], ["?", "gone"], ["<", "gone", 3]):
            self.assertTrue(matches(qfilter))
            self.assertFalse(matches(["!", qfilter]))
        self.assertFalse(matches(["!=", "gone", "x"]))


class RefusalTests(SynchronousTestCase):
    """What cannot be read, or makes no sense."""

    def test_not_well_formed(self) -> None:
        """The message names the place."""
        for qfilter, pattern in (
            ([], "the filter must be a list that begins with an operator"),
            ("name", "the filter must be a list"),
            ([["?", "up"]], "begins with an operator"),
            ([1, 2], "begins with an operator"),
            (["<>", "os", "a"], "unknown operator '<>'"),
            (["?"], "takes 1 argument"),
            (["==", "os"], r"takes 2 argument\(s\), not 1"),
            (["!", ["?", "up"], ["?", "up"]], "takes 1 argument"),
            (["&", ["?", "up"], []], "part 2 of & in the filter"),
            (["=~", "os", "("], r"cannot read the regular expression '\('"),
        ):
            with self.assertRaisesRegex(FilterError, pattern):
                matches(qfilter)

    def test_unknown_field(self) -> None:
        """A field that does not exist is an error, not an empty answer."""
        for qfilter in (["?", "colour"], ["==", "colour", "red"], ["&", ["|", ["=~", "colour", "r"]]]):
            with self.assertRaisesRegex(ParameterError, "unknown field 'colour'"):
                matches(qfilter)

    def test_types(self) -> None:
        """Only texts and whole numbers can be compared, and only with their like."""
        for qfilter in (
            ["==", "os", 1],
            ["==", "memory", "512"],
            ["==", "up", "True"],
            ["<", "tags", "a"],
            ["==", "memory", 1.5],
            ["==", "up", True],
            ["==", "os", None],
            ["=~", "memory", "5"],
            ["=~", "os", 5],
        ):
            with self.assertRaises(ParameterError):
                matches(qfilter)

    def test_depth(self) -> None:
        """A filter that is nested too deeply is refused before it exhausts the stack."""
        qfilter: list[Any] = ["?", "up"]
        for _ in range(MAX_DEPTH + 1):
            qfilter = ["!", qfilter]
        self.assertRaises(FilterError, matches, qfilter)


class LookUpTests(SynchronousTestCase):
    """What a query may look up instead of reading everything."""

    def test_keys(self) -> None:
        """A filter that only asks for keys gives them in order."""
        for qfilter, wanted in (
            (["==", "name", "a"], ("a",)),
            (["|", ["==", "name", "b"], ["=", "name", "a"]], ("b", "a")),
            (["|", ["==", "name", "b"], ["|", ["==", "name", "b"]]], ("b", "b")),
            (None, None),
            (["|"], None),
            (["==", "os", "a"], None),
            (["|", ["==", "name", "a"], ["?", "up"]], None),
            (["&", ["==", "name", "a"]], None),
            (["!", ["==", "name", "a"]], None),
        ):
            self.assertEqual(compile_filter(qfilter, FIELDS, "name").wanted, wanted, qfilter)

    def test_without_key(self) -> None:
        """A resource without a key is always read as a whole."""
        self.assertIsNone(compile_filter(["==", "name", "a"], FIELDS, None).wanted)

    def test_fields(self) -> None:
        """It tells which fields it looks at, so that no node is asked in vain."""
        qfilter = ["&", ["?", "up"], ["|", ["==", "os", "a"], ["!", ["=[]", "tags", "b"]]]]
        self.assertEqual(compile_filter(qfilter, FIELDS, "name").fields, {"up", "os", "tags"})


LEAVES = st.sampled_from(
    [["?", "up"], ["?", "down"], ["==", "memory", 512], ["=~", "os", "x"], ["=[]", "tags", "blue"]]
)
FILTERS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda part: ["!", part], inner),
        st.builds(lambda parts: ["&", *parts], st.lists(inner, max_size=3)),
        st.builds(lambda parts: ["|", *parts], st.lists(inner, max_size=3)),
    ),
    max_leaves=12,
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=10,
)


class PropertyTests(SynchronousTestCase):
    """Laws of logic, and that rubbish is always refused properly."""

    @given(FILTERS)
    def test_double_negation(self, qfilter: Any) -> None:
        """Twice not is the same."""
        self.assertEqual(matches(["!", ["!", qfilter]]), matches(qfilter))

    @given(FILTERS, FILTERS)
    def test_de_morgan(self, one: Any, other: Any) -> None:
        """Not both is one of the opposites."""
        self.assertEqual(matches(["!", ["&", one, other]]), matches(["|", ["!", one], ["!", other]]))

    @given(FILTERS, FILTERS)
    def test_order_does_not_matter(self, one: Any, other: Any) -> None:
        """Parts may be exchanged."""
        self.assertEqual(matches(["&", one, other]), matches(["&", other, one]))
        self.assertEqual(matches(["|", one, other]), matches(["|", other, one]))

    @given(st.one_of(JSON, st.lists(st.one_of(st.sampled_from(["&", "|", "!", "==", "name", "up"]), JSON))))
    def test_rubbish(self, qfilter: Any) -> None:
        """Whatever comes, it passes or fails or is refused with one of two errors."""
        try:
            self.assertIsInstance(matches(qfilter), bool)
        except (FilterError, ParameterError) as error:
            self.assertTrue(str(error))
