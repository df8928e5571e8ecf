"""Figures of nodes that can and that cannot be true."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.logic.plausible import info_nonsense, report_nonsense
from ganeti.model.calls.disks import StorageSpace
from ganeti.model.calls.instances import RunningInstance
from ganeti.model.calls.report import Report
from ganeti.model.calls.system import NodeCapacity, NodeInfoResult
from ganeti.testing.clusters import cluster
from ganeti.testing.placement_worlds import placement_view

TIB = 2**20
"""MiB of a tebibyte."""


def info(*, storage: tuple[StorageSpace, ...] = (), **figures: Any) -> NodeInfoResult:
    """A node with 64 GiB and 16 processors, changed."""
    values: dict[str, Any] = {
        "memory_total": 65536,
        "memory_free": 60000,
        "memory_dom0": 1024,
        "cpu_total": 16,
        **figures,
    }
    return NodeInfoResult(boot_id="b", storage=storage, hypervisors={"kvm": NodeCapacity(**values)})


def space(free: int | None, size: int | None) -> tuple[StorageSpace, ...]:
    """One volume group."""
    return (StorageSpace(type="lvm-vg", name="xenvg", storage_free=free, storage_size=size),)


class NonsenseTests(SynchronousTestCase):
    """What is said of which figures."""

    def test_impossible(self) -> None:
        """Each impossible figure is named."""
        cases: tuple[tuple[dict[str, Any], str], ...] = (
            ({"memory_total": 0}, "hypervisor kvm: 0 MiB of memory in all"),
            ({"memory_total": -65536}, "-65536 MiB of memory in all"),
            ({"memory_total": 2**60}, f"{2**60} MiB of memory in all"),
            ({"memory_free": -1}, "-1 MiB of memory free of 65536"),
            ({"memory_free": 65537}, "65537 MiB of memory free of 65536"),
            ({"memory_dom0": -1}, "-1 MiB of memory used by the node itself"),
            ({"memory_dom0": 70000}, "70000 MiB of memory used by the node itself of 65536"),
            ({"cpu_total": 0}, "0 processors"),
            ({"cpu_total": 10**9}, "1000000000 processors"),
            ({"cpu_dom0": 17}, "17 processors used by the node itself of 16"),
            ({"storage": space(-1, 100)}, "storage lvm-vg xenvg: -1 free of 100"),
            ({"storage": space(101, 100)}, "101 free of 100"),
            ({"storage": space(5, -100)}, "a size of -100"),
            ({"storage": space(5, 2**50)}, f"a size of {2**50}"),
            ({"storage": space(-7, None)}, "-7 free"),
        )
        for figures, text in cases:
            (found,) = info_nonsense(info(**figures))
            self.assertIn(text, found)

    def test_running(self) -> None:
        """So is the memory of an instance."""
        for memory, expected in ((-1, 1), (0, 0), (4096, 0), (2**40, 1)):
            running = {"a": RunningInstance(name="a", memory=memory, vcpus=1)}
            found = list(report_nonsense(Report(info=info(), running=running)))
            self.assertEqual(len(found), expected, memory)

    @given(
        total=st.integers(1, 64 * TIB),
        free=st.floats(0, 1),
        own=st.floats(0, 1),
        cpus=st.integers(1, 4096),
        size=st.none() | st.integers(0, 1024 * TIB),
    )
    def test_possible(self, total: int, free: float, own: float, cpus: int, size: int | None) -> None:
        """Nothing that a machine may have is called impossible; a missing figure is none."""
        figures = {"memory_total": total, "memory_free": int(total * free), "memory_dom0": int(total * own)}
        left = None if size is None else int(size * free)
        found = info(storage=space(left, size), cpu_total=cpus, **figures)
        self.assertEqual(list(info_nonsense(found)), [])

    def test_worlds(self) -> None:
        """What nodes of the tests say is possible."""
        for facts in placement_view(cluster(nodes=4, instances=10)).facts.values():
            self.assertEqual(list(info_nonsense(facts)), [])
