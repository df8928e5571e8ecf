"""What a durable change of the configuration costs in a small and in a large cluster; the journal."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall, react
from zope.interface import implementer

from ganeti.interfaces import IClock
from ganeti.io.journal import Journal
from ganeti.master.config_store import ConfigStore
from ganeti.model.cluster import Cluster
from ganeti.model.codec import decode_cluster, encode_cluster
from ganeti.model.records import Record
from ganeti.testing.clusters import changed_instance, cluster

CHANGES = 300
ROUNDS = 3
SMALL, LARGE = 20, 20_000
WRITERS, WRITES = 64, 4_000
SNAPSHOTS = 5
TICK_S = 0.005


def run() -> list[dict[str, Any]]:
    """Rows name, value, unit, target, met; in a process of its own, as a reactor runs only once."""
    command = [sys.executable, __file__]
    root = str(Path(__file__).resolve().parent.parent)
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": root}, check=True, capture_output=True, text=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@implementer(IClock)
class WallClock:
    """The time of day."""

    def seconds(self) -> float:
        """Seconds since the epoch."""
        return time.time()


class Late:
    """How late a reactor is that should tick every 5 ms."""

    def __init__(self, reactor: Any) -> None:
        self.worst_ms = 0.0
        self._last = time.perf_counter()
        self._loop = LoopingCall(self._tick)
        self._loop.clock = reactor
        self._loop.start(TICK_S, now=False)

    def _tick(self) -> None:
        now = time.perf_counter()
        self.worst_ms = max(self.worst_ms, (now - self._last - TICK_S) * 1000)
        self._last = now

    def stop(self) -> float:
        """End; gives the worst."""
        self._loop.stop()
        return self.worst_ms


def toggled(number: int, value: Cluster) -> Cluster:
    """The cluster after the smallest usual change."""
    name = f"inst{number % SMALL + 1}.example.com"
    return changed_instance(value, name, disks_active=not value.instance(name).disks_active)


async def open_store(reactor: Any, directory: str, instances: int) -> ConfigStore:
    """A store with a cluster of that size."""
    os.makedirs(directory, exist_ok=True)
    path = f"{directory}/config.data"
    nodes = max(3, instances // 20)
    Path(path).write_bytes(encode_cluster(cluster(nodes=nodes, instances=instances, disk_sizes=(1024, 2048))))
    journal = Journal(reactor, f"{directory}/config.journal")
    store = ConfigStore(reactor, journal, path, WallClock(), snapshot_s=3600.0)
    await store.start()
    return store


async def one_by_one(store: ConfigStore) -> float:
    """Median milliseconds of a change, from the call to the answer."""
    times = []
    for number in range(CHANGES):
        start = time.perf_counter()
        await store.update(lambda value: toggled(number, value), reason="bench")  # noqa: B023
        times.append(time.perf_counter() - start)
    return sorted(times)[CHANGES // 2] * 1000


async def together(store: ConfigStore) -> float:
    """Changes a second when all are asked for at once."""
    start = time.perf_counter()
    changes = [
        store.update(lambda value, number=number: toggled(number, value), reason="bench")  # type: ignore[misc]
        for number in range(CHANGES)
    ]
    await gatherResults(changes)
    return CHANGES / (time.perf_counter() - start)


async def journal_rate(reactor: Any, directory: str) -> tuple[float, float]:
    """Durable appends a second with 64 writers, each waiting for its own; and how many share a sync."""
    syncs = 0

    def sync(fd: int) -> None:
        nonlocal syncs
        syncs += 1
        os.fdatasync(fd)

    journal = Journal(reactor, f"{directory}/journal", sync=sync)
    journal.open()
    payload = b"x" * 1700
    appended = 0

    async def writer(number: int) -> None:
        nonlocal appended
        for seq in range(WRITES // WRITERS):
            await journal.append([Record(kind="job", id=str(number), seq=seq, payload=payload)])
            appended += 1

    start = time.perf_counter()
    await gatherResults([Deferred.fromCoroutine(writer(number)) for number in range(WRITERS)])
    rate = appended / (time.perf_counter() - start)
    await journal.close()
    return rate, appended / syncs


async def snapshots(reactor: Any, store: ConfigStore) -> tuple[float, list[float]]:
    """Median milliseconds of a snapshot, and how late the reactor was at worst during each, ascending."""
    times, worst = [], []
    for number in range(SNAPSHOTS):
        await store.update(lambda value: toggled(number, value), reason="bench")  # noqa: B023
        late = Late(reactor)
        start = time.perf_counter()
        await store.snapshot()
        times.append((time.perf_counter() - start) * 1000)
        worst.append(late.stop())
    return sorted(times)[SNAPSHOTS // 2], sorted(worst)


def sync_ms(directory: str) -> float:
    """Median milliseconds of `fdatasync` after 400 bytes: what the disk itself costs here."""
    times = []
    fd = os.open(f"{directory}/probe", os.O_WRONLY | os.O_CREAT)
    for number in range(200):
        os.pwrite(fd, bytes(400), number * 400)
        start = time.perf_counter()
        os.fdatasync(fd)
        times.append(time.perf_counter() - start)
    os.close(fd)
    return sorted(times)[100] * 1000


async def rows(reactor: Any, directory: str) -> list[dict[str, Any]]:
    """All measurements."""
    small = await open_store(reactor, f"{directory}/small", SMALL)
    large = await open_store(reactor, f"{directory}/large", LARGE)
    # By turns, so that what else goes on here meets both alike.
    pairs = [(await one_by_one(small), await one_by_one(large)) for _ in range(ROUNDS)]
    small_ms, large_ms = min(one for one, _ in pairs), min(other for _, other in pairs)
    grouped = await together(large)
    snapshot_ms, late_ms = await snapshots(reactor, large)
    data = Path(f"{directory}/large/config.data").read_bytes()
    start = time.perf_counter()
    decode_cluster(data)
    load_ms = (time.perf_counter() - start) * 1000
    await small.stop()
    await large.stop()
    rate, shared = await journal_rate(reactor, directory)
    return [
        _row("disk: fdatasync after 400 bytes", sync_ms(directory), "ms"),
        _row("config: durable change, 20 instances", small_ms, "ms"),
        _row("config: durable change, 20,000 instances", large_ms, "ms", at_most=5.0),
        _row("config: 20,000 instances against 20", large_ms / small_ms, "x", at_most=2.0),
        _row("config: durable changes a second, 300 at once", grouped, "/s", at_least=1000.0),
        _row("config: snapshot of 20,000 instances", snapshot_ms, "ms"),
        _row("config: reactor late during a snapshot, median of 5", late_ms[SNAPSHOTS // 2], "ms"),
        _row("config: reactor late during a snapshot, worst of 5", late_ms[-1], "ms", at_most=10.0),
        _row("config: reading 20,000 instances", load_ms, "ms"),
        _row("journal: durable appends, 64 writers", rate, "/s", at_least=1000.0),
        _row("journal: appends that share a sync", shared, "records"),
    ]


def _row(
    name: str, value: float, unit: str, *, at_most: float | None = None, at_least: float | None = None
) -> dict[str, Any]:
    met = None
    target = None
    if at_most is not None:
        met, target = value <= at_most, f"<= {at_most:g} {unit}"
    if at_least is not None:
        met, target = value >= at_least, f">= {at_least:g} {unit}"
    return {"name": name, "value": round(value, 2), "unit": unit, "target": target, "met": met}


async def main(reactor: Any) -> None:
    """Measure and print."""
    directory = tempfile.mkdtemp(prefix="bench-config-", dir=".")
    try:
        for row in await rows(reactor, directory):
            print(json.dumps(row))
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
