"""Tests of creating instances: what is asked, refused, done, and undone when a step fails."""

from __future__ import annotations

from typing import Any

import msgspec

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import BlockDeviceError, ErrorCode, OperationFailed, PrereqError
from ganeti.model.allocation import Allocate
from ganeti.model.calls.disks import DiskAssemble, DiskCreate, DiskWipe, StorageSpace
from ganeti.model.calls.instances import HypervisorValidateParams, InstanceStart, RunState
from ganeti.model.calls.os import InstanceOsAdd, OsValidate
from ganeti.model.calls.system import BridgesExist, NodeCapacity, NodeInfo, NodeInfoResult
from ganeti.model.capacity import CapacitySettings
from ganeti.model.cluster import Cluster
from ganeti.model.instance import AdminState
from ganeti.model.locks import LockLevel
from ganeti.ops.instance.create import CreateInstance
from ganeti.ops.instance.remove import RemoveInstance
from ganeti.ops.instance.startup import StartInstance
from ganeti.testing.clusters import (
    cluster,
    group_id,
    node_id,
    with_instance,
    with_node,
    with_settings,
)
from ganeti.testing.operations import OperationWorld
from tests.unit.ops.new_instances import NAME, create

NODE1, NODE2 = "node1.example.com", "node2.example.com"


def op(**changes: Any) -> CreateInstance:
    """An instance on the first node."""
    return create(**{"pnode": "node1", **changes})


def world(value: Cluster | None = None, **options: Any) -> OperationWorld:
    """Three nodes without instances."""
    return OperationWorld(value or cluster(), **options)


def refuses(value: Cluster | None, opcode: CreateInstance) -> PrereqError:
    """The refusal; nothing was changed."""
    one = world(value)
    try:
        one.run(opcode)
    except PrereqError as error:
        assert one.config.changes == [] and one.model.where(NAME) == {}
        return error
    raise AssertionError("it was not refused")


class CreateTests(SynchronousTestCase):
    """What comes of it."""

    def test_created_installed_started(self) -> None:
        """Disk, OS, start; the result is the names of its nodes."""
        one = world()
        self.assertEqual(one.run(op()), [NODE1])
        instance = one.cluster.instance(NAME)
        self.assertEqual(one.model.where(NAME), {NODE1: RunState.RUNNING})
        self.assertEqual(one.model.installed, [NAME])
        self.assertEqual(
            (instance.admin_state, instance.forthcoming, instance.disks_active), (AdminState.UP, False, True)
        )
        self.assertEqual(one.model.stored(instance.disks[0]), {NODE1})

    def test_name_is_normalised(self) -> None:
        """Upper case and a final dot do not matter."""
        one = world()
        one.run(op(instance_name="WEB.Example.com."))
        self.assertIn(NAME, [instance.name for instance in one.cluster.instances.values()])

    def test_defaults(self) -> None:
        """Hypervisor and template default to the first enabled ones, parameters to those of the cluster."""
        one = world(with_settings(cluster(), enabled_disk_templates=("sharedfile", "plain")))
        one.run(op(disk_template=None))
        instance = one.cluster.instance(NAME)
        self.assertEqual((instance.hypervisor, one.cluster.disk_template(instance)), ("fake", "sharedfile"))
        self.assertEqual((instance.beparams, instance.hvparams), ({}, {}))

    def test_what_is_stored(self) -> None:
        """Parameters, tags, OS parameters and interfaces are kept as given."""
        one = world()
        one.run(
            op(
                beparams={"memory": "512m", "vcpus": 2},
                osparams={"mirror": "http://deb"},
                osparams_private={"password": "x"},
                osparams_secret={"token": "y"},
                tags=("b", "a", "b"),
                nics=({"mac": "AA:00:00:11:22:33", "link": "br1", "name": "lan"}, {}),
            )
        )
        instance = one.cluster.instance(NAME)
        self.assertEqual(instance.beparams, {"maxmem": 512, "minmem": 512, "vcpus": 2})
        self.assertEqual((instance.osparams, instance.tags), ({"mirror": "http://deb"}, ("a", "b")))
        self.assertEqual(instance.osparams_private, {"password": "x"})
        first, second = instance.nics
        self.assertEqual(
            (first.mac, first.nicparams, first.name), ("aa:00:00:11:22:33", {"link": "br1"}, "lan")
        )
        self.assertTrue(second.mac.startswith(one.cluster.settings.mac_prefix))
        self.assertNotIn("y", msgspec.json.encode(one.cluster.instance(NAME)).decode().split('"'))

    def test_secrets_reach_the_scripts(self) -> None:
        """Secret parameters are given to the OS scripts and nowhere else."""
        one = world()
        one.run(op(osparams_secret={"token": "y"}))
        self.assertEqual(one.nodes.calls_of(OsValidate)[0].call.parameters, {"token": "y"})
        (installed,) = one.nodes.calls_of(InstanceOsAdd)
        self.assertEqual(installed.call.instance.osparams_private, {"token": "y"})
        (started,) = one.nodes.calls_of(InstanceStart)
        self.assertEqual(started.call.instance.osparams_private, {})

    def test_several_disks(self) -> None:
        """Each disk has its index, size and name."""
        one = world()
        one.run(op(disks=({"size": "1.5g", "name": "root"}, {"size": 2048, "mode": "ro"})))
        disks = one.cluster.disks_of(one.cluster.instance(NAME))
        self.assertEqual(
            [(disk.iv_name, disk.size, disk.mode, disk.name) for disk in disks],
            [("disk/0", 1536, "rw", "root"), ("disk/1", 2048, "ro", None)],
        )

    def test_without_start(self) -> None:
        """It may stay stopped, with closed disks; then its memory does not matter."""
        one = world(memory_mib=1024)
        one.run(op(start=False))
        instance = one.cluster.instance(NAME)
        self.assertEqual((instance.admin_state, instance.disks_active), (AdminState.DOWN, False))
        self.assertEqual(one.model.installed, [NAME])

    def test_without_install(self) -> None:
        """Without an OS it is not started, either."""
        one = world()
        one.run(op(no_install=True, os_type=None))
        self.assertEqual((one.model.installed, one.model.where(NAME)), ([], {}))

    def test_diskless(self) -> None:
        """Without disks nothing is installed, but it starts."""
        one = world(cluster(ipolicy={"disk-templates": ["diskless"]}))
        one.run(op(disk_template="diskless", disks=()))
        self.assertEqual((one.model.installed, one.model.where(NAME)), ([], {NODE1: RunState.RUNNING}))

    def test_mirrored(self) -> None:
        """On two nodes the secondary's data is made first; hooks run on both."""
        one = world()
        self.assertEqual(one.run(op(disk_template="drbd", snode="node2")), [NODE1, NODE2])
        self.assertEqual([called.node for called in one.nodes.calls_of(DiskCreate)], [NODE2, NODE1])
        self.assertEqual(one.hooks.runs[0][2], (NODE1, NODE2))

    def test_wipe(self) -> None:
        """New disks are overwritten where the cluster wants that."""
        one = world(with_settings(cluster(), prealloc_wipe_disks=True))
        one.run(op())
        (called,) = one.nodes.calls_of(DiskWipe)
        self.assertEqual((called.call.offset, called.call.size), (0, 1024))

    def test_allocator(self) -> None:
        """An allocator chooses; unused nodes are let go at once."""
        one = world()
        one.allocation.nodes = (node_id(3),)
        self.assertEqual(one.run(op(pnode=None, iallocator="hail")), ["node3.example.com"])
        name, request, candidates = one.allocation.requests[0]
        assert isinstance(request, Allocate)
        self.assertEqual((name, request.instance.name, request.instance.disks), ("hail", NAME, (1024,)))
        self.assertEqual(len(candidates or ()), 3)
        released = next(event for event in one.locks.events if event.what == "release")
        self.assertEqual(released.names, {node_id(1), node_id(2)})

    def test_allocator_for_a_group(self) -> None:
        """The choice may be limited to a group."""
        one = world(cluster(nodes=4, groups=2))
        one.allocation.nodes = (node_id(2),)
        one.run(op(pnode=None, iallocator="hail", group_name="group2"))
        request = one.allocation.requests[0][1]
        assert isinstance(request, Allocate)
        self.assertEqual(request.instance.group, group_id(2))

    def test_default_allocator(self) -> None:
        """Without node and allocator the default one is asked; `.` means it, too."""
        for name in (None, "."):
            one = world(with_settings(cluster(), default_iallocator="builtin"))
            one.allocation.nodes = (node_id(2),)
            one.run(op(pnode=None, iallocator=name))
            self.assertEqual(one.allocation.requests[0][0], "builtin")

    def test_dry_run(self) -> None:
        """A dry run tells where it would go."""
        one = world()
        self.assertEqual(one.run(op(dry_run=True)), [NODE1])
        self.assertEqual((one.config.changes, one.nodes.calls_of(DiskCreate)), ([], []))

    def test_node_out_of_its_mind(self) -> None:
        """A node with figures that cannot be true gets nothing."""
        one = world()
        capacity = NodeCapacity(memory_total=4096, memory_free=10**7, memory_dom0=0, cpu_total=4)
        lie = NodeInfoResult(boot_id="b", storage=(), hypervisors={"fake": capacity})
        one.nodes.answer(NodeInfo, lie, node=node_id(1))
        text = "node1.example.com reports cannot be true: .*10000000 MiB of memory free of 4096"
        with self.assertRaisesRegex(PrereqError, text):
            one.run(op())
        self.assertEqual(one.config.changes, [])

    def test_lock_of_the_name(self) -> None:
        """The lock of the new name stays, so that the next operation can have it."""
        one = world()
        one.run(op())
        one.run(StartInstance(instance_name=NAME))
        kept = [event for event in one.locks.events if event.what == "keep_added"]
        self.assertEqual([(event.level, event.names) for event in kept], [(LockLevel.INSTANCE, {NAME})])

    def test_can_be_removed_and_made_again(self) -> None:
        """After it was removed the name is free again, as are its ports and addresses."""
        one = world()
        for _ in range(2):
            one.run(op(nics=({"mac": "aa:00:00:00:00:01"},)))
            one.run(RemoveInstance(instance_name=NAME))
        self.assertEqual((len(one.cluster.instances), len(one.cluster.disks)), (0, 0))

    def test_hooks(self) -> None:
        """Before: what the opcode says. After: the instance."""
        one = world()
        one.run(op(tags=("a",)))
        before, after = (run[3] for run in one.hooks.runs if run[0] == "instance-add")
        self.assertEqual(
            (before["GANETI_ADD_MODE"], before["GANETI_INSTANCE_NAME"], before["GANETI_INSTANCE_TAGS"]),
            ("create", NAME, "a"),
        )
        self.assertEqual(after["GANETI_POST_INSTANCE_PRIMARY"], NODE1)


class UndoTests(SynchronousTestCase):
    """What is left when a step fails."""

    def assert_nothing_left(self, one: OperationWorld) -> None:
        """Neither an entry nor data."""
        self.assertEqual((len(one.cluster.instances), len(one.cluster.disks)), (0, 0))
        self.assertEqual({place: disks for place, disks in one.model.data.items() if disks}, {})
        settings = one.cluster.settings
        self.assertEqual(set(settings.tcpudp_port_pool) - set(range(11000, 11010)), set())

    def test_disk_fails(self) -> None:
        """If a disk cannot be created, nothing is left."""
        one = world()
        one.model.break_call(DiskCreate, BlockDeviceError("no space"))
        with self.assertRaisesRegex(OperationFailed, f"disks of {NAME}.*disk/0 on node {NODE1}: no space"):
            one.run(op())
        self.assert_nothing_left(one)

    def test_second_node_fails(self) -> None:
        """If only the primary fails, what the secondary has is removed."""
        one = world()
        one.model.break_call(DiskCreate, BlockDeviceError("no space"), one.cluster.node("node1"))
        self.assertRaises(OperationFailed, one.run, op(disk_template="drbd", snode="node2"))
        self.assert_nothing_left(one)

    def test_wipe_fails(self) -> None:
        """If a disk cannot be overwritten, it is closed and removed."""
        one = world(with_settings(cluster(), prealloc_wipe_disks=True))
        one.model.break_call(DiskWipe, BlockDeviceError("I/O error"))
        self.assertRaises(OperationFailed, one.run, op())
        self.assert_nothing_left(one)

    def test_name_can_be_tried_again(self) -> None:
        """The name is not locked for ever by a failure."""
        one = world()
        one.model.break_call(DiskCreate, BlockDeviceError("no space"))
        self.assertRaises(OperationFailed, one.run, op())
        one.model.repair_call(DiskCreate)
        one.run(op())
        self.assertEqual(one.model.where(NAME), {NODE1: RunState.RUNNING})

    def test_os_script_fails(self) -> None:
        """If the OS cannot be installed, the instance stays for a look, stopped, its disks closed."""
        one = world()
        one.model.break_call(InstanceOsAdd, "exit code 1, last line: no mirror")
        with self.assertRaisesRegex(OperationFailed, f"could not add OS noop for instance {NAME}.*no mirror"):
            one.run(op())
        instance = one.cluster.instance(NAME)
        self.assertEqual(
            (instance.admin_state, instance.forthcoming, instance.disks_active),
            (AdminState.DOWN, False, False),
        )
        self.assertEqual(one.model.stored(instance.disks[0]), {NODE1})
        one.run(RemoveInstance(instance_name=NAME))

    def test_start_fails(self) -> None:
        """If it does not start, that is the error; the instance stays and is to run."""
        one = world()
        one.model.break_call(InstanceStart, "no kvm")
        with self.assertRaisesRegex(OperationFailed, "no kvm"):
            one.run(op())
        self.assertEqual(one.cluster.instance(NAME).admin_state, AdminState.UP)

    def test_disk_does_not_open(self) -> None:
        """If the disk cannot be opened for the OS, the instance stays."""
        one = world()
        one.model.break_call(DiskAssemble, BlockDeviceError("gone"))
        self.assertRaises(OperationFailed, one.run, op())
        self.assertEqual(one.cluster.instance(NAME).disks_active, False)

    def test_not_durable(self) -> None:
        """If the configuration cannot be written, nothing is done on nodes."""
        one = world()
        one.config.failure = "disk full"
        with self.assertRaisesRegex(Exception, "disk full"):
            one.run(op())
        self.assertEqual(one.nodes.calls_of(DiskCreate), [])


class RefusalTests(SynchronousTestCase):
    """What is refused, with the object and the remedy; nothing is changed."""

    def test_table(self) -> None:
        """Each wrong wish and what is said."""
        two = {"size": 1024, "name": "a"}
        cases: tuple[tuple[dict[str, Any], str], ...] = (
            ({"instance_name": "no spaces"}, "'no spaces' cannot name an instance"),
            ({"hypervisor": "lxc"}, "'lxc' is not enabled.*fake, kvm"),
            ({"disk_template": "nfs"}, "disk template 'nfs' is not enabled"),
            ({"os_type": None}, "no OS given; choose one with -o, or give --no-install"),
            ({"os_type": "windows"}, "OS windows cannot be used on node node1"),
            ({"pnode": None}, r"give a node \(-n\) or an allocator"),
            ({"iallocator": "hail"}, "either a node or an allocator"),
            ({"ip_check": True}, r"\(ip_check\) needs.*\(name_check\)"),
            ({"name_check": True}, f"{NAME} has no address"),
            ({"disks": ()}, "template file needs at least one disk"),
            ({"disks": ({"size": 1024},), "disk_template": "diskless"}, "cannot have disks"),
            ({"disks": ({},)}, "disk 0 has no size; write for example size=10g"),
            ({"disks": ({"size": "big"},)}, "disk 0: cannot read the size 'big'"),
            ({"disks": ({"size": -1},)}, "disk 0: the size must be more"),
            ({"disks": ({"size": 1024, "mode": "rx"},)}, "disk 0: mode is rw or ro"),
            ({"disks": ({"size": 1024, "colour": "red"},)}, "disk 0: unknown key 'colour'"),
            ({"disks": (two, two)}, "disk name 'a' is used twice"),
            ({"disks": ({"size": 1024},) * 17}, "at most 16 disks, not 17"),
            ({"nics": ({},) * 9}, "at most 8 network interfaces"),
            ({"nics": ({"speed": "fast"},)}, "network interface 0: unknown key 'speed'"),
            ({"nics": ({"mode": "routed"},)}, "network interface 0 is routed and needs an IP address"),
            ({"nics": ({"mac": "zz"},)}, "network interface 0: 'zz' is no MAC address; write it as"),
            ({"nics": ({"ip": "here"},)}, "network interface 0: 'here' is no IP address"),
            ({"nics": ({"ip": "pool"},)}, "ip=pool takes an address of a network; name the network"),
            ({"nics": ({"ip": "auto"},)}, f"address of the name {NAME}; have it looked up with --name-check"),
            ({"nics": ({"mode": "sideways"},)}, "cannot be 'sideways'; allowed: bridged"),
            ({"nics": ({"bridge": "a", "link": "b"},)}, "bridge is short for"),
            ({"nics": ({"network": "lan", "link": "b"},)}, "leave mode and link away"),
            ({"nics": ({"network": "lan"},)}, "network 'lan' is not known"),
            ({"beparams": {"minmem": 512, "maxmem": 256}}, r"minmem \(512 MiB\).*maxmem \(256"),
            ({"beparams": {"memry": 512}}, "'memry'"),
            ({"hvparams": {"colour": "red"}}, "'colour'"),
            ({"hypervisor": "kvm", "hvparams": {"migration_port": 1}}, "migration_port"),
            ({"tags": ("not a tag",)}, "tag 'not a tag'"),
            ({"disk_template": "drbd"}, "need a secondary node; write -n PRIMARY:SECONDARY"),
            ({"disk_template": "drbd", "snode": "node1"}, "must be another one"),
            ({"pnode": "node9"}, "node 'node9' is not known"),
            ({"disks": ({"size": 16},)}, "violates the instance policy of group default.*--ignore-ipolicy"),
        )
        for changes, pattern in cases:
            self.assertRegex(str(refuses(None, op(**changes))), pattern)

    def test_exists(self) -> None:
        """A name that is taken is refused."""
        one = world(with_instance(cluster(), NAME, template="file"))
        with self.assertRaisesRegex(PrereqError, f"{NAME} exists already") as caught:
            one.run(op())
        self.assertEqual(caught.exception.code, ErrorCode.EXISTS)

    def test_larger_than_capacity_counts(self) -> None:
        """Where that is enforced, an instance is no larger than `max_inst_spec` (S2.3-088)."""
        own = CapacitySettings(max_inst_spec=(64, 10240, 2))
        value = with_settings(cluster(), capacity_params=own, enforce_max_inst_spec=True)
        self.assertIn("memory 128 MiB is more than the 64 MiB of max_inst_spec", str(refuses(value, op())))
        OperationWorld(value).run(op(ignore_ipolicy=True))
        OperationWorld(with_settings(value, enforce_max_inst_spec=False)).run(op())

    def test_nodes(self) -> None:
        """Nodes that may not get instances (S2.3-101, S2.3-102)."""
        gone = {"master_candidate": False}
        for flags, pattern in (
            ({"offline": True, **gone}, "is marked offline"),
            ({"drained": True, **gone}, "is drained"),
            ({"vm_capable": False}, "vm_capable is off"),
        ):
            value = with_node(cluster(), "node2", **flags)
            self.assertRegex(str(refuses(value, op(pnode="node2"))), f"to node node2.*{pattern}")

    def test_groups(self) -> None:
        """Both nodes of a mirrored instance are in one group."""
        value = cluster(nodes=2, groups=2)
        error = refuses(value, op(disk_template="drbd", snode="node2"))
        self.assertRegex(str(error), "must be in the same node group")

    def test_blacklisted(self) -> None:
        """A blacklisted OS cannot be installed, whatever its variant."""
        value = with_settings(cluster(), blacklisted_os=("noop",))
        self.assertRegex(str(refuses(value, op(os_type="noop+small"))), "noop.small is blacklisted")

    def test_policy_can_be_ignored(self) -> None:
        """A violation of the policy may be ignored."""
        one = world()
        one.run(op(disks=({"size": 16},), ignore_ipolicy=True))
        self.assertEqual(one.model.where(NAME), {NODE1: RunState.RUNNING})

    def test_no_memory(self) -> None:
        """It needs its minimal memory, if it is to start."""
        one = world(memory_mib=2048)
        with self.assertRaisesRegex(PrereqError, f"{NODE1} has 1024 MiB.*{NAME} needs 2048") as caught:
            one.run(op(beparams={"memory": 2048}))
        self.assertEqual(caught.exception.code, ErrorCode.NO_RESOURCES)

    def test_no_space(self) -> None:
        """Its disks must fit on each of its nodes that reports what it has free."""
        space = StorageSpace(type="file", name="dir", storage_free=1000, storage_size=5000)
        capacity = NodeCapacity(memory_total=8192, memory_free=8192, memory_dom0=0, cpu_total=4)
        one = world()
        info = NodeInfoResult(boot_id="boot", storage=(space,), hypervisors={"fake": capacity})
        one.nodes.answer(NodeInfo, info)
        with self.assertRaisesRegex(PrereqError, f"{NODE1} has 1000 MiB.*file disks.*needs 1024") as caught:
            one.run(op())
        self.assertEqual(caught.exception.code, ErrorCode.NO_RESOURCES)
        self.assertEqual(one.config.changes, [])

    def test_address_of_the_name(self) -> None:
        """ip=auto is the address that the name has."""
        one = world()
        one.reachability.names[NAME] = "10.0.0.99"
        one.run(op(name_check=True, nics=({"ip": "auto"}, {})))
        self.assertEqual([nic.ip for nic in one.cluster.instance(NAME).nics], ["10.0.0.99", None])

    def test_what_nodes_say(self) -> None:
        """What the hypervisor or the network of the node refuses is refused."""
        for call, pattern in (
            (HypervisorValidateParams, "hypervisor fake on node node1.*not here"),
            (BridgesExist, f"cannot connect {NAME} on node1.*not here"),
        ):
            one = world()
            one.model.break_call(call, "not here")
            with self.assertRaisesRegex(PrereqError, pattern) as caught:
                one.run(op())
            self.assertEqual(caught.exception.code, ErrorCode.ENVIRONMENT)

    def test_mac_in_use(self) -> None:
        """A MAC address of another instance is refused; no entry is made."""
        value = with_instance(cluster(), "other", template="file")
        mac = value.instance("other").nics[0].mac
        one = world(value)
        with self.assertRaisesRegex(PrereqError, f"{mac} is used") as caught:
            one.run(op(nics=({"mac": mac},)))
        self.assertEqual(caught.exception.code, ErrorCode.NOT_UNIQUE)
        self.assertEqual(len(one.cluster.instances), 1)

    def test_address_in_use(self) -> None:
        """With ip_check an address that answers is refused; one that does not is fine."""
        one = world()
        one.reachability.names[NAME] = "10.0.0.99"
        one.reachability.answering.add("10.0.0.99")
        wish = op(name_check=True, ip_check=True)
        with self.assertRaisesRegex(PrereqError, f"10.0.0.99 of {NAME} is in use") as caught:
            one.run(wish)
        self.assertEqual(caught.exception.code, ErrorCode.NOT_UNIQUE)
        one.reachability.answering.clear()
        one.run(wish)

    def test_allocator_fails(self) -> None:
        """What the allocator says is told, and nothing is changed."""
        one = world()
        with self.assertRaisesRegex(Exception, "allocator hail crashed"):
            one.run(op(pnode=None, iallocator="hail"))
        self.assertEqual(one.config.changes, [])
