"""Function calls of a node: ids, waiting in rounds, aborting, remembering, ending all."""

from __future__ import annotations

import os
import re
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import HypervisorError, NodeError, UnknownCall
from ganeti.model.calls.system import NodeTestDelay, QueueUpdate, Version
from ganeti.node.functions import Functions, Limits, Progress, make_call_id
from ganeti.testing.links import FakeLauncher, FakeProcess

CALL_ID = re.compile(r"^\d+:\d+:\d+\.\d+:[0-9a-f]{4,}$")
DELAY = msgspec.json.encode(NodeTestDelay(seconds=1))


class CallIdTests(SynchronousTestCase):
    """Ids of calls."""

    @given(
        st.integers(1, 2**22),
        st.integers(0, 2**22),
        st.floats(0, 4e9),
        st.binary(min_size=2, max_size=8).map(bytes.hex),
    )
    def test_form(self, ppid: int, cpid: int, now: float, random_hex: str) -> None:
        """Every id has the documented form, with at least three decimals of time (S2.2-027)."""
        found = make_call_id(ppid, cpid, now, random_hex)
        self.assertRegex(found, CALL_ID)
        self.assertRegex(found.split(":")[2], r"\.\d{3,}$")

    def test_unique(self) -> None:
        """A hundred thousand calls of one process number in one moment have different ids (S2.2-027)."""
        launcher = FakeLauncher()
        launcher.on_launch = lambda process: None
        functions = Functions(Clock(), launcher, limits=Limits(running=0))
        call = functions._new_call("test_delay", DELAY, None, None, None)
        found = set()
        for _ in range(100_000):
            call.call_id = None
            found.add(functions._id(call))
        self.assertEqual(len(found), 100_000)


class FunctionsCase(SynchronousTestCase):
    """A node's functions with processes from a table."""

    limits = Limits()

    def setUp(self) -> None:
        """Nothing is running."""
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.launcher = FakeLauncher()
        self.functions = Functions(self.clock, self.launcher, limits=self.limits)
        self.functions.startService()
        self.addCleanup(self.functions.stopService)

    def start(self, timeout_s: float = 10, **options: Any) -> Deferred[Progress]:
        """Start a function that takes as long as the test wants."""
        return Deferred.fromCoroutine(
            self.functions.start("test_delay", DELAY, timeout_s=timeout_s, **options)
        )

    def wait(self, call_id: str | None, timeout_s: float = 10) -> Deferred[Progress]:
        """Wait for it again."""
        return Deferred.fromCoroutine(self.functions.wait(call_id or "", timeout_s=timeout_s))

    def unfinished(self, timeout_s: float = 10, **options: Any) -> str:
        """Start a function and let its first round pass; gives the id."""
        asked = self.start(timeout_s, **options)
        self.clock.advance(timeout_s)
        progress = self.successResultOf(asked)
        assert progress.call_id is not None
        return progress.call_id

    @property
    def process(self) -> FakeProcess:
        """The newest process."""
        return self.launcher.launched[-1]

    def outcome(self, asked: Deferred[Progress]) -> Any:
        """The result of a finished call, decoded."""
        progress = self.successResultOf(asked)
        self.assertTrue(progress.finished)
        self.assertIsNone(progress.call_id)
        return msgspec.json.decode(progress.result or b"")


class WaitingTests(FunctionsCase):
    """Starting and waiting."""

    def test_finished_in_the_first_round(self) -> None:
        """A result within the first wait comes with it, without an id (S2.2-028)."""
        asked = self.start()
        self.assertNoResult(asked)
        self.process.succeed("done")
        self.assertEqual(self.outcome(asked), [True, "done"])

    def test_unfinished(self) -> None:
        """What is not finished gives an id that names daemon and process (S2.2-023, S2.2-028)."""
        call_id = self.unfinished()
        self.assertRegex(call_id, CALL_ID)
        self.assertEqual(call_id.split(":")[:2], [str(os.getpid()), str(self.process.pid)])

    def test_three_rounds(self) -> None:
        """35 s of work seen in rounds of 10 s: three times unfinished, then the result (S2.2-025)."""
        call_id = self.unfinished()
        for _ in range(2):
            asked = self.wait(call_id)
            self.clock.advance(10)
            self.assertEqual(
                self.successResultOf(asked), Progress(call_id=call_id, finished=False, result=None)
            )
        asked = self.wait(call_id)
        self.clock.advance(5)
        self.process.succeed()
        self.assertEqual(self.outcome(asked), [True, None])

    def test_several_waiters(self) -> None:
        """Whoever waits gets the result, however many they are."""
        call_id = self.unfinished()
        waiting = [self.wait(call_id) for _ in range(3)]
        self.process.succeed(1)
        self.assertEqual([self.outcome(asked) for asked in waiting], [[True, 1]] * 3)

    def test_no_wait_is_endless(self) -> None:
        """A wait is answered after a minute, whatever was asked for (S2.2-025)."""
        asked = self.start(timeout_s=1e9)
        self.clock.advance(60)
        self.assertFalse(self.successResultOf(asked).finished)

    def test_repeated_wait(self) -> None:
        """A result whose answer was lost can be had again for a minute, then it is unknown (S2.2-030)."""
        call_id = self.unfinished()
        self.process.succeed(5)
        self.assertEqual(self.outcome(self.wait(call_id)), [True, 5])
        self.clock.advance(30)
        self.assertEqual(self.outcome(self.wait(call_id)), [True, 5])
        self.clock.pump([10] * 6)
        self.failureResultOf(self.wait(call_id), UnknownCall)

    def test_unfetched_result(self) -> None:
        """A result that nobody fetches is kept for an hour (S2.2-030)."""
        call_id = self.unfinished()
        self.process.succeed()
        self.clock.pump([60] * 59)
        self.assertEqual(len(self.functions.rows()), 1)
        self.clock.pump([60] * 2)
        self.failureResultOf(self.wait(call_id), UnknownCall)
        self.assertEqual(self.functions.rows(), ())

    def test_unknown_id(self) -> None:
        """An id of nothing, or of another daemon, is a defined error (S2.2-030)."""
        error = self.failureResultOf(self.wait("1:2:3.0:abcd"), UnknownCall).value
        self.assertIn("1:2:3.0:abcd", str(error))

    def test_fire_and_forget(self) -> None:
        """Timeout 0 answers at once; the process goes on, and its result is dropped (S2.2-029)."""
        progress = self.successResultOf(self.start(timeout_s=0))
        self.assertFalse(progress.finished)
        self.assertFalse(self.process.is_over)
        self.assertEqual(self.process.signals, [])
        self.process.succeed()
        self.failureResultOf(self.wait(progress.call_id), UnknownCall)

    def test_fired_but_remembered_after_all(self) -> None:
        """Whoever waits for a fired call before it ends gets its result."""
        progress = self.successResultOf(self.start(timeout_s=0))
        asked = self.wait(progress.call_id)
        self.process.succeed(3)
        self.assertEqual(self.outcome(asked), [True, 3])

    def test_request_id_joins(self) -> None:
        """A repeated request joins the first, before and after the end: one process."""
        first, second = self.start(request_id="r1"), self.start(request_id="r1")
        self.process.succeed(1)
        third = self.start(request_id="r1")
        self.assertEqual([self.outcome(asked) for asked in (first, second, third)], [[True, 1]] * 3)
        self.assertEqual(self.outcome(self.wait("r1")), [True, 1])
        self.assertEqual(len(self.launcher.launched), 1)

    def test_nothing_is_kept_of_quick_calls(self) -> None:
        """A call whose only answer was its result is forgotten with it."""
        asked = self.start()
        self.process.succeed()
        self.outcome(asked)
        self.assertEqual(self.functions.rows(), ())


class FailureTests(FunctionsCase):
    """Functions and processes that fail."""

    def test_error_of_the_function(self) -> None:
        """An error of the function is its result."""
        asked = self.start()
        self.process.fail(HypervisorError("no"))
        self.assertEqual(self.outcome(asked), [False, ["HypervisorError", ["no"]]])

    def test_death_of_the_process(self) -> None:
        """A process that dies is a failed result that says how, not a hang (S2.2-026)."""
        asked = self.start()
        self.process.end("it was ended by signal SIGSEGV")
        succeeded, (name, args) = self.outcome(asked)
        self.assertFalse(succeeded)
        self.assertEqual((name, args[1]), ("RPCError", "died"))
        self.assertIn("SIGSEGV", args[0])

    def test_unreadable_answer(self) -> None:
        """An answer that is no result is a failed result (S2.2-026)."""
        for answer in (b"", b"{", b"[true", b"[1]", b'{"a": 1}'):
            asked = self.start()
            self.process.say(answer)
            self.assertEqual(self.outcome(asked)[1][1][1], "died")
            self.process.end("it ended")

    def test_process_that_cannot_start(self) -> None:
        """No process at all is a failed result, too."""
        self.launcher.on_launch = lambda process: process.end("it could not be started: no memory")
        self.assertIn("no memory", self.outcome(self.start())[1][1][0])


class AbortTests(FunctionsCase):
    """Ending calls."""

    def test_abort_after(self) -> None:
        """After its limit a process gets TERM, five seconds later KILL; the result says so (S2.2-031)."""
        asked = self.start(abort_after_s=2)
        self.process.is_obedient = False
        self.clock.advance(2)
        self.assertEqual(self.process.signals, ["SIGTERM"])
        self.clock.advance(4.9)
        self.assertNoResult(asked)
        self.clock.advance(0.2)
        self.assertEqual(self.process.signals, ["SIGTERM", "SIGKILL"])
        succeeded, (_name, args) = self.outcome(asked)
        self.assertFalse(succeeded)
        self.assertIn("aborted: it was not done within 2 s", args[0])

    def test_obedient_process_is_not_killed(self) -> None:
        """A process that ends when told is not killed."""
        asked = self.start(abort_after_s=2)
        self.clock.advance(2)
        self.assertEqual(self.outcome(asked)[1][1][1], "aborted")
        self.clock.advance(10)
        self.assertEqual(self.process.signals, ["SIGTERM"])

    def test_finished_in_time(self) -> None:
        """A call that ends in time is left alone."""
        asked = self.start(abort_after_s=2)
        self.process.succeed()
        self.clock.advance(10)
        self.assertEqual(self.process.signals, [])
        self.assertEqual(self.outcome(asked), [True, None])

    def test_abort_by_id(self) -> None:
        """A call is aborted by its id or that of its request; doing it twice changes nothing."""
        call_id = self.unfinished(request_id="r1")
        self.functions.abort(call_id)
        self.functions.abort("r1")
        self.functions.abort("unknown")
        self.assertEqual(self.process.signals, ["SIGTERM"])
        self.assertIn("aborted on request", self.outcome(self.wait(call_id))[1][1][0])

    def test_success_in_spite_of_abort(self) -> None:
        """A function that was done just before it was told to end is done."""
        asked = self.start(request_id="r1")
        self.process.is_obedient = False
        self.functions.abort("r1")
        self.process.succeed("made it")
        self.assertEqual(self.outcome(asked), [True, "made it"])

    def test_abort_before_the_process_exists(self) -> None:
        """A call aborted while its process is being made is ended as soon as it exists."""
        self.launcher.on_launch = lambda process: None
        asked = self.start(request_id="r1")
        self.functions.abort("r1")
        self.process.start()
        self.assertEqual(self.outcome(asked)[1][1][1], "aborted")


class LimitTests(FunctionsCase):
    """More calls than processes."""

    limits = Limits(running=2)

    def test_queue(self) -> None:
        """Calls above the limit wait their turn, in order."""
        asked = [self.start(timeout_s=60) for _ in range(4)]
        self.assertEqual(len(self.launcher.launched), 2)
        self.assertEqual([row.state for row in self.functions.rows()], ["running"] * 2 + ["queued"] * 2)
        self.launcher.launched[1].succeed()
        self.assertEqual(len(self.launcher.launched), 3)
        for process in (0, 2, 3):
            self.launcher.launched[process].succeed()
        self.assertEqual([self.outcome(each) for each in asked], [[True, None]] * 4)

    def test_answered_process_counts_until_it_is_gone(self) -> None:
        """A slot is free when the process is gone, not when it has answered."""
        for _ in range(3):
            self.start()
        self.process.say(b"[true,null]")
        self.assertEqual(len(self.launcher.launched), 2)
        self.process.end("it ended")
        self.assertEqual(len(self.launcher.launched), 3)

    def test_queued_call_has_an_id(self) -> None:
        """A call that waits for a process has an id with process number 0, which stays."""
        for _ in range(2):
            self.start(timeout_s=60)
        call_id = self.unfinished(timeout_s=1)
        self.assertEqual(call_id.split(":")[1], "0")
        self.launcher.launched[0].succeed()
        self.process.succeed("late")
        self.assertEqual(self.outcome(self.wait(call_id)), [True, "late"])

    def test_abort_in_the_queue(self) -> None:
        """A queued call is aborted without ever having had a process."""
        for _ in range(2):
            self.start(timeout_s=60)
        asked = self.start(request_id="r1")
        self.functions.abort("r1")
        self.assertEqual(self.outcome(asked)[1][1][1], "aborted")
        self.launcher.launched[0].succeed()
        self.assertEqual(len(self.launcher.launched), 2)


class StopTests(FunctionsCase):
    """The end of the daemon."""

    def test_all_processes_are_ended(self) -> None:
        """Every process gets TERM, and the daemon waits for all of them (S2.2-032)."""
        asked = [self.start() for _ in range(3)]
        for process in self.launcher.launched:
            process.is_obedient = False
        stopped = self.functions.stopService()
        self.assertEqual([process.signals for process in self.launcher.launched], [["SIGTERM"]] * 3)
        for process in self.launcher.launched:
            self.assertNoResult(stopped)
            process.end("it was ended by signal SIGTERM")
        self.successResultOf(stopped)
        self.assertEqual([self.outcome(each)[1][1][1] for each in asked], ["aborted"] * 3)

    def test_the_stubborn_are_killed(self) -> None:
        """A process that does not end within 30 s is killed (S2.2-032)."""
        self.start()
        self.process.is_obedient = False
        stopped = self.functions.stopService()
        self.clock.advance(29)
        self.assertEqual(self.process.signals, ["SIGTERM"])
        self.clock.advance(1)
        self.assertEqual(self.process.signals, ["SIGTERM", "SIGKILL"])
        self.successResultOf(stopped)

    def test_nothing_new_while_stopping(self) -> None:
        """Calls that come while the daemon stops are refused."""
        self.successResultOf(self.functions.stopService())
        self.failureResultOf(self.start(), NodeError)


class InlineTests(SynchronousTestCase):
    """Calls that the daemon answers itself."""

    def answer(self, function: Any, args: bytes = b'{"fn":"version"}') -> Any:
        """What `version` gives when it is this function."""
        launcher = FakeLauncher()
        functions = Functions(Clock(), launcher, inline={Version: function})
        progress = self.successResultOf(
            Deferred.fromCoroutine(functions.start("version", args, timeout_s=10))
        )
        self.assertEqual(launcher.launched, [])
        return msgspec.json.decode(progress.result or b"")

    def test_at_once_and_as_a_coroutine(self) -> None:
        """Both kinds of function answer, without a process."""

        async def later(call: Version) -> str:
            return "later"

        self.assertEqual(self.answer(lambda call: "now"), [True, "now"])
        self.assertEqual(self.answer(later), [True, "later"])

    def test_errors(self) -> None:
        """Errors of ours are results; mistakes are logged and named; wrong arguments are refused."""

        def fail(call: Version) -> None:
            raise HypervisorError("no")

        def mistake(call: Version) -> None:
            raise ZeroDivisionError

        self.assertEqual(self.answer(fail), [False, ["HypervisorError", ["no"]]])
        self.assertEqual(self.answer(mistake)[1][1][1], "failed")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.answer(fail, b"{")[0], False)

    def test_own_version(self) -> None:
        """By default a node answers for its version; other calls go to a process."""
        functions = Functions(Clock(), FakeLauncher())
        asked = Deferred.fromCoroutine(functions.start("version", b'{"fn":"version"}', timeout_s=1))
        self.assertIn(b"release", self.successResultOf(asked).result or b"")
        self.assertTrue(QueueUpdate.inline)
