"""The watcher on a virtual cluster of two node groups: nodes 1 and 3 in `default`, 2 and 4 in `group2`."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from ganeti.daemons import control
from tests.integration.cluster import CHECKOUT, FINAL, Done, RunningCluster, until
from tests.integration.operations_case import OperationsCase

PROGRAM = [sys.executable, str(CHECKOUT / "bin" / "ganeti-watcher")]
UPDATE = "UPDATE_NODE_GROUP_CACHE"


def setUpModule() -> None:
    """Start the cluster of the file."""
    OperationsCase.cluster = RunningCluster(nodes=4, groups=2, templates="diskless,file,sharedfile,drbd")


def tearDownModule() -> None:
    """Remove it."""
    OperationsCase.cluster.destroy()


class WatcherCase(OperationsCase):
    """Runs of the watcher, one after the other or side by side."""

    def setUp(self) -> None:
        self.paths = self.cluster.paths()
        rows = self.rows("gnt-group list", "-o name,uuid")
        self.group = dict(row for row in rows)

    def watch(self, *options: str, node: int = 1, code: int = 0) -> Done:
        """One run."""
        done = self.cluster.run([*PROGRAM, "--once", *options], node)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def begin(self, *options: str) -> subprocess.Popen[bytes]:
        """A run that goes on."""
        environment = {**os.environ, "GANETI_ROOTDIR": self.paths.root, "PYTHONPATH": str(CHECKOUT)}
        process = subprocess.Popen([*PROGRAM, "--once", *options], env=environment, stderr=subprocess.DEVNULL)
        self.addCleanup(_end, process)
        return process

    def run_file(self, name: str, node: int) -> Path:
        """What makes an instance of the hypervisor fake run; without it, it does not."""
        return Path(self.cluster.paths(node).hypervisor_dir("fake")) / name

    def status(self, name: str) -> str:
        """Of an instance, as its node says now."""
        found: str = self.of("instance", f"--cache=off {name}", "status")[0]
        return found

    def state(self, group: str = "default") -> Any:
        """What is remembered of a group."""
        return json.loads(Path(self.paths.watcher_state(self.group[group])).read_bytes() or b"{}")

    def count(self, summary: str) -> int:
        """How many jobs, archived ones aside, have this summary."""
        return sum(row == ([summary],) for row in self.cluster.jobs("summary").values())

    def log(self) -> str:
        """Of the watcher on the master."""
        return Path(self.paths.log_file("ganeti-watcher")).read_text()

    @contextlib.contextmanager
    def group_locked(self, group: str, command: str = "modify --alloc-policy preferred") -> Iterator[None]:
        """A group whose lock a job holds inside the block: its hook does not end."""
        name, _, options = command.partition(" ")
        directory = Path(self.paths.hooks_dir) / f"group-{name}-pre.d"
        directory.mkdir(exist_ok=True)
        mark, script = Path(self.paths.root) / "hold", directory / "hold"
        mark.touch()
        script.write_text(f"#!/bin/sh\nwhile [ -e {mark} ]; do sleep 0.1; done\n")
        script.chmod(0o755)
        self.gnt(f"gnt-group {name} --submit {options} {group}")
        holder = max(self.cluster.jobs("status"))
        until(lambda: self.cluster.job(holder)[0] == "running", "the group is not locked")
        try:
            yield
        finally:
            mark.unlink()
            script.unlink()
            until(lambda: self.cluster.job(holder)[0] in FINAL, "the group stays locked")

    def waiting_updates(self, group: str) -> list[int]:
        """Jobs that want to ask a group and have not ended."""
        rows = self.cluster.jobs("summary", "status").items()
        wanted = [f"{UPDATE}({self.group[group]})"]
        return [job for job, (summary, status) in rows if summary == wanted and status not in FINAL]


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()


class RoundTests(WatcherCase):
    """What one run does."""

    def test_restart(self) -> None:
        """An instance that died runs again; states are written down, by one job per group.

        S2.3-046, S2.3-060, S2.3-066, S2.3-069, S2.3-070, S2.3-171
        """
        one, two = self.add("wone", "-n", "node1"), self.add("wtwo", "-n", "node2")
        self.watch()
        self.run_file(two, 2).unlink()
        self.assertEqual(self.status(two), "ERROR_down")
        self.watch()
        self.assertEqual(self.status(two), "running")
        self.assertEqual(self.state("group2")["instance"][two]["restart_count"], 1)
        status = Path(self.paths.group_status(self.group["group2"])).read_text()
        self.assertIn(f"{two} ERROR_down\n", status)
        merged = Path(self.paths.instance_status).read_text()
        self.assertEqual(merged.splitlines(), sorted(merged.splitlines()))
        self.assertIn(f"{one} running\n", merged)
        self.assertIn(f"{two} ERROR_down\n", merged)
        mode = os.stat(self.paths.watcher_state(self.group["group2"])).st_mode & 0o777
        self.assertEqual(mode, 0o600)
        # The job that asked is kept, one for each group.
        for uuid in self.group.values():
            self.watch()
            self.assertEqual(self.count(f"{UPDATE}({uuid})"), 1)
        self.assertEqual(self.state("group2")["instance"], {})
        self.assertIn(f"{two} running\n", Path(self.paths.instance_status).read_text())

    def test_ages(self) -> None:
        """Every run touches the files of every group, whether or not anything changed (S2.3-072)."""
        self.watch()
        files = [name for uuid in self.group.values() for name in self._files(uuid)]
        for name in files:
            os.utime(name, (1000, 1000))
        self.watch()
        for name in files:
            self.assertLess(time.time() - os.stat(name).st_mtime, 60, name)

    def _files(self, uuid: str) -> tuple[str, str]:
        return self.paths.watcher_state(uuid), self.paths.group_status(uuid)

    def test_group_gone(self) -> None:
        """Files of a group that is gone are removed, and its instances from the merged file (S2.3-071)."""
        self.gnt("gnt-group add passing")
        (uuid,) = self.of("group", "passing", "uuid")
        self.watch()
        files = self._files(uuid)
        self.assertEqual([os.path.exists(name) for name in files], [True, True])
        Path(files[1]).write_text("ghost.virtual running\n")
        self.gnt("gnt-group remove passing")
        self.watch()
        self.assertEqual([os.path.exists(name) for name in files], [False, False])
        self.assertNotIn("ghost", Path(self.paths.instance_status).read_text())

    def test_five_attempts(self) -> None:
        """What cannot be started is tried five times, told of once, and warned of from then on."""
        name = self.add("wfive", "-n", "node1")
        self.run_file(name, 1).unlink()
        (disk,) = Path(self.cluster.layout.shared_dir).glob(f"**/{name}/*")
        away = disk.with_name("away")
        disk.rename(away)
        self.addCleanup(away.rename, disk)
        for _ in range(6):
            self.watch("--node-group", "default", code=1)
        self.assertEqual(self.count(f"INSTANCE_STARTUP({name})"), 5)
        self.assertEqual(self.log().count(f"{name} does not run after 5 attempts"), 1)
        self.watch("--node-group", "default")
        self.assertEqual(self.count(f"INSTANCE_STARTUP({name})"), 5)
        self.assertEqual(self.log().count(f"{name} does not run after 5 attempts"), 2)

    def mirrored(self, name: str) -> str:
        """An instance with a mirror on node 3."""
        size = ("-o", "noop", "-t", "drbd", "--disk", "0:size=64m", "--no-nics", "-B", "memory=64")
        return self.add(name, "-n", "node1:node3", size=size)

    def test_secondary_booted(self) -> None:
        """When a secondary node has booted the disks of its instances are activated, once."""
        name = self.mirrored("wmirror")
        self.watch()
        before = self.count(f"INSTANCE_ACTIVATE_DISKS({name})")
        path = Path(self.paths.watcher_state(self.group["default"]))
        state = json.loads(path.read_bytes())
        boot = state["node"]["node3.virtual"]["bootid"]
        # All virtual nodes boot with the machine.
        state["node"]["node3.virtual"]["bootid"] = "another"
        path.write_text(json.dumps(state))
        self.watch()
        self.assertEqual(self.count(f"INSTANCE_ACTIVATE_DISKS({name})"), before + 1)
        self.assertEqual(self.state()["node"]["node3.virtual"]["bootid"], boot)
        self.watch()
        self.assertEqual(self.count(f"INSTANCE_ACTIVATE_DISKS({name})"), before + 1)

    def test_disks_verified(self) -> None:
        """Disks that are not open any more, as their node lost its power, are found and activated."""
        name = self.mirrored("wopen")
        self.watch()
        self.cluster.vcluster("kill", "node3")
        self.cluster.start()
        until(lambda: self.of("node", "--cache=off node3", "mfree") != [None], "node3 is not back")
        self.watch()
        self.assertEqual(self.count(f"INSTANCE_ACTIVATE_DISKS({name})"), 1)
        self.assertEqual(self.count(f"GROUP_VERIFY_DISKS({self.group['default']})"), 0)
        self.watch()
        self.assertEqual(self.count(f"INSTANCE_ACTIVATE_DISKS({name})"), 1)

    def test_user_shutdown(self) -> None:
        """What its user shut down is recorded as stopped by the user."""
        self.gnt("gnt-cluster modify --user-shutdown yes")
        self.addCleanup(self.gnt, "gnt-cluster modify --user-shutdown no")
        name = self.add("wuser", "-n", "node1")
        file = self.run_file(name, 1)
        file.write_text(json.dumps({**json.loads(file.read_text()), "state": "shutdown"}))
        self.assertEqual(self.status(name), "USER_down")
        self.watch("-g", self.group["default"])
        self.assertEqual(self.of("instance", name, "admin_state", "admin_state_source"), ["down", "user"])
        self.watch("-g", self.group["default"])
        self.assertEqual(self.state()["instance"], {})

    def test_damaged(self) -> None:
        """A damaged state file is put aside, which is told; the round goes on."""
        path = Path(self.paths.watcher_state(self.group["default"]))
        for content in (b'{"instance": {"x"', b"\0" * 4096, b"[]"):
            path.write_bytes(content)
            self.assertIn("is damaged", self.watch().stderr)
            self.assertEqual(Path(f"{path}.damaged").read_bytes(), content)
            self.assertIn("node1.virtual", self.state()["node"])
        path.write_bytes(b"")
        self.assertEqual(self.watch().stderr, "")

    def test_unknown_group(self) -> None:
        """A group that does not exist is refused by name."""
        self.assertIn("there is no node group nowhere", self.watch("-g", "nowhere", code=1).stderr)


class NodePartTests(WatcherCase):
    """What is done besides groups, and when nothing is."""

    def test_pause(self) -> None:
        """A paused watcher does nothing until it may go on, or is told to."""
        name = self.add("wpause", "-n", "node1")
        self.gnt("gnt-cluster watcher pause 1h")
        self.addCleanup(self.gnt, "gnt-cluster watcher continue")
        self.run_file(name, 1).unlink()
        self.watch()
        self.watch("--node-group", "default")
        self.assertEqual(self.status(name), "ERROR_down")
        self.watch("--ignore-pause")
        self.assertEqual(self.status(name), "running")
        self.run_file(name, 1).unlink()
        self.gnt("gnt-cluster watcher continue")
        self.watch()
        self.assertEqual(self.status(name), "running")

    def test_kept_away(self) -> None:
        """Whoever holds the lock alone has no watcher beside him; runs themselves share it."""
        name = self.add("waway", "-n", "node1")
        self.run_file(name, 1).unlink()
        with open(self.paths.watcher_lock_file, "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self.watch()
            self.assertEqual(self.status(name), "ERROR_down")
            fcntl.flock(file, fcntl.LOCK_SH)
            self.watch()
        self.assertEqual(self.status(name), "running")

    def test_drained(self) -> None:
        """A queue that takes no jobs is no failure, and counts no attempt."""
        name = self.add("wdrain", "-n", "node1")
        self.run_file(name, 1).unlink()
        self.gnt("gnt-cluster queue drain")
        self.addCleanup(self.gnt, "gnt-cluster queue undrain")
        self.watch()
        self.assertNotIn(name, self.state().get("instance", {}))

    def test_other_node(self) -> None:
        """On a node that is not the master only daemons and hooks are looked after; exit code 11."""
        self.cluster.kill("ganeti-noded", 3)
        self.watch(node=3, code=11)
        self.assertTrue(self.cluster.runs("ganeti-noded", 3))
        self.assertTrue(self.cluster.runs("ganeti-confd", 3))
        until(lambda: self.of("node", "--cache=off node3", "mfree") != [None], "node3 is not back")

    def test_no_cluster(self) -> None:
        """On a machine that belongs to no cluster: exit code 12."""
        root = os.path.abspath(self.mktemp())
        done = subprocess.run(
            [*PROGRAM, "--once"],
            env={**os.environ, "GANETI_ROOTDIR": root},
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        self.assertEqual(done.returncode, 12, done.stderr)
        self.assertIn("not part of a cluster", done.stderr)

    def test_hooks(self) -> None:
        """Scripts in hooks/watcher run in order; one that fails is told of and holds up nobody."""
        directory = Path(self.paths.hooks_dir) / "watcher"
        directory.mkdir()
        said = Path(self.paths.root) / "said"
        for name, line in (
            ("10-first", f"echo one >> {said}"),
            ("20-bad", "exit 3"),
            ("30-last", f"echo two >> {said}"),
        ):
            (directory / name).write_text(f"#!/bin/sh\n{line}\n")
            (directory / name).chmod(0o755)
        (directory / "40-text").write_text("no program")
        self.addCleanup(shutil.rmtree, directory)
        self.assertIn("20-bad failed (3)", self.watch().stderr)
        self.assertEqual(said.read_text(), "one\ntwo\n")

    def test_daemons_of_the_master(self) -> None:
        """Master daemon and remote interface that died are started as they were."""
        self.cluster.kill("ganeti-masterd")
        self.cluster.kill("ganeti-rapi")
        self.watch()
        self.assertTrue(self.cluster.runs("ganeti-masterd"))
        self.assertTrue(self.cluster.runs("ganeti-rapi"))
        command = psutil.Process(self.cluster.pid("ganeti-rapi")).cmdline()
        self.assertIn(self.cluster.layout.bind_address(self.cluster.node(1)), command)

    def test_archive(self) -> None:
        """Jobs that ended long enough ago are archived."""
        self.gnt("gnt-debug delay 0")
        job = max(self.cluster.jobs("status"))
        self.watch()
        self.assertIn(job, self.cluster.jobs("status"))
        self.watch("--job-age", "0")
        self.assertNotIn(job, self.cluster.jobs("status"))

    def test_cleaner(self) -> None:
        """The cleaner removes jobs that were archived long ago, and leaves the rest to masterd."""
        self.gnt("gnt-debug delay 0")
        job = max(self.cluster.jobs("status"))
        self.gnt(f"gnt-job archive {job}")
        file = Path(self.paths.job_archive_dir) / str(job // 10000) / f"job-{job}"
        cleaner = [sys.executable, str(CHECKOUT / "bin" / "ganeti-cleaner")]
        self.cluster.run([*cleaner, "master"], check=True)
        self.assertTrue(file.exists())
        os.utime(file, (1000, 1000))
        self.cluster.run([*cleaner, "node"], check=True)
        self.assertTrue(file.exists())
        self.cluster.run([*cleaner, "master"], check=True)
        self.assertFalse(file.exists())
        self.assertEqual(self.cluster.run(cleaner).returncode, 1)
        self.watch()

    def test_wrong_options(self) -> None:
        """Options that are none are refused, also by the service, before anything begins."""
        for words in (["--once", "--job-age", "soon"], ["--rapi-ip", "here"], ["--onse"], ["now"]):
            done = self.cluster.run([*PROGRAM, *words])
            self.assertEqual(done.returncode, 2, done.stderr)


class OverlapTests(WatcherCase):
    """Busy groups, several runs, and runs that are ended."""

    def test_busy_nodes(self) -> None:
        """Instances of a node are looked after while others of its group are locked (S2.3-068)."""
        busy, free = self.add("wbusy", "-n", "node2"), self.add("wfree", "-n", "node4")
        self.watch()
        for name, node in ((busy, 2), (free, 4)):
            self.run_file(name, node).unlink()
        self.gnt("gnt-debug delay --submit --no-master -n node2 20")
        job = max(self.cluster.jobs("status"))
        until(lambda: self.cluster.job(job)[0] == "running", "the node is not locked")
        self.watch("-g", "group2")
        self.assertEqual((self.status(busy), self.status(free)), ("ERROR_down", "running"))
        text = Path(self.paths.group_status(self.group["group2"])).read_text()
        self.assertIn(f"{busy} running\n", text)
        until(lambda: self.cluster.job(job)[0] in FINAL, "the delay does not end")
        self.watch("-g", "group2")
        self.assertEqual(self.status(busy), "running")

    def test_hung_node(self) -> None:
        """A node that hangs delays its own entry and group, by a minute, nobody else (S2.3-067, SX-003)."""
        here, beside = self.add("wquick", "-n", "node1"), self.add("wbeside", "-n", "node2")
        hung = self.add("whung", "-n", "node4")
        self.watch()
        for name, node in ((here, 1), (beside, 2)):
            self.run_file(name, node).unlink()
        # Whoever looks what runs on node 4 waits for a writer.
        pipe = self.run_file("pipe", 4)
        os.mkfifo(pipe)
        self.addCleanup(pipe.unlink)
        began = time.monotonic()
        first = self.begin("--no-verify-disks")
        until(lambda: self.state("default")["instance"].get(here), "the other group is delayed")
        self.assertLess(time.monotonic() - began, 30)
        self.assertIsNone(first.poll())
        self.assertEqual(first.wait(timeout=200), 0)
        self.assertLess(time.monotonic() - began, 150)
        text = Path(self.paths.group_status(self.group["group2"])).read_text()
        self.assertIn(f"{hung} ERROR_nodedown\n", text)
        self.assertIn(f"{beside} ERROR_down\n", text)
        self.assertEqual(self.count(f"INSTANCE_STARTUP({beside})"), 1)

    def test_busy_group(self) -> None:
        """A locked group delays no other; meanwhile other runs pass it by; then it is looked after.

        S2.3-063, S2.3-064, S2.3-065, S2.3-067
        """
        here, there = self.add("where", "-n", "node1"), self.add("wthere", "-n", "node2")
        for name, node in ((here, 1), (there, 2)):
            self.run_file(name, node).unlink()
        with self.group_locked("group2"):
            first = self.begin()
            until(lambda: self.status(here) == "running", "the other group is delayed")
            self.run_file(here, 1).unlink()
            # A second run overlaps with the first, which holds the lock of the run no more.
            self.watch()
            self.assertEqual((self.status(here), self.status(there)), ("running", "ERROR_down"))
            self.assertIn("group group2 is being looked after by another run", self.log())
            self.watch("-g", "group2", code=20)
            self.assertIsNone(first.poll())
            with open(self.paths.watcher_lock_file, "a") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.assertEqual(first.wait(timeout=60), 0)
        self.assertEqual(self.status(there), "running")

    def test_group_removed(self) -> None:
        """A group that is removed while a child waits for it is no failure; its files go next time."""
        self.gnt("gnt-group add leaving")
        (uuid,) = self.of("group", "leaving", "uuid")
        self.group["leaving"] = uuid
        known = Path(self.paths.ssconf("nodegroups"))
        until(lambda: uuid in known.read_text(), "the node does not hear of the group")
        with self.group_locked("leaving", "remove"):
            first = self.begin("--node-group", uuid)
            until(lambda: self.waiting_updates("leaving"), "nothing is asked")
        self.assertEqual(first.wait(timeout=60), 0)
        self.assertIn("group leaving was removed meanwhile", self.log())
        self.watch()
        self.assertFalse(os.path.exists(self.paths.watcher_state(uuid)))

    def test_killed(self) -> None:
        """A run that is killed leaves no lock, and its job is taken over: nothing is done twice."""
        name = self.add("wkilled", "-n", "node2")
        self.run_file(name, 2).unlink()
        with self.group_locked("group2"):
            first = self.begin("--node-group", "group2")
            until(lambda: self.waiting_updates("group2"), "nothing is asked")
            first.kill()
            first.wait()
            second = self.begin("--node-group", "group2")
            time.sleep(1.5)
            self.assertIsNone(second.poll())
            self.assertEqual(len(self.waiting_updates("group2")), 1)
        self.assertEqual(second.wait(timeout=60), 0)
        self.assertEqual(self.status(name), "running")
        self.assertEqual(self.count(f"INSTANCE_STARTUP({name})"), 1)

    def test_parent_killed(self) -> None:
        """Children of a run that is killed finish their groups; no other child takes them meanwhile."""
        name = self.add("worphan", "-n", "node2")
        self.run_file(name, 2).unlink()
        with self.group_locked("group2"):
            first = self.begin()
            until(lambda: self.waiting_updates("group2"), "nothing is asked")
            children = psutil.Process(first.pid).children()
            first.kill()
            first.wait()
            self.watch("-g", "group2", code=20)
        until(lambda: not any(_lives(child) for child in children), "a child does not end")
        self.assertEqual(self.status(name), "running")
        self.assertEqual(self.count(f"INSTANCE_STARTUP({name})"), 1)

    def test_terminated(self) -> None:
        """A run that is asked to end takes its children with it."""
        with self.group_locked("group2"):
            first = self.begin()
            until(lambda: self.waiting_updates("group2"), "nothing is asked")
            children = psutil.Process(first.pid).children()
            self.assertNotEqual(children, [])
            first.send_signal(signal.SIGTERM)
            self.assertEqual(first.wait(timeout=30), 1)
            until(lambda: not any(_lives(child) for child in children), "a child does not end")
        self.watch()

    def test_killed_while_starting(self) -> None:
        """An instance that a killed run was starting is left to that job, and its attempt is counted."""
        name = self.add("wtwice", "-n", "node1")
        self.run_file(name, 1).unlink()
        directory = Path(self.paths.hooks_dir) / "instance-start-pre.d"
        directory.mkdir(exist_ok=True)
        mark, script = Path(self.paths.root) / "slow", directory / "slow"
        mark.touch()
        script.write_text(f"#!/bin/sh\nwhile [ -e {mark} ]; do sleep 0.1; done\n")
        script.chmod(0o755)
        self.addCleanup(script.unlink)
        first = self.begin("--node-group", "default")
        until(lambda: self.count(f"INSTANCE_STARTUP({name})"), "nothing is started")
        first.kill()
        first.wait()
        self.assertEqual(self.state()["instance"][name]["restart_count"], 1)
        # Verification would wait for the lock of the instance.
        self.watch("-g", "default", "--no-verify-disks")
        self.assertEqual(self.count(f"INSTANCE_STARTUP({name})"), 1)
        self.assertEqual(self.state()["instance"][name]["restart_count"], 1)
        mark.unlink()
        until(lambda: self.status(name) == "running", "it is not started")

    def test_masterd_restarts(self) -> None:
        """A master daemon that is killed and comes back in the middle of a run is waited for."""
        name = self.add("wmaster", "-n", "node2")
        self.run_file(name, 2).unlink()
        with self.group_locked("group2"):
            first = self.begin("--node-group", "group2")
            until(lambda: self.waiting_updates("group2"), "nothing is asked")
            self.cluster.kill("ganeti-masterd")
            self.cluster.start()
        self.assertEqual(first.wait(timeout=90), 0)
        self.assertEqual(self.status(name), "running")

    def test_masterd_gone(self) -> None:
        """One that does not come back ends the run, within a minute or so, in words."""
        with self.group_locked("group2"):
            begun = self.begin("--node-group", "group2")
            until(lambda: self.waiting_updates("group2"), "nothing is asked")
            self.cluster.kill("ganeti-masterd")
            self.assertEqual(begun.wait(timeout=90), 1)
            self.cluster.start()
        self.assertIn("group group2: Cannot communicate with the master daemon", self.log())


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class ServiceTests(WatcherCase):
    """The daemon."""

    def test_life(self) -> None:
        """It repairs again and again, is there once only, and ends with its runs when asked."""
        name = self.add("wserve", "-n", "node1")
        done = self.cluster.run([*PROGRAM, "--interval", "1"])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.addCleanup(control.stop, self.paths, "ganeti-watcher")
        for _ in range(2):
            self.run_file(name, 1).unlink()
            until(lambda: self.status(name) == "running", "it is not started again")
        self.assertEqual(self.cluster.run([*PROGRAM, "--interval", "1"]).returncode, 1)
        control.stop(self.paths, "ganeti-watcher")
        until(lambda: self._programs() == [], "a run goes on")
        self.run_file(name, 1).unlink()
        time.sleep(1.5)
        self.assertEqual(self.status(name), "ERROR_down")

    def _programs(self) -> list[psutil.Process]:
        return [
            process
            for process in self.cluster.processes()
            if _lives(process) and "ganeti.daemons.watcher_run" in process.cmdline()
        ]
