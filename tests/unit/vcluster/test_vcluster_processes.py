"""Tests of which processes belong to a node."""

from __future__ import annotations

import os
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from ganeti.vcluster.processes import MARK, Seen, count_by_root, kill_all, members, processes_of

ROOT = "/srv/cluster/node1"
NODED = ("python3", "-m", "ganeti.daemons.launcher", "ganeti-noded")


def seen(pid: int, parent: int, argv: tuple[str, ...] = ("sleep", "1"), **more: str) -> Seen:
    """A process."""
    return Seen(pid=pid, parent=parent, argv=argv, **more)


class MembersTests(SynchronousTestCase):
    """Who is ended with a node, and who is not."""

    def check(self, expected: set[int], *found: Seen) -> None:
        """Compare."""
        self.assertEqual(members(found, [ROOT]), expected)

    def test_marked(self) -> None:
        """What was started by us is marked."""
        self.check({2}, seen(2, 1, mark=ROOT), seen(3, 1, mark="/srv/cluster/node10"))

    def test_daemon(self) -> None:
        """A daemon that `gnt-cluster init` started, with the directory in its environment."""
        self.check({2}, seen(2, 1, NODED, root=ROOT), seen(3, 1, NODED, root="/srv/cluster/node2"))

    def test_shell_of_a_user(self) -> None:
        """Programs from a shell after `eval` are not ended, nor is an editor on a log."""
        self.check(
            set(),
            seen(2, 1, ("emacs",), root=ROOT),
            seen(3, 1, ("pytest", "-n2"), root=ROOT),
            seen(4, 1, ("less", f"{ROOT}/var/log/ganeti/node-daemon.log")),
        )

    def test_guest(self) -> None:
        """Guests have no environment of ours, but their files in the directory."""
        qemu = "/usr/bin/qemu-system-x86_64"
        self.check(
            {2},
            seen(2, 1, (qemu, "-pidfile", f"{ROOT}/var/run/x")),
            seen(3, 1, (qemu, "-pidfile", "/srv/cluster/node10/var/run/x")),
        )

    def test_children(self) -> None:
        """Whatever they started belongs to them, to any depth."""
        self.check({2, 3, 4}, seen(4, 3), seen(3, 2), seen(2, 1, NODED, root=ROOT), seen(5, 1))


class KillTests(SynchronousTestCase):
    """Real processes."""

    def setUp(self) -> None:
        self.root = os.path.abspath(self.mktemp())
        script = "import subprocess, sys; subprocess.run(['sleep', '60'])"
        environ = {**os.environ, MARK: self.root}
        self.process = subprocess.Popen([sys.executable, "-c", script], env=environ)
        self.addCleanup(self.process.wait)
        while count_by_root([self.root])[self.root] < 2:
            pass

    def test_kill(self) -> None:
        """All are gone afterwards, and we are not."""
        self.assertEqual(len(kill_all(self.root)), 2)
        self.assertEqual(processes_of(self.root), [])

    def test_others(self) -> None:
        """A node whose name only begins alike is another one."""
        self.assertEqual(processes_of(f"{self.root}0"), [])
        kill_all(self.root)
