"""The project as a distribution: wheel, editable installation, and back from an sdist.

New environments are made that see the libraries of the one the tests run in, but not the checkout.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from configparser import ConfigParser
from pathlib import Path
from typing import Any, ClassVar

import pytest

from twisted.trial.unittest import SkipTest, SynchronousTestCase

import ganeti

pytestmark = pytest.mark.timeout(300)

CHECKOUT = Path(ganeti.__file__).parent.parent
DAEMONS = ("ganeti-masterd", "ganeti-noded", "ganeti-confd", "ganeti-rapi", "ganeti-watcher")
PLUGINS = {"plugins/hypervisors/kvm.py", "plugins/storage/file.py", "plugins/iallocators/builtin.py"}
HIDDEN = ("__editable__", "ganeti-", "ganeti.egg-link")
"""Beginnings of names by which the tests' own environment has the checkout installed."""

LOOK = """
import json, os, ganeti, ganeti.plugins
from ganeti.plugin_registry import discover
found = discover()
print(json.dumps({
    "package": os.path.realpath(ganeti.__file__),
    "hypervisors": sorted(found.hypervisors),
    "storage": sorted(found.storage),
    "iallocators": sorted(found.iallocators),
    "problems": found.problems,
}))
"""


def run(argv: list[str], **options: Any) -> str:
    """Standard output of a program that must succeed; it does not see the checkout by accident."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "GANETI_ROOTDIR", "VIRTUAL_ENV")
    }
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
        env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
        **{"cwd": "/", **options},
    )
    assert done.returncode == 0, f"{argv}: {done.stderr}{done.stdout}"
    return str(done.stdout)


class Environment:
    """A new environment with the libraries of ours, into which the project can be installed."""

    def __init__(self, directory: str) -> None:
        self.bin = Path(directory, "bin")
        venv.create(directory, with_pip=False, symlinks=True)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        site = Path(directory, "lib", version, "site-packages")
        libraries = Path(directory, "libraries")
        libraries.mkdir()
        # Links one by one, to leave out the checkout itself.
        for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
            if not entry.name.startswith(HIDDEN) and entry.suffix != ".pth":
                (libraries / entry.name).symlink_to(entry)
        (site / "libraries.pth").write_text(f"{libraries}\n")

    def install(self, *what: str) -> None:
        """Install without libraries and without the network."""
        pip = [str(self.bin / "python3"), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
        run([*pip, "--no-build-isolation", *what])

    def uninstall(self) -> None:
        """Remove the project."""
        run([str(self.bin / "python3"), "-m", "pip", "uninstall", "--quiet", "--yes", "ganeti"])

    def look(self) -> Any:
        """What a program in it finds."""
        return json.loads(run([str(self.bin / "python3"), "-c", LOOK]))

    def twistd_help(self) -> str:
        """What `twistd --help` says."""
        command = "from twisted.scripts.twistd import run; import sys; sys.argv[0] = 'twistd'; run()"
        return run([str(self.bin / "python3"), "-c", command, "--help"])


def source_copy(directory: str) -> Path:
    """The files of the checkout that are not ignored, as a build needs a place to write."""
    if not (CHECKOUT / ".git").exists():
        raise SkipTest("this is no git checkout, so nobody knows which files belong to it")
    list_files = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    names = run([*list_files, "--cached", "--others", "--exclude-standard"], cwd=CHECKOUT)
    target = Path(directory, "source")
    for name in filter(None, names.split("\0")):
        source, copy = CHECKOUT / name, target / name
        if source.is_symlink() or source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy, follow_symlinks=False)
    # Twisted's cache of plugins is a pickle and must not travel.
    (target / "twisted/plugins/dropin.cache").write_bytes(b"rubbish")
    return target


class PackagingTests(SynchronousTestCase):
    """All in one directory, built once: source -> sdist -> wheel."""

    work: ClassVar[str]
    source: ClassVar[Path]
    sdist: ClassVar[Path]
    wheel: ClassVar[Path]

    @classmethod
    def setUpClass(cls) -> None:
        """Build an sdist, and from it a wheel."""
        super().setUpClass()
        cls.work = tempfile.mkdtemp(prefix="packaging-")
        cls.addClassCleanup(shutil.rmtree, cls.work)
        cls.source = source_copy(cls.work)
        build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", cls.work]
        run([*build, "--sdist", str(cls.source)])
        (cls.sdist,) = Path(cls.work).glob("ganeti-*.tar.gz")
        with tarfile.open(cls.sdist) as archive:
            archive.extractall(f"{cls.work}/unpacked", filter="data")
        (unpacked,) = Path(cls.work, "unpacked").iterdir()
        run([*build, "--wheel", str(unpacked)])
        (cls.wheel,) = Path(cls.work).glob("ganeti-*.whl")

    def environment(self) -> Environment:
        """A new environment."""
        directory = tempfile.mkdtemp(prefix="env-", dir=self.work)
        return Environment(directory)

    def assert_complete(self, environment: Environment) -> None:
        """Daemons, plugins and scripts are found in an environment."""
        found = environment.look()
        own = json.loads(run([sys.executable, "-c", LOOK], cwd=CHECKOUT))
        for kind in ("hypervisors", "storage", "iallocators", "problems"):
            self.assertEqual(found[kind], own[kind])
        text = environment.twistd_help()
        for daemon in DAEMONS:
            self.assertIn(f" {daemon} ", text)
        self.assertIn("gnt-job (ganeti v", run([str(environment.bin / "gnt-job"), "--version"]))
        self.assertIn("--foreground", run([str(environment.bin / "ganeti-noded"), "--help"]))
        self.assertIn("create", run([str(environment.bin / "ganeti-vcluster"), "--help"]))

    def test_wheel(self) -> None:
        """An installed wheel is complete, and nothing of it comes from the checkout."""
        environment = self.environment()
        environment.install(str(self.wheel))
        self.assertTrue(environment.look()["package"].startswith(os.path.realpath(environment.bin.parent)))
        self.assert_complete(environment)

    def test_uninstall(self) -> None:
        """After the project is gone Twisted is whole and knows its own plugins."""
        environment = self.environment()
        environment.install(str(self.wheel))
        environment.uninstall()
        text = environment.twistd_help()
        self.assertNotIn("ganeti", text)
        self.assertIn(" web ", text)

    def test_editable(self) -> None:
        """An editable installation is complete, and a new plugin file is found without installing again."""
        environment = self.environment()
        environment.install("--editable", str(self.source))
        self.assertTrue(environment.look()["package"].startswith(os.path.realpath(self.source)))
        self.assert_complete(environment)
        plugin = self.source / "plugins/hypervisors/other.py"
        self.addCleanup(plugin.unlink)
        plugin.write_text(
            "from ganeti.hypervisors.fake import FakeHypervisor\n\n\n"
            "class Other(FakeHypervisor):\n    name = 'other'\n\n\nother = Other()\n"
        )
        self.assertIn("other", environment.look()["hypervisors"])

    def test_wheel_content(self) -> None:
        """Plugins are real files in it; Twisted's directories get one file and no `__init__`."""
        names = zipfile.ZipFile(self.wheel).namelist()
        for name in PLUGINS:
            self.assertIn(f"ganeti/{name}", names)
        self.assertEqual(
            [name for name in names if name.startswith("twisted/")], ["twisted/plugins/ganeti_daemons.py"]
        )
        self.assertIn("ganeti/cli/declared/gnt-instance.json", names)
        self.assertIn("ganeti/py.typed", names)
        self.assertEqual([name for name in names if name.endswith((".pyc", "dropin.cache"))], [])
        self.assertEqual([name for name in names if name.startswith(("tests/", "bench/", "plugins/"))], [])

    def test_sdist_content(self) -> None:
        """The sdist has what is needed to build, test and try the project."""
        with tarfile.open(self.sdist) as archive:
            names = {name.partition("/")[2] for name in archive.getnames()}
        wanted = {
            "README.md",
            "CHANGELOG.md",
            "LICENSE",
            "examples/os/noop/create",
            "bin/setup",
            "requirements/ci.txt",
            "tests/conftest.py",
            "docs/tutorial.md",
        }
        self.assertEqual((wanted | PLUGINS) - names, set())
        self.assertEqual([name for name in names if name.endswith((".pyc", "dropin.cache"))], [])

    def test_scripts(self) -> None:
        """Every tool in `bin` is installed."""
        settings = ConfigParser()
        settings.read(CHECKOUT / "setup.cfg")
        declared = {line for line in settings["options"]["scripts"].split("\n") if line}
        there = {
            f"bin/{path.name}"
            for path in (CHECKOUT / "bin").iterdir()
            if path.name.startswith(("gnt-", "ganeti-"))
        }
        self.assertEqual(declared, there)

    def test_pins(self) -> None:
        """What continuous integration installs is pinned, and inside the bounds that users get."""
        from packaging.requirements import Requirement
        from packaging.utils import canonicalize_name

        lines = (CHECKOUT / "requirements/ci.txt").read_text().splitlines()
        pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
        pins = {canonicalize_name(name): version for name, version in pins.items()}
        settings = ConfigParser()
        settings.read(CHECKOUT / "setup.cfg")
        bounded = settings["options"]["install_requires"] + settings["options.extras_require"]["test"]
        for line in filter(None, bounded.split("\n")):
            requirement = Requirement(line)
            name = canonicalize_name(requirement.name)
            self.assertIn(name, pins)
            self.assertTrue(requirement.specifier.contains(pins[name]), line)
