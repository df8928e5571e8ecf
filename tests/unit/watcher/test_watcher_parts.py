"""Parts of a run: options, daemons and scripts of the node, the remote interface, children."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import CommandFailed, GanetiError
from ganeti.interfaces import Completed
from ganeti.model.paths import Paths
from ganeti.testing.host import FakeProcesses, Ran, failed, ok
from ganeti.watcher.children import Children
from ganeti.watcher.node_part import HOOKS_S, NodePart
from ganeti.watcher.options import RunOptions, read
from ganeti.watcher.rapi_check import RapiPlace, place, problem_of


class OptionsTests(SynchronousTestCase):
    """Options of a run."""

    def test_values(self) -> None:
        """Every option has its effect."""
        self.assertEqual(read(["--once"]), RunOptions())
        given = "-d -g x -A 2h --ignore-pause --no-wait-children --no-verify-disks --no-strict --rapi-ip ::1"
        self.assertEqual(
            read(given.split()),
            RunOptions(
                debug=True,
                node_group="x",
                job_age_s=7200,
                ignore_pause=True,
                wait_children=False,
                verify_disks=False,
                strict=False,
                rapi_ip="::1",
            ),
        )

    def test_refused(self) -> None:
        """Wrong ones end with 2."""
        for words in (["-A", "x"], ["-A", "-5"], ["--rapi-ip", "host"], ["word"], ["--node"]):
            with contextlib.redirect_stderr(io.StringIO()):
                self.assertEqual(self.assertRaises(SystemExit, read, words).code, 2)


class FakeDaemons:
    """Daemons that run or do not."""

    def __init__(self, *running: str) -> None:
        self.running = set(running)
        self.broken: set[str] = set()
        self.started: list[str] = []

    def is_running(self, daemon: str) -> bool:
        """Whether it runs."""
        return daemon in self.running

    def start(self, daemon: str) -> None:
        """It runs from now on, unless it is broken."""
        self.started.append(daemon)
        if daemon in self.broken:
            raise GanetiError(f"{daemon} does not start")
        self.running.add(daemon)

    def stop(self, daemon: str) -> None:
        """It does not run any more."""
        self.running.discard(daemon)

    def options(self, daemon: str) -> tuple[str, ...]:
        """None."""
        return ()


class NodePartTests(SynchronousTestCase):
    """What is done on every node."""

    def setUp(self) -> None:
        self.paths = Paths(os.path.abspath(self.mktemp()))
        self.directory = Path(self.paths.hooks_dir) / "watcher"
        self.directory.mkdir(parents=True)
        os.makedirs(self.paths.data_dir)
        self.processes = FakeProcesses()
        self.daemons = FakeDaemons("ganeti-noded", "ganeti-confd")
        self.now = 0.0

    def run_part(self) -> bool:
        """One run."""
        return NodePart(self.paths, self.daemons, self.processes, lambda: self.now).run()

    def script(self, name: str, answer: Completed | None = None, *, mode: int = 0o755) -> None:
        """A script of the administrator."""
        (self.directory / name).touch(mode=mode)
        self.processes.answers[str(self.directory / name),] = answer or ok()

    def ran(self) -> list[str]:
        """Names of the scripts that were run."""
        return [os.path.basename(ran.argv[0]) for ran in self.processes.calls]

    def test_daemons(self) -> None:
        """Those that do not run are started; one that cannot is told of, and the rest is done."""
        self.assertTrue(self.run_part())
        self.assertEqual(self.daemons.started, [])
        self.daemons.running.clear()
        self.daemons.broken.add("ganeti-noded")
        self.script("a")
        self.assertFalse(self.run_part())
        self.assertEqual(self.daemons.started, ["ganeti-noded", "ganeti-confd"])
        self.assertEqual(self.ran(), ["a"])

    def test_quicker(self) -> None:
        """A daemon that another run has started in the same moment runs, and that is what counts."""

        def start(daemon: str) -> None:
            self.daemons.running.add(daemon)
            raise GanetiError(f"{daemon} is running already")

        self.daemons.running.remove("ganeti-confd")
        self.daemons.start = start  # type: ignore[method-assign]
        self.assertTrue(self.run_part())

    def test_scripts(self) -> None:
        """Programs with ordinary names, in order; one that fails changes nothing."""
        self.script("20-b", failed("no"))
        self.script("10-a")
        self.script("30-c")
        self.script("text", mode=0o644)
        self.script("name.with.dots")
        (self.directory / "directory").mkdir()
        (self.directory / "dangling").symlink_to("nowhere")
        self.assertTrue(self.run_part())
        self.assertEqual(self.ran(), ["10-a", "20-b", "30-c"])

    def test_slow_scripts(self) -> None:
        """All together have a limit; those behind are not run any more."""

        def slow(ran: Ran) -> Completed:
            self.now += ran.timeout_s or 0.0
            raise CommandFailed("it did not end")

        self.script("a")
        self.script("b")
        self.processes.answers[str(self.directory / "a"),] = slow
        self.assertTrue(self.run_part())
        self.assertEqual(self.ran(), ["a"])
        self.assertEqual(self.now, HOOKS_S)

    def test_no_directory(self) -> None:
        """Most nodes have no such scripts."""
        self.directory.rmdir()
        self.assertTrue(self.run_part())

    def test_health(self) -> None:
        """What is asked for and cannot be done is said."""
        Path(self.paths.ssconf("maintain_node_health")).write_text("True\n")
        self.assertTrue(self.run_part())


class RapiTests(SynchronousTestCase):
    """The remote interface is asked."""

    def test_place(self) -> None:
        """Where it listens follows from its options."""
        for words, wanted in (
            ("", RapiPlace()),
            ("--bind 10.0.0.1,10.0.0.2 -p 99", RapiPlace(address="10.0.0.1", port=99)),
            ("-b ::", RapiPlace()),
            ("--bind=10.0.0.1 --port=7 --no-ssl", RapiPlace(address="10.0.0.1", port=7, is_tls=False)),
            ("-b", RapiPlace()),
            ("-p x", RapiPlace()),
        ):
            self.assertEqual(place(words.split()), wanted, words)
        self.assertEqual(place(["-b", "10.0.0.1"], "10.0.0.9").address, "10.0.0.9")

    @contextlib.contextmanager
    def server(self, code: int, body: bytes) -> Iterator[RapiPlace]:
        """Something that answers."""

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(code)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        with HTTPServer(("127.0.0.1", 0), Answer) as server:
            thread = threading.Thread(target=server.handle_request)
            thread.start()
            yield RapiPlace(port=server.server_port, is_tls=False)
            thread.join()

    def test_answers(self) -> None:
        """Its version, or that it wants a password, is enough; everything else is a problem."""
        for code, body, is_well in (
            (200, b"2", True),
            (200, b"2\n", True),
            (401, b"", True),
            (200, b"3", False),
            (200, b"<html>", False),
            (200, b"2" * 10000, False),
            (500, b"2", False),
            (404, b"", False),
        ):
            with self.server(code, body) as where:
                problem = problem_of(where, timeout_s=5)
            self.assertEqual(problem is None, is_well, (code, body[:9], problem))

    def test_nobody(self) -> None:
        """Nobody there, or somebody who does not speak TLS."""
        self.assertIn("does not answer", problem_of(RapiPlace(port=1), timeout_s=5) or "")
        with self.server(200, b"2") as where:
            self.assertIn("does not answer", problem_of(RapiPlace(port=where.port), timeout_s=5) or "")


_CHILDREN = """
import os, signal, sys, time
from ganeti.watcher.children import Children
children = Children()
"""


class ChildrenTests(SynchronousTestCase):
    """Forked processes; tried in a process of their own, as this one has threads."""

    def outcome(self, code: str) -> list[str]:
        """What a program prints that has `children`."""
        done = subprocess.run(
            [sys.executable, "-c", _CHILDREN + code],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=False,
            timeout=60,
        )
        return done.stdout.split("\n")[:-1]

    def test_codes(self) -> None:
        """Each child ends with the code of its work; errors and signals are told apart."""
        lines = self.outcome(
            "children.start('a', lambda: 0)\n"
            "children.start('b', lambda: 20)\n"
            "children.start('c', lambda: 1 // 0)\n"
            "children.start('d', lambda: os.kill(os.getpid(), signal.SIGKILL) or 0)\n"
            "children.start('e', lambda: sys.exit(7))\n"
            "print(sorted(children.wait(at_most_s=30).items()))\n"
        )
        self.assertEqual(lines, [str([("a", 0), ("b", 20), ("c", 1), ("d", -signal.SIGKILL), ("e", 1)])])

    def test_late(self) -> None:
        """A child that does not end is killed, and the others are not."""
        lines = self.outcome(
            "children.start('a', lambda: time.sleep(60) or 0)\n"
            "children.start('b', lambda: 0)\n"
            "print(sorted(children.wait(at_most_s=0.5).items()))\n"
        )
        self.assertEqual(lines, [str([("a", -signal.SIGKILL), ("b", 0)])])

    def test_output(self) -> None:
        """What was printed before is printed once."""
        lines = self.outcome(
            "print('once')\nchildren.start('a', lambda: print('child') or 0)\nchildren.wait(at_most_s=30)\n"
        )
        self.assertEqual(sorted(lines), ["child", "once"])

    def test_none(self) -> None:
        """Without children there is nothing to wait for."""
        self.assertEqual(Children().wait(at_most_s=0.0), {})
