"""The node as blocking code sees it: programs, addresses; and the table of functions."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ganeti.errors import CommandFailed, ProgrammerError
from ganeti.interfaces import IHost, IProcessRunner
from ganeti.model.calls.system import NodeTestDelay, Version, VersionResult
from ganeti.model.paths import Paths
from ganeti.node.backend.basics import own_version, version
from ganeti.node.backend.host import Host, ProcessRunner
from ganeti.node.backend.registry import NodeWorld, functions, load_all, node_function


def _is_gone(state: Path) -> bool:
    """Whether a process has ended; killing takes effect a moment later."""
    try:
        return state.read_text().split()[2] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


class ProcessRunnerTests(SynchronousTestCase):
    """Running programs."""

    def setUp(self) -> None:
        """A runner, and a place for files."""
        self.runner = ProcessRunner()
        self.directory = Path(os.path.abspath(self.mktemp()))
        self.directory.mkdir()

    def fails(self, *argv: str, timeout_s: float = 10, **options: str) -> str:
        """The message with which a program fails."""
        with self.assertRaises(CommandFailed) as caught:
            self.runner.run(argv, timeout_s=timeout_s, **options)  # type: ignore[arg-type]
        return str(caught.exception)

    def shell(self, script: str) -> str:
        """Standard output of a shell script."""
        return self.runner.run(["sh", "-c", script], timeout_s=10).stdout

    def test_interface(self) -> None:
        """It is what it says."""
        self.assertTrue(verifyObject(IProcessRunner, self.runner))

    def test_output(self) -> None:
        """Both outputs and the code come back; a bad code is no error where it is not to be checked."""
        done = self.runner.run(
            ["sh", "-c", "cat; echo oops >&2; exit 3"], timeout_s=10, stdin=b"hello", check=False
        )
        self.assertEqual((done.code, done.stdout, done.stderr), (3, "hello", "oops\n"))

    def test_clean_environment(self) -> None:
        """A program sees nothing of the daemon's environment, and a standard path."""
        os.environ["SECRET_OF_THE_DAEMON"] = "1"
        self.addCleanup(os.environ.pop, "SECRET_OF_THE_DAEMON")
        seen = self.shell("env")
        self.assertNotIn("SECRET", seen)
        self.assertIn("PATH=/usr/local/sbin:", seen)
        self.assertIn("LC_ALL=C", seen)

    def test_own_environment(self) -> None:
        """An environment that is given is the whole one."""
        done = self.runner.run(["/usr/bin/env"], timeout_s=10, env={"A": "b"}, cwd=str(self.directory))
        self.assertEqual(done.stdout, "A=b\n")

    def test_bad_exit(self) -> None:
        """The message has the command, how it ended, and its last twenty lines."""
        said = self.fails("sh", "-c", "seq 100; echo no space >&2; exit 5")
        self.assertIn("exit code 5", said)
        self.assertIn("no space", said)
        self.assertIn("\n82\n", said)
        self.assertNotIn("\n81\n", said)
        self.assertIn("SIGSEGV", self.fails("sh", "-c", "kill -SEGV $$"))

    def test_not_there(self) -> None:
        """A missing program, a missing directory and a file that is no program are named."""
        self.assertIn("no-such-program: not found", self.fails("no-such-program"))
        self.assertIn("no directory /no/such", self.fails("true", cwd="/no/such"))
        (self.directory / "text").write_text("x")
        self.assertIn("Permission denied", self.fails(str(self.directory / "text")))

    def test_timeout_ends_the_whole_group(self) -> None:
        """A program that takes too long is ended with what it started."""
        mark = self.directory / "pid"
        begun = time.monotonic()
        said = self.fails("sh", "-c", f"echo working; sleep 50 & echo $! > {mark}; wait", timeout_s=0.5)
        self.assertLess(time.monotonic() - begun, 5)
        self.assertIn("did not end within 0.5 s", said)
        self.assertIn("working", said)
        child = int(mark.read_text())
        state = Path(f"/proc/{child}/stat")
        deadline = time.monotonic() + 5
        while not (is_gone := _is_gone(state)) and time.monotonic() < deadline:
            os.sched_yield()
        self.assertTrue(is_gone)

    def test_log(self) -> None:
        """With a log both outputs go there, and the message of a failure has its end."""
        log = self.directory / "log"
        done = self.runner.run(["sh", "-c", "echo a; echo b >&2"], timeout_s=10, log_path=str(log))
        self.assertEqual((done.stdout, done.stderr), ("", ""))
        self.assertEqual(log.read_text(), "a\nb\n")
        said = self.fails("sh", "-c", "echo broken; exit 1", log_path=str(log))
        self.assertIn("broken", said)
        self.assertIn(str(log), said)

    def test_start(self) -> None:
        """A program that is to go on has a session of its own and writes to its log."""
        log = self.directory / "log"
        pid = self.runner.start(["sh", "-c", "echo up; exec sleep 50"], log_path=str(log))
        try:
            self.assertEqual(os.getsid(pid), pid)
            for _ in range(100):
                if log.read_text():
                    break
                time.sleep(0.02)
            self.assertEqual(log.read_text(), "up\n")
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


class HostTests(SynchronousTestCase):
    """The node."""

    def setUp(self) -> None:
        """A node that joined a cluster."""
        self.paths = Paths(os.path.abspath(self.mktemp()))
        os.makedirs(self.paths.data_dir)
        self.host = Host(self.paths, "n1.example.com")

    def ssconf(self, name: str, text: str) -> None:
        """Write a value for scripts."""
        Path(self.paths.ssconf(name)).write_text(text)

    def test_interface(self) -> None:
        """It is what it says."""
        self.assertTrue(verifyObject(IHost, self.host))
        self.assertAlmostEqual(self.host.now(), time.time(), places=0)

    def test_addresses(self) -> None:
        """Its addresses are those of ssconf; the primary one counts where there is no other."""
        self.assertEqual((self.host.primary_ip, self.host.secondary_ip), ("", ""))
        self.ssconf("node_primary_ips", "n0.example.com 192.0.2.1\nn1.example.com 192.0.2.2\n")
        self.assertEqual((self.host.primary_ip, self.host.secondary_ip), ("192.0.2.2", "192.0.2.2"))
        self.ssconf("node_secondary_ips", "n1.example.com 198.51.100.2\n")
        self.assertEqual(self.host.secondary_ip, "198.51.100.2")


class RegistryTests(SynchronousTestCase):
    """The functions of a node."""

    def test_every_function_is_found(self) -> None:
        """All modules of the backend are imported, and their functions known by name."""
        load_all()
        self.assertIs(functions()["version"].call, Version)
        self.assertIs(functions()["test_delay"].call, NodeTestDelay)

    def test_two_for_one_call(self) -> None:
        """Two modules that answer the same call are refused, both named."""

        def other(call: Version, node: NodeWorld) -> VersionResult:
            return own_version()

        other.__module__ = "elsewhere"
        with self.assertRaisesRegex(ProgrammerError, "backend.basics and in elsewhere"):
            node_function(Version)(other)
        self.assertIs(functions()["version"].function, version)
