"""A real master daemon with 1,000 simulated nodes: coming up, calls to all of them, one node that is dead.

What a call to all nodes costs is measured in a process with the connections of masterd and nothing else;
beside it stand a job and a query of masterd that make such a call. The nodes share one process, and that
shares the machine, so times of the clock are those of both together.
"""

from __future__ import annotations

import gc
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from ganeti.cli.client import Client
from ganeti.daemons import control
from ganeti.daemons.common import GC_THRESHOLDS
from ganeti.daemons.identity import credentials, own_identity
from ganeti.daemons.limits import raise_open_files
from ganeti.master.node_connector import TlsNodeConnector
from ganeti.master.node_pool import NodePool
from ganeti.model.calls.outcome import Answer
from ganeti.model.calls.system import NodeTestDelay
from ganeti.model.codec import decode_cluster
from ganeti.vcluster.layout import Layout, load
from ganeti.vcluster.nodes import SIMULATOR, start_node, start_simulator

NODES = 1000
REPEATS = 7
CALLS = 15
LIMIT_S = 120.0
LIVE = ["name", "mfree"]

Row = dict[str, Any]


def run() -> list[Row]:
    """All rows."""
    with tempfile.TemporaryDirectory(prefix="fanout-") as base:
        directory = os.path.join(base, "c")
        began = time.perf_counter()
        _vcluster("create", directory, "--nodes", str(NODES), "--simulated", "--at-once")
        created = time.perf_counter() - began
        try:
            return [
                _row(f"create a cluster of {NODES} simulated nodes", created, "s"),
                *_Measures(load(directory)).rows(),
            ]
        finally:
            _vcluster("destroy", directory)


class _Measures:
    """Measures of a cluster that is there.

    Args:
        layout: it.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._master = layout.paths(layout.nodes[0])

    def rows(self) -> list[Row]:
        """All rows."""
        back = self._restart()
        memory = self._memory_mib()
        call_cpu_us, call_s = self._call()
        cpu_us, wall_s = self._job()
        list_cpu_us, list_s = self._list()
        warm_s, asked = self._warm_list()
        dead_s = self._with_a_dead_node()
        return [
            _row("restart of masterd until all nodes answer", back, "s"),
            _row("masterd when all nodes have all they need", memory, "MiB", "<= 250", met=memory <= 250),
            _row("one call to all, CPU per node", call_cpu_us, "us", "<= 100", met=call_cpu_us <= 100),
            _row("one call to all", call_s * 1000, "ms"),
            _row("job that calls all nodes, master CPU per node", cpu_us, "us"),
            _row("job that calls all nodes", wall_s * 1000, "ms"),
            _row("live list of all nodes, master CPU per node", list_cpu_us, "us"),
            _row("live list of all nodes", list_s * 1000, "ms", "<= 2000", met=list_s <= 2),
            _row("the same from the cache", warm_s * 1000, "ms", "<= 50", met=warm_s <= 0.05),
            _row("nodes asked for it", asked, "", "0", met=asked == 0),
            _row(
                "live list while one node is dead, against that",
                dead_s / list_s,
                "x",
                "<= 1.5",
                met=dead_s <= 1.5 * list_s,
            ),
        ]

    def _restart(self) -> float:
        control.stop(self._master, "ganeti-masterd")
        began = time.perf_counter()
        start_node(self._layout, self._layout.nodes[0])
        self._wait_for(NODES)
        return time.perf_counter() - began

    def _memory_mib(self) -> float:
        """Most memory that masterd has had until now, with what it sends to nodes that come back."""
        pid = control.running_pid(self._master, "ganeti-masterd")
        (line,) = re.findall(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        return int(line) / 1024

    def _call(self) -> tuple[float, float]:
        """Microseconds of processor time for each node, and seconds of the clock, of one call alone."""
        argv = [sys.executable, "-m", "bench.fanout", "call", self._layout.directory]
        done = subprocess.run(argv, stdout=subprocess.PIPE, check=True)
        cpu_us, wall_s = json.loads(done.stdout)
        return cpu_us, wall_s

    def _job(self) -> tuple[float, float]:
        names = [node.name for node in self._layout.nodes]
        opcode = {"OP_ID": "OP_TEST_DELAY", "duration": 0, "on_master": False, "on_nodes": names}
        return self._costs(lambda client: _finish(client, client.submit([opcode])))

    def _list(self) -> tuple[float, float]:
        return self._costs(lambda client: client.call("Query", ["node", LIVE, None, False]))

    def _warm_list(self) -> tuple[float, int]:
        """Seconds of a list that is known already, and how many nodes were asked for it all the same."""
        _, seconds = self._costs(lambda client: client.call("Query", ["node", LIVE, None]))
        client = Client(self._master.master_socket)
        client.call("Query", ["node", LIVE, None, False])
        time.sleep(1)
        began = time.time()
        client.call("Query", ["node", LIVE, None])
        ages = [age for ((_, age),) in client.call("Query", ["cache", ["age"], None])["data"]]
        client.close()
        return seconds, sum(age < time.time() - began for age in ages)

    def _with_a_dead_node(self) -> float:
        """Time of a list without the last node, which was never served again after a restart."""
        control.stop(self._layout.paths(self._layout.nodes[1]), SIMULATOR)
        last = Path(self._layout.paths(self._layout.nodes[-1]).node_cert_file)
        last.rename(last.with_suffix(".away"))
        start_simulator(self._layout)
        self._wait_for(NODES - 1)
        return self._list()[1]

    def _costs(self, work: Any) -> tuple[float, float]:
        """Microseconds of masterd's processor time for each node, and seconds of the clock; medians."""
        masterd = control.running_pid(self._master, "ganeti-masterd")
        client = Client(self._master.master_socket)
        cpu, wall = [], []
        work(client)
        for _ in range(REPEATS):
            before, began = _cpu_s(masterd), time.perf_counter()
            work(client)
            wall.append(time.perf_counter() - began)
            cpu.append(_cpu_s(masterd) - before)
        client.close()
        return statistics.median(cpu) / NODES * 1e6, statistics.median(wall)

    def _wait_for(self, count: int) -> None:
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            client = Client(self._master.master_socket)
            rows = client.call("Query", ["node", LIVE, None])["data"]
            client.close()
            if sum(state == 0 for _, (state, _) in rows) >= count:
                return
            time.sleep(0.1)
        raise RuntimeError(f"not all of {count} nodes answer after {LIMIT_S:g} s")


def _cpu_s(pid: int | None) -> float:
    """Processor time of a process until now; the usual figures are in hundredths of a second only."""
    return (
        sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
    )


def _finish(client: Client, job: int) -> None:
    """Wait for the end of a job by what masterd pushes, as the tools do; asking would cost it more."""
    client.call("WatchJob", [job, ["status", "opresult"], None])
    while True:
        pushed = client.pushed(LIMIT_S)
        if pushed is None:
            raise RuntimeError(f"job {job} does not end")
        command, arguments = pushed
        if command != "JobChanged":
            continue
        (status, result), _ = arguments[1]
        if status == "success":
            return
        if status in ("error", "canceled"):
            raise RuntimeError(f"job {job}: {status}: {result}")


def _row(name: str, value: float, unit: str, target: str | None = None, *, met: bool | None = None) -> Row:
    return {
        "name": f"{NODES} nodes: {name}",
        "value": round(value, 2),
        "unit": unit,
        "target": target,
        "met": met,
    }


def _vcluster(command: str, path: str, *options: str) -> None:
    argv = [sys.executable, "-m", "ganeti.vcluster.main", command, path, *options]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


# --- the process that only calls ---------------------------------------------------------------


def call_all(layout: Layout) -> None:
    """Call a function of all nodes over connections as masterd has them; prints the medians as JSON."""
    from twisted.internet import reactor as the_reactor

    reactor: Any = the_reactor
    paths = layout.paths(layout.nodes[0])
    with open(paths.config_file, "rb") as stream:
        cluster = decode_cluster(stream.read(), source=paths.config_file)
    nodes = [node for node in cluster.nodes.values() if node.uuid != cluster.settings.master_node]
    own = credentials(paths, paths.client_cert_file)
    pool = NodePool(reactor, TlsNodeConnector(reactor, own, own_identity(paths).cluster_uuid))

    async def measure() -> tuple[float, float]:
        outcomes = await pool.each(nodes, NodeTestDelay(seconds=0), timeout_s=LIMIT_S)
        assert all(isinstance(outcome, Answer) for outcome in outcomes.values())
        # As masterd does at its start.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        cpu, wall = [], []
        for _ in range(CALLS):
            began, cpu_began = time.perf_counter(), time.process_time()
            await pool.each(nodes, NodeTestDelay(seconds=0))
            wall.append(time.perf_counter() - began)
            cpu.append((time.process_time() - cpu_began) / len(nodes) * 1e6)
        return statistics.median(cpu), statistics.median(wall)

    def done(result: Any) -> None:
        if isinstance(result, tuple):
            print(json.dumps(result))
        else:
            result.printTraceback(sys.stderr)
        pool.stopService()
        reactor.stop()

    raise_open_files()
    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(measure()).addBoth(done))
    reactor.run()


if __name__ == "__main__":
    if sys.argv[1:2] == ["call"]:
        call_all(load(sys.argv[2]))
        sys.exit()
    for found in run():
        print(json.dumps(found))
