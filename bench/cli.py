"""What a command costs from its start to its exit: lists against a socket that answers at once.

The server of the lists only repeats prepared bytes, so the numbers are those of the client alone. The
trivial job goes through a real masterd.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ganeti.cli.client import chunks, decode_box, encode_box
from ganeti.model.paths import Paths

REPEATS = 9
ROOT = Path(__file__).resolve().parents[1]

FIELDS = (
    ("name", "Instance", "text"),
    ("hypervisor", "Hypervisor", "text"),
    ("os", "OS", "text"),
    ("pnode", "Primary_node", "text"),
    ("status", "Status", "text"),
    ("oper_ram", "Memory", "unit"),
)


def instances(count: int) -> bytes:
    """The answer of a query for the default columns, as JSON keys of a box."""
    rows = [
        [
            [0, f"inst{number:05d}.example.com"],
            [0, "kvm"],
            [0, "debian+trixie"],
            [0, f"node{number % 1000:04d}.example.com"],
            [0, "running"] if number % 7 else [0, "ADMIN_down"],
            [0, 1024 + number % 64] if number % 7 else [3, None],
        ]
        for number in range(count)
    ]
    fields = [{"name": name, "title": title, "kind": kind, "doc": title} for name, title, kind in FIELDS]
    return json.dumps({"fields": fields, "data": rows}).encode()


class Stub:
    """Answers every request on a socket with the same result.

    Args:
        path: of the socket.
        result: JSON.
    """

    def __init__(self, path: str, result: Any) -> None:
        self._result = chunks(b"result", result)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        buffer = bytearray()
        while data := connection.recv(1 << 16):
            buffer += data
            while (found := decode_box(buffer)) is not None:
                box, size = found
                del buffer[:size]
                connection.sendall(encode_box({b"_answer": box[b"_ask"], **self._result}))

    def close(self) -> None:
        """End."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextmanager
def stub(result: Any) -> Iterator[dict[str, str]]:
    """A socket that gives this result; yields the environment for tools."""
    with tempfile.TemporaryDirectory() as root:
        paths = Paths(root)
        os.makedirs(paths.socket_dir)
        server = Stub(paths.master_socket, result)
        try:
            yield {**os.environ, "GANETI_ROOTDIR": root}
        finally:
            server.close()


def measure(arguments: list[str], environ: dict[str, str]) -> tuple[float, float]:
    """Median milliseconds of processor time and of the clock."""
    argv = [sys.executable, str(ROOT / "bin" / arguments[0]), *arguments[1:]]
    cpu, wall = [], []
    for _ in range(REPEATS + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        subprocess.run(argv, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        wall.append(time.perf_counter() - start)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    # The first one fills the caches.
    return _median_ms(cpu[1:]), _median_ms(wall[1:])


def _median_ms(times: list[float]) -> float:
    return round(sorted(times)[len(times) // 2] * 1000, 1)


def run() -> list[dict[str, Any]]:
    """Rows name, value, unit, target, met."""
    rows = []
    with stub(json.loads(instances(20))) as environ:
        cpu, wall = measure(["gnt-instance", "list"], environ)
        rows.append(_row("cli: gnt-instance list, 20 instances, processor time", cpu, 60))
        rows.append(_row("cli: gnt-instance list, 20 instances, start to exit", wall))
    with stub(json.loads(instances(20_000))) as environ:
        cpu, wall = measure(["gnt-instance", "list"], environ)
        rows.append(_row("cli: gnt-instance list, 20,000 instances, processor time", cpu))
        rows.append(_row("cli: gnt-instance list, 20,000 instances, start to exit", wall, 300))
    with stub(17) as environ:
        cpu, wall = measure(["gnt-debug", "delay", "--submit", "0"], environ)
        rows.append(_row("cli: one job submitted, start to exit (stub server)", wall))
    with cluster() as environ:
        cpu, wall = measure(["gnt-debug", "delay", "0"], environ)
        rows.append(_row("cli: one trivial job on a real masterd, start to exit", wall, 150))
        rows.append(_row("cli: one trivial job on a real masterd, processor time of the tool", cpu))
    rows.append(_row("cli: bare interpreter, start to exit", _bare()))
    return rows


@contextmanager
def cluster() -> Iterator[dict[str, str]]:
    """A cluster of one node with real daemons; yields the environment for tools."""
    with tempfile.TemporaryDirectory() as root:
        own = f"{os.getpid() // 250 % 250}.{os.getpid() % 250 + 1}"
        os.makedirs(f"{root}/etc")
        Path(root, "etc/hostname").write_text("node1.test\n")
        Path(root, "etc/hosts").write_text(f"127.97.{own} node1.test\n127.96.{own} cluster.test\n")
        environ = {**os.environ, "GANETI_ROOTDIR": root}
        options = ["--enabled-hypervisors=fake", "--enabled-disk-templates=diskless"]
        _tool(environ, "gnt-cluster", "init", *options, "cluster.test")
        try:
            yield environ
        finally:
            _tool(environ, "gnt-cluster", "destroy", "--yes-do-it")


def _tool(environ: dict[str, str], tool: str, *arguments: str) -> None:
    argv = [sys.executable, str(ROOT / "bin" / tool), *arguments]
    subprocess.run(argv, env=environ, stdout=subprocess.DEVNULL, check=True)


def _bare() -> float:
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        times.append(time.perf_counter() - start)
    return _median_ms(times)


def _row(name: str, value: float, target: float | None = None) -> dict[str, Any]:
    goal = None if target is None else f"<= {target:g} ms"
    met = None if target is None else value <= target
    return {"name": name, "value": value, "unit": "ms", "target": goal, "met": met}


if __name__ == "__main__":
    for row in run():
        print(json.dumps(row))
