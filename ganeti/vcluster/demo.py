"""The main job on one machine: a cluster, a guest, a live migration, a dead node, a failover.

Every step is checked, not only shown. `bin/demo` sets the machine up and calls this.
"""

from __future__ import annotations

import argparse
import glob
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

from ganeti.errors import GanetiError
from ganeti.vcluster import nodes
from ganeti.vcluster.create import add_command, init_command, plan_free, prepare
from ganeti.vcluster.layout import REAL_TEMPLATES, Layout, VirtualNode
from ganeti.vcluster.main import init_options, with_accelerator
from ganeti.vcluster.processes import kill_all, processes_of
from ganeti.vcluster.tiny_heartbeats import DiskHeartbeats, console_heartbeats, disk_heartbeats

INSTANCE = "demo1.virtual"
GUEST_TIMEOUT_S = 90.0


class DemoFailed(Exception):
    """A step did not do what it should."""


class Demo:
    """One run.

    Args:
        layout: the cluster, prepared.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._has_guest = layout.hypervisor == "kvm"
        self._began = time.monotonic()

    def run(self) -> None:
        """All steps.

        Raises:
            DemoFailed: with the reason and where to look.
        """
        self._form()
        self._verify("the new cluster")
        first = self._create()
        second = self._migrate(first)
        self._lose(second)
        self._fail_over(second)
        self._show_jobs()

    def _form(self) -> None:
        self._title(f"A cluster of {len(self._layout.nodes)} nodes")
        self._gnt(init_command(self._layout, init_options(self._layout)))
        for node in self._layout.nodes[1:]:
            self._gnt(add_command(self._layout, node))
        listed = self._gnt(["gnt-node", "list"])
        for node in self._layout.nodes:
            row = _row(listed, node.name)
            self._check(row is not None and "?" not in row, f"{node.name} is listed with its memory")

    def _create(self) -> VirtualNode:
        self._title("An instance, placed by the built-in allocator, on a disk that all nodes reach")
        options = "-o tiny -t sharedfile --disk 0:size=32m -B memory=96"
        self._gnt(["gnt-instance", "add", *options.split(), INSTANCE])
        node = self._expect_running()
        info = self._gnt(["gnt-instance", "info", INSTANCE])
        self._check("configured to be up, actual state is up" in info, "info tells that it is up")
        if self._has_guest:
            self._wait_for_beats(node, 3)
        return node

    def _migrate(self, source: VirtualNode) -> VirtualNode:
        self._title("Live migration: the heartbeat goes on without a reset")
        target = self._other_node(source)
        before = self._beats()
        self._gnt(["gnt-instance", "migrate", "-f", "-n", target.name, INSTANCE])
        self._check(self._expect_running() == target, f"it runs on {target.name} now")
        if before is not None:
            self._wait_for_beats(target, before.newest.number + 4)
            after = self._beats()
            assert after is not None
            self._check(after.boots == before.boots, "the guest was not started again")
            self._check(not after.missing, "no heartbeat is missing on the disk")
        return target

    def _lose(self, node: VirtualNode) -> None:
        self._title(f"Power cut: every process of {node.name} is killed")
        root = self._layout.root(node)
        killed = nodes.power_cut(self._layout, node)
        print(f"killed {len(killed)} processes: {' '.join(map(str, killed))}")
        self._check(not processes_of(root), "nothing of it is left")
        self._check(self._status() == "ERROR_nodedown", "the list tells that the node does not answer")
        self._gnt(["gnt-node", "modify", "--offline=yes", node.name])
        self._check(self._status() == "ERROR_nodeoffline", "the list tells that the node is offline")
        listed = self._gnt(["gnt-node", "list"])
        self._check("*" in (_row(listed, node.name) or ()), f"{node.name} is listed as offline")

    def _fail_over(self, dead: VirtualNode) -> None:
        self._title("Failover: the instance comes up elsewhere with all that it wrote")
        before = self._beats()
        self._gnt(["gnt-instance", "failover", "-f", INSTANCE])
        node = self._expect_running()
        self._check(node != dead, f"it runs on {node.name} now")
        if before is not None:
            self._wait_for_beats(node, before.newest.number + 3)
            after = self._beats()
            assert after is not None
            self._check(after.boots[-1] != before.boots[-1], "the guest was started afresh")
            self._check(not after.missing, "and went on counting where the last one stopped")
        self._verify("the cluster with a node offline")

    def _show_jobs(self) -> None:
        self._title("What was done")
        jobs = self._gnt(["gnt-job", "list"])
        rows = jobs.splitlines()[1:]
        self._check(bool(rows) and all(" success " in row for row in rows), "every job succeeded")
        self._check(any("INSTANCE_FAILOVER" in row for row in rows), "the failover is among them")
        last = rows[-1].split()[0]
        info = self._gnt(["gnt-job", "info", last])
        self._check("Status: success" in info, f"job {last} tells its story")

    def _verify(self, what: str) -> None:
        self._title(f"Verify {what}")
        self._gnt(["gnt-cluster", "verify"])
        print("ok: verify found no error")

    def _expect_running(self) -> VirtualNode:
        self._gnt(["gnt-instance", "list"])
        row = self._gnt(
            ["gnt-instance", "list", "--no-headers", "-o", "status,pnode", INSTANCE], quiet=True
        ).split()
        self._check(row[:1] == ["running"], f"{INSTANCE} runs")
        return self._layout.node(row[1])

    def _status(self) -> str:
        self._gnt(["gnt-instance", "list"])
        return self._gnt(
            ["gnt-instance", "list", "--no-headers", "-o", "status", INSTANCE], quiet=True
        ).strip()

    def _other_node(self, than: VirtualNode) -> VirtualNode:
        master = self._layout.nodes[0]
        return next(node for node in self._layout.nodes if node not in (than, master))

    def _beats(self) -> DiskHeartbeats | None:
        if not self._has_guest:
            return None
        (disk,) = glob.glob(os.path.join(self._layout.shared_dir, INSTANCE, "*"))
        return disk_heartbeats(disk)

    def _wait_for_beats(self, node: VirtualNode, number: int) -> None:
        """Wait until console and disk both have this heartbeat."""
        console = os.path.join(self._layout.paths(node).log_dir, "kvm", f"{INSTANCE}.console")

        def on_console() -> bool:
            try:
                with open(console, "rb") as stream:
                    return max(console_heartbeats(stream.read()), default=0) >= number
            except FileNotFoundError:
                return False

        def on_disk() -> bool:
            beats = self._beats()
            return beats is not None and beats.newest.number >= number

        self._wait(on_disk, f"heartbeat {number} on the disk", console)
        self._wait(on_console, f"heartbeat {number} on the console of {node.name}", console)

    def _wait(self, is_so: Callable[[], bool], what: str, log: str) -> None:
        deadline = time.monotonic() + GUEST_TIMEOUT_S
        while not is_so():
            if time.monotonic() > deadline:
                raise DemoFailed(f"no {what} in {GUEST_TIMEOUT_S:.0f} s; console: {log}")
            time.sleep(0.2)
        print(f"ok: {what}")

    def _gnt(self, command: Sequence[str], *, quiet: bool = False) -> str:
        """Run a command on the master and show it with what it prints; it must succeed."""
        if not quiet:
            print(f"$ {shlex.join(command)}", flush=True)
        master = self._layout.nodes[0]
        done = subprocess.run(
            nodes.command_on(self._layout, master, command),
            env=nodes.environment(self._layout, master),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300.0,
        )
        if not quiet or done.returncode:
            print(done.stdout, end="", flush=True)
        if done.returncode:
            log = self._layout.paths(master).log_file("ganeti-masterd")
            raise DemoFailed(f"'{shlex.join(command)}' ended with {done.returncode}; log: {log}")
        return done.stdout

    def _check(self, is_so: bool, what: str) -> None:
        if not is_so:
            log = self._layout.paths(self._layout.nodes[0]).log_file("ganeti-masterd")
            raise DemoFailed(f"not so: {what}; log: {log}")
        print(f"ok: {what}", flush=True)

    def _title(self, text: str) -> None:
        print(f"\n=== {text} ({time.monotonic() - self._began:.0f} s)", flush=True)


def _row(table: str, name: str) -> list[str] | None:
    return next((words for words in map(str.split, table.splitlines()) if words[:1] == [name]), None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; gives the exit code."""
    options = _parser().parse_args(arguments)
    if options.nodes < 3:
        sys.stderr.write("demo: at least 3 nodes are needed, to lose one and still have a choice\n")
        return 2
    directory = options.dir or tempfile.mkdtemp(prefix="ganeti-demo-")
    layout = plan_free(
        directory,
        options.nodes,
        hypervisor=options.hypervisor,
        disk_templates=REAL_TEMPLATES,
    )
    began = time.monotonic()
    try:
        prepare(layout)
        layout = with_accelerator(layout)
        if layout.accelerator:
            print(f"QEMU runs guests with {layout.accelerator} here")
        Demo(layout).run()
    except (DemoFailed, GanetiError, subprocess.TimeoutExpired) as error:
        sys.stderr.write(f"\ndemo FAILED: {error}\nwhat is left: {directory} (ganeti-vcluster destroy)\n")
        for node in layout.nodes:
            kill_all(layout.root(node))
        return 1
    print(f"\ndemo passed in {time.monotonic() - began:.0f} s")
    return _leave(layout, keep=options.keep)


def _leave(layout: Layout, *, keep: bool) -> int:
    if keep:
        print(
            f"\nThe cluster goes on. To use it:\n"
            f'  eval "$(bin/ganeti-vcluster env {layout.directory})"; gnt-instance list\n'
            f"To stop and remove it:\n  bin/ganeti-vcluster destroy {layout.directory}"
        )
        return 0
    nodes.destroy(layout)
    left = [process.pid for node in layout.nodes for process in processes_of(layout.root(node))]
    if left or os.path.exists(layout.directory):
        sys.stderr.write(f"demo FAILED: processes {left} or files in {layout.directory} are left\n")
        return 1
    print("nothing of it is left: no process, no file")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bin/demo",
        description="A virtual cluster on this machine does the main job, checked step by step.",
    )
    parser.add_argument("--nodes", type=int, default=3, metavar="N", help="number of nodes (3)")
    parser.add_argument("--hypervisor", choices=("kvm", "fake"), default="kvm")
    parser.add_argument("--dir", metavar="DIR", help="where the cluster lives (a temporary directory)")
    parser.add_argument("--keep", action="store_true", help="leave the cluster running")
    return parser


if __name__ == "__main__":
    sys.exit(main())
