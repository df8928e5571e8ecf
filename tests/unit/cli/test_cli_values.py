"""Readers of option values."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.cli.errors import MisspeltParameter
from ganeti.cli.values import REPEATABLE, combine, key_values, readers, split_escaped

READ: tuple[tuple[str, str, Any], ...] = (
    ("text", "a b", "a b"),
    ("integer", "-3", -3),
    ("number", "2", 2),
    ("number", "2.5", 2.5),
    ("maybe_number", "default", "default"),
    ("maybe_number", "4", 4),
    ("size", "10g", 10240),
    ("size", "1", 4),
    ("duration", "2h", 7200),
    ("yes_no", "yes", True),
    ("yes_no", "False", False),
    ("json", '{"a": [1]}', {"a": [1]}),
    ("comma_list", "a,b", ["a", "b"]),
    ("comma_list", "", []),
    ("key_values", "a=1,b,no_c,-d,e=", {"a": "1", "b": True, "c": False, "d": None, "e": ""}),
    ("key_values", r"a=1\,2,b=3", {"a": "1,2", "b": "3"}),
    ("key_values", "", {}),
    ("named_key_values", "kvm:acpi=no,no_pae", {"kvm": {"acpi": "no", "pae": False}}),
    ("named_key_values", "kvm", {"kvm": {}}),
    ("named_key_values", "no_kvm", {"kvm": False}),
    ("named_key_values", "-kvm", {"kvm": None}),
    ("list_changes", "+a,-b", [["add", "a"], ["remove", "b"]]),
    ("uid_ranges", "1000-1010,2000", [[1000, 1010], [2000, 2000]]),
    ("policy_spec", "memory-size=1g,cpu-count=2", {"memory-size": 1024, "cpu-count": 2}),
    (
        "policy_bounds",
        "min:cpu-count=1/max:cpu-count=8//min:disk-size=1g/max:disk-size=2g",
        [
            {"min": {"cpu-count": 1}, "max": {"cpu-count": 8}},
            {"min": {"disk-size": 1024}, "max": {"disk-size": 2048}},
        ],
    ),
    ("disk_specs", "0:size=10g,mode=rw,spindles=2", (0, {"size": 10240, "mode": "rw", "spindles": 2})),
    ("nic_specs", "1:link=br0,ip=pool", (1, {"link": "br0", "ip": "pool"})),
    ("nic_specs", "0", (0, {})),
    ("device_changes", "add:size=1g", [["add", -1, {"size": 1024}]]),
    ("device_changes", "2:add,size=1g", [["add", 2, {"size": 1024}]]),
    ("device_changes", "0:mode=ro", [["modify", 0, {"mode": "ro"}]]),
    ("device_changes", "0:modify,mode=ro", [["modify", 0, {"mode": "ro"}]]),
    ("device_changes", "data:remove", [["remove", "data", {}]]),
    ("device_changes", "remove", [["remove", -1, {}]]),
    ("device_changes", "-1:link=br1", [["modify", -1, {"link": "br1"}]]),
    ("device_changes", "attach:name=old", [["attach", -1, {"name": "old"}]]),
    ("recreated_disks", "1:size=1g", [[1, {"size": 1024}]]),
)

REFUSED: tuple[tuple[str, str, str], ...] = (
    ("integer", "3.5", "whole number"),
    ("number", "x", "not a number"),
    ("size", "10 parsecs", "with m, g or t"),
    ("duration", "2y", "s, m, h, d or w"),
    ("yes_no", "maybe", "neither yes nor no"),
    ("json", "{", "not JSON"),
    ("key_values", "=x", "KEY=VALUE"),
    ("key_values", "a=1,a=2", "given twice"),
    ("named_key_values", "acpi=no", "NAME:KEY=VALUE"),
    ("named_key_values", "no_kvm:x=1", "nothing may follow"),
    ("list_changes", "a", "+NAME"),
    ("list_changes", "+", "+NAME"),
    ("uid_ranges", "a-b", "LOW-HIGH"),
    ("policy_spec", "cpu-count=many", "whole number"),
    ("policy_bounds", "min:cpu-count=1", "both min: and max:"),
    ("policy_bounds", "low:cpu-count=1", "min: or max:"),
    ("disk_specs", "size=10g", "N:size=SIZE"),
    ("disk_specs", "0:size=huge", "size"),
    ("device_changes", "0:add,remove", "add and remove at once"),
    ("device_changes", "0:remove,size=3", "nothing may be given with remove"),
    ("device_changes", "attach:size=1", "name=NAME"),
    ("device_changes", ":x=1", "which device"),
)


class ReaderTests(SynchronousTestCase):
    """What people write, and what it means."""

    def test_values(self) -> None:
        """Each syntax gives the JSON value that the opcode has."""
        for reader, text, wanted in READ:
            with self.subTest(reader=reader, text=text):
                self.assertEqual(readers()[reader](text), wanted)

    def test_mistakes(self) -> None:
        """What cannot be read is told with what to write instead."""
        for reader, text, hint in REFUSED:
            with self.subTest(reader=reader, text=text):
                error = self.assertRaises(ValueError, readers()[reader], text)
                self.assertIn(hint, str(error))

    @given(st.dictionaries(st.from_regex(r"\A[a-z]{3,8}\Z"), st.text("ab,=\\ ", max_size=5), max_size=4))
    def test_escapes(self, wanted: dict[str, str]) -> None:
        """Any text can be a value once commas and backslashes are escaped."""
        escaped = {k: v.replace("\\", "\\\\").replace(",", "\\,") for k, v in wanted.items()}
        text = ",".join(f"{key}={value}" for key, value in escaped.items())
        self.assertEqual(key_values(text), wanted)

    @given(st.lists(st.text("ab\\,", max_size=6), min_size=1, max_size=4))
    def test_split(self, parts: list[str]) -> None:
        """Splitting gives back what was escaped and joined."""
        text = ",".join(part.replace("\\", "\\\\").replace(",", "\\,") for part in parts)
        self.assertEqual(split_escaped(text, ","), parts)


class CombineTests(SynchronousTestCase):
    """Options that are given several times."""

    def test_every_reader_is_known(self) -> None:
        """Repeatable readers exist."""
        self.assertLessEqual(REPEATABLE, set(readers()))

    def test_the_last_counts(self) -> None:
        """Single values replace each other."""
        self.assertEqual(combine("text", ["a", "b"]), "b")

    def test_lists_are_joined(self) -> None:
        """`-n a -n b,c` are three nodes."""
        self.assertEqual(combine("comma_list", [["a"], ["b", "c"]]), ["a", "b", "c"])

    def test_mappings_are_merged(self) -> None:
        """Two options for one hypervisor are put together, the later value counts."""
        values: list[Any] = [{"kvm": {"a": "1", "b": "1"}}, {"kvm": {"b": "2"}, "fake": {}}]
        self.assertEqual(combine("named_key_values", values), {"kvm": {"a": "1", "b": "2"}, "fake": {}})

    def test_gaps_are_devices_with_defaults(self) -> None:
        """Disks in any order; an index that was left out is an empty entry."""
        values = [(2, {"size": 4}), (0, {"size": 8})]
        self.assertEqual(combine("disk_specs", values), [{"size": 8}, {}, {"size": 4}])

    def test_same_index_twice(self) -> None:
        """Two disks with one index are a mistake."""
        self.assertRaises(MisspeltParameter, combine, "disk_specs", [(0, {}), (0, {})])

    def test_absurd_index(self) -> None:
        """An index far out does not fill the memory with empty entries."""
        self.assertRaises(MisspeltParameter, combine, "nic_specs", [(10**9, {})])
