"""A small distribution of a third party, installed with pip, brings a hypervisor and an allocator.

Both ways are used: entry points, and files dropped into `ganeti/plugins`; and a directory of the
administrator. Each look at the result is a new interpreter, as a daemon would be.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from twisted.trial.unittest import SynchronousTestCase

import ganeti

pytestmark = pytest.mark.timeout(300)

PROJECT = str(Path(ganeti.__file__).parent.parent)

HYPERVISOR = '''
"""A hypervisor in one file: the fake one under another name, with a parameter of its own."""

from ganeti.hypervisors.fake import FakeHypervisor
from ganeti.model.params import ParamSpec, ParamTable, ParamType


class AcmeHypervisor(FakeHypervisor):
    """Runs instances as Acme does."""

    name = "acme"
    params = ParamTable(
        "hypervisor acme", [ParamSpec(name="speed", type=ParamType.INT, default=1, doc="how fast")]
    )


acme = AcmeHypervisor()
'''

ALLOCATOR = '''
"""An allocator in one file: always the first node by name."""

from zope.interface import implementer

from ganeti.interfaces import IAllocator
from ganeti.model.allocation import AllocationRequest, ClusterView, Placement, Solution


@implementer(IAllocator)
class FirstNode:
    """Takes the first node."""

    name = "{name}"

    def solve(self, request: AllocationRequest, view: ClusterView) -> Solution:
        """Place the instance on the first node that answered."""
        return Solution(placements=(Placement(instance=request.instance.name, nodes=(min(view.facts),)),))


first = FirstNode()
'''

FILES = {
    "pyproject.toml": """
        [build-system]
        requires = ["setuptools"]
        build-backend = "setuptools.build_meta"
        [project]
        name = "acme-ganeti"
        version = "1.0"
        [project.entry-points."ganeti.hypervisors"]
        acme = "acme_ganeti.hypervisor:acme"
        [project.entry-points."ganeti.iallocators"]
        entered = "acme_ganeti.allocator:FirstNode"
        [tool.setuptools.packages.find]
        where = ["src"]
        include = ["acme_ganeti", "ganeti.plugins.*"]
        namespaces = true
    """,
    "src/acme_ganeti/__init__.py": "",
    "src/acme_ganeti/hypervisor.py": HYPERVISOR,
    "src/acme_ganeti/allocator.py": ALLOCATOR.format(name="entered"),
    # No __init__.py beside it: the directory joins the project's own plugin package.
    "src/ganeti/plugins/iallocators/acme_dropped.py": ALLOCATOR.format(name="dropped"),
}

LOOK = """
import json, sys, tempfile
from ganeti.plugin_registry import demand, discover

found = discover()
print(json.dumps({
    "hypervisors": sorted(found.hypervisors),
    "iallocators": sorted(found.iallocators),
    "problems": found.problems,
    "twisted": any(name.partition(".")[0] == "twisted" for name in sys.modules),
}))
"""

USE = """
import json, tempfile
from ganeti.model.allocation import Allocate, ClusterView, InstanceRequest
from ganeti.plugin_registry import demand, discover
from ganeti.testing.host import FakeHost
from ganeti.testing.hypervisor_behaviours import filled_instance

found = discover()
demand(found, hypervisors=["acme"], iallocators=["entered", "dropped"])
acme = found.hypervisors["acme"]
with tempfile.TemporaryDirectory() as root:
    host = FakeHost(root)
    acme.start(host, filled_instance("inst1", "acme", acme.params.check({"speed": "3"})), ())
    running = [instance.name for instance in acme.list_running(host)]
request = Allocate(instance=InstanceRequest(
    name="inst1", memory=1, vcpus=1, disks=(), disk_template="diskless", hypervisor="acme"))
view = ClusterView(cluster=None, facts={"n2": None, "n1": None}, running={})
nodes = [found.iallocators[name].solve(request, view).placements[0].nodes for name in ("entered", "dropped")]
print(json.dumps({"running": running, "nodes": nodes}))
"""


def _run(code: str, *path: str, admin: str = "") -> Any:
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*path, PROJECT]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "GANETI_PLUGIN_PATH": admin,
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=env,
        cwd="/",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _write(directory: str, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = Path(directory, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")


class ThirdPartyTests(SynchronousTestCase):
    """Plugins that come from elsewhere."""

    work: ClassVar[str]

    @classmethod
    def setUpClass(cls) -> None:
        """Build and install the distribution once."""
        super().setUpClass()
        cls.work = tempfile.mkdtemp(prefix="acme-")
        _write(f"{cls.work}/source", FILES)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
        command = [*pip, "--no-index", "--target", f"{cls.work}/site", f"{cls.work}/source"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr

    @classmethod
    def tearDownClass(cls) -> None:
        """Remove it."""
        shutil.rmtree(cls.work)
        super().tearDownClass()

    def admin(self, files: Mapping[str, str]) -> str:
        """A directory of the administrator."""
        directory = tempfile.mkdtemp(prefix="admin-")
        self.addCleanup(shutil.rmtree, directory)
        _write(directory, files)
        return directory

    def test_found_both_ways(self) -> None:
        """Entry points and the dropped file are found beside our own plugins, without Twisted."""
        found = _run(LOOK, f"{self.work}/site")
        self.assertEqual({"acme", "fake", "kvm"} - set(found["hypervisors"]), set())
        self.assertEqual({"entered", "dropped"} - set(found["iallocators"]), set())
        self.assertEqual((found["problems"], found["twisted"]), ([], False))

    def test_gone_when_uninstalled(self) -> None:
        """Without the distribution there is nothing of it."""
        found = _run(LOOK)
        self.assertNotIn("acme", found["hypervisors"])
        self.assertNotIn("dropped", found["iallocators"])

    def test_used(self) -> None:
        """The hypervisor runs an instance with its own parameter, the allocators place one."""
        found = _run(USE, f"{self.work}/site")
        self.assertEqual(found, {"running": ["inst1"], "nodes": [["n1"], ["n1"]]})

    def test_admin_directory(self) -> None:
        """A file in a directory named by GANETI_PLUGIN_PATH needs no distribution."""
        admin = self.admin({"hypervisors/mine.py": HYPERVISOR.replace('"acme"', '"mine"')})
        self.assertIn("mine", _run(LOOK, admin=admin)["hypervisors"])

    def test_duplicate(self) -> None:
        """A second plugin of a name makes the name unusable; both sources are named."""
        admin = self.admin({"hypervisors/acme_again.py": HYPERVISOR})
        found = _run(LOOK, f"{self.work}/site", admin=admin)
        self.assertNotIn("acme", found["hypervisors"])
        (problem,) = found["problems"]
        self.assertIn("ganeti.plugins.hypervisors.acme_again", problem)
        self.assertIn("acme_ganeti.hypervisor:acme of acme-ganeti", problem)

    def test_broken(self) -> None:
        """Broken files and entry points are reported, and all others are there."""
        admin = self.admin({"iallocators/bad.py": "1 / 0", "storage/worse.py": "def broken(:"})
        site = self.admin(
            {
                "broken-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: broken\nVersion: 1\n",
                "broken-1.dist-info/entry_points.txt": "[ganeti.hypervisors]\nlost = no_such_module:x\n",
            }
        )
        found = _run(LOOK, f"{self.work}/site", site, admin=admin)
        self.assertIn("acme", found["hypervisors"])
        self.assertIn("dropped", found["iallocators"])
        text = " ".join(found["problems"])
        for part in (
            "iallocators.bad",
            "ZeroDivisionError",
            "storage.worse",
            "SyntaxError",
            "no_such_module",
        ):
            self.assertIn(part, text)
        self.assertEqual(len(found["problems"]), 3)
