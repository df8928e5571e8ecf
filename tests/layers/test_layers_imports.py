"""Who may import whom. The rules are those of docs/architecture/overview.md; change them there first."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import ganeti
from ganeti.testing.sources import Source, sources

PACKAGE = Path(ganeti.__file__).parent
MODULES = [source for source in sources(PACKAGE, "ganeti") if not source.name.startswith("ganeti.plugins")]
PLUGINS = sources((PACKAGE / "plugins").resolve(), "ganeti.plugins")

LAYERS = {
    "ganeti": 0,
    "ganeti.version": 0,
    "ganeti.errors": 0,
    "ganeti.model": 0,
    "ganeti.logic": 0,
    "ganeti.interfaces": 1,
    "ganeti.wire": 2,
    "ganeti.io": 2,
    "ganeti.storage": 3,
    "ganeti.hypervisors": 3,
    "ganeti.ops": 3,
    "ganeti.plugin_registry": 4,
    "ganeti.plugins": 4,
    "ganeti.master": 4,
    "ganeti.node": 4,
    "ganeti.confd": 4,
    "ganeti.rapi": 4,
    "ganeti.cli": 4,
    "ganeti.watcher": 4,
    "ganeti.testing": 4,
    "ganeti.daemons": 5,
    "ganeti.vcluster": 5,
}
"""Imports point to the same number or a lower one."""

FORBIDDEN = {
    "ganeti.wire": ("ganeti.io",),
    "ganeti.io": ("ganeti.wire",),
    "ganeti.storage": ("ganeti.wire", "ganeti.io", "ganeti.hypervisors", "ganeti.ops"),
    "ganeti.hypervisors": ("ganeti.wire", "ganeti.io", "ganeti.storage", "ganeti.ops"),
    "ganeti.ops": ("ganeti.wire", "ganeti.io", "ganeti.storage", "ganeti.hypervisors"),
    "ganeti.master": ("ganeti.storage", "ganeti.hypervisors", "ganeti.node", "ganeti.rapi", "ganeti.cli"),
    "ganeti.node": ("ganeti.ops", "ganeti.master", "ganeti.rapi", "ganeti.cli"),
    "ganeti.confd": ("ganeti.master", "ganeti.node", "ganeti.ops", "ganeti.cli", "ganeti.rapi"),
    "ganeti.rapi": ("ganeti.master", "ganeti.node", "ganeti.cli"),
    "ganeti.cli": ("ganeti.master", "ganeti.node", "ganeti.rapi", "ganeti.wire"),
    "ganeti.watcher": (
        "ganeti.master",
        "ganeti.node",
        "ganeti.ops",
        "ganeti.rapi",
        "ganeti.storage",
        "ganeti.hypervisors",
        "ganeti.wire",
    ),
    "ganeti.plugin_registry": ("ganeti.master", "ganeti.node", "ganeti.storage", "ganeti.hypervisors"),
}
"""What a package must not import although the numbers would allow it."""

THIRD_PARTY = {
    0: {"msgspec"},
    1: {"msgspec", "zope"},
    3: {"msgspec", "zope"},
}
"""What a layer may import from outside besides the standard library; others: everything."""

WITHOUT_TWISTED = (
    "ganeti.interfaces",
    "ganeti.plugin_registry",
    "ganeti.node.zygote",
    "ganeti.node.backend",
    "ganeti.cli",
    "ganeti.plugins",
)
"""Not in layers 0 and 3, and yet without Twisted: function processes and command line tools."""

REFERENCE = ("ganeti.cli.reference",)
"""Run when the project is built, not by the tools: makes pages of the declarations, so it reads them."""

DROP_INS = ("ganeti.plugins.hypervisors", "ganeti.plugins.storage", "ganeti.plugins.iallocators")

REACTOR_USERS = ("ganeti.daemons", "ganeti.vcluster")

PLUGIN_IMPORTS = ("ganeti.interfaces", "ganeti.model", "ganeti.logic", "ganeti.errors", "ganeti.plugins")
ENGINES = {"hypervisors": "ganeti.hypervisors", "storage": "ganeti.storage", "iallocators": "ganeti.logic"}


def is_in(name: str, packages: Iterable[str]) -> bool:
    """Whether a module is one of these or inside one of them."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def layer(name: str) -> int:
    """Number of a module's layer.

    Raises:
        KeyError: nobody has given it one.
    """
    parts = name.split(".")[:2]
    found = LAYERS.get(".".join(parts))
    if found is None and len(parts) == 2 and not (PACKAGE / parts[1]).exists():
        # `from ganeti import x` of something in the package itself.
        found = LAYERS.get(".".join(parts)) if (PACKAGE / f"{parts[1]}.py").exists() else 0
    if found is None:
        raise KeyError(f"{name} has no layer; give it one in this file and in the overview")
    return found


def ours(source: Source) -> Iterator[str]:
    """What a module imports from this project."""
    return (name for name in source.imports() if is_in(name, ["ganeti"]))


def outside(source: Source) -> set[str]:
    """Distributions a module imports, but for the standard library."""
    tops = {name.partition(".")[0] for name in source.imports()}
    return tops - sys.stdlib_module_names - {"ganeti", "__future__"}


class LayerTests(SynchronousTestCase):
    """Imports point down."""

    def assert_nothing(self, found: Iterable[str]) -> None:
        """Nothing is against the rule."""
        self.assertEqual("\n".join(sorted(found)), "")

    def test_every_module_has_a_layer(self) -> None:
        """A new package must be put somewhere."""
        for source in MODULES:
            layer(source.name)

    def test_numbers(self) -> None:
        """No module imports one of a higher layer."""
        self.assert_nothing(
            f"{source.name} (layer {layer(source.name)}) imports {name} (layer {layer(name)})"
            for source in MODULES
            for name in ours(source)
            if layer(name) > layer(source.name)
        )

    def test_forbidden(self) -> None:
        """Packages that must not know each other do not."""
        self.assert_nothing(
            f"{source.name} imports {name}"
            for source in MODULES
            for package, forbidden in FORBIDDEN.items()
            if is_in(source.name, [package]) and not is_in(source.name, REFERENCE)
            for name in ours(source)
            if is_in(name, forbidden)
        )

    def test_third_party(self) -> None:
        """Decisions need msgspec only, interfaces zope as well, engines and operations no more."""
        self.assert_nothing(
            f"{source.name} imports {', '.join(extra)}"
            for source in MODULES
            if layer(source.name) in THIRD_PARTY
            if (extra := outside(source) - THIRD_PARTY[layer(source.name)])
        )

    def test_without_twisted(self) -> None:
        """What runs in function processes and in tools does not import Twisted."""
        self.assert_nothing(
            f"{source.name} imports Twisted"
            for source in [*MODULES, *PLUGINS]
            if is_in(source.name, WITHOUT_TWISTED) and outside(source) & {"twisted", "OpenSSL"}
        )

    def test_tools_need_the_standard_library_only(self) -> None:
        """The command line starts fast and runs with any Python."""
        self.assert_nothing(
            f"{source.name} imports {name}"
            for source in MODULES
            if is_in(source.name, ["ganeti.cli"]) and not is_in(source.name, REFERENCE)
            for name in outside(source) - {"shtab", "rich"}
        )

    def test_reactor(self) -> None:
        """The reactor is an argument everywhere but where daemons are put together."""
        self.assert_nothing(
            f"{source.name} imports the reactor"
            for source in MODULES
            if "twisted.internet.reactor" in set(source.imports())
            if not is_in(source.name, REACTOR_USERS)
        )

    def test_fakes_stay_in_tests(self) -> None:
        """No daemon and no tool imports fakes; simulated nodes may."""
        self.assert_nothing(
            f"{source.name} imports {name}"
            for source in [*MODULES, *PLUGINS]
            if not is_in(source.name, ["ganeti.testing", "ganeti.vcluster"])
            for name in ours(source)
            if is_in(name, ["ganeti.testing"])
        )

    def test_plugins(self) -> None:
        """A plugin imports interfaces, values, decisions, and its own engine."""
        for source in PLUGINS:
            kind = source.name.split(".")[2] if source.name.count(".") > 1 else ""
            allowed = (*PLUGIN_IMPORTS, *filter(None, [ENGINES.get(kind)]))
            self.assert_nothing(
                f"{source.name} imports {name}" for name in ours(source) if not is_in(name, allowed)
            )

    def test_nobody_imports_plugins(self) -> None:
        """Plugins are discovered, never imported by name."""
        self.assert_nothing(
            f"{source.name} imports {name}"
            for source in MODULES
            for name in ours(source)
            if is_in(name, DROP_INS)
        )

    def test_no_package_under_twisted(self) -> None:
        """An `__init__.py` there would hide Twisted itself."""
        self.assertEqual(list((PACKAGE.parent / "twisted").rglob("__init__.py")), [])
