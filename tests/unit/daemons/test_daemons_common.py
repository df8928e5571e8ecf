"""What daemons have in common: pid files, logs, syslog, systemd, options, ending with a code."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from ganeti.daemons import common
from ganeti.daemons.common import Upkeep, end, explained, refuse_elsewhere
from ganeti.daemons.launcher import is_debug, is_foreground, twistd_arguments
from ganeti.daemons.logs import FileLog, SyslogLog, level_filter
from ganeti.daemons.notify import sd_notify
from ganeti.daemons.options import ROOT_VARIABLE, DaemonOptions, NetworkOptions
from ganeti.daemons.pid_file import PidFile
from ganeti.errors import GanetiError
from ganeti.model.paths import Paths
from ganeti.wire.trace import current_trace

PROJECT = Path(common.__file__).parents[2]


def node(test: SynchronousTestCase) -> Paths:
    """An empty root directory of a node."""
    paths = Paths(os.path.abspath(test.mktemp()))
    for directory in (paths.data_dir, paths.run_dir, paths.log_dir):
        os.makedirs(directory)
    return paths


def event(text: str, level: Any = LogLevel.info, **more: Any) -> dict[str, Any]:
    """A log event."""
    return {
        "log_level": level,
        "log_format": text,
        "log_time": 1.0,
        "log_namespace": "x",
        "log_system": "x",
        **more,
    }


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a few lines in a process of their own."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class PidFileTests(SynchronousTestCase):
    """One daemon of a kind on a node."""

    def setUp(self) -> None:
        self.path = os.path.abspath(self.mktemp())

    def other(self, code: str) -> subprocess.CompletedProcess[str]:
        """Another process that wants the file and then does something."""
        return run(
            "import os, sys; from ganeti.daemons.pid_file import PidFile; "
            f"p = PidFile(sys.argv[1], 'ganeti-noded'); p.acquire(); {code}",
            self.path,
        )

    def test_content(self) -> None:
        """It has our process id while we live, and is gone afterwards."""
        pid_file = PidFile(self.path, "ganeti-noded")
        pid_file.acquire()
        self.assertEqual(Path(self.path).read_text(), f"{os.getpid()}\n")
        pid_file.release()
        self.assertFalse(os.path.exists(self.path))

    def test_second(self) -> None:
        """A second daemon is refused and told who is first; the file stays as it was."""
        pid_file = PidFile(self.path, "ganeti-noded")
        pid_file.acquire()
        self.addCleanup(pid_file.release)
        refused = self.other("print('taken')")
        self.assertIn(f"ganeti-noded is running already (process {os.getpid()}", refused.stderr)
        self.assertEqual(Path(self.path).read_text(), f"{os.getpid()}\n")

    def test_left_behind(self) -> None:
        """The file of a daemon that was killed is in nobody's way."""
        killed = self.other("os.kill(os.getpid(), 9)")
        self.assertEqual(killed.returncode, -9)
        self.assertTrue(os.path.exists(self.path))
        pid_file = PidFile(self.path, "ganeti-noded")
        pid_file.acquire()
        self.assertEqual(Path(self.path).read_text(), f"{os.getpid()}\n")
        pid_file.release()

    @unittest.skipIf(os.geteuid() != 0, "needs root, to be somebody else")
    def test_nobody_else_locks_it(self) -> None:
        """Who may not write the file cannot lock it either, and so not keep the daemon from starting."""
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        os.chmod(directory, 0o755)
        path = f"{directory}/daemon.pid"
        Path(path).write_text("")
        os.chmod(path, 0o644)
        pid_file = PidFile(path, "ganeti-noded")
        pid_file.acquire()
        self.addCleanup(pid_file.release)
        # 65534 is nobody.
        tried = run("import os, sys; os.setgid(65534); os.setuid(65534); open(sys.argv[1])", path)
        self.assertIn("PermissionError", tried.stderr)

    def test_children_do_not_hold_it(self) -> None:
        """A child that outlives a killed daemon, as guests do, does not keep the next one away."""
        killed = self.other(
            "pid = os.fork(); pid or (os.closerange(0, 3), os.execlp('sleep', 'sleep', '30')); "
            "print(pid, flush=True); os._exit(9)"
        )
        child = int(killed.stdout)
        pid_file = PidFile(self.path, "ganeti-noded")
        try:
            pid_file.acquire()
        finally:
            pid_file.release()
            os.kill(child, signal.SIGKILL)

    def test_release_of_nothing(self) -> None:
        """Somebody else's file is left alone."""
        Path(self.path).write_text("1\n")
        PidFile(self.path, "x").release()
        self.assertTrue(os.path.exists(self.path))


class FileLogTests(SynchronousTestCase):
    """The log file."""

    def setUp(self) -> None:
        self.path = Path(os.path.abspath(self.mktemp()))

    def test_rotation(self) -> None:
        """After a rename and SIGHUP new lines are in a new file."""
        log = FileLog(str(self.path))
        self.addCleanup(log.close)
        log(event("before"))
        old = self.path.rename(f"{self.path}.1")
        log(event("still"))
        log.reopen()
        log(event("after"))
        self.assertEqual([line.split("] ")[1] for line in old.read_text().splitlines()], ["before", "still"])
        self.assertIn("after", self.path.read_text())
        self.assertEqual(self.path.stat().st_mode & 0o007, 0)

    def test_job(self) -> None:
        """Lines written on behalf of a job name it."""
        log = FileLog(str(self.path))
        self.addCleanup(log.close)
        token = current_trace.set("17")
        log(event("starting"))
        current_trace.reset(token)
        self.assertIn("] job 17: starting", self.path.read_text())

    def test_levels(self) -> None:
        """Debug events are there only if wanted."""
        for debug, wanted in ((False, ["info"]), (True, ["debug", "info"])):
            log = FileLog(str(self.path) + str(debug))
            self.addCleanup(log.close)
            observer = level_filter(log, debug=debug)
            observer(event("debug", LogLevel.debug))
            observer(event("info"))
            lines = Path(f"{self.path}{debug}").read_text().splitlines()
            self.assertEqual([line.split("] ")[1] for line in lines], wanted)


class SyslogTests(SynchronousTestCase):
    """Syslog."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        self.server = self.listen()

    def listen(self) -> socket.socket:
        """A syslog."""
        server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        server.bind(self.path)
        server.settimeout(5)
        self.addCleanup(server.close)
        return server

    def test_lines(self) -> None:
        """Each line is a datagram with facility daemon, severity, name and process."""
        log = SyslogLog("ganeti-noded", self.path)
        self.addCleanup(log.close)
        log(event("two\nlines", LogLevel.error))
        first, second = self.server.recv(9000).decode(), self.server.recv(9000).decode()
        self.assertTrue(first.startswith("<27>"))
        self.assertTrue(first.endswith(f"ganeti-noded[{os.getpid()}]: two"))
        self.assertTrue(second.endswith(": lines"))

    def test_failure(self) -> None:
        """A failure comes with its traceback."""
        log = SyslogLog("ganeti-noded", self.path)
        self.addCleanup(log.close)
        log(event("bad", LogLevel.critical, log_failure=Failure(ZeroDivisionError("zero"))))
        self.assertTrue(self.server.recv(9000).startswith(b"<26>"))
        self.assertIn(b"Traceback", self.server.recv(9000))
        self.assertIn(b"ZeroDivisionError", self.server.recv(9000))

    def test_no_syslog(self) -> None:
        """Without a syslog nothing happens; when there is one again it gets what comes."""
        log = SyslogLog("ganeti-noded", self.path)
        self.addCleanup(log.close)
        log(event("one"))
        self.server.close()
        os.unlink(self.path)
        log(event("lost"))
        self.server = self.listen()
        log(event("two"))
        self.assertTrue(self.server.recv(9000).endswith(b": two"))

    def test_full(self) -> None:
        """A syslog that does not read holds up nobody."""
        log = SyslogLog("ganeti-noded", self.path)
        self.addCleanup(log.close)
        for _ in range(2000):
            log(event("x" * 1000))
        self.assertTrue(self.server.recv(9000))


class NotifyTests(SynchronousTestCase):
    """systemd."""

    def test_told(self) -> None:
        """The state arrives on the socket that systemd names."""
        path = os.path.abspath(self.mktemp())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
            server.bind(path)
            self.patch(os, "environ", {**os.environ, "NOTIFY_SOCKET": path})
            self.assertTrue(sd_notify("READY=1"))
            self.assertEqual(server.recv(100), b"READY=1")

    def test_nobody_asked(self) -> None:
        """Without systemd, or with a socket that is gone, nothing happens."""
        environment = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
        self.patch(os, "environ", environment)
        self.assertFalse(sd_notify("READY=1"))
        self.patch(os, "environ", {**environment, "NOTIFY_SOCKET": "/nonexistent/socket"})
        self.assertFalse(sd_notify("READY=1"))


class UpkeepTests(SynchronousTestCase):
    """The first part of each daemon."""

    def setUp(self) -> None:
        self.paths = node(self)
        self.former = signal.getsignal(signal.SIGHUP)
        self.reloads: list[str] = []
        self.upkeep = Upkeep(
            "ganeti-noded", self.paths, to_file=True, reload=lambda: self.reloads.append("reload")
        )
        self.upkeep.startService()

    def stop(self) -> None:
        """Stop it."""
        self.upkeep.stopService()

    def log(self) -> str:
        """What the log file has."""
        return Path(self.paths.log_file("ganeti-noded")).read_text()

    def test_life(self) -> None:
        """Pid file and signal while it runs; nothing of them afterwards."""
        self.assertTrue(os.path.exists(self.paths.pid_file("ganeti-noded")))
        self.assertNotEqual(signal.getsignal(signal.SIGHUP), self.former)
        self.stop()
        self.assertFalse(os.path.exists(self.paths.pid_file("ganeti-noded")))
        self.assertEqual(signal.getsignal(signal.SIGHUP), self.former)

    def test_log(self) -> None:
        """Events go to the established file name."""
        Logger().info("something happened")
        self.stop()
        self.assertIn("something happened", self.log())
        self.assertTrue(self.paths.log_file("ganeti-noded").endswith("/node-daemon.log"))

    def test_reload(self) -> None:
        """SIGHUP opens the log anew and tells the daemon."""
        os.rename(self.paths.log_file("ganeti-noded"), self.paths.log_file("ganeti-noded") + ".1")
        self.upkeep.reload()
        self.stop()
        self.assertEqual(self.reloads, ["reload"])
        self.assertIn("reloading", self.log())

    def test_failing_reload(self) -> None:
        """A reload that fails is logged, and the daemon goes on."""
        self.upkeep._reload = lambda: 1 // 0  # type: ignore[assignment]
        self.upkeep.reload()
        self.stop()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertIn("reloading failed", self.log())


class EndTests(SynchronousTestCase):
    """Ending with a code and a message."""

    def test_code(self) -> None:
        """The reactor is stopped, and the process will end with the code."""
        reactor, endings = MemoryReactorClock(), []  # type: ignore[var-annotated]
        end(reactor, 3, at_exit=endings.append)(Failure(GanetiError("no")))
        self.assertEqual(len(endings), 1)
        self.assertEqual(len(reactor.whenRunningHooks), 1)

    def test_taken_port(self) -> None:
        """The message has address, reason and remedy."""
        error = CannotListenError("127.0.0.1", 1811, OSError(98, "Address already in use"))
        self.assertEqual(
            explained(Failure(error)),
            "cannot listen on 127.0.0.1 port 1811: Address already in use; "
            "stop what listens there, or use --bind or --port",
        )

    def test_not_master(self) -> None:
        """11 on another node, 12 where there is no cluster."""
        paths = node(self)
        self.assertEqual(self.assertRaises(SystemExit, refuse_elsewhere, paths, "n1").code, 12)
        Path(paths.ssconf("master_node")).write_text("n2\n")
        self.assertEqual(self.assertRaises(SystemExit, refuse_elsewhere, paths, "n1").code, 11)
        refuse_elsewhere(paths, "n2")


class OptionTests(SynchronousTestCase):
    """Options of all daemons."""

    def parsed(self, *arguments: str) -> NetworkOptions:
        """Options of a command line."""
        options = NetworkOptions()  # type: ignore[no-untyped-call]
        options.parseOptions(list(arguments))  # type: ignore[no-untyped-call]
        return options

    def test_values(self) -> None:
        """The established letters and words."""
        options = self.parsed("-d", "-f", "-b", "::1", "-p", "1900", "--syslog=yes")
        self.assertEqual((options["bind"], options["port"], options["syslog"]), ("::1", 1900, "yes"))
        self.assertTrue(options["debug"] and options["foreground"])

    def test_refused(self) -> None:
        """What makes no sense is refused."""
        for wrong in (["-p", "70000"], ["-p", "x"], ["-b", "somewhere"], ["--syslog=maybe"], ["--what"]):
            self.assertRaises(UsageError, self.parsed, *wrong)

    def test_root(self) -> None:
        """The environment says which node this is."""
        self.patch(os, "environ", {**os.environ, ROOT_VARIABLE: "/some/node"})
        options = DaemonOptions()  # type: ignore[no-untyped-call]
        self.assertEqual(options.paths.data_dir, "/some/node/var/lib/ganeti")

    def test_foreground(self) -> None:
        """Letters may be joined; help never goes to the background."""
        for options, wanted in (
            (["-f"], True),
            (["-df"], True),
            (["--foreground"], True),
            (["--help"], True),
            (["-d"], False),
            (["-b", "::1", "--syslog=yes"], False),
        ):
            self.assertEqual(is_foreground(options), wanted, options)
        self.assertTrue(is_debug(["-fd"]))

    def test_twistd(self) -> None:
        """twistd never goes to the background itself, and options reach the daemon."""
        paths = Paths("/r")
        arguments = twistd_arguments("ganeti-noded", ["-p", "1"], paths)
        self.assertIn("--nodaemon", arguments)
        self.assertIn("--rundir=/r/var/run/ganeti", arguments)
        self.assertEqual(arguments[-3:], ["ganeti-noded", "-p", "1"])
        self.assertIn(
            "--logger=ganeti.daemons.logs.debug_console", twistd_arguments("x", ["-d", "-f"], paths)
        )
