"""One round over a group, against a master daemon in memory and real files."""

from __future__ import annotations

import contextlib
import json
import os
import resource
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec

from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from ganeti.cli.errors import MasterError
from ganeti.errors import GanetiError, OperationFailed
from ganeti.logic.watcher import InstanceRecord, NodeRecord, WatcherState
from ganeti.model.findings import Findings, InstanceFinding, NodeFinding
from ganeti.model.ids import GroupId
from ganeti.model.paths import Paths
from ganeti.watcher.group import FINDINGS_S, MAINTENANCE_S, Group, GroupWatch
from ganeti.watcher.state_file import StateFile
from ganeti.watcher.status_files import StatusFiles
from tests.unit.watcher.fake_master import FakeMaster, Opcode

UUID = GroupId("0c7c1f3e-8a4b-4d5e-9f60-718293a4b5c6")
NOW = 1_700_000_000.0
UPDATE = f"UPDATE_NODE_GROUP_CACHE({UUID})"
VERIFY = f"GROUP_VERIFY_DISKS({UUID})"


class GroupCase(SynchronousTestCase):
    """Instances run on node a, mirrored to node b."""

    def setUp(self) -> None:
        self.paths = Paths(os.path.abspath(self.mktemp()))
        for directory in (self.paths.data_dir, self.paths.run_dir, self.paths.lock_dir):
            os.makedirs(directory)
        self.master = FakeMaster()
        self.master.groups.append(UUID)
        self.master.results["OP_UPDATE_NODE_GROUP_CACHE"] = lambda _: self.findings()
        self.master.results["OP_GROUP_VERIFY_DISKS"] = lambda _: [{}, [], {}]
        self.status: dict[str, str | None] = {}
        self.boots = {"a": "1", "b": "1"}
        self.file = StateFile(self.paths.watcher_state(UUID))
        self.file.acquire()
        self.addCleanup(self.file.release)

    def findings(self) -> Any:
        """What the job of the group tells."""
        instances = {
            name: InstanceFinding(
                status=status,
                admin_state="up",
                disks_active=True,
                disk_template="drbd",
                primary="a",
                secondaries=("b",),
                is_split=False,
            )
            for name, status in self.status.items()
        }
        nodes = {name: NodeFinding(state="answered", boot_id=boot) for name, boot in self.boots.items()}
        return msgspec.to_builtins(Findings(group=UUID, nodes=nodes, instances=instances))

    def watch(self, **options: bool) -> int:
        """One round."""
        watch = GroupWatch(
            Group(uuid=UUID, name="default"),
            self.master.link(),
            self.file,
            StatusFiles(self.paths),
            lambda: NOW,
            **options,
        )
        return watch.run()

    def failed(self, *texts: str, **options: bool) -> None:
        """A round that ends with 1 and logs these texts."""
        seen: list[str] = []
        with self.logs(seen):
            self.assertEqual(self.watch(**options), 1)
        for text in texts:
            self.assertIn(text, "\n".join(seen))

    @contextlib.contextmanager
    def logs(self, seen: list[str]) -> Iterator[None]:
        """Collects what is logged."""

        @implementer(ILogObserver)
        def note(event: LogEvent) -> None:
            seen.append(formatEvent(event))

        globalLogPublisher.addObserver(note)
        try:
            yield
        finally:
            globalLogPublisher.removeObserver(note)

    def keeps_waiting(self, timeout_s: float) -> tuple[str, list[Any]] | None:
        """In place of `pushed`: a masterd that says from time to time that it is there."""
        job = max(self.master.jobs.values(), key=lambda one: one.number)
        if job.status == "success":
            return ("JobChanged", [1000 + job.number, [["success"], []]])
        self.master.now += min(timeout_s, 30.0)
        return ("KeepWaiting", [1])

    def saved(self) -> WatcherState:
        """What is on disk."""
        with open(self.file.path, "rb") as file:
            return msgspec.json.decode(file.read() or b"{}", type=WatcherState)

    def since(self, work: Callable[[], Any]) -> list[str]:
        """Summaries of the jobs that some work submits."""
        before = len(self.master.submitted())
        work()
        return self.master.submitted()[before:]


def _given(result: Any, _: Opcode) -> Any:
    return result


def fail(_: Opcode) -> None:
    """A job that fails."""
    raise OperationFailed("no")


class InstanceTests(GroupCase):
    """Instances that do not run."""

    def test_order(self) -> None:
        """Ask, record, start, verify disks (S2.3-066)."""
        self.status = {"up": "running", "down": "ERROR_down", "user": "USER_down"}
        self.assertEqual(self.watch(), 0)
        self.assertEqual(
            self.master.submitted(), [UPDATE, "INSTANCE_SHUTDOWN(user)", "INSTANCE_STARTUP(down)", VERIFY]
        )
        opcodes = [job.opcodes[0] for job in self.master.jobs.values()]
        self.assertEqual(opcodes[1]["admin_state_source"], "user")
        self.assertEqual(opcodes[2]["force"], False)
        self.assertEqual((opcodes[3]["priority"], opcodes[3]["is_strict"]), (10, True))
        self.assertEqual({opcode["reason"][0][0] for opcode in opcodes}, {"gnt:watcher"})
        record = InstanceRecord(restart_count=1, restart_when=NOW)
        self.assertEqual(self.saved().instance, {"down": record})

    def test_counted_before(self) -> None:
        """The attempt is on disk before the job is submitted: a watcher that dies does not forget it."""
        self.status = {"down": "ERROR_down"}
        seen: list[int] = []
        self.master.results["OP_INSTANCE_STARTUP"] = lambda _: seen.append(
            self.saved().instance["down"].restart_count
        )
        self.watch()
        self.assertEqual(seen, [1])

    def test_cleanup_fails(self) -> None:
        """A failure is counted; success drops the record."""
        self.status = {"user": "USER_down"}
        self.master.results["OP_INSTANCE_SHUTDOWN"] = fail
        self.failed("recording as stopped, user: ", verify_disks=False)
        self.assertEqual(self.saved().instance["user"].cleanup_count, 1)
        del self.master.results["OP_INSTANCE_SHUTDOWN"]
        self.assertEqual(self.watch(), 0)
        self.assertEqual(self.saved().instance, {})

    def test_refused(self) -> None:
        """What masterd does not even take is no attempt."""
        self.status = {"down": "ERROR_down"}
        self.master.unknown.add("OP_INSTANCE_STARTUP")
        self.failed("there is no such operation")
        self.assertEqual(self.saved().instance, {})

    def test_queue_closed(self) -> None:
        """A queue that closes between asking and starting leaves no attempt behind."""
        self.status = {"down": "ERROR_down"}
        former = self.master.results["OP_UPDATE_NODE_GROUP_CACHE"]

        def close(opcode: Opcode) -> Any:
            self.master.refusal = MasterError("JobQueueDrainError", ["drained"])
            return former(opcode)

        self.master.results["OP_UPDATE_NODE_GROUP_CACHE"] = close
        self.assertRaises(MasterError, self.watch)
        self.assertEqual(self.saved().instance, {})

    def test_job_of_another(self) -> None:
        """An instance that some job is to start already is left to it."""
        self.status = {"down": "ERROR_down", "other": "ERROR_down"}
        self.master.add({"OP_ID": "OP_INSTANCE_STARTUP", "instance_name": "down"}, status="waiting")
        self.assertEqual(
            self.since(lambda: self.watch(verify_disks=False)), [UPDATE, "INSTANCE_STARTUP(other)"]
        )

    def test_slow_start(self) -> None:
        """A start that does not end is not waited for without end."""
        self.status = {"down": "ERROR_down"}
        self.master.hanging.add("OP_INSTANCE_STARTUP")
        self.master.results["OP_INSTANCE_STARTUP"] = fail
        # masterd is there all the time.
        self.master.pushed = self.keeps_waiting  # type: ignore[method-assign]
        self.failed("has not ended in time", verify_disks=False)
        self.assertEqual(self.master.now, MAINTENANCE_S)
        self.assertEqual(self.saved().instance["down"].restart_count, 1)

    def test_full_disk(self) -> None:
        """Without a place for the count nothing is started: it would be started again without end."""
        self.status = {"down": "ERROR_down"}
        self.assertEqual(self.watch(verify_disks=False), 0)
        before = self.saved()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            submitted = self.since(lambda: self.assertRaises(OSError, self.watch))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        self.assertEqual(submitted, [UPDATE])
        self.assertEqual(self.saved(), before)
        self.assertEqual(os.listdir(self.paths.data_dir), [os.path.basename(self.file.path)])


class FindingsTests(GroupCase):
    """The job that asks."""

    def test_taken_over(self) -> None:
        """One that a watcher left behind is waited for; there is no second one."""
        self.status = {"down": "ERROR_down"}
        job = self.master.add({"OP_ID": "OP_UPDATE_NODE_GROUP_CACHE", "group_name": UUID}, status="waiting")
        former = self.master.call

        def call(command: str, arguments: Any, request_id: str | None = None) -> Any:
            if command == "WatchJob":
                self.master.finish(job)
            return former(command, arguments, request_id)

        self.master.call = call  # type: ignore[method-assign]
        self.assertEqual(self.watch(verify_disks=False), 0)
        self.assertEqual(self.master.submitted(), [UPDATE, "INSTANCE_STARTUP(down)"])

    def test_one_is_kept(self) -> None:
        """Of the jobs that asked only the newest stays in the list; what failed stays, too."""
        self.watch(verify_disks=False)
        self.watch(verify_disks=False)
        self.master.add({"OP_ID": "OP_UPDATE_NODE_GROUP_CACHE", "group_name": UUID}, status="error")
        self.watch(verify_disks=False)
        self.assertEqual(self.master.archived, [1, 2])

    def test_failure(self) -> None:
        """Without an answer nothing is done, and nothing is forgotten."""
        state = WatcherState(instance={"down": InstanceRecord(restart_count=3, restart_when=NOW)})
        self.file.save(state)
        self.master.results["OP_UPDATE_NODE_GROUP_CACHE"] = fail
        self.assertIn("group default could not be asked", str(self.assertRaises(GanetiError, self.watch)))
        self.assertEqual(self.saved(), state)

    def test_group_gone(self) -> None:
        """A group that was removed while it was waited for is no failure."""
        self.master.results["OP_UPDATE_NODE_GROUP_CACHE"] = fail
        self.master.groups.clear()
        self.assertEqual(self.watch(), 0)

    def test_rubbish(self) -> None:
        """An answer of another shape is refused."""
        answers: list[Any] = [None, [], {"group": UUID}, {"group": UUID, "nodes": [], "instances": {}}]
        for answer in answers:
            self.master.results["OP_UPDATE_NODE_GROUP_CACHE"] = partial(_given, answer)
            self.assertIn("not understood", str(self.assertRaises(GanetiError, self.watch)))

    def test_never(self) -> None:
        """A group that stays locked is given up after an hour; its job is canceled and does not pile up."""
        self.master.hanging.add("OP_UPDATE_NODE_GROUP_CACHE")
        self.master.pushed = self._tick  # type: ignore[method-assign]
        self.assertRaises(GanetiError, self.watch)
        self.assertGreaterEqual(self.master.now, FINDINGS_S)
        self.assertEqual(self.master.jobs[1].status, "canceled")

    def _tick(self, timeout_s: float) -> tuple[str, list[Any]] | None:
        self.master.now += min(timeout_s, 60.0)
        return ("KeepWaiting", [1])


class DiskTests(GroupCase):
    """Disks after boots, and those that verification finds."""

    def test_boot(self) -> None:
        """When a secondary node has booted its instances are connected again, once."""
        self.status = {"up": "running", "down": "ERROR_down", "busy": None}
        self.watch(verify_disks=False)
        self.boots["b"] = "2"
        again = self.since(lambda: self.watch(verify_disks=False))
        self.assertEqual(again, [UPDATE, "INSTANCE_STARTUP(down)", "INSTANCE_ACTIVATE_DISKS(up)"])
        self.status["down"] = "running"
        self.assertEqual(self.since(lambda: self.watch(verify_disks=False)), [UPDATE])
        self.assertEqual(self.saved().node, {"a": NodeRecord(bootid="1"), "b": NodeRecord(bootid="2")})

    def test_boot_not_done(self) -> None:
        """What was not even submitted is done by the next round; what failed is left to verification."""
        self.status = {"up": "running"}
        self.watch(verify_disks=False)
        self.boots["b"] = "2"
        self.master.unknown.add("OP_INSTANCE_ACTIVATE_DISKS")
        self.failed(verify_disks=False)
        self.master.unknown.clear()
        self.master.results["OP_INSTANCE_ACTIVATE_DISKS"] = fail
        self.failed("activating disks, up: ", verify_disks=False)
        self.assertEqual(self.since(lambda: self.watch(verify_disks=False)), [UPDATE])

    def test_verified(self) -> None:
        """Instances that verification names are activated, if that can be done; its job is archived."""
        self.status = {"up": "running", "dead": "ERROR_nodedown", "busy": None}
        self.master.results["OP_GROUP_VERIFY_DISKS"] = lambda _: [{}, ["up", "dead", "busy", "alien"], {}]
        self.assertEqual(self.since(self.watch), [UPDATE, VERIFY, "INSTANCE_ACTIVATE_DISKS(up)"])
        self.assertEqual(self.master.archived, [2])

    def test_one_fails(self) -> None:
        """Disks that cannot be activated do not keep those behind them from being activated."""
        self.status = {"one": "running", "two": "running"}
        self.master.results["OP_GROUP_VERIFY_DISKS"] = lambda _: [{}, ["one", "two"], {}]
        self.master.results["OP_INSTANCE_ACTIVATE_DISKS"] = fail
        self.failed("activating disks, one: ", "activating disks, two: ")

    def test_not_verified(self) -> None:
        """Not if it is not wanted, if there is nothing to verify, or if somebody does so already."""
        self.assertEqual(self.since(self.watch), [UPDATE])
        self.status = {"up": "running"}
        self.assertEqual(self.since(lambda: self.watch(verify_disks=False)), [UPDATE])
        self.master.add({"OP_ID": "OP_GROUP_VERIFY_DISKS", "group_name": UUID}, status="running")
        self.assertEqual(self.since(self.watch), [UPDATE])

    def test_not_strict(self) -> None:
        """The option is passed on."""
        self.status = {"up": "running"}
        self.watch(strict=False)
        self.assertEqual(self.master.jobs[2].opcodes[0]["is_strict"], False)

    def test_rubbish(self) -> None:
        """A result of another shape activates nothing."""
        self.status = {"up": "running"}
        for result in (None, [], [{}, "up", {}], [{}, [1], {}], [{}, ["up"]]):
            self.master.results["OP_GROUP_VERIFY_DISKS"] = partial(_given, result)
            self.failed("not understood")
        self.assertNotIn("INSTANCE_ACTIVATE_DISKS(up)", self.master.submitted())


class TimeTests(GroupCase):
    """A round is over before the next one begins, whatever is locked."""

    def test_locked_disks(self) -> None:
        """Disks that cannot be verified in time are no failure; the job goes on, and alone."""
        self.status = {"up": "running"}
        self.master.hanging.add("OP_GROUP_VERIFY_DISKS")
        self.master.pushed = self.keeps_waiting  # type: ignore[method-assign]
        self.assertEqual(self.watch(), 0)
        self.assertTrue(MAINTENANCE_S <= self.master.now <= 300, self.master.now)
        self.assertEqual(self.since(self.watch), [UPDATE])

    def test_nothing_late(self) -> None:
        """What there is no time for is left to the next round, and not counted."""
        self.status = {"down": "ERROR_down", "user": "USER_down", "up": "running"}
        self.watch(verify_disks=False)
        self.status["down"] = self.status["user"] = "running"
        self.watch(verify_disks=False)
        self.boots["b"] = "2"
        self.status.update(down="ERROR_down", user="USER_down")
        self.master.hanging.add("OP_INSTANCE_SHUTDOWN")
        self.master.pushed = self.keeps_waiting  # type: ignore[method-assign]
        first = self.since(lambda: self.failed("has not ended in time", "no time left"))
        self.assertEqual(first, [UPDATE, "INSTANCE_SHUTDOWN(user)"])
        self.assertEqual(set(self.saved().instance), {"user"})
        self.assertEqual(self.saved().node["b"].bootid, "1")
        self.assertLessEqual(self.master.now, 300)


class StatusTests(GroupCase):
    """Files for others."""

    def test_written(self) -> None:
        """Before anything is done about it, with the busy ones as they were."""
        self.status = {"down": "ERROR_down", "up": "running"}
        self.watch()
        self.status = {"down": "running", "up": None}
        self.watch()
        with open(self.paths.group_status(UUID), encoding="ascii") as file:
            self.assertEqual(file.read(), "down running\nup running\n")

    def test_not_written(self) -> None:
        """A status file that cannot be written is told of; instances are looked after nevertheless."""
        self.status = {"down": "ERROR_down"}
        os.mkdir(self.paths.group_status(UUID))
        self.failed("states of instances cannot be written")
        self.assertIn("INSTANCE_STARTUP(down)", self.master.submitted())

    def test_shape(self) -> None:
        """The state file is the established JSON."""
        self.status = {"down": "ERROR_down"}
        self.watch()
        with open(self.file.path, encoding="utf-8") as file:
            found = json.load(file)
        self.assertEqual(found["instance"], {"down": {"restart_count": 1, "restart_when": NOW}})
        self.assertEqual(found["node"], {"a": {"bootid": "1"}, "b": {"bootid": "1"}})
