"""Tables: alignment, kinds, units, special states."""

from __future__ import annotations

import os
import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.cli.tables import Style, joined, plain_table, render

FIELDS = [
    {"name": "name", "title": "Node", "kind": "text"},
    {"name": "dtotal", "title": "DTotal", "kind": "unit"},
    {"name": "offline", "title": "Offline", "kind": "bool"},
    {"name": "tags", "title": "Tags", "kind": "other"},
]
ROWS: list[list[list[Any]]] = [
    [[0, "n1.ex.org"], [0, 1887436], [0, False], [0, ["a", "b"]]],
    [[0, "n2.ex.org"], [4, None], [0, True], [3, None]],
    [[0, "n3"], [2, None], [1, None], [0, []]],
]


class RenderTests(SynchronousTestCase):
    """What lists look like."""

    def test_padded(self) -> None:
        """Columns are as wide as their widest text, numbers at the right, the last one not padded."""
        self.assertEqual(
            list(render(FIELDS, ROWS, Style(), {"tags": joined})),
            [
                "Node      DTotal Offline Tags",
                "n1.ex.org   1.8T N       a,b",
                "n2.ex.org      * Y       -",
                "n3             ? ??      ",
            ],
        )

    def test_separator(self) -> None:
        """With a separator nothing is padded, and sizes are plain MiB."""
        self.assertEqual(
            list(render(FIELDS[:2], ROWS, Style(headers=False, separator=":"))),
            ["n1.ex.org:1887436", "n2.ex.org:*", "n3:?"],
        )

    def test_separator_and_units(self) -> None:
        """Units asked for count with a separator, too."""
        style = Style(headers=False, separator=":", units="g")
        self.assertEqual(next(iter(render(FIELDS[:2], ROWS, style))), "n1.ex.org:1843.2")

    def test_verbose(self) -> None:
        """Long names of special states."""
        lines = list(render(FIELDS, ROWS, Style(headers=False, separator="|", verbose=True)))
        self.assertEqual(lines[1], "n2.ex.org|(offline)|Y|(unavail)")
        self.assertEqual(lines[2], "n3|(nodata)|(unknown)|[]")

    def test_no_rows(self) -> None:
        """Without rows only the titles are left."""
        self.assertEqual(list(render(FIELDS[:2], [], Style())), ["Node DTotal"])

    def test_units(self) -> None:
        """Sizes in the unit asked for."""
        field = [{"name": "m", "title": "M", "kind": "unit"}]
        for units, wanted in (("h", "512M"), ("m", "512"), ("g", "0.5"), ("t", "0.0")):
            style = Style(headers=False, units=units)
            self.assertEqual(list(render(field, [[[0, 512]]], style)), [wanted])

    def test_timestamp(self) -> None:
        """Times are local times without fractions."""
        before = os.environ.get("TZ")
        os.environ["TZ"] = "UTC"
        time.tzset()
        self.addCleanup(time.tzset)
        if before is None:
            self.addCleanup(os.environ.pop, "TZ")
        else:
            self.addCleanup(os.environ.__setitem__, "TZ", before)
        field = [{"name": "ctime", "title": "CTime", "kind": "timestamp"}]
        self.assertEqual(
            list(render(field, [[[0, 1767607200.5]]], Style(headers=False))), ["2026-01-05 10:00:00"]
        )

    def test_percent_signs(self) -> None:
        """Texts may have percent signs."""
        self.assertEqual(list(plain_table(("A%s", "B"), [("50%", "%d")], Style())), ["A%s B", "50% %d"])

    @given(st.lists(st.tuples(st.text("ab ", max_size=5), st.integers(0, 9999)), max_size=5))
    def test_alignment(self, rows: list[tuple[str, int]]) -> None:
        """All lines of a table that ends in numbers have one width."""
        fields = [FIELDS[0], {"name": "n", "title": "Count", "kind": "number"}]
        lines = list(render(fields, [[[0, name], [0, count]] for name, count in rows], Style()))
        self.assertEqual(len({len(line) for line in lines}), 1)
        self.assertEqual(len(lines), len(rows) + 1)
