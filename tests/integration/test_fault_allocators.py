"""External allocators that crash, hang or answer nonsense: a clear error, and nothing stays reserved."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import textwrap
from pathlib import Path

import psutil

from tests.integration.cluster import RunningCluster, until
from tests.integration.operations_case import SMALL, OperationsCase, end

LIAR = '''
    """A hypervisor that says of its node what a file says."""

    import json

    from msgspec.structs import replace

    from ganeti.hypervisors.fake import FakeHypervisor
    from ganeti.model.param_tables.hv import HYPERVISORS


    class LiarHypervisor(FakeHypervisor):
        """Like the fake one otherwise."""

        name = "liar"
        params = HYPERVISORS["fake"]

        def capacity(self, host):
            try:
                with open(host.paths.root + "/lies") as file:
                    lies = json.load(file)
            except OSError:
                lies = {}
            return replace(super().capacity(host), **lies)


    liar = LiarHypervisor()
'''


def setUpModule() -> None:
    """Three nodes with temporary files of their own, and a hypervisor that can lie."""
    work = Path(tempfile.mkdtemp(prefix="fault-allocators-"))
    AllocatorFaultTests.work = work
    (work / "tmp").mkdir()
    (work / "plugins/hypervisors").mkdir(parents=True)
    (work / "plugins/hypervisors/liar_one.py").write_text(textwrap.dedent(LIAR))
    environment = {"GANETI_PLUGIN_PATH": str(work / "plugins"), "TMPDIR": str(work / "tmp")}
    OperationsCase.cluster = RunningCluster(nodes=3, environment=environment)


def tearDownModule() -> None:
    """Remove all of it."""
    end()
    shutil.rmtree(AllocatorFaultTests.work)


def answer(*nodes: str) -> str:
    """A script that puts every instance on these nodes."""
    reply = {"success": True, "info": "chosen", "result": list(nodes)}
    return f"cat <<'END'\n{json.dumps(reply)}\nEND"


MULTI = {"success": True, "info": "", "result": [[["other.virtual", ["node1.virtual"]]], []]}

PROGRAMS = {
    "crash": ("echo 'it broke' >&2; exit 3", "exit code 3: it broke"),
    "killed": ("kill -9 $$", "allocator killed"),
    "silent": (":", "it wrote: nothing"),
    "rubbish": ("echo 'Traceback (most recent call last):'", "it wrote: Traceback"),
    "list": ("echo '[1, 2]'", "its answer is not understood"),
    "half": ('echo \'{"success": true, "info": "x", "resu\'', "its answer is not understood"),
    "wrongtype": ('echo \'{"success": true, "info": "x", "result": {"a": 1}}\'', "has the wrong form"),
    "binary": ("head -c 3000 /dev/urandom", "allocator binary"),
    "huge": ("head -c 30000000 /dev/zero | tr '\\0' x", "allocator huge"),
    "nobody": (answer(), "on 0 nodes (none) where 1 are needed"),
    "toomany": (answer("node1.virtual", "node2.virtual"), "on 2 nodes"),
    "unknown": (answer("node9.virtual"), "'node9.virtual', which is no node of this cluster"),
    "offline": (answer("node3.virtual"), "node3.virtual, which is offline"),
    "group": (answer("node2.virtual"), "group rack2, but group default was asked for"),
    "refuses": (
        'echo \'{"success": false, "info": "no room at all", "result": []}\'',
        "no room at all",
    ),
}
"""What a program does, and what is said of it."""


class AllocatorFaultTests(OperationsCase):
    """Programs on the master; node2 is in another group."""

    work: Path

    def setUp(self) -> None:
        """The programs, which go with the test."""
        self.directory = Path(self.cluster.paths(1).conf_dir) / "iallocators"
        self.directory.mkdir(exist_ok=True)
        for name, (body, _) in PROGRAMS.items():
            self.program(name, body)
        self.gnt("gnt-group add rack2")
        self.addCleanup(self.gnt, "gnt-group remove rack2")
        self.gnt("gnt-group assign-nodes rack2 node2")
        self.addCleanup(self.gnt, "gnt-group assign-nodes -f default node2")

    def program(self, name: str, body: str) -> None:
        """Install an allocator."""
        path = self.directory / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        self.addCleanup(path.unlink)

    def offline(self) -> None:
        """Nobody speaks to node3."""
        self.gnt("gnt-node modify -O yes --auto-promote node3")
        self.addCleanup(self.gnt, "gnt-node modify -f -O no node3")

    def assert_nothing_reserved(self, name: str) -> None:
        """No lock is held, no file is left, and the name is free."""
        locks = self.rows("gnt-debug locks")
        held = [row for row in locks if row[0].startswith(("node", "instance")) and row[2] not in ("", "-")]
        self.assertEqual(held, [])
        self.assertEqual([one for one in os.listdir(self.work / "tmp") if "iallocator" in one], [])
        self.refused(f"gnt-instance info {name}", name)

    def test_table(self) -> None:
        """Every bad answer ends the job with an error that says what was wrong."""
        self.offline()
        for name, (_, text) in PROGRAMS.items():
            command = f"gnt-instance add -I {name} -g default {' '.join(SMALL)} lost.virtual"
            done = self.refused(command, text)
            self.assertNotIn("internal error", done.stderr, name)
            self.assertLess(len(done.stderr), 2000, name)
            self.assert_nothing_reserved("lost.virtual")
        node = self.of("instance", self.add("lost", "-I", "builtin", "-g", "default"), "pnode")
        self.assertEqual(node, ["node1.virtual"])

    def test_several_instances(self) -> None:
        """Likewise where several are asked for at once: nothing is submitted."""
        self.program("elsewhere", f"echo '{json.dumps(MULTI)}'")
        path = Path(tempfile.mkdtemp(prefix="batch-")) / "list.json"
        entry = {"instance_name": "lost.virtual", "disk_template": "diskless", "nics": []}
        path.write_text(json.dumps([entry]))
        for name, text in (("crash", "it broke"), ("elsewhere", "other.virtual, which was not asked for")):
            before = self.newest_job()["id"]
            self.refused(f"gnt-instance batch-create -I {name} {path}", text)
            self.assertEqual(self.newest_job()["id"], before + 1)
        self.assert_nothing_reserved("lost.virtual")

    def test_evacuation(self) -> None:
        """An allocator cannot have anything done that has nothing to do with the evacuation."""
        job = [[{"OP_ID": "OP_CLUSTER_DESTROY"}]]
        moved = [["stays.virtual", "default", ["node3.virtual"]]]
        reply = {"success": True, "info": "", "result": [moved, [], job]}
        self.program("destroyer", f"echo '{json.dumps(reply)}'")
        self.add("stays", "-n", "node1")
        self.refused("gnt-node evacuate -f -p -I destroyer node1", "'OP_CLUSTER_DESTROY', which it may not")
        self.refused("gnt-node evacuate -f -p -I crash node1", "it broke")

    def test_hang(self) -> None:
        """A program that hangs holds up only its own job; when it is ended, that fails and all is free."""
        self.program("hang", "echo $1 >${0}.request\necho $$ >${0}.pid\nsleep 600\necho late")
        pid_file = self.directory / "hang.pid"
        self.addCleanup(pid_file.unlink)
        number = self.submitted("gnt-instance add --submit -I hang -g rack2", *SMALL, "lost.virtual")
        until(lambda: pid_file.exists() and pid_file.read_text().strip(), "the allocator does not start")
        self.add("beside", "-I", "builtin", "-g", "default")
        self.assertEqual(self.of("job", str(number), "status"), ["running"])
        request = Path((self.directory / "hang.request").read_text().strip())
        self.assertEqual(request.parent, self.work / "tmp")
        program = psutil.Process(int(pid_file.read_text()))
        for process in (*program.children(recursive=True), program):
            process.send_signal(signal.SIGKILL)
        self.assertEqual(self.cluster.wait_for_jobs(number), {number: "error"})
        self.assertIn("allocator hang", str(self.cluster.job(number)[1]))
        self.assert_nothing_reserved("lost.virtual")

    def submitted(self, command: str, *more: str) -> int:
        """Number of the job of a command with `--submit`."""
        return int(self.cluster.gnt(command, *more).stderr.split()[-1])


class LyingNodeTests(OperationsCase):
    """Nodes whose figures cannot be true get nothing, and verification says so."""

    def setUp(self) -> None:
        """The hypervisor that lies is the first one."""
        self.gnt("gnt-cluster modify --enabled-hypervisors liar,fake")
        self.addCleanup(self.gnt, "gnt-cluster modify --enabled-hypervisors fake")

    def lie(self, number: int, **figures: object) -> None:
        """Let a node report such figures."""
        path = Path(self.cluster.paths(number).root) / "lies"
        path.write_text(json.dumps(figures))
        self.addCleanup(path.unlink, missing_ok=True)

    def test_table(self) -> None:
        """Negative, huge or text: nothing is put there, by an allocator or by hand."""
        self.lie(1, memory_total=-4096)
        self.lie(3, cpu_total=10**8)
        cases: tuple[tuple[str, object, str], ...] = (
            ("memory_free", -1, "-1 MiB of memory free"),
            ("memory_free", 10**12, "1000000000000 MiB of memory free"),
            ("memory_free", "plenty", "something unexpected"),
            ("memory_dom0", -7, "-7 MiB of memory used by the node itself"),
        )
        for figure, value, text in cases:
            self.lie(2, **{figure: value})
            by_hand = " ".join(SMALL)
            self.refused(f"gnt-instance add {by_hand} -n node2 lost.virtual", text)
            self.refused(f"gnt-instance add {by_hand} -I builtin lost.virtual", "no usable answer")
            verified = self.cluster.gnt("gnt-cluster verify --error-codes", check=False)
            self.assertEqual(verified.returncode, 1)
            (line,) = [
                one for one in verified.stdout.splitlines() if "ENODEHV:node:node2.virtual:it gets no" in one
            ]
            self.assertIn(text, line)
        for number in (1, 2, 3):
            self.lie(number)
        self.gnt("gnt-cluster verify")
        self.add("found", "-I", "builtin")

    def test_one_of_three(self) -> None:
        """The others go on."""
        self.lie(1, memory_free=10**12)
        self.lie(2, memory_total="x")
        self.assertEqual(self.of("instance", self.add("sane", "-I", "builtin"), "pnode"), ["node3.virtual"])
