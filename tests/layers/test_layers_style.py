"""Rules of style that a machine can check: purity, size, documentation."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import ganeti
from ganeti.testing.sources import Source, sources

PACKAGE = Path(ganeti.__file__).parent
CHECKOUT = PACKAGE.parent
PLUGINS = sources((PACKAGE / "plugins").resolve(), "ganeti.plugins")
MODULES = [
    source for source in sources(PACKAGE, "ganeti") if not source.name.startswith("ganeti.plugins")
] + PLUGINS
TESTS = sources(CHECKOUT / "tests", "tests")

PURE = ("ganeti.model", "ganeti.logic", "ganeti.ops")
BUILT_WITH = ("ganeti.ops.describe",)
"""Run when the project is built; writes files."""

IMPURE_CALLS = {
    "time.time",
    "time.time_ns",
    "time.monotonic",
    "time.sleep",
    "datetime.datetime.now",
    "datetime.datetime.today",
    "datetime.date.today",
    "uuid.uuid1",
    "uuid.uuid4",
    "os.urandom",
    "open",
    "print",
    "input",
}
IMPURE_MODULES = {"secrets", "socket", "subprocess", "threading", "tempfile", "shutil", "pathlib"}

MAX_LINES = 500
MAX_TEST_LINES = 700
"""Tests are lists of cases and may be longer."""

FRONTS = ("ganeti.interfaces",)
"""Packages whose modules are imported through them; they hold nothing else."""


def pure_modules() -> Iterator[Source]:
    """Modules that may neither look at the world nor change it."""
    return (
        source
        for source in MODULES
        if source.name.startswith(PURE) and not source.name.startswith(BUILT_WITH)
    )


def _is_front(source: Source, part: ast.stmt) -> bool:
    """Whether a part of a package that is a front does no more than pass names on."""
    return source.name in FRONTS and isinstance(part, (ast.ImportFrom, ast.Assign))


class PurityTests(SynchronousTestCase):
    """Model, logic and operations decide; time, identity and chance are arguments."""

    def assert_nothing(self, found: Iterable[str]) -> None:
        """Nothing is against the rule."""
        self.assertEqual("\n".join(sorted(found)), "")

    def test_clock_files_and_terminal(self) -> None:
        """They ask no clock, make no UUIDs, open no files."""
        self.assert_nothing(
            f"{source.name}:{call.lineno} calls {name}"
            for source in pure_modules()
            for name, call in source.calls()
            if name in IMPURE_CALLS
        )

    def test_chance(self) -> None:
        """They use a generator that was passed in, or one with a seed."""
        self.assert_nothing(
            f"{source.name}:{call.lineno} calls {name}"
            for source in pure_modules()
            for name, call in source.calls()
            if name.startswith("random.") and not (name == "random.Random" and (call.args or call.keywords))
        )

    def test_modules(self) -> None:
        """They do not even import what touches the world."""
        self.assert_nothing(
            f"{source.name} imports {name}"
            for source in pure_modules()
            for name in source.imports()
            if name.partition(".")[0] in IMPURE_MODULES
        )

    def test_no_mocks(self) -> None:
        """Tests use the shipped fakes; nothing is replaced by its dotted name."""
        self.assert_nothing(
            f"{source.name} imports {name}"
            for source in [*MODULES, *TESTS]
            for name in source.imports()
            if name.startswith(("unittest.mock", "mock"))
        )


class ShapeTests(SynchronousTestCase):
    """What every module looks like."""

    def assert_nothing(self, found: Iterable[str]) -> None:
        """Nothing is against the rule."""
        self.assertEqual("\n".join(sorted(found)), "")

    def test_length(self) -> None:
        """No module has over 500 lines."""
        self.assert_nothing(
            f"{source.name}: {count} lines"
            for source in MODULES
            if (count := source.text.count("\n")) > MAX_LINES
        )

    def test_test_modules_have_names_of_their_own(self) -> None:
        """pytest collects only one of two modules with one name, as their folders are no packages."""
        paths = sorted((CHECKOUT / "tests").rglob("test_*.py"))
        names = [path.name for path in paths]
        self.assertEqual([str(path) for path in paths if names.count(path.name) > 1], [])

    def test_length_of_tests(self) -> None:
        """Nor do tests grow without end."""
        self.assert_nothing(
            f"{source.name}: {count} lines"
            for source in TESTS
            if (count := source.text.count("\n")) > MAX_TEST_LINES
        )

    def test_documented(self) -> None:
        """Every public module, class, function and method says what it gives or does."""
        self.assert_nothing(name for source in MODULES for name in source.undocumented())

    def test_tests_are_documented(self) -> None:
        """Every test states the behaviour in a sentence."""
        self.assert_nothing(
            name
            for source in TESTS
            for name in source.undocumented()
            if not name.endswith((".setUp", ".tearDown"))
        )

    def test_packages(self) -> None:
        """`__init__.py` holds a docstring only, plugin packages aside, and fronts imports besides."""
        self.assert_nothing(
            source.name
            for source in MODULES
            if source.is_package and source not in PLUGINS
            if len([part for part in source.tree.body if not _is_front(source, part)]) != 1
        )

    def test_annotations_are_lazy(self) -> None:
        """Modules with code begin with the same import, so that annotations cost nothing at start."""
        self.assert_nothing(
            source.name
            for source in MODULES
            if _has_functions(source.tree) and "__future__.annotations" not in set(source.imports())
            if source not in PLUGINS
        )

    def test_no_star(self) -> None:
        """Names come one by one."""
        self.assert_nothing(
            f"{source.name} imports {name}"
            for source in MODULES
            for name in source.imports()
            if name.endswith(".*")
        )


def _has_functions(tree: ast.Module) -> bool:
    return any(isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) for node in ast.walk(tree))
