"""Tests of the node functions about the node itself: facts, power, allocators, membership, hooks."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import (
    AllocatorError,
    ConfigurationError,
    HooksFailure,
    HypervisorError,
    OperationFailed,
)
from ganeti.interfaces import IProcessRunner
from ganeti.model.calls.system import (
    AllocatorRunner,
    BridgesExist,
    HookResult,
    HooksRunner,
    MasterNodeName,
    NodeDemote,
    NodeInfo,
    NodeLeaveCluster,
    NodePowercycle,
)
from ganeti.node.backend import membership, system
from ganeti.node.backend.hooks import hooks_runner
from ganeti.node.backend.registry import NodeWorld
from ganeti.testing.host import FakeHost, FakeProcesses, failed, ok
from ganeti.testing.node_world import WithNode


class FactsTests(WithNode, SynchronousTestCase):
    """What a node tells of itself."""

    def test_info(self) -> None:
        """Boot id, space by storage type, capacity by hypervisor."""
        call = NodeInfo(
            storage_units={"sharedfile": self.images, "file": "/nonexistent"}, hypervisors=("fake",)
        )
        found = system.node_info(call, self.node)
        self.assertTrue(found.boot_id)
        self.assertEqual([space.type for space in found.storage], ["sharedfile", "file"])
        self.assertIsNone(found.storage[1].storage_free)
        self.assertGreater(found.hypervisors["fake"].memory_total, 0)

    def test_unknown_hypervisor(self) -> None:
        """A hypervisor that is not there is an error."""
        call = NodeInfo(hypervisors=("vax",))
        self.assertRaises(HypervisorError, system.node_info, call, self.node)

    def test_master(self) -> None:
        """The master is the one in ssconf; without that file the error says what to do."""
        error = self.assertRaises(ConfigurationError, system.master_node_name, MasterNodeName(), self.node)
        self.assertIn("redist-conf", str(error))
        self.write(self.host.paths.ssconf("master_node"), "node7.example.com\n")
        self.assertEqual(system.master_node_name(MasterNodeName(), self.node), "node7.example.com")


class WithoutPrograms(WithNode):
    """A node whose programs are a table."""

    def make_processes(self) -> IProcessRunner:
        """Shells that do nothing, and one bridge of Open vSwitch."""
        self.processes = FakeProcesses(
            {
                ("ovs-vsctl", "*", "br-exists", "switch1"): ok(),
                ("ovs-vsctl",): failed("no", 2),
                ("/bin/sh",): ok(),
            }
        )
        return self.processes


class BridgeTests(WithoutPrograms, SynchronousTestCase):
    """Bridges of the kernel and of Open vSwitch."""

    def test_missing(self) -> None:
        """Bridges that are in neither are told by name."""
        net = f"{self.directory}/net"
        os.makedirs(f"{net}/br0/bridge")
        os.makedirs(f"{net}/eth0")
        names = ("br0", "eth0", "switch1", "../net/br0", "br7")
        missing = system.missing_bridges(self.host, names, net)
        self.assertEqual(missing, ["eth0", "../net/br0", "br7"])

    def test_function(self) -> None:
        """The function is an error with the names, or nothing."""
        system.bridges_exist(BridgesExist(bridges=("switch1",)), self.node)
        call = BridgesExist(bridges=("switch1", "gnt-none-1"))
        error = self.assertRaises(OperationFailed, system.bridges_exist, call, self.node)
        self.assertIn("gnt-none-1", str(error))
        self.assertNotIn("switch1", str(error))


class PowercycleTests(WithoutPrograms, SynchronousTestCase):
    """Resetting the machine; no program is really run here."""

    def setUp(self) -> None:
        """No command in place of the reset."""
        super().setUp()
        before = os.environ.pop(system.POWERCYCLE_VARIABLE, None)
        if before is not None:
            self.addCleanup(os.environ.__setitem__, system.POWERCYCLE_VARIABLE, before)

    def test_virtual(self) -> None:
        """A virtual node refuses, as the machine is not its own."""
        error = self.assertRaises(
            OperationFailed, system.node_powercycle, NodePowercycle(hypervisor="fake"), self.node
        )
        self.assertIn("virtual", str(error))
        self.assertEqual(self.processes.calls, [])

    def test_real(self) -> None:
        """A real node answers first: the reset is started and waits."""
        host = FakeHost("", processes=self.processes)
        world = NodeWorld(host=host, plugins=self.node.plugins)
        answer = system.node_powercycle(NodePowercycle(hypervisor="fake"), world)
        self.assertIn("5 seconds", answer)
        (command,) = self.processes.commands()
        self.assertTrue(command[2].startswith("sleep 5; "))
        self.assertIsNone(self.processes.calls[0].timeout_s)

    def test_command(self) -> None:
        """A command of the environment takes the place of the reset, also on virtual nodes."""
        os.environ[system.POWERCYCLE_VARIABLE] = "restart-virtual-node 1"
        self.addCleanup(os.environ.pop, system.POWERCYCLE_VARIABLE, None)
        system.node_powercycle(NodePowercycle(hypervisor="fake"), self.node)
        self.assertEqual(self.processes.commands()[0][2], "sleep 5; restart-virtual-node 1")


class AllocatorTests(WithNode, SynchronousTestCase):
    """External allocators."""

    def run_allocator(self, script: str, **arguments: Any) -> str:
        """Install a program and run it."""
        directory = self.host.paths.allocator_search_path[0]
        self.write(f"{directory}/acme", f"#!/bin/sh\n{script}\n", mode=0o755)
        call = AllocatorRunner(**{"name": "acme", "request": '{"a": 1}', **arguments})
        return system.iallocator_runner(call, self.node)

    def test_call(self) -> None:
        """It gets a file with the request, then the options in order."""
        output = self.run_allocator(
            'cat "$1"; shift; echo; echo "$@"', options={"verbose": None, "minimum": 3}
        )
        self.assertEqual(output, '{"a": 1}\n--minimum=3 --verbose\n')

    def test_file_is_gone(self) -> None:
        """The file is gone afterwards."""
        path = self.run_allocator('echo "$1"').strip()
        self.assertIn("/ganeti-iallocator.", path)
        self.assertFalse(os.path.exists(path))

    def test_failure(self) -> None:
        """A bad exit code is an error with all that was written."""
        error = self.assertRaises(AllocatorError, self.run_allocator, "echo out; echo err >&2; exit 9")
        for part in ("acme", "exit code 9", "out", "err"):
            self.assertIn(part, str(error))

    def test_missing(self) -> None:
        """One that is not there is told with the places searched; names cannot lead out of them."""
        for name in ("nope", "../acme", ""):
            error = self.assertRaises(AllocatorError, self.run_allocator, "exit 0", name=name)
            self.assertIn("searched", str(error))

    def test_not_executable(self) -> None:
        """One that cannot be run says so."""
        self.write(f"{self.host.paths.allocator_search_path[0]}/plain", "text")
        error = self.assertRaises(AllocatorError, self.run_allocator, "exit 0", name="plain")
        self.assertIn("not executable", str(error))


class MembershipTests(WithoutPrograms, SynchronousTestCase):
    """Demotion and leaving."""

    def setUp(self) -> None:
        """A member with a configuration that is not the master."""
        super().setUp()
        paths = self.host.paths
        for path in (paths.config_file, paths.config_journal, paths.node_cert_file, paths.ca_key_file):
            self.write(path, "content")
        self.write(paths.ssconf("master_node"), "node9.example.com\n")
        self.write(f"{paths.queue_dir}/job-1", "{}")

    def demote(self) -> None:
        """Call the function."""
        membership.node_demote_from_mc(NodeDemote(), self.node)

    def leave(self) -> None:
        """Call the function."""
        membership.node_leave_cluster(NodeLeaveCluster(), self.node)

    def names(self) -> list[str]:
        """What is left in the data directory."""
        return sorted(os.listdir(self.host.paths.data_dir))

    def test_demote(self) -> None:
        """The configuration is kept as a backup only; the rest stays. It may be repeated."""
        self.demote()
        self.demote()
        kept = [name for name in self.names() if name.startswith("config.")]
        self.assertEqual([name.rpartition(".backup-")[0] for name in kept], ["config.data", "config.journal"])
        self.assertIn("server.pem", self.names())

    def test_demote_master(self) -> None:
        """The master is not demoted."""
        self.write(self.host.paths.ssconf("master_node"), f"{self.host.name}\n")
        error = self.assertRaises(OperationFailed, self.demote)
        self.assertIn("master", str(error))

    def test_leave(self) -> None:
        """Nothing of the cluster is left; a daemon that does not run is not ended."""
        self.leave()
        self.assertEqual(self.names(), [])
        self.assertEqual(self.processes.calls, [])

    def running(self, daemon: str) -> int:
        """A process that looks like a daemon of this node, with its pid file."""
        waiting = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)", daemon]
        process = subprocess.Popen(waiting, stdout=subprocess.PIPE)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        # Before it has begun, the process still looks like this one.
        assert process.stdout is not None
        self.addCleanup(process.stdout.close)
        process.stdout.readline()
        self.write(self.host.paths.pid_file(daemon), f"{process.pid}\n")
        return process.pid

    def test_daemon_quits(self) -> None:
        """The node daemon is told to end after it answered."""
        pid = self.running("ganeti-noded")
        self.leave()
        ((_, _, command),) = self.processes.commands()
        self.assertEqual(command, f"sleep 1; kill -TERM {pid}")

    def test_demote_under_masterd(self) -> None:
        """A node on which the master daemon runs keeps its configuration."""
        self.running("ganeti-masterd")
        self.assertRaises(OperationFailed, self.demote)
        self.assertIn("config.data", self.names())

    def test_alien_process(self) -> None:
        """The number in an old pid file that another program has now is left alone."""
        self.write(self.host.paths.pid_file("ganeti-noded"), f"{os.getpid()}\n")
        self.leave()
        self.assertEqual(self.processes.calls, [])

    def test_master_stays(self) -> None:
        """The master cannot leave, and keeps everything."""
        before = self.names()
        self.write(self.host.paths.ssconf("master_node"), f"{self.host.name}\n")
        self.assertRaises(OperationFailed, self.leave)
        self.assertEqual(self.names(), before)


class HooksTests(WithNode, SynchronousTestCase):
    """Hook scripts."""

    def run_hooks(self, hpath: str = "instance-start", phase: str = "pre") -> tuple[HookResult, ...]:
        """Call the function."""
        env = {"GANETI_OP_CODE": "OP_INSTANCE_STARTUP", "GANETI_DATA_DIR": "/elsewhere", "PATH": "/nowhere"}
        return hooks_runner(HooksRunner(hpath=hpath, phase=phase, env=env), self.node)

    def add(self, name: str, script: str, *, mode: int = 0o755) -> None:
        """Install a script."""
        path = f"{self.host.paths.hooks_dir}/instance-start-pre.d/{name}"
        self.write(path, f"#!/bin/sh\n{script}\n", mode=mode)

    def test_none(self) -> None:
        """A directory that is not there has no scripts."""
        self.assertEqual(self.run_hooks(), ())

    def test_results(self) -> None:
        """Scripts run by name; each is told with its output: 2 well, 1 failed, 0 skipped."""
        self.add("20-fails", "echo no; echo why >&2; exit 1")
        self.add("10-well", "echo fine")
        self.add("30-plain", "exit 0", mode=0o644)
        self.add("40.sh", "exit 0")
        self.add("50-killed", "kill -9 $$")
        os.mkdir(f"{self.host.paths.hooks_dir}/instance-start-pre.d/60-directory")
        found = [(result.script, result.code, result.output) for result in self.run_hooks()]
        directory = "instance-start-pre.d"
        self.assertEqual(
            found,
            [
                (f"{directory}/10-well", 2, "fine"),
                (f"{directory}/20-fails", 1, "no\nwhy"),
                (f"{directory}/30-plain", 0, ""),
                (f"{directory}/40.sh", 0, ""),
                (f"{directory}/50-killed", 1, ""),
                (f"{directory}/60-directory", 0, ""),
            ],
        )

    def test_not_a_program(self) -> None:
        """What cannot be run is a failure with the reason."""
        self.write(f"{self.host.paths.hooks_dir}/instance-start-pre.d/10-odd", "\0\1", mode=0o755)
        (result,) = self.run_hooks()
        self.assertEqual(result.code, 1)
        self.assertTrue(result.output)

    def test_environment(self) -> None:
        """A script gets the variables of the call, this node's data directory, and nothing else."""
        self.add("env", "env | grep -v -e ^PWD= -e ^SHLVL= -e ^_= -e ^OLDPWD= | sort; cat; pwd")
        (result,) = self.run_hooks()
        self.assertEqual(
            result.output.splitlines(),
            [
                f"GANETI_DATA_DIR={self.host.paths.data_dir}",
                "GANETI_OP_CODE=OP_INSTANCE_STARTUP",
                "PATH=/sbin:/bin:/usr/sbin:/usr/bin",
                "/",
            ],
        )

    def test_impossible(self) -> None:
        """Names that lead elsewhere and unknown phases are refused."""
        for hpath, phase in (("../x", "pre"), ("", "pre"), ("instance-start", "during")):
            self.assertRaises(HooksFailure, self.run_hooks, hpath, phase)
