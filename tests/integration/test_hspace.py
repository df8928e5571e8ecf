"""The capacity of a group is what Debian's `hspace` says of the same nodes, tier by tier (iallocator.md 6.8).

Each group of a generated cluster is given to hspace as if it were the whole cluster.
"""

from __future__ import annotations

import re
import tempfile
from random import Random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.logic.capacity import capacities
from ganeti.logic.node_figures import Question
from ganeti.model.allocation import Capacity, ClusterView
from ganeti.model.capacity import CapacityParams, Tier
from ganeti.model.ids import GroupId
from ganeti.testing.htools import htools_root, run_htools, text_data
from ganeti.testing.placement_worlds import exclusive_case, random_case

IMPOSSIBLE = "999999"
"""Memory of the standard size, so that hspace does not count a second time."""


def text_of_group(view: ClusterView, group: GroupId, template: str) -> str:
    """One group in the text format, with its nodes and instances."""
    cluster = view.cluster
    names = {node.name for node in cluster.members(group)}
    policies = {"", cluster.groups[group].name}
    lines = text_data(view, Question(hypervisor="kvm", template=template)).split("\n")
    kept, section = [], 0
    for line in lines:
        columns = line.split("|")
        section += not line
        wanted = (
            columns[1:2] == [group],
            columns[0] in names,
            bool(names.intersection(columns[6:7])),
            True,
            columns[0] in policies,
        )
        if not line or wanted[section]:
            kept.append(line)
    return "\n".join(kept)


def hspace(view: ClusterView, group: GroupId, params: CapacityParams) -> tuple[Tier, ...]:
    """The tiers by hspace; none where it says that there are no nodes."""
    memory, disk, cpus = params.max_inst_spec
    with tempfile.NamedTemporaryFile("w", prefix="hspace.") as file:
        file.write(text_of_group(view, group, params.default_template))
        file.flush()
        done = run_htools(
            "hspace",
            f"--text-data={file.name}",
            f"--disk-template={params.default_template}",
            f"--tiered-alloc={disk},{memory},{cpus}",
            f"--standard-alloc={disk},{IMPOSSIBLE},{cpus}",
            f"--max-cpu={params.max_cpu_ratio}",
            f"--min-disk={1 - params.max_disk_usage}",
            "--machine-readable",
            timeout_s=120,
        )
    found = re.search(r"HTS_TSPEC='?([^'\n]*)", done.stdout)
    if found is None:
        if "online nodes" in done.stderr:
            return ()
        raise AssertionError(f"hspace did not answer: {done.stderr}")
    tiers = [[int(number) for number in re.split("[,=]", entry)] for entry in found[1].split()]
    return tuple((memory, disk, cpus, count) for memory, disk, cpus, _, count in tiers)


def params_of(rng: Random, template: str) -> CapacityParams:
    """Some parameters."""
    return CapacityParams(
        max_inst_spec=(
            rng.choice((4096, 2048, 16384, 1000)),
            rng.choice((10240, 51200, 102400, 3000)),
            rng.choice((1, 2, 4, 8)),
        ),
        default_template=template,
        max_cpu_ratio=rng.choice((4.0, 1.5, 8.0)),
        max_disk_usage=rng.choice((1.0, 0.75)),
    )


class HspaceTests(SynchronousTestCase):
    """Empty and partly full clusters, with several groups, policies, tags, drained and offline nodes."""

    def setUp(self) -> None:
        """Have hspace at hand."""
        htools_root()

    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 10**6))
    @example(seed=1).via("the resource that most lack is made smaller although that does not help")
    @example(seed=5).via("stopped instances of a node do not count for what it keeps for failover")
    @example(seed=6).via("two nodes that share mirrors already")
    @example(seed=24).via("the smallest size is not among those to which one resource is made smaller")
    @example(seed=90).via("a mirror on an offline node")
    def test_mirrored(self, seed: int) -> None:
        """On pairs of nodes."""
        self.compare(seed, "drbd")

    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 10**6))
    def test_plain(self, seed: int) -> None:
        """On single nodes, which can be made anew on the others."""
        self.compare(seed, "plain")

    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 10**6))
    @example(seed=324).via("nothing is left to make smaller")
    def test_shared(self, seed: int) -> None:
        """On shared storage."""
        self.compare(seed, "sharedfile")

    def test_exclusive(self) -> None:
        """On disks that have spindles for themselves, in all groups or in one."""
        for seed in range(8):
            view, _ = exclusive_case(seed, is_everywhere=seed % 2 == 0)
            for template in ("plain", "drbd"):
                self.compare_view(view, params_of(Random(seed), template))

    def compare(self, seed: int, template: str) -> None:
        """The same tiers for each group with nodes."""
        view, _ = random_case(seed, template, most_nodes=8)
        self.compare_view(view, params_of(Random(seed), template))

    def compare_view(self, view: ClusterView, params: CapacityParams) -> None:
        """The same tiers for each group of a cluster."""
        for group in view.cluster.groups:
            if view.cluster.members(group):
                ours = capacities(Capacity(params={group: params}), view)[group]
                theirs = hspace(view, group, params)
                self.assertEqual(ours.tspecs, theirs, f"group {group}, {params}")
