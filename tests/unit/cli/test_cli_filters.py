"""The filter language of lists."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.cli.errors import MisreadFilter, misread_filter
from ganeti.cli.filters import from_arguments, glob_regex, parse

PARSED: tuple[tuple[str, list[Any]], ...] = (
    ("offline", ["?", "offline"]),
    ('status == "running"', ["==", "status", "running"]),
    ("status = 'it\\'s'", ["==", "status", "it's"]),
    ("be/vcpus != -2", ["!=", "be/vcpus", -2]),
    ("mtotal <= 5", ["<=", "mtotal", 5]),
    ("a or b and not c", ["|", ["?", "a"], ["&", ["?", "b"], ["!", ["?", "c"]]]]),
    ("a and b and c", ["&", ["?", "a"], ["?", "b"], ["?", "c"]]),
    ("(a or b) and c", ["&", ["|", ["?", "a"], ["?", "b"]], ["?", "c"]]),
    ("not (a)", ["!", ["?", "a"]]),
    ("not not a", ["!", ["!", ["?", "a"]]]),
    ("name =~ m/^web/", ["=~", "name", "^web"]),
    ("name =~ /a\\/b/si", ["=~", "name", "(?si)a/b"]),
    ("name !~ #x|y#", ["!", ["=~", "name", "x|y"]]),
    ("name =~ m|a b|", ["=~", "name", "a b"]),
    ('name =* "web?"', ["=~", "name", r"^web[^.](\..*)?$"]),
    ('name !* "web*"', ["!", ["=~", "name", r"^web[^.]*(\..*)?$"]]),
    ('"prod" in tags', ["=[]", "tags", "prod"]),
    ("3 not in disk.sizes", ["!", ["=[]", "disk.sizes", 3]]),
    ("android", ["?", "android"]),
    ("orders and notes", ["&", ["?", "orders"], ["?", "notes"]]),
)

REFUSED = (
    ("", 0),
    ("a ==", 4),
    ('a == "x', 5),
    ("(a", 2),
    ("a b", 2),
    ('"x" y', 4),
    ("name =~ foo", 8),
    ("a == 1.5", 5),
    ("and", 0),
    ("name =~ /x/g", 11),
    ("a in b", 2),
    ("a == b", 5),
    ("$", 0),
)

FIELDS = st.from_regex(r"\A[a-z]{4,9}(/[a-z]{1,5}|\.[a-z]{1,5})?\Z")
VALUES = st.one_of(st.integers(-999, 999), st.text("ab'\" \\.", max_size=5))


def quoted(value: int | str) -> str:
    """A value as it is written."""
    if isinstance(value, int):
        return str(value)
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def written(test: list[Any]) -> str:
    """A filter as a string."""
    match test:
        case ["?", field]:
            return str(field)
        case ["!", inner]:
            return f"not ({written(inner)})"
        case ["&" | "|" as operator, *parts]:
            return {"&": " and ", "|": " or "}[operator].join(f"({written(part)})" for part in parts)
        case ["=[]", field, value]:
            return f"{quoted(value)} in {field}"
        case [operator, field, value]:
            return f"{field} {operator} {quoted(value)}"
    raise AssertionError(test)


TESTS = st.recursive(
    st.one_of(
        FIELDS.map(lambda field: ["?", field]),
        st.builds(
            lambda op, field, value: [op, field, value],
            st.sampled_from(["==", "!=", "<", ">", "<=", ">=", "=[]"]),
            FIELDS,
            VALUES,
        ),
    ),
    lambda inner: st.one_of(
        inner.map(lambda test: ["!", test]),
        st.builds(
            lambda op, parts: [op, *parts], st.sampled_from("&|"), st.lists(inner, min_size=2, max_size=3)
        ),
    ),
    max_leaves=6,
)


class ParseTests(SynchronousTestCase):
    """From filter strings to the JSON language."""

    def test_forms(self) -> None:
        """Every form of the language, with the priorities of its operators."""
        for source, wanted in PARSED:
            with self.subTest(source=source):
                self.assertEqual(parse(source), wanted)

    def test_mistakes_have_a_place(self) -> None:
        """What cannot be read is refused with the position."""
        for source, position in REFUSED:
            with self.subTest(source=source):
                error = self.assertRaises(MisreadFilter, parse, source)
                self.assertEqual(error.position, position)

    def test_message(self) -> None:
        """The message points at the place."""
        error = self.assertRaises(MisreadFilter, parse, "a b")
        self.assertEqual(misread_filter(error).splitlines()[-2:], ["  a b", "    ^"])

    @given(TESTS)
    def test_round_trip(self, test: list[Any]) -> None:
        """A filter written as a string is read as the same filter."""
        self.assertEqual(parse(written(test)), test)

    @given(st.text(max_size=30))
    def test_rubbish(self, source: str) -> None:
        """Nothing but a filter or an error with a place inside the text comes out."""
        try:
            parse(source)
        except MisreadFilter as error:
            self.assertTrue(0 <= error.position <= len(source))


class ArgumentTests(SynchronousTestCase):
    """How the arguments of lists are understood."""

    def test_nothing_is_everything(self) -> None:
        """Without arguments there is no filter."""
        self.assertIsNone(from_arguments([], "name", force=False))

    def test_names_and_globs(self) -> None:
        """Names are compared, globs matched, several are alternatives."""
        found = from_arguments(["web1", "db*"], "name", force=False)
        self.assertEqual(found, ["|", ["==", "name", "web1"], ["=~", "name", glob_regex("db*")]])

    def test_filter_by_its_looks(self) -> None:
        """One argument with an operator is a filter."""
        self.assertEqual(from_arguments(["a==1"], "name", force=False), ["==", "a", 1])

    def test_forced(self) -> None:
        """With -F a plain word is a field, and there must be one argument."""
        self.assertEqual(from_arguments(["offline"], "name", force=True), ["?", "offline"])
        self.assertRaises(ValueError, from_arguments, ["a", "b"], "name", force=True)

    def test_jobs_have_numbers(self) -> None:
        """Job IDs are numbers."""
        self.assertEqual(from_arguments(["17"], "id", force=False, integers=True), ["==", "id", 17])
        self.assertRaises(ValueError, from_arguments, ["web"], "id", force=False, integers=True)
