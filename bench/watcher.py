"""Rounds of the watcher over ten groups of twenty simulated nodes, and the same while one group hangs.

The nodes of one group are in a process of their own, which is stopped in the middle: their connections are
there, and nothing is answered. What is compared is how long the other groups took, from the begin of each
child to its end (as their log says), and from the begin of the round to the end of the last of them. Rounds
with and without the hang take turns, so that both have the same of whatever else the machine does.

A master candidate that hangs is another matter: whatever is written into the queue waits for it once, for
some seconds, before it is left behind. So the group that hangs has none.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ganeti.cli.client import Client
from ganeti.daemons import control
from ganeti.io.files import InUse
from ganeti.vcluster.layout import Layout, VirtualNode, load
from ganeti.vcluster.nodes import SIMULATOR, environment, run_on, start_simulator
from ganeti.watcher.state_file import StateFile

GROUPS = 10
NODES = 20 * GROUPS + 1
INSTANCES = 2 * GROUPS
ROUNDS = 4
LIMIT_S = 120.0

_HUNG_SIMULATOR = "ganeti-simulated-hung"
_HUNG_GROUP = GROUPS - 1
_HUNG_NAME = f"group{GROUPS}"
_DONE = re.compile(r"group (\S+) was looked after in ([\d.]+) s")

Row = dict[str, Any]


def run() -> list[Row]:
    """All rows."""
    with tempfile.TemporaryDirectory(prefix="watcher-") as base:
        directory = os.path.join(base, "c")
        _vcluster(
            "create", directory, "--nodes", str(NODES), "--groups", str(GROUPS), "--simulated", "--at-once"
        )
        try:
            return _Measures(load(directory)).rows()
        finally:
            _vcluster("destroy", directory)


class _Measures:
    """Measures of a cluster that is there.

    Args:
        layout: it.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._paths = layout.paths(layout.nodes[0])
        self._hung_nodes = [node for node in layout.nodes[1:] if layout.group_of(node) == _HUNG_GROUP]

    def rows(self) -> list[Row]:
        """All rows."""
        process = self._serve_apart()
        self._add_instances()
        self._round(GROUPS)
        self._demote()
        usual, hung = [], []
        for _ in range(ROUNDS):
            usual.append(self._round(GROUPS))
            with _stopped(process):
                hung.append(self._round(GROUPS - 1))
            self._wait_for_child()
        children = statistics.median(self._sum(done) for done, _ in usual)
        children_hung = statistics.median(self._sum(done) for done, _ in hung)
        whole = statistics.median(seconds for _, seconds in usual)
        whole_hung = statistics.median(seconds for _, seconds in hung)
        ratio, whole_ratio = children_hung / children, whole_hung / whole
        return [
            _row(f"a group of 20 nodes, one of {GROUPS}", children / (GROUPS - 1) * 1000, "ms"),
            _row("the same while another group hangs", ratio, "x", "<= 1.2", met=ratio <= 1.2),
            _row("whole round, groups a second apart", whole, "s"),
            _row("the same while another group hangs", whole_ratio, "x", "<= 1.2", met=whole_ratio <= 1.2),
        ]

    def _serve_apart(self) -> int:
        """Serve the nodes of one group by another process; gives its id."""
        first = self._layout.paths(self._layout.nodes[1])
        control.stop(first, SIMULATOR)
        with self._credentials_away():
            start_simulator(self._layout)
        with open(first.log_file(_HUNG_SIMULATOR), "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "ganeti.vcluster.simulator", _HUNG_SIMULATOR, self._layout.directory],
                env=environment(self._layout, self._layout.nodes[1]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_for_nodes()
        return process.pid

    @contextlib.contextmanager
    def _credentials_away(self) -> Iterator[None]:
        files = [self._certificate(node) for node in self._hung_nodes]
        for file in files:
            file.rename(file.with_suffix(".away"))
        try:
            yield
        finally:
            for file in files:
                file.with_suffix(".away").rename(file)

    def _certificate(self, node: VirtualNode) -> Path:
        return Path(self._layout.paths(node).node_cert_file)

    def _demote(self) -> None:
        """Take the master candidates out of the group that hangs."""
        candidates = self._candidates()
        hung = {node.name for node in self._hung_nodes} & candidates
        first = self._layout.nodes[0]
        pool = str(len(candidates) - len(hung))
        run_on(self._layout, first, ["gnt-cluster", "modify", "--candidate-pool-size", pool])
        for name in sorted(hung):
            run_on(self._layout, first, ["gnt-node", "modify", "--master-candidate=no", name])
        if hung & self._candidates():
            raise RuntimeError(f"{sorted(hung)} cannot be demoted")

    def _candidates(self) -> set[str]:
        client = Client(self._paths.master_socket)
        rows = client.call("Query", ["node", ["name"], ["?", "master_candidate"]])["data"]
        client.close()
        return {row[0][1] for row in rows}

    def _wait_for_nodes(self) -> None:
        client = Client(self._paths.master_socket)
        deadline = time.monotonic() + LIMIT_S
        while True:
            answer = client.call("Query", ["node", ["mfree"], None, False])
            silent = sum(status != 0 for ((status, _),) in answer["data"])
            if not silent:
                client.close()
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"{silent} nodes do not answer")
            time.sleep(0.5)

    def _add_instances(self) -> None:
        """A few for each group, so that there is something to verify."""
        client = Client(self._paths.master_socket)
        jobs = [
            [
                {
                    "OP_ID": "OP_INSTANCE_CREATE",
                    "instance_name": f"i{number}.virtual",
                    "mode": "create",
                    "pnode": self._layout.nodes[number + 1].name,
                    "disk_template": "sharedfile",
                    "disks": [{"size": 4}],
                    "nics": [],
                    "os_type": "noop",
                    "beparams": {"maxmem": 64, "minmem": 64},
                    "name_check": False,
                    "ip_check": False,
                }
            ]
            for number in range(INSTANCES)
        ]
        numbers = [job for _, job in client.call("SubmitManyJobs", [jobs], os.urandom(8).hex())]
        wanted = ["|", *(["==", "id", number] for number in numbers)]
        deadline = time.monotonic() + LIMIT_S
        while True:
            rows = client.call("Query", ["job", ["status", "opresult"], wanted])["data"]
            states = {row[0][1] for row in rows}
            if states <= {"success", "error", "canceled"}:
                break
            if time.monotonic() > deadline:
                raise RuntimeError("instances are not created in time")
            time.sleep(0.2)
        client.close()
        if states != {"success"}:
            raise RuntimeError(f"instances cannot be created: {rows}")

    def _round(self, wanted: int) -> tuple[dict[str, float], float]:
        """Seconds of each group that was done, and of the round until as many were as are wanted."""
        log = Path(self._paths.log_file("ganeti-watcher"))
        start = log.stat().st_size if log.exists() else 0
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "ganeti.daemons.watcher_run", "--once", "--no-wait-children"],
            env=environment(self._layout, self._layout.nodes[0]),
            check=True,
        )
        while True:
            done = {name: float(seconds) for name, seconds in _DONE.findall(log.read_text()[start:])}
            if wanted < GROUPS and _HUNG_NAME in done:
                raise RuntimeError("the group that is to hang does not")
            if len(done) >= wanted:
                return done, time.perf_counter() - began
            if time.perf_counter() - began > LIMIT_S:
                raise RuntimeError(f"only {sorted(done)} are done")
            time.sleep(0.02)

    def _sum(self, done: dict[str, float]) -> float:
        """Of the groups that do not hang."""
        return sum(seconds for name, seconds in done.items() if name != _HUNG_NAME)

    def _wait_for_child(self) -> None:
        """Until nobody looks after the group any more that was hung."""
        lines = Path(self._paths.ssconf("nodegroups")).read_text().splitlines()
        uuids = dict(line.split()[::-1] for line in lines)
        state = StateFile(self._paths.watcher_state(uuids[_HUNG_NAME]))
        deadline = time.monotonic() + LIMIT_S
        while True:
            try:
                state.acquire()
            except InUse:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
                continue
            state.release()
            return


@contextlib.contextmanager
def _stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _vcluster(*words: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "ganeti.vcluster.main", *words], stdout=subprocess.DEVNULL, check=True
    )


def _row(name: str, value: float, unit: str, target: str | None = None, *, met: bool | None = None) -> Row:
    return {
        "name": f"watcher: {name}",
        "value": round(value, 3),
        "unit": unit,
        "target": target,
        "met": met,
    }


if __name__ == "__main__":
    for found in run():
        print(json.dumps(found))
