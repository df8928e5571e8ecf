"""The table of requirements is true: each has its place in the code and tests that name it."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "docs/reference/requirements.md"

GROUPS = (
    (1, 33),
    # The state cache.
    (40, 56),
    # The watcher.
    (60, 72),
    # Capacity.
    (80, 93),
    # Flags of nodes.
    (100, 107),
    # Private files of the watcher.
    (171, 171),
)
"""What there is of node groups."""

RANGES = (
    ("S2.2", 1, 34),
    *(("S2.3", first, last) for first, last in GROUPS),
    ("S2.3", 110, 127),
    ("SX", 1, 5),
    ("SX", 7, 7),
)
"""Requirements of which every single one must be shown."""

_ID = re.compile(
    r"(?P<kind>S2\.[23]|SX)-(?P<first>\d{3})"
    r"(?P<more>(?:(?:, (?!S)| to (?:S2\.[23]-|SX-)?)\d{3}(?!\d))*)"
)
_MORE = re.compile(r"(?P<word>, | to )(?:S2\.[23]-|SX-)?(?P<number>\d{3})")
_ROW = re.compile(r"^\| *(?P<id>[A-Z][\w.]*-\d+) *\|(?P<what>[^|]*)\|(?P<where>[^|]*)\|(?P<shown>[^|]*)\|$")
_CODE = re.compile(r"`([^`]+)`")


def expected() -> list[str]:
    """All requirements of the ranges."""
    return [f"{kind}-{number:03}" for kind, first, last in RANGES for number in range(first, last + 1)]


def ids_in(text: str) -> set[str]:
    """Requirements that a text names: `S2.2-002, 005`, `S2.2-015 to S2.2-019`."""
    found: set[str] = set()
    for match in _ID.finditer(" ".join(text.split())):
        kind, last = match["kind"], int(match["first"])
        found.add(f"{kind}-{last:03}")
        for more in _MORE.finditer(match["more"]):
            number = int(more["number"])
            numbers = range(last, number + 1) if more["word"] == " to " else (number,)
            found.update(f"{kind}-{one:03}" for one in numbers)
            last = number
    return found


def named_by_tests() -> dict[str, dict[str, set[str]]]:
    """For each file of tests its test methods, and the requirements that their docstrings name.

    What the docstring of a file or class names counts for all tests in it.
    """
    found: dict[str, dict[str, set[str]]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        tests: dict[str, set[str]] = defaultdict(set)
        for name, docstrings in _tests(tree, (ast.get_docstring(tree) or "",)):
            tests[name] |= ids_in("\n".join(docstrings))
        found[str(path.relative_to(ROOT))] = dict(tests)
    return found


def _tests(node: ast.AST, above: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield from _tests(child, (*above, ast.get_docstring(child) or ""))
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and child.name.startswith("test"):
            yield child.name, (*above, ast.get_docstring(child) or "")


def rows() -> dict[str, tuple[list[str], list[str]]]:
    """Requirement to the places in the code and the tests that the table gives."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        match = _ROW.match(line)
        if match is not None:
            assert match["id"] not in found, f"{match['id']} is there twice"
            found[match["id"]] = (_CODE.findall(match["where"]), _CODE.findall(match["shown"]))
    return found


class RequirementsTests(SynchronousTestCase):
    """`docs/reference/requirements.md` against the tree."""

    def test_every_id_is_named(self) -> None:
        """No requirement is without a test that names it."""
        named: set[str] = set()
        for tests in named_by_tests().values():
            named = named.union(*tests.values())
        self.assertEqual([one for one in expected() if one not in named], [])

    def test_every_id_has_a_row(self) -> None:
        """The table has all of them, and no others of their kind."""
        found = [one for one in rows() if one.startswith(("S2", "SX"))]
        self.assertEqual(sorted(found), sorted(expected()))

    def test_places_exist(self) -> None:
        """What the table says of the code is there."""
        missing = [
            f"{one}: {place}" for one, (places, _) in rows().items() for place in places if not _exists(place)
        ]
        self.assertEqual(missing, [])
        self.assertEqual([one for one, (places, _) in rows().items() if not places], [])

    def test_tests_exist(self) -> None:
        """The tests of a row are there, and one of them at least names the requirement."""
        named = named_by_tests()
        wrong: list[str] = []
        for one, (_, shown) in rows().items():
            names: set[str] = set()
            for test in shown:
                path, _, method = test.partition("::")
                if method not in named.get(path, {}):
                    wrong.append(f"{one}: there is no {test}")
                else:
                    names |= named[path][method]
            if not shown or (one.startswith(("S2", "SX")) and one not in names):
                wrong.append(f"{one}: no test in its row names it")
        self.assertEqual(wrong, [])

    def test_ids_in_texts(self) -> None:
        """Lists and ranges of requirements are understood as they are written."""
        for text, wanted in (
            ("x (S2.2-002, 005).", {"S2.2-002", "S2.2-005"}),
            ("S2.2-015 to S2.2-017", {"S2.2-015", "S2.2-016", "S2.2-017"}),
            ("S2.3-110, S2.3-119, SX-002", {"S2.3-110", "S2.3-119", "SX-002"}),
            ("S2.2-002 to 004, 100 clients", {"S2.2-002", "S2.2-003", "S2.2-004", "S2.2-100"}),
            ("nothing", set()),
        ):
            self.assertEqual(ids_in(text), wanted, text)


def _exists(place: str) -> bool:
    return (ROOT / place).exists()
