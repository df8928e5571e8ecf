"""Tables: immutable, findable by a second key, aware of what changed; and quick when large."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.model import table as table_module
from ganeti.model.table import Table

KEYS = st.sampled_from([f"k{number}" for number in range(12)])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.integers(0, 1_000_000)),
        st.tuples(st.just("drop"), KEYS, st.just(0)),
        st.tuples(st.just("settle"), KEYS, st.just(0)),
    ),
    min_size=4,
    max_size=60,
)


def name_of(value: tuple[str, int]) -> str:
    """Secondary key: unique, and changes with the value."""
    return f"{value[0]}={value[1]}"


def digits_of(value: tuple[str, int]) -> set[str]:
    """Several keys of a value."""
    return set(str(value[1]))


class TableTests(SynchronousTestCase):
    """A table against an ordinary dictionary, and one whose overlay is worked in all the time."""

    def setUp(self) -> None:
        # As it is the overlay grows to 64 items, which random steps hardly ever reach.
        self.patch(table_module, "_OVERLAY_AT_LEAST", 1)

    @given(KEYS.flatmap(lambda _: st.dictionaries(KEYS, st.integers(0, 1000))), STEPS)
    def test_like_a_dictionary(self, start: dict[str, int], steps: list[tuple[str, str, int]]) -> None:
        """After any changes a table has the items, order-free, of a dictionary changed likewise."""
        plain = {key: (key, value) for key, value in start.items()}
        table = Table(plain, key=name_of)
        changed: dict[str, tuple[str, int] | None] = {}
        names = {name_of(value) for value in plain.values()}
        for what, key, number in steps:
            # Indexes are made now, and have to follow whatever comes.
            list(table.having(digits_of, "7"))
            table.by_key("")
            names.add(name_of((key, number)))
            if what == "put":
                table = table.with_item(key, (key, number))
                plain[key] = changed[key] = (key, number)
            elif what == "drop":
                table = table.without(key)
                if plain.pop(key, None) is not None:
                    changed[key] = None
            else:
                table, changed = table.settled(), {}
        self.assertEqual(dict(table), plain)
        self.assertEqual(dict(table.items()), plain)
        self.assertEqual(sorted(table.values()), sorted(plain.values()))
        self.assertEqual((len(table), len(list(table))), (len(plain), len(plain)))
        self.assertEqual(dict(table.changes), changed)
        alive = {name_of(value): value for value in plain.values()}
        self.assertEqual(
            {name: table.by_key(name) for name in names}, {name: alive.get(name) for name in names}
        )
        for digit in "0123456789":
            wanted = sorted(value for value in plain.values() if digit in digits_of(value))
            self.assertEqual(sorted(table.having(digits_of, digit)), wanted)
        for key in ("k1", "k2", "k3"):
            self.assertEqual((key in table, table.get(key)), (key in plain, plain.get(key)))

    @given(STEPS)
    def test_by_key_forgets(self, steps: list[tuple[str, str, int]]) -> None:
        """A secondary key that no value has any more finds nothing."""
        table: Table[str, tuple[str, int]] = Table(key=name_of)
        seen = set()
        for what, key, number in steps:
            seen.add(name_of((key, number)))
            table = table.with_item(key, (key, number)) if what == "put" else table.without(key)
        alive = {name_of(value) for value in table.values()}
        self.assertEqual({name for name in seen if table.by_key(name) is not None}, seen & alive)

    def test_immutable(self) -> None:
        """Changing gives a new table and leaves the old one as it was."""
        old = Table({"a": ("a", 1)}, key=name_of)
        new = old.with_item("b", ("b", 2)).without("a")
        self.assertEqual((list(old), list(new)), (["a"], ["b"]))
        self.assertEqual(old.changes, {})

    def test_nothing_to_do(self) -> None:
        """Without a change there is no new table."""
        table = Table({"a": ("a", 1)}, key=name_of)
        self.assertIs(table.without("b"), table)
        self.assertIs(table.with_items({}), table)

    def test_order(self) -> None:
        """A replaced value keeps its place, a new one comes last, before and after working in."""
        table = Table({str(number): (str(number), 0) for number in range(10)}, key=name_of)
        changed = table.with_item("3", ("3", 1)).with_item("new", ("new", 1)).without("5")
        expected = ["0", "1", "2", "3", "4", "6", "7", "8", "9", "new"]
        self.assertEqual(list(changed), expected)
        many = changed.with_items({f"m{number}": (f"m{number}", 1) for number in range(100)})
        self.assertEqual(list(many)[:10], expected)
