"""Trivial jobs, each durable before it is acknowledged, through the client socket of a real master daemon.

A virtual cluster is made for each row: real daemons, real TLS, real fdatasync, all on this machine.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ganeti.cli.client import Box, chunks, decode_box, encode_box, joined, remote_error
from ganeti.model.paths import Paths

ROOT = Path(__file__).resolve().parents[1]
TRIVIAL = [{"OP_ID": "OP_TEST_DELAY", "duration": 0.0}]
OUTSTANDING = 64
"""Requests that wait for their answers at a time."""
JOBS = 2000
ROUNDS = 3

Row = dict[str, Any]
"""name, value, unit, target, met"""


class Pipelined:
    """A connection to masterd on which many requests wait for their answers at a time.

    Args:
        path: of the socket.
    """

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._socket.settimeout(60)
        self._buffer = bytearray()
        self._boxes: deque[Box] = deque()
        self._asked = 0

    def send(self, command: str, *arguments: Sequence[Any]) -> None:
        """Send several requests of one kind in one piece."""
        data = b""
        for one in arguments:
            self._asked += 1
            data += encode_box(
                {b"_ask": b"%x" % self._asked, b"_command": command.encode(), **chunks(b"args", list(one))}
            )
        self._socket.sendall(data)

    def answers(self, at_least: int = 1) -> list[Any]:
        """Answers that are there, waiting for some; news that were pushed are passed over."""
        found: list[Any] = []
        while len(found) < at_least:
            self._read()
            while self._boxes:
                box = self._boxes.popleft()
                if b"_error" in box:
                    raise remote_error(box)
                if b"_answer" in box:
                    found.append(json.loads(joined(box, b"result")))
        return found

    def ask(self, command: str, *arguments: Any) -> Any:
        """Ask for one thing."""
        self.send(command, arguments)
        return self.answers()[0]

    def _read(self) -> None:
        data = self._socket.recv(1 << 20)
        if not data:
            raise ConnectionError("masterd went away")
        self._buffer += data
        while (decoded := decode_box(self._buffer)) is not None:
            self._boxes.append(decoded[0])
            del self._buffer[: decoded[1]]


class BenchCluster:
    """A virtual cluster while the context lasts.

    Args:
        nodes: one is the master, the others are its candidates.
    """

    def __init__(self, nodes: int) -> None:
        self._nodes = nodes
        self._directory = tempfile.TemporaryDirectory(prefix="jobs-")
        self._path = os.path.join(self._directory.name, "c")

    def __enter__(self) -> Pipelined:
        simulated = ("--simulated",) if self._nodes > 1 else ()
        self._vcluster("create", "--nodes", str(self._nodes), "--hypervisor", "fake", *simulated)
        return Pipelined(Paths(os.path.join(self._path, "node1")).master_socket)

    def __exit__(self, *error: object) -> None:
        self._vcluster("destroy")
        self._directory.cleanup()

    def _vcluster(self, command: str, *options: str) -> None:
        argv = [sys.executable, "-m", "ganeti.vcluster.main", command, self._path, *options]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(argv, env=environment, check=True, stdout=subprocess.DEVNULL)


def run() -> list[Row]:
    """All measures."""
    rows: list[Row] = []
    for candidates, target in ((0, 1000), (3, 200)):
        with BenchCluster(candidates + 1) as client:
            rate = max(through(client, JOBS) for _ in range(ROUNDS))
            name = f"durable trivial jobs, {candidates or 'no'} candidates"
            rows.append(row(name, rate, "jobs/s", f">= {target}", met=rate >= target))
            if not candidates:
                rows += latencies(client)
    return rows


def row(name: str, value: float, unit: str, target: str, *, met: bool) -> Row:
    """One measure."""
    return {"name": name, "value": round(value, 3), "unit": unit, "target": target, "met": met}


def through(client: Pipelined, count: int) -> float:
    """Jobs per second, from the first submission, one request each, until the last one ended well."""
    begun = time.perf_counter()
    requests: list[tuple[Any, bool]] = [(TRIVIAL, False)] * count
    client.send("SubmitJob", *requests[:OUTSTANDING])
    sent = min(OUTSTANDING, count)
    ids: list[int] = []
    while len(ids) < count:
        ids += client.answers()
        more = min(count - sent, OUTSTANDING - (sent - len(ids)))
        if more > 0:
            client.send("SubmitJob", *requests[:more])
            sent += more
    last = max(ids)
    while not _ended(client.ask("WaitForJobChange", last, ["status"], ["queued"], 0, 10)):
        pass
    statuses = _statuses(client, min(ids))
    while any(status in ("queued", "waiting", "running") for status in statuses.values()):
        time.sleep(0.01)
        statuses = _statuses(client, min(ids))
    seconds = time.perf_counter() - begun
    assert len(set(ids)) == count and {statuses[job] for job in ids} == {"success"}
    client.ask("AutoArchiveJobs", -1, 60)
    return count / seconds


def latencies(client: Pipelined, count: int = 200) -> list[Row]:
    """One job after the other, each submitted and waited for."""
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        job = client.ask("SubmitJob", TRIVIAL, False)
        while not _ended(client.ask("WaitForJobChange", job, ["status"], ["queued"], 0, 10)):
            pass
        times.append((time.perf_counter() - begun) * 1000)
    client.ask("AutoArchiveJobs", -1, 60)
    times.sort()
    return [
        row("one trivial job, submitted and waited for, p50", times[count // 2], "ms", "", met=True),
        row("the same, p99", times[count * 99 // 100], "ms", "", met=True),
    ]


def _ended(change: Any) -> bool:
    return change != "nochange" and change[0][0] in ("success", "error", "canceled")


def _statuses(client: Pipelined, first: int) -> Mapping[int, str]:
    answer = client.ask("Query", "job", ["id", "status"], [">=", "id", first])
    return {job[1]: status[1] for job, status in answer["data"]}


if __name__ == "__main__":
    for measured in run():
        print(json.dumps(measured))
