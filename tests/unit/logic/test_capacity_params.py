"""Parameters of capacity: what they may be, and which of several counts."""

from __future__ import annotations

from typing import Any

import msgspec

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import PrereqError
from ganeti.logic.capacity_params import check_template, filled_params, merged_settings, oversize
from ganeti.model.capacity import NOT_SET, CapacitySettings
from ganeti.model.cluster import Cluster
from ganeti.testing.clusters import cluster, group_id, with_settings


class SettingsTests(SynchronousTestCase):
    """What may be set."""

    def test_good(self) -> None:
        """Each parameter with a value that it may have."""
        given: dict[str, Any] = {
            "max_inst_spec": (4096, 10240, 2),
            "default_template": "plain",
            "max_cpu_ratio": 1.5,
            "max_disk_usage": 1,
        }
        self.assertEqual(merged_settings(NOT_SET, given), CapacitySettings(**given))

    def test_bad(self) -> None:
        """Others are refused by name (S2.3-084, S2.3-085, S2.3-086, S2.3-087)."""
        bad: list[tuple[str, Any]] = [
            ("max_inst_spec", (4096, 10240)),
            ("max_inst_spec", (4096, 0, 2)),
            ("max_inst_spec", (4096, -1, 2)),
            ("max_inst_spec", "4096"),
            ("default_template", ""),
            ("max_cpu_ratio", 0),
            ("max_cpu_ratio", -1.0),
            ("max_cpu_ratio", "much"),
            ("max_cpu_ratio", float("nan")),
            ("max_disk_usage", 0),
            ("max_disk_usage", 1.01),
            ("max_disk_usage", "all"),
        ]
        for name, value in bad:
            with self.assertRaisesRegex(PrereqError, f"{name} is .*; it must be"):
                merged_settings(NOT_SET, {name: value})

    def test_reset(self) -> None:
        """`default` takes a setting away and leaves the others."""
        own = CapacitySettings(max_cpu_ratio=2.0, max_disk_usage=0.5)
        self.assertEqual(
            merged_settings(own, {"max_cpu_ratio": "default"}), CapacitySettings(max_disk_usage=0.5)
        )

    def test_template(self) -> None:
        """The template has to be enabled (S2.3-085)."""
        value = with_settings(cluster(), enabled_disk_templates=("plain", "drbd"))
        check_template(value, "drbd")
        check_template(value, None)
        check_template(value, "default")
        with self.assertRaisesRegex(PrereqError, "'rbd', which is not enabled; enabled: plain, drbd"):
            check_template(value, "rbd")


class LayerTests(SynchronousTestCase):
    """Which value counts (S2.3-082)."""

    def world(self, **layers: float) -> Cluster:
        """Processors by cluster and group."""
        value = cluster()
        if "cluster" in layers:
            value = with_settings(value, capacity_params=CapacitySettings(max_cpu_ratio=layers["cluster"]))
        if "group" in layers:
            own = CapacitySettings(max_cpu_ratio=layers["group"])
            group = msgspec.structs.replace(value.groups[group_id(1)], capacity_params=own)
            value = msgspec.structs.replace(value, groups=value.groups.with_item(group.uuid, group))
        return value

    def ratio(self, value: Cluster, asked: float | None = None) -> float:
        """What counts."""
        settings = None if asked is None else CapacitySettings(max_cpu_ratio=asked)
        return filled_params(value, value.groups[group_id(1)], settings).max_cpu_ratio

    def test_precedence(self) -> None:
        """The question before the group before the cluster before the policy."""
        self.assertEqual(self.ratio(self.world()), 4.0)
        self.assertEqual(self.ratio(self.world(cluster=3.0)), 3.0)
        self.assertEqual(self.ratio(self.world(cluster=3.0, group=2.0)), 2.0)
        self.assertEqual(self.ratio(self.world(cluster=3.0, group=2.0), 1.0), 1.0)

    def test_by_policy(self) -> None:
        """Where nothing is set, the policy and the enabled templates say."""
        value = with_settings(cluster(), enabled_disk_templates=("rbd", "drbd"))
        params = filled_params(value, value.groups[group_id(1)])
        self.assertEqual(params.max_inst_spec, (32768, 1048576, 8))
        self.assertEqual((params.default_template, params.max_disk_usage), ("rbd", 1.0))
        group = msgspec.structs.replace(
            value.groups[group_id(1)], ipolicy={"disk-templates": ["drbd"], "vcpu-ratio": 2.0}
        )
        value = msgspec.structs.replace(value, groups=value.groups.with_item(group.uuid, group))
        params = filled_params(value, group)
        self.assertEqual((params.default_template, params.max_cpu_ratio), ("drbd", 2.0))


class OversizeTests(SynchronousTestCase):
    """Instances larger than any that capacity counts (S2.3-088)."""

    def problems(self, memory: int, disks: tuple[int, ...], vcpus: int, **settings: Any) -> tuple[str, ...]:
        """Of an instance, where 4096 MiB, 10240 MiB of disk and 2 processors are the most."""
        own = CapacitySettings(max_inst_spec=(4096, 10240, 2))
        value = with_settings(
            cluster(), **{"capacity_params": own, "enforce_max_inst_spec": True, **settings}
        )
        group = value.groups[group_id(1)]
        return oversize(value, group, memory=memory, vcpus=vcpus, disk_sizes=disks)

    def test_table(self) -> None:
        """What is exactly as large is not too large; the sizes of disks are added up (S2.3-088)."""
        self.assertEqual(self.problems(4096, (10000, 240), 2), ())
        for values, word in (
            ((4097, (10,), 1), "memory 4097 MiB is more than the 4096 MiB"),
            ((128, (10000, 241), 1), "disk space 10241 MiB is more than the 10240 MiB"),
            ((128, (), 3), "vcpus 3 is more than the 2 of max_inst_spec"),
        ):
            (problem,) = self.problems(*values)
            self.assertIn(word, problem)
        self.assertEqual(len(self.problems(9999, (99999,), 9)), 3)

    def test_off(self) -> None:
        """It is off unless switched on."""
        self.assertEqual(self.problems(9999, (99999,), 9, enforce_max_inst_spec=False), ())
        self.assertIs(cluster().settings.enforce_max_inst_spec, False)
