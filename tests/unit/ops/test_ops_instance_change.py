"""Tests of changing, removing and describing instances."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import BlockDeviceError, ErrorCode, OperationFailed, PrereqError
from ganeti.model.calls.disks import DiskRemove
from ganeti.model.calls.instances import (
    HypervisorValidateParams,
    InstanceInfo,
    InstanceShutdown,
    RunState,
)
from ganeti.model.calls.os import OsValidate
from ganeti.model.cluster import Cluster
from ganeti.model.instance import AdminState
from ganeti.ops.instance.query_data import QueryInstanceData
from ganeti.ops.instance.remove import RemoveInstance
from ganeti.ops.instance.set_params import SetInstanceParams
from ganeti.testing.clusters import changed_instance, cluster, node_id, with_node, with_settings
from ganeti.testing.operations import OperationWorld

NAME = "inst1.example.com"
NODE1, NODE2 = "node1.example.com", "node2.example.com"


def make(state: AdminState = AdminState.UP, **options: Any) -> Cluster:
    """Three nodes and one mirrored instance on the first two."""
    return cluster(**{"instances": 1, "admin_state": state, **options})


def world(value: Cluster | None = None, **options: Any) -> OperationWorld:
    """A world with that cluster."""
    return OperationWorld(value or make(), **options)


def change(**parameters: Any) -> SetInstanceParams:
    """A change of the instance."""
    return SetInstanceParams(instance_name="inst1", **parameters)


class SetParamsTests(SynchronousTestCase):
    """OP_INSTANCE_SET_PARAMS."""

    def test_backend(self) -> None:
        """Memory and processors are recorded; the result lists what was asked for."""
        one = world()
        self.assertEqual(
            one.run(change(beparams={"maxmem": "1g", "vcpus": 2})), [["be/maxmem", "1g"], ["be/vcpus", 2]]
        )
        self.assertEqual(one.cluster.instance(NAME).beparams, {"maxmem": 1024, "minmem": 128, "vcpus": 2})

    def test_memory_is_both(self) -> None:
        """The old parameter `memory` stands for both."""
        one = world()
        one.run(change(beparams={"memory": 512}))
        self.assertEqual(one.cluster.instance(NAME).beparams, {"maxmem": 512, "minmem": 512, "vcpus": 1})

    def test_reset(self) -> None:
        """`default` takes a setting away."""
        one = world()
        one.run(change(beparams={"vcpus": "default"}))
        self.assertNotIn("vcpus", one.cluster.instance(NAME).beparams)

    def test_os_parameters(self) -> None:
        """Parameters of the OS are set and, by null, removed; private ones are not shown."""
        one = world(changed_instance(make(), "inst1", osparams={"a": "1", "b": "2"}))
        found = one.run(change(osparams={"a": None, "c": "3"}, osparams_private={"p": "secret"}))
        instance = one.cluster.instance(NAME)
        self.assertEqual(
            (instance.osparams, instance.osparams_private), ({"b": "2", "c": "3"}, {"p": "secret"})
        )
        self.assertEqual(found[-1], ["os_private/p", "<redacted>"])
        self.assertEqual(
            one.nodes.calls_of(OsValidate)[0].call.parameters, {"b": "2", "c": "3", "p": "secret"}
        )

    def test_os_name(self) -> None:
        """Another OS may be recorded, if it is there."""
        one = world()
        one.model.oses = ("noop", "debian")
        one.run(change(os_name="debian+small"))
        self.assertEqual(one.cluster.instance(NAME).os, "debian+small")
        with self.assertRaisesRegex(PrereqError, "OS plan9 refuses.*no OS plan9"):
            one.run(change(os_name="plan9"))

    def test_offline_and_back(self) -> None:
        """A stopped instance can be marked offline and brought back."""
        one = world(make(AdminState.DOWN))
        self.assertEqual(one.run(change(offline=True)), [["admin_state", "offline"]])
        self.assertEqual(one.cluster.instance(NAME).admin_state, AdminState.OFFLINE)
        self.assertEqual(one.run(change(offline=False)), [["admin_state", "down"]])
        self.assertEqual(one.cluster.instance(NAME).admin_state, AdminState.DOWN)

    def test_refusals(self) -> None:
        """What cannot be is refused, and nothing changes."""
        cases: tuple[tuple[AdminState, dict[str, Any], str], ...] = (
            (AdminState.UP, {}, "no changes submitted"),
            (AdminState.UP, {"offline": True}, "runs or is to run.*shutdown"),
            (AdminState.DOWN, {"offline": False}, "is not marked offline"),
            (AdminState.UP, {"beparams": {"minmem": 256}}, r"minmem \(256 MiB\).*maxmem \(128"),
            (AdminState.UP, {"beparams": {"memry": 1}}, "'memry'"),
            (AdminState.UP, {"beparams": {"vcpus": 64}}, "would violate the instance policy"),
            (AdminState.UP, {"hvparams": {"colour": "red"}}, "'colour'"),
        )
        for state, parameters, pattern in cases:
            one = world(make(state))
            with self.assertRaisesRegex(PrereqError, pattern):
                one.run(change(**parameters))
            self.assertEqual(one.config.changes, [], pattern)

    def test_global_hypervisor_parameter(self) -> None:
        """Parameters that only the cluster has are refused, with where to set them."""
        one = world(changed_instance(make(AdminState.DOWN), "inst1", hypervisor="kvm"))
        with self.assertRaisesRegex(PrereqError, "migration_port.*gnt-cluster modify"):
            one.run(change(hvparams={"migration_port": 9000}))

    def test_hypervisor_parameters(self) -> None:
        """They are tried on all its nodes that are online."""
        value = changed_instance(make(AdminState.DOWN), "inst1", hypervisor="kvm")
        one = world(with_node(value, "node2", offline=True, master_candidate=False))
        one.run(change(hvparams={"acpi": False}))
        self.assertEqual([called.node for called in one.nodes.calls_of(HypervisorValidateParams)], [NODE1])
        self.assertEqual(one.cluster.instance(NAME).hvparams, {"acpi": False})
        one.model.break_call(HypervisorValidateParams, "no such kernel")
        with self.assertRaisesRegex(PrereqError, f"do not work on {NODE1}: no such kernel"):
            one.run(change(hvparams={"kernel_path": "/vmlinuz"}))

    def test_memory_that_is_not_there(self) -> None:
        """More memory than the node has is refused, unless by force."""
        one = world(memory_mib=4096)
        wish = {"beparams": {"maxmem": 8192}}
        with self.assertRaisesRegex(PrereqError, f"{NODE1} misses 5120 MiB") as caught:
            one.run(change(**wish))
        self.assertEqual(caught.exception.code, ErrorCode.NO_RESOURCES)
        one.run(change(**wish, force=True))
        self.assertEqual(one.cluster.instance(NAME).beparams["maxmem"], 8192)

    def test_silent_node(self) -> None:
        """If the node does not tell its memory, that is a warning."""
        one = world()
        one.model.break_call(InstanceInfo, "no answer")
        one.run(change(beparams={"vcpus": 2}))
        self.assertIn(NODE1, one.feedback.warnings[0])

    def test_offline_node(self) -> None:
        """On an offline node only the record changes, with a warning."""
        one = world(with_node(make(), "node1", offline=True, master_candidate=False))
        one.run(change(beparams={"vcpus": 2}))
        self.assertIn("nothing could be checked", one.feedback.warnings[0])
        self.assertEqual(one.called(), [])

    def test_hooks_see_the_new_values(self) -> None:
        """Hooks are told the memory and processors that are wanted."""
        one = world()
        one.run(change(beparams={"memory": 512, "vcpus": 3}))
        env = one.hooks.runs[0][3]
        names = ("MINMEM", "MAXMEM", "MEMORY", "VCPUS")
        self.assertEqual([env[f"GANETI_INSTANCE_{name}"] for name in names], ["512", "512", "512", "3"])


class RemoveTests(SynchronousTestCase):
    """OP_INSTANCE_REMOVE."""

    def test_removed(self) -> None:
        """It is stopped, its data is removed everywhere, and its ports are free again."""
        one = world()
        (disk,) = one.cluster.disks_of(one.cluster.instance(NAME))
        one.run(RemoveInstance(instance_name="inst1"))
        self.assertEqual((len(one.cluster.instances), len(one.cluster.disks)), (0, 0))
        self.assertEqual((one.model.where(NAME), one.model.stored(disk.uuid)), ({}, set()))
        self.assertIn(disk.logical_id[2], one.cluster.settings.tcpudp_port_pool)

    def test_forgets_the_lock(self) -> None:
        """Its lock goes with it."""
        one = world()
        one.run(RemoveInstance(instance_name="inst1"))
        (event,) = (event for event in one.locks.events if event.what == "forget")
        self.assertEqual(event.names, {NAME})
        self.assertNotIn(f"instance/{NAME}", [row["name"] for row in one.locks.pending()])

    def test_does_not_stop(self) -> None:
        """If it cannot be stopped nothing is removed, unless failures are to be ignored."""
        one = world()
        one.model.break_call(InstanceShutdown, "it does not listen")
        with self.assertRaisesRegex(OperationFailed, f"could not stop {NAME}"):
            one.run(RemoveInstance(instance_name="inst1"))
        self.assertEqual((len(one.cluster.instances), one.nodes.calls_of(DiskRemove)), (1, []))
        one.model.break_call(DiskRemove, BlockDeviceError("in use"))
        one.run(RemoveInstance(instance_name="inst1", ignore_failures=True))
        self.assertEqual(len(one.cluster.instances), 0)
        self.assertIn("could not stop", one.feedback.warnings[0])

    def test_data_stays(self) -> None:
        """If data cannot be removed the instance stays known, and the message says what to do."""
        one = world()
        one.model.break_call(DiskRemove, BlockDeviceError("in use"), one.cluster.node("node2"))
        with self.assertRaisesRegex(OperationFailed, f"disks of {NAME}.*--ignore-failures"):
            one.run(RemoveInstance(instance_name="inst1"))
        self.assertEqual(len(one.cluster.instances), 1)
        self.assertIn(f"cannot remove disk 0 of {NAME} on {NODE2}: in use", one.feedback.warnings)

    def test_offline_node(self) -> None:
        """What is on an offline node stays there, with a warning; the rest goes."""
        value = with_node(make(), "node1", offline=True, master_candidate=False)
        one = world(with_settings(value, master_node=node_id(3)))
        one.run(RemoveInstance(instance_name="inst1"))
        self.assertEqual(len(one.cluster.instances), 0)
        self.assertIn("stays on offline node node1", " ".join(one.feedback.warnings))

    def test_hooks(self) -> None:
        """Before: the master. After: its nodes, too, although it is gone."""
        one = world(with_settings(make(), master_node=node_id(3)))
        one.run(RemoveInstance(instance_name="inst1"))
        runs = {run[1]: set(run[2]) for run in one.hooks.runs if run[0] == "instance-remove"}
        self.assertEqual(runs["pre"], {"node3.example.com"})
        self.assertEqual(runs["post"], {"node3.example.com", NODE1, NODE2})

    def test_dry_run(self) -> None:
        """A dry run removes nothing."""
        one = world()
        one.run(RemoveInstance(instance_name="inst1", dry_run=True))
        self.assertEqual((len(one.cluster.instances), len(one.model.where(NAME))), (1, 1))


KEYS = frozenset(
    str.split(
        "name config_state run_state pnode pnode_group_uuid pnode_group_name snodes snodes_group_uuids "
        "snodes_group_names os nics disk_template disks hypervisor network_port hv_instance hv_actual "
        "be_instance be_actual os_instance os_actual serial_no mtime ctime uuid"
    )
)


class QueryDataTests(SynchronousTestCase):
    """OP_INSTANCE_QUERY_DATA."""

    def test_keys(self) -> None:
        """The established dictionary for each instance."""
        found = world(make(instances=2)).run(QueryInstanceData())
        self.assertEqual(list(found), [NAME, "inst2.example.com"])
        self.assertEqual(set(found[NAME]), KEYS)

    def test_values(self) -> None:
        """Nodes, states, devices."""
        one = world()
        info = one.run(QueryInstanceData(instances=("inst1",)))[NAME]
        self.assertEqual((info["pnode"], info["snodes"]), (NODE1, [NODE2]))
        self.assertEqual((info["config_state"], info["run_state"]), ("up", "up"))
        self.assertEqual((info["be_actual"]["maxmem"], info["be_instance"]["maxmem"]), (128, 128))
        (nic,) = info["nics"]
        self.assertEqual((len(nic), nic[3], nic[4]), (9, "aa:00:00:00:00:01", "bridged"))
        (disk,) = info["disks"]
        self.assertEqual((disk["size"], disk["dev_type"], len(disk["children"])), (1024, "drbd", 2))
        self.assertEqual(disk["drbd_info"]["primary_node"], NODE1)
        self.assertIsNone(disk["logical_id"][5])

    def test_run_states(self) -> None:
        """What the node says, in words; nothing is said of what is not known."""
        cases = (
            (AdminState.DOWN, None, "down"),
            (AdminState.OFFLINE, None, "offline"),
            (AdminState.UP, RunState.SHUTDOWN, "user down"),
            (AdminState.DOWN, RunState.RUNNING, "up"),
        )
        for admin, state, word in cases:
            one = world(make(admin))
            if state is not None:
                one.model.run(NODE1, NAME, state=state)
            self.assertEqual(one.run(QueryInstanceData())[NAME]["run_state"], word)

    def test_silent_node(self) -> None:
        """A node that does not answer is named, and the state is unknown."""
        one = world()
        one.nodes.unreachable.add(node_id(1))
        self.assertIsNone(one.run(QueryInstanceData())[NAME]["run_state"])
        self.assertIn(NODE1, one.feedback.warnings[0])

    def test_static(self) -> None:
        """Static data asks no node."""
        one = world()
        self.assertIsNone(one.run(QueryInstanceData(static=True))[NAME]["run_state"])
        self.assertEqual(one.called(), [])

    def test_secrets(self) -> None:
        """Private parameters of the OS are not shown."""
        one = world(changed_instance(make(), "inst1", osparams={"a": "1"}, osparams_private={"p": "x"}))
        info = one.run(QueryInstanceData())[NAME]
        self.assertEqual(info["os_instance"], {"a": "1", "p": "<redacted>"})
        self.assertEqual(info["os_actual"], {"a": "1", "p": "<redacted>"})

    def test_unknown(self) -> None:
        """A name that is not known is refused."""
        with self.assertRaisesRegex(PrereqError, "'nobody'"):
            world().run(QueryInstanceData(instances=("nobody",)))
