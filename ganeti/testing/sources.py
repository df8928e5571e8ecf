"""The project's own modules as text and syntax trees, for tests of its rules."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path


class Source:
    """One module.

    Args:
        path: its file.
        name: its dotted name: `ganeti.model.node`; of a package without `.__init__`.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.name = name

    def __repr__(self) -> str:
        return f"Source({self.name})"

    @property
    def is_package(self) -> bool:
        """Whether it is the `__init__` of a package."""
        return self.path.name == "__init__.py"

    @cached_property
    def text(self) -> str:
        """What is written in it."""
        return self.path.read_text("utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return ast.parse(self.text, str(self.path))

    def imports(self) -> Iterator[str]:
        """Dotted names of everything it imports, also inside functions; of `from a import b` `a.b`."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = self._absolute(node)
                yield from (f"{base}.{alias.name}" for alias in node.names)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        up = node.level - (1 if self.is_package else 0)
        kept = parts[: len(parts) - up] if up else parts
        return ".".join([*kept, *([node.module] if node.module else [])])

    def calls(self) -> Iterator[tuple[str, ast.Call]]:
        """What it calls, by dotted name with its own import names undone: `time.time`."""
        names = self._imported_names()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                text = _dotted(node.func)
                if text is not None:
                    head, dot, rest = text.partition(".")
                    yield names.get(head, head) + dot + rest, node

    def _imported_names(self) -> dict[str, str]:
        names = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                names.update({alias.asname: alias.name for alias in node.names if alias.asname})
            elif isinstance(node, ast.ImportFrom):
                base = self._absolute(node)
                names.update({alias.asname or alias.name: f"{base}.{alias.name}" for alias in node.names})
        return names

    def undocumented(self) -> Iterator[str]:
        """Public things without a docstring: the module, its classes, functions and methods."""
        if not ast.get_docstring(self.tree):
            yield self.name
        yield from _undocumented(self.tree.body, self.name)


def sources(directory: Path, package: str) -> list[Source]:
    """All modules below a directory that is imported as `package`, sorted by name."""
    found = []
    for path in directory.rglob("*.py"):
        parts = path.relative_to(directory).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        found.append(Source(path, ".".join([package, *parts])))
    return sorted(found, key=lambda source: source.name)


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = _dotted(node.value)
        return f"{base}.{node.attr}" if base is not None else None
    return None


def _undocumented(body: list[ast.stmt], where: str) -> Iterator[str]:
    for node in body:
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if node.name.startswith("_"):
            continue
        name = f"{where}.{node.name}"
        # A setter belongs to its property, an overload to what follows it.
        decorators = {_dotted(decorator) or "" for decorator in node.decorator_list}
        is_part = any(text.endswith((".setter", ".deleter", "overload")) for text in decorators)
        if not ast.get_docstring(node) and not is_part:
            yield name
        if isinstance(node, ast.ClassDef):
            yield from _undocumented(node.body, name)
