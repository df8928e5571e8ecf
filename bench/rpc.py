"""Node calls: the persistent link against connections made anew, function processes, fan-out, memory.

Everything runs on this machine over loopback, so both ends share its processors; what matters are the
ratios, taken in the same run.
"""

from __future__ import annotations

import gc
import http.client
import json
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil

from twisted.internet.defer import Deferred

from ganeti.io.x509 import issue, make_authority
from ganeti.master.node_connector import TlsNodeConnector
from ganeti.master.node_pool import NodePool
from ganeti.model.calls.outcome import Answer, NodeFailed
from ganeti.model.calls.system import NodeTestDelay, Version
from ganeti.model.identity import Identity, Role
from ganeti.model.ids import GroupId, NodeId
from ganeti.model.node import Node
from ganeti.wire.link import Link
from ganeti.wire.tls import Credentials

ROOT = Path(__file__).resolve().parents[1]
CLUSTER = "bench-cluster"
NODES = 1000
_LONG_S = 5.0

Row = dict[str, Any]
"""name, value, unit, target, met"""


def run() -> list[Row]:
    """All measures."""
    with tempfile.TemporaryDirectory() as directory:
        done = subprocess.run(
            [sys.executable, __file__, "measure", directory],
            stdout=subprocess.PIPE,
            env=_environment(),
            check=True,
        )
        rows: list[Row] = json.loads(done.stdout)
        return rows


def row(name: str, value: float, unit: str, target: str, *, met: bool) -> Row:
    """One measure."""
    return {"name": name, "value": round(value, 3), "unit": unit, "target": target, "met": met}


# --- the measuring process ---------------------------------------------------------------------


class Bench:
    """A node daemon, a web server with the same certificate, and a pool to call the first.

    Args:
        reactor: everything.
        directory: for certificates.
    """

    def __init__(self, reactor: Any, directory: Path) -> None:
        self._directory = directory
        now = time.time()
        authority = make_authority("bench", now=now)
        (directory / "ca.pem").write_bytes(authority.certificate)
        for role, name in ((Role.NODE, "server.pem"), (Role.MASTER, "client.pem")):
            identity = Identity(role=role, node_uuid="n0", cluster_uuid=CLUSTER)
            pair = issue(authority, identity, names=["n0.example.com", "127.0.0.1"], now=now)
            (directory / name).write_bytes(pair.pem)
        self._credentials = Credentials(
            own=(directory / "client.pem").read_bytes(), authority=authority.certificate
        )
        self._processes: list[subprocess.Popen[str]] = []
        _, port, self.zygote_pid = self._program("node_daemon.py", str(directory), CLUSTER)
        self.daemon_pid = self._processes[-1].pid
        connect = TlsNodeConnector(reactor, self._credentials, CLUSTER, port=port)

        async def to_the_one(node: Node) -> Link:
            # One process stands for all nodes: on the wire they are all n0, but for those that are down.
            return await (connect(make_node(0)) if node.primary_ip == "127.0.0.1" else connect(node))

        self.pool = NodePool(reactor, to_the_one)
        self._reactor = reactor

    def close(self) -> None:
        """End everything that was started."""
        self.pool.stopService()
        for process in self._processes:
            process.terminate()
            process.wait(20)

    def _program(self, script: str, *arguments: str) -> tuple[str, int, int]:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "bench" / script), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            text=True,
        )
        self._processes.append(process)
        assert process.stdout is not None
        word, port, pid = process.stdout.readline().split()
        return word, int(port), int(pid)

    async def measure(self) -> list[Row]:
        """All rows."""
        node = make_node(0)
        await self.pool.call(node, Version())
        memory = self._memory()
        rows = [*await self._calls(node), *await self._functions(node), *memory]
        return rows + await self._fan_out()

    async def _calls(self, node: Node) -> list[Row]:
        _, port, _ = self._program("rpc.py", "web", str(self._directory))
        context = ssl.create_default_context(cafile=str(self._directory / "ca.pem"))
        context.load_cert_chain(self._directory / "client.pem")
        context.check_hostname = False

        def over_https() -> None:
            connection = http.client.HTTPSConnection("127.0.0.1", port, context=context)
            connection.request("PUT", "/version", b"[]")
            assert connection.getresponse().read()
            connection.close()

        over_https()
        persistent, anew = [], []
        # In turns, so that what else runs on the machine hits both.
        for _ in range(5):
            persistent.append(await _rate(300, lambda: self.pool.call(node, Version())))
            begun = time.perf_counter()
            for _ in range(60):
                over_https()
            anew.append(60 / (time.perf_counter() - begun))
        ratio = statistics.median(persistent) / statistics.median(anew)
        return [
            row("node calls over the link", statistics.median(persistent), "calls/s", "", met=True),
            row("node calls over new HTTPS connections", statistics.median(anew), "calls/s", "", met=True),
            row("link vs new connections", ratio, "x", ">= 10", met=ratio >= 10),
        ]

    async def _functions(self, node: Node) -> list[Row]:
        forked, fresh = [], []
        for _ in range(100):
            begun = time.perf_counter()
            await self.pool.call(node, NodeTestDelay(seconds=0))
            forked.append(time.perf_counter() - begun)
        code = "import json, os, subprocess, struct, socket"
        for _ in range(20):
            begun = time.perf_counter()
            subprocess.run([sys.executable, "-I", "-c", code], check=True)
            fresh.append(time.perf_counter() - begun)
        fork_ms, fresh_ms = (statistics.median(times) * 1000 for times in (forked, fresh))
        return [
            row("function: start to result, p50", fork_ms, "ms", "<= 5", met=fork_ms <= 5),
            row("fresh interpreter, p50", fresh_ms, "ms", "", met=True),
            row("function vs interpreter", fresh_ms / fork_ms, "x", ">= 5", met=fresh_ms / fork_ms >= 5),
        ]

    def _memory(self) -> list[Row]:
        sizes = [psutil.Process(pid).memory_full_info() for pid in (self.daemon_pid, self.zygote_pid)]
        together = sum(size.pss for size in sizes) / 2**20
        resident = sum(size.rss for size in sizes) / 2**20
        return [
            row("node daemon and zygote, idle (PSS)", together, "MiB", "<= 70", met=together <= 70),
            row("node daemon and zygote, idle (RSS, shared pages twice)", resident, "MiB", "", met=True),
        ]

    async def _fan_out(self) -> list[Row]:
        nodes = [make_node(number) for number in range(1, NODES)]
        # An address from the documentation range: packets to it go nowhere, so it is down, not refusing.
        down = make_node(NODES, ip="192.0.2.1")
        begun = time.perf_counter()
        await self.pool.each(nodes, Version(), timeout_s=60)
        connected = time.perf_counter() - begun
        cpu, wall = [], []
        for _ in range(10):
            begun, cpu_begun = time.perf_counter(), time.process_time()
            outcomes = await self.pool.each(nodes, Version())
            wall.append(time.perf_counter() - begun)
            cpu.append((time.process_time() - cpu_begun) / len(nodes) * 1e6)
            assert all(isinstance(outcome, Answer) for outcome in outcomes.values())
        # The same beside a node that is down: the others' answers are not later for it.
        waiting = Deferred.fromCoroutine(self.pool.each([*nodes, down], Version()))
        begun = time.perf_counter()
        await self.pool.each(nodes, Version())
        beside = time.perf_counter() - begun
        assert isinstance((await waiting)[down.uuid], NodeFailed)
        per_node, slowest = min(cpu), statistics.median(wall)
        return [
            row(f"connect to {NODES - 1} nodes", connected, "s", "<= 5", met=connected <= 5),
            row(f"fan-out to {NODES - 1} nodes", slowest * 1000, "ms", "<= 500", met=slowest <= 0.5),
            row("fan-out, master CPU per node", per_node, "us", "<= 100", met=per_node <= 100),
            row(
                "fan-out while another one waits for a dead node",
                beside * 1000,
                "ms",
                f"< {_LONG_S * 1000:g}",
                met=beside < _LONG_S,
            ),
        ]


def make_node(number: int, ip: str = "127.0.0.1") -> Node:
    """One of the nodes."""
    return Node(
        uuid=NodeId(f"n{number}"),
        name=f"n{number}.example.com",
        primary_ip=ip,
        secondary_ip=ip,
        group=GroupId("g"),
    )


async def _rate(count: int, call: Callable[[], Awaitable[object]]) -> float:
    begun = time.perf_counter()
    for _ in range(count):
        await call()
    return count / (time.perf_counter() - begun)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


# --- the programs ------------------------------------------------------------------------------


def measure(directory: str) -> None:
    """Measure and print the rows as JSON."""
    from twisted.internet import reactor as the_reactor

    reactor: Any = the_reactor
    bench = Bench(reactor, Path(directory))
    # As masterd does at its start.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)

    def done(result: Any) -> None:
        bench.close()
        if isinstance(result, list):
            print(json.dumps(result))
        else:
            result.printTraceback(sys.stderr)
        reactor.stop()

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(bench.measure()).addBoth(done))
    reactor.run()


def serve_web(directory: str) -> None:
    """The way it is compared with: an HTTPS server that is asked over a new connection each time."""
    from twisted.internet import reactor as the_reactor
    from twisted.internet.ssl import Certificate, PrivateCertificate
    from twisted.web.resource import Resource
    from twisted.web.server import Site

    class Answers(Resource):
        """Gives the version."""

        isLeaf = True

        def render_PUT(self, request: Any) -> bytes:
            """One call."""
            json.load(request.content)
            return b'[true, {"protocol": 3010000, "release": "0"}]'

    reactor: Any = the_reactor
    answers: Any = Answers  # Untyped in Twisted.
    own = PrivateCertificate.loadPEM((Path(directory) / "server.pem").read_bytes())
    authority = Certificate.loadPEM((Path(directory) / "ca.pem").read_bytes())
    port = reactor.listenSSL(0, Site(answers()), own.options(authority), interface="127.0.0.1")
    print("listening", port.getHost().port, os.getpid(), flush=True)
    reactor.run()


if __name__ == "__main__":
    if sys.argv[1:2] == ["web"]:
        serve_web(sys.argv[2])
    elif sys.argv[1:2] == ["measure"]:
        measure(sys.argv[2])
    else:
        for found in run():
            print(
                f"{found['name']:52} {found['value']:10} {found['unit']:8} {found['target']:8} {found['met']}"
            )
