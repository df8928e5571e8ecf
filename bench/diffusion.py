"""ssconf files to 1,000 simulated nodes in 10 groups: to each directly, and through one node of each group.

Measured is a process with the connections of masterd and nothing else: its processor time, the bytes
that its kernel sent, and the time until every node has given proof. The nodes share one process, which
has to do both sides of all connections between them, one after the other; on hosts of their own they
would do it at the same time. So the time of one group alone is measured, too.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed

from bench.fanout import LIMIT_S
from ganeti.cli.client import Client
from ganeti.daemons import control
from ganeti.daemons.common import GC_THRESHOLDS
from ganeti.daemons.identity import credentials, own_identity
from ganeti.daemons.limits import raise_open_files
from ganeti.daemons.noded import spreads
from ganeti.logic import diffusion as rules
from ganeti.master.diffusion import Diffusion
from ganeti.master.node_connector import TlsNodeConnector
from ganeti.master.node_pool import NodePool
from ganeti.model.calls.outcome import Answer
from ganeti.model.calls.system import NodeTestDelay, Stamp, WriteSsconf
from ganeti.model.cluster import Cluster
from ganeti.model.codec import decode_cluster
from ganeti.model.node import Node
from ganeti.vcluster.layout import Layout, load
from ganeti.wire.link import Link
from ganeti.wire.parcels import ParcelSigner

NODES = 1000
GROUPS = 10
MIN_NODES = 50
REPEATS = 3
SIZES_KIB = (1, 16, 64, 512)
"""The last is the list of some 20,000 instances, which changes with every new one."""

_SENT_OFFSET = 200
"""Of `tcpi_bytes_sent` in the kernel's `struct tcp_info`."""
_TCP_INFO = 11

Row = dict[str, Any]


def run() -> list[Row]:
    """All rows."""
    with tempfile.TemporaryDirectory(prefix="diffusion-") as base:
        directory = os.path.join(base, "c")
        many = ("--nodes", str(NODES), "--groups", str(GROUPS), "--simulated", "--at-once")
        _vcluster("create", directory, *many)
        try:
            layout = load(directory)
            _vcluster("exec", directory, "gnt-cluster", "modify", f"--diffusion-min-nodes={MIN_NODES}")
            _wait_for_setting(layout)
            control.stop(layout.paths(layout.nodes[0]), "ganeti-masterd")
            argv = [sys.executable, "-m", "bench.diffusion", "measure", directory]
            done = subprocess.run(argv, stdout=subprocess.PIPE, check=True)
            return [row for size in json.loads(done.stdout) for row in _rows(size)]
        finally:
            _vcluster("destroy", directory)


def _rows(found: dict[str, Any]) -> list[Row]:
    """What is said of one size."""
    what = f"{found['kib']} KiB to {NODES} nodes"
    direct, spread, one = found["direct"], found["spread"], found["one group"]
    is_long = found["kib"] * 1024 >= rules.MIN_BYTES
    cpu, sent = direct["cpu_s"] / spread["cpu_s"], direct["sent"] / spread["sent"]
    group = f"one group of {NODES // GROUPS}"
    return [
        _row(f"{what}: directly, master CPU", direct["cpu_s"] * 1000, "ms"),
        _row(f"{what}: by groups, master CPU", spread["cpu_s"] * 1000, "ms"),
        _row(
            f"{what}: master CPU directly / by groups",
            cpu,
            "x",
            ">= 1" if is_long else None,
            met=cpu >= 1 if is_long else None,
        ),
        _row(f"{what}: directly, sent by the master", direct["sent"] / 1e6, "MB"),
        _row(f"{what}: by groups, sent by the master", spread["sent"] / 1e6, "MB"),
        _row(
            f"{what}: bytes of the master directly / by groups",
            sent,
            "x",
            ">= 10" if is_long else None,
            met=sent >= 10 if is_long else None,
        ),
        _row(f"{what}: directly, until all have it", direct["wall_s"], "s"),
        _row(f"{what}: by groups, until all have it (nodes share a core)", spread["wall_s"], "s"),
        _row(f"{what}: by groups, {group} alone", one["wall_s"], "s"),
        _row(f"{what}: by groups, nodes that gave proof", spread["proven"], f"of {NODES - 1}"),
    ]


def _row(name: str, value: float, unit: str, target: str | None = None, *, met: bool | None = None) -> Row:
    return {"name": name, "value": round(value, 3), "unit": unit, "target": target, "met": met}


def _vcluster(command: str, path: str, *options: str) -> None:
    argv = [sys.executable, "-m", "ganeti.vcluster.main", command, path, *options]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def _wait_for_setting(layout: Layout) -> None:
    """Until nodes let each other in, which they learn from their files, and masterd is idle."""
    deadline = time.monotonic() + LIMIT_S
    while not all(spreads(layout.paths(node)) for node in layout.nodes):
        if time.monotonic() > deadline:
            raise RuntimeError("not all nodes have learnt that they may spread files")
        time.sleep(0.2)
    client = Client(layout.paths(layout.nodes[0]).master_socket)
    client.call("QueryClusterInfo", [])
    client.close()


# --- the process that only sends ---------------------------------------------------------------


class _Counted:
    """A connector that knows how much was sent over all its connections."""

    def __init__(self, connector: TlsNodeConnector) -> None:
        self._connector = connector
        self._sent: dict[Link, int] = {}

    async def __call__(self, node: Node) -> Link:
        """A connection."""
        link = await self._connector(node)
        self._sent[link] = 0
        return link

    def sent(self) -> int:
        """Bytes, with what TLS adds, without headers of the network; of lost connections what is known."""
        living = (link for link in self._sent if link.transport is not None)
        self._sent.update({link: _bytes_sent(link) for link in living})
        return sum(self._sent.values())


def _bytes_sent(link: Link) -> int:
    tls: Any = link.transport
    info = tls.transport.getHandle().getsockopt(6, _TCP_INFO, 256)
    found: int = struct.unpack_from("=Q", info, _SENT_OFFSET)[0]
    return found


class _Sender:
    """Sends as masterd does."""

    def __init__(self, reactor: Any, layout: Layout) -> None:
        paths = layout.paths(layout.nodes[0])
        with open(paths.config_file, "rb") as stream:
            self.cluster: Cluster = decode_cluster(stream.read(), source=paths.config_file)
        own, uuid = credentials(paths, paths.client_cert_file), own_identity(paths).cluster_uuid
        self._connector = _Counted(TlsNodeConnector(reactor, own, uuid))
        self.pool = NodePool(reactor, self._connector)
        self._number = 0
        self._generation = int(time.time()) + 3600
        signer = ParcelSigner(own.own, uuid)
        self._diffusion = Diffusion(
            self.pool, signer.sign, self.pool.secret_with, lambda work: succeed(work()), reactor.seconds
        )
        master = self.cluster.settings.master_node
        self.nodes = [node for node in self.cluster.nodes.values() if node.uuid != master]

    async def results(self) -> list[dict[str, Any]]:
        """Measures for each size."""
        deadline = time.monotonic() + LIMIT_S
        while not await self._are_all_there():
            if time.monotonic() > deadline:
                raise RuntimeError("not all nodes answer")
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        # Also where the rule would not: whether it is right is what is measured.
        rules.MIN_BYTES = 0
        found = []
        first = self.nodes[0].group
        # With a few of another group, so that there are two.
        group = [node for node in self.nodes if node.group == first]
        others = [node for node in self.nodes if node.group != first][:1]
        for kib in SIZES_KIB:
            found.append(
                {
                    "kib": kib,
                    "direct": await self._median(kib, self.nodes, is_direct=True),
                    "spread": await self._median(kib, self.nodes, is_direct=False),
                    "one group": await self._median(kib, [*group, *others], is_direct=False),
                }
            )
        return found

    async def _are_all_there(self) -> bool:
        outcomes = await self.pool.each(self.nodes, NodeTestDelay(seconds=0), timeout_s=LIMIT_S)
        return all(isinstance(outcome, Answer) for outcome in outcomes.values())

    async def _median(self, kib: int, nodes: Sequence[Node], *, is_direct: bool) -> dict[str, float]:
        runs = [await self._once(kib, nodes, is_direct=is_direct) for _ in range(REPEATS)]
        return {key: statistics.median(run[key] for run in runs) for key in runs[0]}

    async def _once(self, kib: int, nodes: Sequence[Node], *, is_direct: bool) -> dict[str, float]:
        self._number += 1
        line = f"instance{self._number:08}.example.org\n"
        values = {"instance_list": line * (kib * 1024 // len(line))}
        stamp = Stamp(generation=self._generation, number=self._number)
        call = WriteSsconf(values=values, stamp=stamp)
        sent = self._connector.sent()
        began, cpu_began = time.perf_counter(), time.process_time()
        if is_direct:
            outcomes = await self.pool.each(nodes, call, timeout_s=LIMIT_S)
        else:
            outcomes = await self._diffusion.write(self.cluster, nodes, call, timeout_s=LIMIT_S)
        cpu_s, wall_s = time.process_time() - cpu_began, time.perf_counter() - began
        assert all(isinstance(outcome, Answer) for outcome in outcomes.values()), outcomes
        return {
            "cpu_s": cpu_s,
            "wall_s": wall_s,
            "sent": self._connector.sent() - sent,
            "proven": self._diffusion.proven,
        }


def measure(layout: Layout) -> None:
    """Print the results as JSON."""
    from twisted.internet import reactor as the_reactor

    reactor: Any = the_reactor
    sender = _Sender(reactor, layout)

    def done(result: Any) -> None:
        if isinstance(result, list):
            print(json.dumps(result))
        else:
            result.printTraceback(sys.stderr)
        sender.pool.stopService()
        reactor.stop()

    raise_open_files()
    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(sender.results()).addBoth(done))
    reactor.run()


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(load(sys.argv[2]))
        sys.exit()
    for found in run():
        print(json.dumps(found))
