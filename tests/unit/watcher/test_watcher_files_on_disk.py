"""State files as locks, status files, and what happens to them when somebody dies or the disk is full."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import GanetiError
from ganeti.io.files import FileLock, InUse
from ganeti.logic.watcher import InstanceRecord, NodeRecord, WatcherState
from ganeti.model.findings import Findings
from ganeti.model.ids import GroupId
from ganeti.model.paths import Paths
from ganeti.watcher.state_file import StateFile
from ganeti.watcher.status_files import StatusFiles
from tests.unit.logic.test_watcher_decisions import instance

HERE = GroupId("0c7c1f3e-8a4b-4d5e-9f60-718293a4b5c6")
THERE = GroupId("1c7c1f3e-8a4b-4d5e-9f60-718293a4b5c6")
GONE = GroupId("2c7c1f3e-8a4b-4d5e-9f60-718293a4b5c6")

KNOWN = WatcherState(
    instance={"i": InstanceRecord(restart_count=1, restart_when=5.0)}, node={"a": NodeRecord(bootid="x")}
)


class StateFileTests(SynchronousTestCase):
    """The file that is a lock."""

    def setUp(self) -> None:
        self.path = os.path.abspath(self.mktemp())

    def held(self) -> StateFile:
        """The file, taken."""
        file = StateFile(self.path)
        file.acquire()
        self.addCleanup(file.release)
        return file

    def assert_taken(self) -> None:
        """Nobody else gets it."""
        self.assertRaises(InUse, StateFile(self.path).acquire)

    def test_one_at_a_time(self) -> None:
        """The second one is refused, until the first lets go (S2.3-065)."""
        first = self.held()
        self.assert_taken()
        first.release()
        self.held()

    def test_held_while_written(self) -> None:
        """A new content is another file, and as much ours as the old one."""
        first = self.held()
        for number in range(5):
            first.save(WatcherState(node={"a": NodeRecord(bootid=str(number))}))
            self.assert_taken()
        first.release()
        self.assertEqual(self.held().read(), WatcherState(node={"a": NodeRecord(bootid="4")}))

    def test_mode(self) -> None:
        """Nobody else may read it (S2.3-171)."""
        former = os.umask(0)
        self.addCleanup(os.umask, former)
        file = self.held()
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        file.save(KNOWN)
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)

    def test_there_and_back(self) -> None:
        """What was saved is read."""
        file = self.held()
        self.assertEqual(file.read(), WatcherState())
        file.save(KNOWN)
        file.release()
        self.assertEqual(self.held().read(), KNOWN)

    def test_unchanged(self) -> None:
        """The same content again only makes the file younger (S2.3-072)."""
        file = self.held()
        file.save(KNOWN)
        inode = os.stat(self.path).st_ino
        os.utime(self.path, (1000, 1000))
        file.save(KNOWN)
        self.assertEqual(os.stat(self.path).st_ino, inode)
        self.assertGreater(os.stat(self.path).st_mtime, time.time() - 60)
        file.save(WatcherState())
        self.assertNotEqual(os.stat(self.path).st_ino, inode)

    def test_damaged(self) -> None:
        """A damaged file is put aside, one at most, and stays ours meanwhile."""
        for content in (b"{", b"\0\0\0"):
            Path(self.path).write_bytes(content)
            file = self.held()
            self.assertEqual(file.read(), WatcherState())
            self.assert_taken()
            self.assertEqual(Path(f"{self.path}.damaged").read_bytes(), content)
            file.save(KNOWN)
            self.assertEqual(file.read(), KNOWN)
            file.release()

    def test_full_disk(self) -> None:
        """What cannot be written changes nothing, and the file stays ours."""
        file = self.held()
        file.save(KNOWN)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            self.assertRaises(OSError, file.save, WatcherState())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        self.assertEqual(file.read(), KNOWN)
        self.assert_taken()
        self.assertEqual(os.listdir(os.path.dirname(self.path)), [os.path.basename(self.path)])
        file.save(WatcherState())

    def test_killed_owner(self) -> None:
        """Whoever is killed holds it no more, in whatever moment."""
        code = (
            "import sys; from ganeti.watcher.state_file import StateFile\n"
            "from ganeti.logic.watcher import WatcherState, NodeRecord\n"
            "file = StateFile(sys.argv[1]); file.acquire(); print(flush=True); number = 0\n"
            "while True:\n"
            "    number += 1; file.save(WatcherState(node={'a': NodeRecord(bootid=str(number))}))\n"
        )
        for pause in (0.0, 0.013, 0.05):
            with subprocess.Popen([sys.executable, "-c", code, self.path], stdout=subprocess.PIPE) as owner:
                assert owner.stdout is not None
                owner.stdout.readline()
                time.sleep(pause)
                self.assert_taken()
                owner.send_signal(signal.SIGKILL)
                owner.wait()
            file = self.held()
            self.assertLessEqual(set(file.read().node), {"a"})
            file.release()

    def test_removed(self) -> None:
        """Whoever finds a file that is being removed makes a new one."""
        file = self.held()
        file.remove()
        self.assertFalse(os.path.exists(self.path))
        self.held()
        self.assert_taken()


class StatusFilesTests(SynchronousTestCase):
    """Files for other programs."""

    def setUp(self) -> None:
        self.paths = Paths(os.path.abspath(self.mktemp()))
        for directory in (self.paths.data_dir, self.paths.run_dir, self.paths.lock_dir):
            os.makedirs(directory)
        self.files = StatusFiles(self.paths)

    def write(self, group: GroupId, **status: str | None) -> None:
        """The states of a group are known."""
        found = {name: instance(word) for name, word in status.items()}
        self.files.write(Findings(group=group, nodes={}, instances=found))

    def merged(self) -> str:
        """What others read."""
        return Path(self.paths.instance_status).read_text()

    def test_merged(self) -> None:
        """Each group has its file, and one has all (S2.3-070)."""
        self.write(HERE, b="running")
        self.write(THERE, a="ERROR_down")
        self.assertEqual(self.merged(), "a ERROR_down\nb running\n")
        self.assertEqual(Path(self.paths.group_status(HERE)).read_text(), "b running\n")
        for path in (self.paths.group_status(HERE), self.paths.instance_status):
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o644)

    def test_moved(self) -> None:
        """An instance that changed its group counts as the group says that was asked last."""
        self.write(HERE, a="running")
        os.utime(self.paths.group_status(HERE), (1000, 1000))
        self.write(THERE, a="ERROR_down")
        self.assertEqual(self.merged(), "a ERROR_down\n")

    def test_lock(self) -> None:
        """Two never merge at once; whoever waits too long says so, and has written his own file."""
        lock = FileLock(f"{self.paths.lock_dir}/ganeti-instance-status.lock", "x")
        with lock:
            hasty = StatusFiles(self.paths, merge_lock_s=0.2)
            found = Findings(group=HERE, nodes={}, instances={"a": instance()})
            self.assertRaises(InUse, hasty.write, found)
        self.assertTrue(os.path.exists(self.paths.group_status(HERE)))
        self.files.merge()
        self.assertEqual(self.merged(), "a running\n")

    def test_extra(self) -> None:
        """Files of former groups go, also damaged ones, and their instances with them (S2.3-071)."""
        self.write(HERE, a="running")
        self.write(GONE, b="running")
        for group in (HERE, GONE):
            Path(self.paths.watcher_state(group)).touch()
            Path(f"{self.paths.watcher_state(group)}.damaged").touch()
        Path(self.paths.watcher_pause_file).touch()
        self.files.remove_extra([HERE])
        self.assertEqual(
            sorted(os.listdir(self.paths.data_dir)),
            sorted([f"watcher.{HERE}.data", f"watcher.{HERE}.data.damaged", "watcher.pause"]),
        )
        self.assertEqual(
            sorted(os.listdir(self.paths.run_dir)), ["instance-status", f"instance-status.group-{HERE}"]
        )
        self.assertEqual(self.merged(), "a running\n")

    def test_extra_in_use(self) -> None:
        """The state of a group whose child has not ended stays for now."""
        file = StateFile(self.paths.watcher_state(GONE))
        file.acquire()
        self.files.remove_extra([HERE])
        self.assertTrue(os.path.exists(file.path))
        file.release()
        self.files.remove_extra([HERE])
        self.assertFalse(os.path.exists(file.path))

    def test_no_groups(self) -> None:
        """A list of groups that cannot be right removes nothing."""
        self.write(HERE, a="running")
        self.assertRaises(GanetiError, self.files.remove_extra, [])
        self.assertTrue(os.path.exists(self.paths.group_status(HERE)))


class SharedLockTests(SynchronousTestCase):
    """Locks of the runs."""

    def test_modes(self) -> None:
        """Several share it; one alone has nobody beside him, and waits if he is told to."""
        path = os.path.abspath(self.mktemp())
        one, two = FileLock(path, "x", shared=True), FileLock(path, "x", shared=True)
        alone = FileLock(path, "x")
        one.acquire()
        two.acquire()
        began = time.monotonic()
        self.assertRaises(InUse, alone.acquire, timeout_s=0.2)
        self.assertGreaterEqual(time.monotonic() - began, 0.2)
        one.release()
        two.release()
        alone.acquire()
        self.assertRaises(InUse, one.acquire)
        alone.release()
