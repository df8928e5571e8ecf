"""The watcher as a service, and how daemons of a node are started by somebody who keeps them running."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from ganeti.daemons.local import LocalDaemons, options_in
from ganeti.daemons.watcher import MAX_RUNS, MERCY_S, Options, Rounds, build
from ganeti.daemons.watcher_run import is_run
from ganeti.errors import GanetiError
from ganeti.model.paths import Paths
from ganeti.testing.host import FakeProcesses, failed, ok
from ganeti.watcher.options import RunOptions, read


class ProcessClock(Clock):
    """Time, and processes that end when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[Process] = []
        self.is_out_of_processes = False

    def spawnProcess(self, protocol: Any, program: str, args: Any, **_: Any) -> Any:
        """Start one."""
        if self.is_out_of_processes:
            raise OSError("no more processes")
        process = Process(protocol, args)
        self.started.append(process)
        protocol.makeConnection(process)
        return process


class Process:
    """One of them."""

    def __init__(self, protocol: Any, args: Any) -> None:
        self.protocol = protocol
        self.args = args
        self.signals: list[str] = []
        self.is_over = False

    def closeStdin(self) -> None:
        """Nothing is written to it."""

    def signalProcess(self, name: str) -> None:
        """Note it."""
        if self.is_over:
            raise ProcessExitedAlready()
        self.signals.append(name)

    def end(self, code: int | None = 0) -> None:
        """It has ended with a code, or by a signal."""
        self.is_over = True
        reason = ProcessDone(0) if code == 0 else ProcessTerminated(code, None if code else 9)
        self.protocol.processEnded(Failure(reason))


class RoundsTests(SynchronousTestCase):
    """A run every five minutes."""

    def setUp(self) -> None:
        self.reactor = ProcessClock()
        self.rounds = Rounds(self.reactor, ["python", "run"], {}, every_s=300.0)
        self.rounds.startService()

    def test_overlap(self) -> None:
        """The next begins in time, whether or not the one before has ended (S2.3-063)."""
        self.assertEqual([process.args for process in self.reactor.started], [("python", "run")])
        self.reactor.advance(299)
        self.assertEqual(len(self.reactor.started), 1)
        self.reactor.advance(1)
        self.assertEqual(len(self.reactor.started), 2)
        self.reactor.started[0].end(0)
        self.reactor.started[1].end(11)
        self.reactor.advance(300)
        self.assertEqual(len(self.reactor.started), 3)

    def test_not_too_many(self) -> None:
        """Runs that do not end do not pile up without end."""
        for _ in range(MAX_RUNS + 5):
            self.reactor.advance(300)
        self.assertEqual(len(self.reactor.started), MAX_RUNS)
        self.reactor.started[3].end(None)
        self.reactor.advance(300)
        self.assertEqual(len(self.reactor.started), MAX_RUNS + 1)

    def test_no_processes(self) -> None:
        """A run that cannot be started does not end the service."""
        self.reactor.is_out_of_processes = True
        self.reactor.advance(300)
        self.reactor.is_out_of_processes = False
        self.reactor.advance(300)
        self.assertEqual(len(self.reactor.started), 2)

    def test_stop(self) -> None:
        """At the end runs are asked to end, and waited for."""
        self.reactor.advance(300)
        self.reactor.started[0].end(1)
        stopped = self.rounds.stopService()
        self.assertEqual([process.signals for process in self.reactor.started], [[], ["TERM"]])
        self.assertNoResult(stopped)
        self.reactor.started[1].end(1)
        self.successResultOf(stopped)
        self.reactor.advance(3000)
        self.assertEqual((len(self.reactor.started), self.reactor.getDelayedCalls()), (2, []))

    def test_stubborn(self) -> None:
        """One that does not end is killed."""
        stopped = self.rounds.stopService()
        self.reactor.advance(MERCY_S)
        self.assertEqual(self.reactor.started[0].signals, ["TERM", "KILL"])
        self.reactor.started[0].end(None)
        self.successResultOf(stopped)

    def test_tree(self) -> None:
        """The first run begins when the daemon has its pid file."""
        reactor = ProcessClock()
        service = build(reactor, ["x"], {}, Service(), every_s=5.0, on_failure=lambda _: None)
        service.startService()
        self.assertEqual(len(reactor.started), 1)
        stopped: Any = service.stopService()
        reactor.started[0].end(0)
        self.successResultOf(stopped)


class OptionsTests(SynchronousTestCase):
    """Options of the service are those of its runs."""

    def options(self, *words: str) -> Options:
        """As twistd reads them."""
        options = Options()  # type: ignore[no-untyped-call]
        options.parseOptions(words)  # type: ignore[no-untyped-call]
        return options

    def test_passed_on(self) -> None:
        """What the service is told its runs do, by their own reading."""
        self.assertEqual(read(self.options().run_words()), RunOptions())
        words = "-d -A 2h --ignore-pause --no-wait-children --no-verify-disks --no-strict --rapi-ip 10.0.0.1"
        passed = self.options(*words.split()).run_words()
        self.assertEqual(passed[0], "--once")
        self.assertEqual(read(passed), read(words.split()))

    def test_interval(self) -> None:
        """A second to a day."""
        self.assertEqual(self.options("--interval", "60")["interval"], 60.0)
        for wrong in ("0", "-1", "1e9", "nan", "often"):
            self.assertRaises(UsageError, self.options, "--interval", wrong)

    def test_what_is_wanted(self) -> None:
        """One run with --once, of one group, and for help; else the service."""
        for words, wanted in (
            ("--once", True),
            ("-d --once", True),
            ("-g uuid", True),
            ("--node-group=uuid", True),
            ("--help", True),
            ("", False),
            ("-f -d", False),
        ):
            self.assertEqual(is_run(words.split()), wanted, words)


class LocalDaemonsTests(SynchronousTestCase):
    """Starting daemons as they are started on their node."""

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        os.makedirs(self.directory)
        self.processes = FakeProcesses({("systemctl",): ok()})

    def daemons(self, root: str = "") -> LocalDaemons:
        """On a machine with systemd and units."""
        return LocalDaemons(
            Paths(root), self.processes, systemd=self.directory, unit_directories=["/nowhere", self.directory]
        )

    def test_systemd(self) -> None:
        """What has a unit is started as one, so that it does not belong to us."""
        Path(self.directory, "ganeti-noded.service").touch()
        self.daemons().start("ganeti-noded")
        self.daemons().stop("ganeti-noded")
        self.assertEqual(
            self.processes.commands(),
            [("systemctl", "start", "ganeti-noded.service"), ("systemctl", "stop", "ganeti-noded.service")],
        )
        self.processes.answers["systemctl",] = failed("no")
        self.assertRaises(GanetiError, self.daemons().start, "ganeti-noded")

    def test_virtual(self) -> None:
        """Units of the machine are not those of a virtual node on it."""
        Path(self.directory, "ganeti-noded.service").touch()
        self.daemons(f"{self.directory}/root").stop("ganeti-noded")
        self.assertEqual(self.processes.commands(), [])

    def test_options(self) -> None:
        """From the file beside the system's other defaults."""
        root = f"{self.directory}/root"
        daemons = self.daemons(root)
        self.assertEqual(daemons.options("ganeti-noded"), ())
        os.makedirs(f"{root}/etc/default")
        Path(root, "etc/default/ganeti").write_text('NODED_ARGS="-b 10.0.0.1"\n')
        self.assertEqual(daemons.options("ganeti-noded"), ("-b", "10.0.0.1"))

    def test_lines(self) -> None:
        """As a shell would read them."""
        for text, wanted in (
            ("", ()),
            ('NODED_ARGS="-b 10.0.0.1"', ("-b", "10.0.0.1")),
            ("NODED_ARGS='-b 10.0.0.1' # comment", ("-b", "10.0.0.1")),
            ("  NODED_ARGS=-d", ("-d",)),
            ("NODED_ARGS=-d\nNODED_ARGS=-f", ("-f",)),
            ('RAPI_ARGS="-d"\n# NODED_ARGS="-d"', ()),
            ('NODED_ARGS=""', ()),
        ):
            self.assertEqual(options_in(text, "ganeti-noded"), wanted, text)
        self.assertRaises(GanetiError, options_in, 'NODED_ARGS="-b', "ganeti-noded")
