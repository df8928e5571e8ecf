"""Every module can be imported by itself, and what must be free of Twisted really is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import ganeti
from ganeti.testing.sources import sources

PACKAGE = Path(ganeti.__file__).parent
NAMES = [source.name for source in sources(PACKAGE, "ganeti")]

FREE_OF_TWISTED = (
    "ganeti.version",
    "ganeti.errors",
    "ganeti.interfaces",
    "ganeti.plugin_registry",
    "ganeti.model",
    "ganeti.logic",
    "ganeti.storage",
    "ganeti.hypervisors",
    "ganeti.ops",
    "ganeti.node.zygote",
    "ganeti.node.backend",
    "ganeti.cli",
    "ganeti.plugins",
)
STANDARD_LIBRARY_ONLY = ("ganeti.cli",)
NOT_A_TOOL = ("ganeti.cli.reference",)

# Forks for each module from an interpreter that has imported nothing of the project.
LOOK = """
import importlib, json, os, sys
if len(sys.argv) > 1:
    import cryptography.x509, msgspec, OpenSSL.SSL, twisted.protocols.amp, twisted.web.server, zope.interface
for name in json.load(sys.stdin):
    child = os.fork()
    if child == 0:
        try:
            importlib.import_module(name)
            tops = {loaded.partition(".")[0] for loaded in sys.modules}
            text = json.dumps([name, None, sorted(tops - sys.stdlib_module_names), "twisted.internet.reactor"
                in sys.modules])
        except BaseException as error:
            text = json.dumps([name, f"{type(error).__name__}: {error}", [], False])
        os.write(1, text.encode() + b"\\n")
        os._exit(0)
    os.waitpid(child, 0)
"""


def looked(names: list[str], *, warm: bool) -> dict[str, tuple[str | None, set[str], bool]]:
    """For each module the error of its import, distributions loaded by it, and whether the reactor was.

    Args:
        names: of modules.
        warm: libraries may be loaded before, which is quicker and hides that they were needed.
    """
    done = subprocess.run(
        [sys.executable, "-c", LOOK, *(["warm"] if warm else [])],
        input=json.dumps(names),
        capture_output=True,
        text=True,
        check=True,
        timeout=250,
        cwd=PACKAGE.parent,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
    )
    rows = (json.loads(line) for line in done.stdout.splitlines())
    return {name: (error, set(tops), reactor) for name, error, tops, reactor in rows}


class AloneTests(SynchronousTestCase):
    """One import in a fresh interpreter."""

    def test_free_of_twisted(self) -> None:
        """Whatever these modules import in turn, Twisted is not loaded."""
        names = [name for name in NAMES if _is_in(name, FREE_OF_TWISTED)]
        found = looked(names, warm=False)
        self.assertEqual(set(found), set(names))
        errors = [f"{name}: {error}" for name, (error, _, _) in found.items() if error is not None]
        twisted = [name for name, (_, tops, _) in found.items() if tops & {"twisted", "OpenSSL"}]
        more = [
            f"{name}: {sorted(tops - {'ganeti'})}"
            for name, (_, tops, _) in found.items()
            if _is_in(name, STANDARD_LIBRARY_ONLY)
            and not _is_in(name, NOT_A_TOOL)
            and tops & {"msgspec", "zope"}
        ]
        self.assertEqual((errors, twisted, more), ([], [], []))

    def test_others(self) -> None:
        """All others can be imported, and none installs a reactor by being imported."""
        names = [name for name in NAMES if not _is_in(name, FREE_OF_TWISTED)]
        found = looked(names, warm=True)
        self.assertEqual(set(found), set(names))
        errors = [f"{name}: {error}" for name, (error, _, _) in found.items() if error is not None]
        reactor = [name for name, (_, _, has_reactor) in found.items() if has_reactor]
        self.assertEqual((errors, reactor), ([], []))


def _is_in(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)
