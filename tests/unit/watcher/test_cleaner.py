"""What the cleaner removes, and what it never does."""

from __future__ import annotations

import os
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ganeti.daemons.cleaner import main
from ganeti.daemons.options import ROOT_VARIABLE
from ganeti.io.x509 import make_authority
from ganeti.model.paths import Paths
from ganeti.watcher.cleaner import KEPT_LOGS, MAX_AGE_S, Cleaner, trim_logs
from ganeti.watcher.state_file import StateFile

NOW = 1_700_000_000.0
UUID = "0c7c1f3e-8a4b-4d5e-9f60-718293a4b5c6"


class CleanerCase(SynchronousTestCase):
    """A node of a cluster."""

    def setUp(self) -> None:
        self.paths = Paths(os.path.abspath(self.mktemp()))
        for directory in (self.paths.data_dir, self.paths.run_dir, self.paths.log_dir):
            os.makedirs(directory)
        Path(self.paths.ssconf("master_node")).write_text("node1\n")
        self.cleaner = Cleaner(self.paths, NOW)

    def file(self, path: str, *, age_s: float = MAX_AGE_S + 60) -> Path:
        """A file that was written so long ago."""
        made = Path(path)
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_bytes(b"x")
        os.utime(made, (NOW - age_s, NOW - age_s))
        return made


class WatcherFilesTests(CleanerCase):
    """State and status files."""

    def test_old(self) -> None:
        """Older than 21 days: gone; younger ones and those of others stay."""
        old = [
            self.file(self.paths.watcher_state(UUID)),
            self.file(self.paths.watcher_state(UUID) + ".damaged"),
            self.file(self.paths.group_status(UUID)),
        ]
        kept = [
            self.file(self.paths.watcher_state(f"{UUID[:-1]}7"), age_s=MAX_AGE_S - 60),
            self.file(self.paths.watcher_pause_file),
            self.file(self.paths.config_file),
            self.file(self.paths.instance_status),
        ]
        self.cleaner.clean_node()
        self.assertEqual([path.exists() for path in old], [False] * 3)
        self.assertEqual([path.exists() for path in kept], [True] * 4)
        self.assertEqual(self.cleaner.failures, 0)

    def test_in_use(self) -> None:
        """The file of a child that runs stays, however old."""
        path = self.file(self.paths.watcher_state(UUID))
        state = StateFile(str(path))
        state.acquire()
        self.addCleanup(state.release)
        self.cleaner.clean_node()
        self.assertTrue(path.exists())

    def test_links(self) -> None:
        """Links are not followed, and directories of such a name not entered."""
        target = self.file(f"{self.paths.root}/precious")
        os.symlink(target, self.paths.watcher_state(UUID))
        os.mkdir(self.paths.group_status(UUID))
        self.cleaner.clean_node()
        self.assertTrue(target.exists())
        self.assertEqual(self.cleaner.failures, 0)

    def test_no_cluster(self) -> None:
        """On a machine without a cluster only certificates are looked at."""
        os.unlink(self.paths.ssconf("master_node"))
        state, job = (
            self.file(self.paths.watcher_state(UUID)),
            self.file(f"{self.paths.job_archive_dir}/0/job-7"),
        )
        self.cleaner.clean_node()
        self.cleaner.clean_master()
        self.assertTrue(state.exists() and job.exists())


class CertificateTests(CleanerCase):
    """Keys and certificates of transfers."""

    def pair(self, name: str, *, valid_until: float) -> Path:
        """A directory with a certificate."""
        directory = Path(self.paths.crypto_dir) / name
        directory.mkdir(parents=True)
        (directory / "key").write_text("secret")
        (directory / "cert").write_bytes(make_authority("x", now=valid_until - 86400, days=1).certificate)
        return directory

    def test_expired(self) -> None:
        """Key, certificate and directory go when the certificate has expired."""
        old, new = self.pair("old", valid_until=NOW - 60), self.pair("new", valid_until=NOW + 60)
        self.cleaner.clean_node()
        self.assertEqual((old.exists(), sorted(os.listdir(new))), (False, ["cert", "key"]))

    def test_other_content(self) -> None:
        """Where there is something else the directory stays, with that."""
        old = self.pair("old", valid_until=NOW - 60)
        (old / "notes").touch()
        self.cleaner.clean_node()
        self.assertEqual(os.listdir(old), ["notes"])

    def test_no_certificate(self) -> None:
        """What is no certificate is told of and left as it is; without one nothing is done."""
        broken, empty = self.pair("broken", valid_until=NOW), Path(self.paths.crypto_dir) / "empty"
        (broken / "cert").write_bytes(b"-----BEGIN CERTIFICATE-----\nxx\n")
        empty.mkdir()
        self.pair("old", valid_until=NOW - 60)
        self.cleaner.clean_node()
        self.assertEqual(sorted(os.listdir(self.paths.crypto_dir)), ["broken", "empty"])
        self.assertEqual(self.cleaner.failures, 1)


class ArchiveTests(CleanerCase):
    """Archived jobs."""

    def test_old(self) -> None:
        """Older than 21 days: gone; everything else stays."""
        old = self.file(f"{self.paths.job_archive_dir}/0/job-7")
        kept = [
            self.file(f"{self.paths.job_archive_dir}/0/job-8", age_s=MAX_AGE_S - 60),
            self.file(f"{self.paths.job_archive_dir}/0/notes"),
            self.file(f"{self.paths.job_archive_dir}/job-9"),
            self.file(f"{self.paths.queue_dir}/job-10"),
        ]
        self.cleaner.clean_master()
        self.assertFalse(old.exists())
        self.assertEqual([path.exists() for path in kept], [True] * 4)

    def test_only_asked_for(self) -> None:
        """Cleaning a node leaves the archive alone, and the other way round."""
        job, state = (
            self.file(f"{self.paths.job_archive_dir}/0/job-7"),
            self.file(self.paths.watcher_state(UUID)),
        )
        self.cleaner.clean_node()
        self.assertEqual((job.exists(), state.exists()), (True, False))
        state = self.file(self.paths.watcher_state(UUID))
        self.cleaner.clean_master()
        self.assertEqual((job.exists(), state.exists()), (False, True))


class ProgramTests(CleanerCase):
    """The command."""

    def setUp(self) -> None:
        super().setUp()
        former = os.environ.get(ROOT_VARIABLE)
        os.environ[ROOT_VARIABLE] = self.paths.root
        self.addCleanup(os.environ.__setitem__, ROOT_VARIABLE, former) if former else self.addCleanup(
            os.environ.pop, ROOT_VARIABLE
        )

    def test_logs(self) -> None:
        """Every run has its log, in a directory of its kind."""
        state = self.file(self.paths.watcher_state(UUID), age_s=NOW - time.time() + MAX_AGE_S + 60)
        self.assertEqual(main(["node"]), 0)
        self.assertEqual(main(["master"]), 0)
        self.assertFalse(state.exists())
        (log,) = (Path(self.paths.log_dir) / "cleaner").iterdir()
        self.assertIn(f"removed {state}", log.read_text())
        (log,) = (Path(self.paths.log_dir) / "master-cleaner").iterdir()
        self.assertRegex(log.name, rf"^cleaner-\d{{4}}-\d\d-\d\d_\d\d_\d\d_\d\d\.{os.getpid()}\.log$")

    def test_usage(self) -> None:
        """A missing or wrong argument: exit code 1."""
        for words in ([], ["nodes"], ["node", "master"], ["--all"]):
            self.assertEqual(main(words), 1)
        self.assertEqual(main(["--help"]), 0)

    def test_former_logs(self) -> None:
        """The newest fifty are kept."""
        directory = f"{self.paths.log_dir}/cleaner"
        for number in range(KEPT_LOGS + 3):
            self.file(f"{directory}/cleaner-x.{number}.log", age_s=float(number))
        self.file(f"{directory}/other.log")
        trim_logs(directory)
        left = sorted(os.listdir(directory))
        self.assertEqual(len(left), KEPT_LOGS + 1)
        self.assertNotIn(f"cleaner-x.{KEPT_LOGS}.log", left)
        self.assertIn("cleaner-x.0.log", left)
