"""The OS definitions of Debian's packages: found, diagnosed, and one of them installs a disk.

The packages are downloaded with apt-get and unpacked, not installed; `$XDG_CACHE_HOME/ganeti` keeps
them. Without a reachable mirror the tests are skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from ganeti.model.calls.os import InstanceOsAdd, InstanceRunRename, OsDiagnose, OsStatus, OsValidate
from ganeti.node.backend.os_scripts import (
    instance_os_add,
    instance_run_rename,
    os_diagnose,
    os_validate,
)
from ganeti.node.backend.os_search import SEARCH_PATH_VARIABLE
from ganeti.testing.node_world import WithNode

PACKAGES = ("ganeti-os-noop", "ganeti-instance-debootstrap")
DOWNLOAD_S = 60.0


def unpacked(package: str) -> Path:
    """Directory with the files of a Debian package.

    Raises:
        SkipTest: it is not in the cache and cannot be downloaded.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ganeti" / "debian-packages"
    target = cache / package
    if target.is_dir():
        return target
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise SkipTest("this is not a Debian system: no apt-get or dpkg-deb")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as work:
        try:
            subprocess.run(
                ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", package],
                cwd=work,
                check=True,
                capture_output=True,
                timeout=DOWNLOAD_S,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise SkipTest(f"{package} cannot be downloaded with apt-get: {error}") from error
        (archive,) = Path(work).glob("*.deb")
        files = Path(work) / "files"
        subprocess.run(["dpkg-deb", "-x", archive, files], check=True, capture_output=True, timeout=60)
        files.rename(target)
    return target


class DebianDefinitionTests(WithNode, SynchronousTestCase):
    """`noop` and `debootstrap` of Debian on a node whose search path has nothing else."""

    paths: ClassVar[list[str]] = []

    def setUp(self) -> None:
        """Unpack the packages once and set the search path."""
        if not self.paths:
            self.paths.extend(str(unpacked(package) / "usr/share/ganeti/os") for package in PACKAGES)
        super().setUp()
        before = os.environ.get(SEARCH_PATH_VARIABLE)
        # Clean-ups run in reverse: the variable goes, and what was there comes back.
        if before is not None:
            self.addCleanup(os.environ.__setitem__, SEARCH_PATH_VARIABLE, before)
        self.addCleanup(os.environ.pop, SEARCH_PATH_VARIABLE, None)
        os.environ[SEARCH_PATH_VARIABLE] = ":".join(self.paths)

    def diagnosed(self) -> dict[str, OsStatus]:
        """What is found, by name."""
        return {status.name: status for status in os_diagnose(OsDiagnose(), self.node)}

    def test_diagnosed(self) -> None:
        """Both are found and valid, with the versions of their files."""
        found = self.diagnosed()
        self.assertEqual(sorted(found), ["debootstrap", "noop"])
        for status in found.values():
            self.assertEqual((status.valid, status.message), (True, ""))
            self.assertTrue(status.api_versions)
            self.assertTrue(status.trusted)

    def test_validated(self) -> None:
        """Both can be asked for as they are."""
        for name in self.diagnosed():
            self.assertTrue(os_validate(OsValidate(name=name), self.node))

    def test_noop_installs(self) -> None:
        """`noop` installs and renames an instance on a disk in a file, and leaves the disk alone."""
        instance = self.instance(self.created_disk(), os="noop")
        instance_os_add(InstanceOsAdd(instance=instance), self.node)
        instance_os_add(InstanceOsAdd(instance=instance, reinstall=True), self.node)
        instance_run_rename(InstanceRunRename(instance=instance, old_name="old.example.com"), self.node)
        with open(instance.disks[0].logical_id[1], "rb") as disk:
            self.assertEqual(disk.read().count(0), 4 * 1024 * 1024)
        self.assertEqual(len(os.listdir(self.host.paths.os_log_dir)), 3)
