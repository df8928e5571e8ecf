"""Real function processes: forked from a real zygote, answering, dying, being ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import Any

import msgspec

from twisted.internet import reactor as the_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from ganeti.errors import GanetiError
from ganeti.model.calls.system import NodeTestDelay
from ganeti.node.functions import Functions, Progress
from ganeti.node.launcher import Launcher, session_members
from ganeti.node.zygote import ZygoteSetup
from ganeti.testing import misbehaving
from ganeti.testing.misbehaving import Behave

reactor: Any = the_reactor


def is_alive(pid: int) -> bool:
    """Whether a process exists and is not only waiting to be collected."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


class ZygoteCase(TestCase):
    """A launcher with its zygote, and the functions above it."""

    async def setUp(self) -> None:  # type: ignore[override]
        """Start the zygote; it finds this module by the path of the tests."""
        self.launcher = Launcher(reactor, ZygoteSetup(root="/some/root", modules=(misbehaving.__name__,)))
        await self.launcher.startService()
        self.functions = Functions(reactor, self.launcher)
        self.functions.startService()

    async def tearDown(self) -> None:  # type: ignore[override]
        """End all; nothing may be left."""
        zygote = self.launcher.zygote_pid
        await self.functions.stopService()
        await self.launcher.stopService()
        if zygote is not None:
            self.assertFalse(is_alive(zygote))

    async def start(self, how: str, timeout_s: float = 20, **options: Any) -> Progress:
        """Start the function and wait."""
        args = msgspec.json.encode(Behave(how=how))
        return await self.functions.start("test_behave", args, timeout_s=timeout_s, **options)

    async def result(self, how: str) -> Any:
        """What comes of it, decoded."""
        return msgspec.json.decode((await self.start(how)).result or b"")

    async def running(self, how: str, **options: Any) -> tuple[str, int]:
        """Start it and go on; gives the id of the call and of the process."""
        call_id = (await self.start(how, 0.2, **options)).call_id or ""
        return call_id, int(call_id.split(":")[1])

    async def until_gone(self, *pids: int) -> None:
        """Wait for processes to be gone."""
        for _ in range(200):
            if not any(is_alive(pid) for pid in pids):
                return
            await deferLater(reactor, 0.05)
        self.fail("processes are still there")


class FunctionProcessTests(ZygoteCase):
    """What a function process is and how it may end."""

    async def test_process(self) -> None:
        """Each call has a process and a session of its own, a child of the zygote (S2.2-024)."""
        seen = [(await self.result("whoami"))[1] for _ in range(2)]
        for pid, session, parent, has_twisted, root in seen:
            self.assertEqual(session, pid)
            self.assertEqual(parent, self.launcher.zygote_pid)
            self.assertFalse(has_twisted)
            self.assertEqual(root, "/some/root")
        self.assertNotEqual(seen[0][0], seen[1][0])

    async def test_no_descriptors_leak(self) -> None:
        """A process has its standard descriptors and its channel, however many calls there were before."""
        running = [await self.running("run sleep 20") for _ in range(3)]
        held = (await self.result("descriptors"))[1]
        self.assertEqual([name.partition(":")[0] for name in held], ["/dev/null", "pipe", "pipe", "socket"])
        for call_id, _pid in running:
            self.functions.abort(call_id)

    async def test_large_result(self) -> None:
        """A result of megabytes arrives whole."""
        self.assertEqual(len((await self.result("big"))[1]), 3_000_000)

    async def test_output_goes_to_the_log(self) -> None:
        """What a function prints does not spoil its answer."""
        self.assertEqual(await self.result("print"), [True, "printed"])

    async def test_errors(self) -> None:
        """An error of ours is the result; a mistake has a reference and tells no secrets."""
        self.assertEqual(await self.result("refuse"), [False, ["GenericError", ["not today"]]])
        for how, kind in (("mistake", "ZeroDivisionError"), ("unserializable", "TypeError")):
            succeeded, (_name, args) = await self.result(how)
            self.assertFalse(succeeded)
            self.assertEqual(args[1], "failed")
            self.assertRegex(args[0], rf"{kind}.*under [0-9a-f]{{8}}$")
            self.assertNotIn("secret", args[0])

    async def test_death(self) -> None:
        """A process that exits or is killed without an answer is a failed call that says how (S2.2-026)."""
        for how, text in (
            ("exit 0", "exit code 0"),
            ("exit 3", "exit code 3"),
            ("die SIGKILL", "SIGKILL"),
            ("die SIGSEGV", "SIGSEGV"),
        ):
            _succeeded, (_name, args) = await self.result(how)
            self.assertEqual(args[1], "died")
            self.assertIn(text, args[0])

    async def test_partial_answers(self) -> None:
        """Half an answer, an endless one and one that is no JSON are failed calls (S2.2-026)."""
        for frame in ("00", "00000010" + b"[true".hex(), "ffffffff00", "00000004" + b"[tru".hex()):
            _succeeded, (_name, args) = await self.result(f"write {frame}")
            self.assertEqual(args[1], "died", frame)

    async def test_program_that_goes_on(self) -> None:
        """A program that was started to go on outlives the call and the abort of others."""
        succeeded, pid = await self.result(f"start {self.mktemp_path()} sleep 30")
        self.assertTrue(succeeded)
        self.assertTrue(is_alive(pid))
        self.assertEqual(os.getsid(pid), pid)
        os.kill(pid, signal.SIGKILL)

    def mktemp_path(self) -> str:
        """A name for a file, absolute because function processes run in another directory."""
        path: str = os.path.abspath(self.mktemp())
        return path


class EndingTests(ZygoteCase):
    """Ending function processes and what they started."""

    async def test_abort_takes_programs_along(self) -> None:
        """The program that a function waits for is ended with it."""
        call_id, pid = await self.running("run sleep 40")
        members = session_members(pid)
        self.assertEqual(len(members), 2)
        self.functions.abort(call_id)
        progress = await self.functions.wait(call_id, timeout_s=10)
        self.assertIn(b"aborted on request", progress.result or b"")
        await self.until_gone(*members)

    async def test_abort_after(self) -> None:
        """A function with a limit is ended at the limit (S2.2-031)."""
        progress = await self.start("run sleep 40", abort_after_s=0.3)
        self.assertIn(b"not done within 0.3 s", progress.result or b"")

    async def test_stubborn_function(self) -> None:
        """One that ignores TERM is killed with everything in its session."""
        call_id, pid = await self.running("stubborn")
        members = session_members(pid)
        self.assertEqual(len(members), 2)
        self.launcher.signal(pid, signal.SIGTERM)
        await deferLater(reactor, 0.2)
        self.assertTrue(is_alive(pid))
        self.launcher.signal(pid, signal.SIGKILL)
        self.assertIn(b"SIGKILL", (await self.functions.wait(call_id, timeout_s=10)).result or b"")
        await self.until_gone(*members)

    async def test_stop_ends_all(self) -> None:
        """When the daemon stops, all function processes are gone before it has stopped (S2.2-032)."""
        pids = [(await self.running("run sleep 40"))[1] for _ in range(3)]
        members = [member for pid in pids for member in session_members(pid)]
        await self.functions.stopService()
        self.assertEqual([pid for pid in members if is_alive(pid)], [])

    async def test_daemon_gone(self) -> None:
        """When the daemon's end of the socket goes, zygote and processes end by themselves."""
        _call_id, pid = await self.running("run sleep 40")
        members, zygote = session_members(pid), self.launcher.zygote_pid
        assert zygote is not None
        await self.launcher.stopService()
        await self.until_gone(zygote, *members)


class RespawnTests(ZygoteCase):
    """A zygote that dies."""

    async def test_new_zygote(self) -> None:
        """Calls under way fail, saying why, and the next ones are served by a new zygote."""
        call_id, pid = await self.running("run sleep 40")
        members, zygote = session_members(pid), self.launcher.zygote_pid
        assert zygote is not None
        os.kill(zygote, signal.SIGKILL)
        progress = await self.functions.wait(call_id, timeout_s=10)
        self.assertTrue((progress.result or b"").startswith(b"[false"))
        # At once: the call waits until there is a zygote again.
        parent = (await self.result("whoami"))[1][2]
        self.assertEqual(parent, self.launcher.zygote_pid)
        self.assertNotEqual(parent, zygote)
        await self.until_gone(*members)


class EarlyCallTests(TestCase):
    """Calls that do not wait for the zygote to be ready."""

    async def test_calls_before_it_is_ready(self) -> None:
        """Calls launched together with the zygote are carried out as soon as it is ready."""
        launcher = Launcher(reactor, ZygoteSetup())
        functions = Functions(reactor, launcher)
        ready = launcher.startService()
        args = msgspec.json.encode(NodeTestDelay(seconds=0))
        asked = [Deferred.fromCoroutine(functions.start("test_delay", args, timeout_s=20)) for _ in range(5)]
        for progress in [await each for each in asked]:
            self.assertEqual(progress.result, b"[true,null]")
        await ready
        await functions.stopService()
        await launcher.stopService()


class BrokenZygoteTests(TestCase):
    """A zygote that cannot load its functions."""

    async def test_start_says_why(self) -> None:
        """The daemon's start fails with the reason."""
        launcher = Launcher(reactor, ZygoteSetup(modules=("ganeti.no_such_module",)))
        started = launcher.startService()
        try:
            await started
        except GanetiError as error:
            self.assertRegex(str(error), "node functions cannot be loaded: .*no_such_module")
        else:
            self.fail("it started")
        await launcher.stopService()


class TwistedFreeTests(TestCase):
    """What the zygote imports."""

    def test_no_twisted(self) -> None:
        """The zygote with all functions and plugins has no Twisted, no TLS, and one thread."""
        code = (
            "import sys, threading; sys.path[:] = sys.argv[1:]\n"
            "from ganeti.node.zygote import *; build_world(ZygoteSetup())\n"
            "print([m for m in ('twisted', 'OpenSSL', 'cryptography') if m in sys.modules],"
            " threading.active_count())"
        )
        done = subprocess.run(
            [sys.executable, "-I", "-c", code, *map(os.path.abspath, sys.path)],
            capture_output=True,
            text=True,
            check=True,
        )
        self.assertTrue(re.fullmatch(r"\[\] 1\n", done.stdout), done.stdout)
