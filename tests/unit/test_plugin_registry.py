"""Discovery of plugins in directories: what is found, refused and reported."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import textwrap

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import PluginError
from ganeti.interfaces import Plugins
from ganeti.plugin_registry import demand, discover
from ganeti.plugins import ADMIN_PATH_VARIABLE, plugin_directories

ALLOCATOR = """
    from zope.interface import implementer
    from ganeti.interfaces import IAllocator

    @implementer(IAllocator)
    class Picky:
        name = "{name}"
        def solve(self, request, view):
            raise NotImplementedError

    picky = Picky()
"""


def temporary(case: SynchronousTestCase) -> str:
    """A directory that goes with the test."""
    directory = tempfile.mkdtemp()
    case.addCleanup(shutil.rmtree, directory)
    return directory


class DiscoveryCase(SynchronousTestCase):
    """A directory of the administrator, and no modules left over from other tests."""

    def setUp(self) -> None:
        self.directory = temporary(self)
        os.makedirs(f"{self.directory}/iallocators")
        before = os.environ.get(ADMIN_PATH_VARIABLE)
        os.environ[ADMIN_PATH_VARIABLE] = self.directory
        self.addCleanup(self._restore, before, set(sys.modules))

    def _restore(self, before: str | None, modules: set[str]) -> None:
        if before is None:
            del os.environ[ADMIN_PATH_VARIABLE]
        else:
            os.environ[ADMIN_PATH_VARIABLE] = before
        for name in set(sys.modules) - modules:
            if name.startswith("ganeti.plugins."):
                del sys.modules[name]

    def write(self, module: str, source: str) -> None:
        """Drop a module into the directory."""
        with open(f"{self.directory}/iallocators/{module}.py", "w", encoding="utf-8") as stream:
            stream.write(textwrap.dedent(source))


class DropInTests(DiscoveryCase):
    """Modules in directories."""

    def test_own_plugins(self) -> None:
        """What the project ships is found, and nothing is wrong with it."""
        found = discover()
        self.assertEqual({"kvm", "fake"} - set(found.hypervisors), set())
        self.assertEqual(found.problems, ())

    def test_admin_directory(self) -> None:
        """A file in a directory named by GANETI_PLUGIN_PATH is a plugin at once."""
        discover()
        self.write("acme_picky", ALLOCATOR.format(name="picky"))
        self.assertEqual(discover().iallocators["picky"].name, "picky")

    def test_import_error(self) -> None:
        """A module that cannot be imported is named with the reason, and others are found."""
        self.write("acme_broken", "import no_such_module_anywhere")
        self.write("acme_fine", ALLOCATOR.format(name="fine"))
        found = discover()
        self.assertIn("fine", found.iallocators)
        self.assertEqual(len(found.problems), 1)
        self.assertIn("ganeti.plugins.iallocators.acme_broken", found.problems[0])
        self.assertIn("no_such_module_anywhere", found.problems[0])

    def test_a_plugin_that_exits(self) -> None:
        """A module that ends the interpreter ends only its own chance."""
        self.write("acme_exits", "raise SystemExit(3)")
        self.assertIn("acme_exits", discover().problems[0])

    def test_incomplete(self) -> None:
        """An object that lacks a method is refused with the name of the method."""
        self.write("acme_lazy", ALLOCATOR.format(name="lazy").replace("def solve", "def resolve"))
        found = discover()
        self.assertNotIn("lazy", found.iallocators)
        self.assertIn("solve", found.problems[0])

    def test_bad_name(self) -> None:
        """A name that could not stand in a list is refused."""
        self.write("acme_named", ALLOCATOR.format(name="two words"))
        self.assertIn("'two words'", discover().problems[0])

    def test_empty_module(self) -> None:
        """A module without any plugin is reported; one that starts with an underscore is not."""
        self.write("acme_empty", "x = 1")
        self.write("_acme_shared", "x = 1")
        problems = discover().problems
        self.assertEqual(len(problems), 1)
        self.assertIn("acme_empty", problems[0])

    def test_duplicate(self) -> None:
        """Two plugins of one name: neither is used and both modules are named."""
        self.write("acme_one", ALLOCATOR.format(name="twin"))
        self.write("acme_two", ALLOCATOR.format(name="twin"))
        found = discover()
        self.assertNotIn("twin", found.iallocators)
        self.assertIn("iallocators.acme_one", found.problems[0])
        self.assertIn("iallocators.acme_two", found.problems[0])

    def test_stand_in(self) -> None:
        """One that says that it stands in for others takes the place of the one of the same name."""
        self.write("acme_one", ALLOCATOR.format(name="twin"))
        self.write("acme_two", ALLOCATOR.format(name="twin") + "    picky.is_stand_in = True\n")
        found = discover()
        self.assertEqual(type(found.iallocators["twin"]).__module__, "ganeti.plugins.iallocators.acme_two")
        self.assertEqual(found.problems, ())

    def test_same_object_twice(self) -> None:
        """An object under two names, or imported into a second module, is one plugin."""
        self.write("acme_first", ALLOCATOR.format(name="single") + "\n    again = picky\n")
        self.write("acme_second", "from ganeti.plugins.iallocators.acme_first import picky")
        found = discover()
        self.assertIn("single", found.iallocators)
        self.assertEqual(found.problems, ())

    def test_hidden_module(self) -> None:
        """A file that another of the same name hides is reported, not lost."""
        second = temporary(self)
        os.makedirs(f"{second}/iallocators")
        self.write("acme_same", ALLOCATOR.format(name="same"))
        with open(f"{second}/iallocators/acme_same.py", "w", encoding="utf-8") as stream:
            stream.write("raise RuntimeError")
        os.environ[ADMIN_PATH_VARIABLE] = f"{self.directory}:{second}"
        found = discover()
        self.assertIn("same", found.iallocators)
        self.assertIn(second, found.problems[0])

    def test_nothing_is_loaded_twice(self) -> None:
        """A second discovery finds the very same objects and imports nothing."""
        first = discover()
        modules = dict(sys.modules)
        second = discover()
        self.assertEqual(dict(sys.modules), modules)
        for kind in ("hypervisors", "storage", "iallocators"):
            for name, plugin in getattr(first, kind).items():
                self.assertIs(getattr(second, kind)[name], plugin, f"{kind} {name}")


class DirectoryTests(SynchronousTestCase):
    """Where plugins are looked for."""

    def test_search_path(self) -> None:
        """Any ganeti/plugins directory on the module path counts, other packages do not."""
        open_one, package = temporary(self), temporary(self)
        for base in (open_one, package):
            os.makedirs(f"{base}/ganeti/plugins/storage")
        with open(f"{package}/ganeti/plugins/storage/__init__.py", "w", encoding="ascii"):
            pass
        sys.path[:0] = [open_one, package]
        try:
            found = plugin_directories("storage", ["/own"])
        finally:
            del sys.path[:2]
        self.assertEqual(found[:2], ["/own", f"{open_one}/ganeti/plugins/storage"])
        self.assertNotIn(f"{package}/ganeti/plugins/storage", found)


class DemandTests(SynchronousTestCase):
    """What the configuration needs."""

    def test_present(self) -> None:
        """Nothing happens when all is there."""
        demand(Plugins(hypervisors={"kvm": 1}, storage={}, iallocators={}), hypervisors=["kvm"])

    def test_missing(self) -> None:
        """The message names each missing plugin and what is wrong with plugins at all."""
        plugins = Plugins(hypervisors={}, storage={}, iallocators={}, problems=("acme is broken",))
        error = self.assertRaises(PluginError, demand, plugins, hypervisors=["lxc"], storage=["rbd"])
        for part in ("hypervisor lxc", "disk template rbd", "acme is broken"):
            self.assertIn(part, str(error))
