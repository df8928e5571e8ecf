"""Disks of simulated nodes: which exist, which are open, and mirrors that keep their rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ganeti.errors import BlockDeviceError
from ganeti.model.calls.base import NodeCall
from ganeti.model.calls.disks import (
    DiskAssemble,
    DiskCreate,
    DiskRemove,
    DiskRename,
    DiskShutdown,
    DiskSizes,
    DiskState,
    FindDisks,
    MirrorAttach,
    MirrorConnect,
    MirrorDetach,
    MirrorDisconnect,
    MirrorStatus,
    OpenDisk,
)
from ganeti.model.cluster import Cluster
from ganeti.model.disk import TRAITS, Disk, Mirroring
from ganeti.model.ids import DiskId, NodeId
from ganeti.model.node import Node
from ganeti.storage.mirror_model import Mirror, MirrorModel
from ganeti.testing.nodes import FakeNodes

MIB = 1024 * 1024


class SimulatedDisks:
    """The disks of all nodes, and answers by which they change.

    Args:
        nodes: knows which of them are dead; its clock is that of the copies.
        cluster: its disks exist; those of instances with open disks are open, and mirrors in step.
    """

    def __init__(self, nodes: FakeNodes, cluster: Cluster) -> None:
        self._nodes = nodes
        self.data: dict[str, set[DiskId]] = {}
        """Disks that exist, by name of node; of external storage under the name `shared`."""
        self.volumes: dict[str, set[str]] = {}
        """LVM volumes that exist, by name of node: `xenvg/web1.disk0_data`."""
        self.open: dict[str, set[DiskId]] = {}
        """Disks that are open, by name of node; mirrored ones are in `mirrors`."""
        self.mirrors: dict[DiskId, Mirror] = {}
        self.rate_mib_s = 1024.0
        """How fast mirrors copy."""
        self.dead = {node.uuid for node in cluster.nodes.values() if node.offline}
        """Nodes on which nothing is open whatever it was before."""
        self._names = {node.uuid: node.name for node in cluster.nodes.values()}
        for instance in cluster.instances.values():
            for disk in cluster.disks_of(instance):
                for uuid in disk.nodes or (instance.primary_node,):
                    self._put(cluster.nodes[uuid], disk, is_open=instance.disks_active)
                if is_mirrored(disk):
                    self._begin_mirror(disk, instance.primary_node, is_open=instance.disks_active)

    def answers(self) -> Mapping[type[NodeCall[Any]], Any]:
        """What the nodes say to calls about disks; closing is left to whoever knows what runs."""
        return {
            DiskCreate: self._create,
            DiskRemove: self._remove,
            DiskAssemble: self._assemble,
            DiskSizes: lambda node, call: tuple(self._size(node, disk) for disk in call.disks),
            DiskRename: self._rename,
            FindDisks: lambda node, call: tuple(self._find(node, disk) for disk in call.disks),
            MirrorStatus: lambda node, call: tuple(self.model(disk).status(node.uuid) for disk in call.disks),
            MirrorConnect: self._connect,
            MirrorDisconnect: self._disconnect,
            MirrorDetach: self._detach,
            MirrorAttach: self._attach,
        }

    def opened(self, disk: DiskId) -> set[str]:
        """Names of nodes on which a disk is open."""
        found = {node for node, disks in self.open.items() if disk in disks}
        mirror = self.mirrors.get(disk)
        ends = mirror.ends if mirror is not None else {}
        return found | {self._names[NodeId(node)] for node, end in ends.items() if end.is_open}

    def is_usable(self, node: str, disk: Disk) -> bool:
        """Whether a guest can write there; of a mirrored disk only a primary end will do."""
        if is_mirrored(disk):
            return disk.uuid in self.mirrors and node in self.primaries(disk.uuid)
        return disk.uuid in self.open.get(node, set())

    def primaries(self, disk: DiskId) -> set[str]:
        """Names of nodes on which a mirrored disk is primary."""
        return {self._names[NodeId(node)] for node, end in self.mirrors[disk].ends.items() if end.is_primary}

    def in_step(self, disk: DiskId) -> set[str]:
        """Names of nodes whose data of a mirrored disk is the newest."""
        ends = self.mirrors[disk].ends.items()
        return {self._names[NodeId(node)] for node, end in ends if end.is_attached and not end.behind_mib}

    def cut_power(self, node: str) -> None:
        """Close everything on a node."""
        self.open.pop(node, None)
        (uuid,) = (found for found, name in self._names.items() if name == node)
        for disk, mirror in self.mirrors.items():
            model = self._model_of(mirror)
            model.close(uuid)
            self.mirrors[disk] = model.mirror

    def model(self, disk: Disk) -> MirrorModel:
        """The mirror now."""
        model = self._model_of(self.mirrors.get(disk.uuid) or Mirror(size_mib=disk.size))
        if disk.uuid in self.mirrors:
            self.mirrors[disk.uuid] = model.mirror
        return model

    def close(self, node: Node, call: DiskShutdown) -> None:
        """Close a disk."""
        self.open.setdefault(node.name, set()).discard(call.disk.uuid)
        if call.disk.uuid in self.mirrors:
            model = self.model(call.disk)
            model.close(node.uuid)
            self.mirrors[call.disk.uuid] = model.mirror

    # --- calls

    def _create(self, node: Node, call: DiskCreate) -> None:
        disk = call.disk
        if disk.uuid in self.data.get(_place(disk, node.name), set()):
            raise BlockDeviceError(f"disk {disk.iv_name} exists on {node.name} already")
        for volume in volumes_of(disk):
            if volume in self.volumes.get(node.name, set()):
                raise BlockDeviceError(f"volume {volume} exists on {node.name} already")
        self._put(node, disk, is_open=False)
        if is_mirrored(disk):
            model = self.model(disk)
            is_first = all(end.behind_mib for end in model.mirror.ends.values())
            model.create(node.uuid, has_newest=call.on_primary and is_first)
            self.mirrors[disk.uuid] = model.mirror

    def _remove(self, node: Node, call: DiskRemove) -> None:
        disk = call.disk
        if disk.uuid in self.open.get(node.name, set()):
            raise BlockDeviceError(f"disk {disk.iv_name} is in use on {node.name}")
        if disk.uuid in self.mirrors:
            model = self.model(disk)
            model.remove(node.uuid)
            self.mirrors[disk.uuid] = model.mirror
        self.data.setdefault(_place(disk, node.name), set()).discard(disk.uuid)
        self.volumes.setdefault(node.name, set()).difference_update(volumes_of(disk))

    def _assemble(self, node: Node, call: DiskAssemble) -> OpenDisk:
        disk = call.disk
        self._need(node, disk)
        if is_mirrored(disk):
            model = self.model(disk)
            model.open(node.uuid, _peer(disk), as_primary=call.on_primary)
            self.mirrors[disk.uuid] = model.mirror
        else:
            self.open.setdefault(node.name, set()).add(disk.uuid)
        return OpenDisk(path=f"/dev/{disk.uuid}", size=disk.size)

    def _rename(self, node: Node, call: DiskRename) -> None:
        here = self.volumes.setdefault(node.name, set())
        old, new = volumes_of(call.disk)[0], volumes_of(call.new)[0]
        if old in here and new in here:
            raise BlockDeviceError(f"volume {new} exists on {node.name} already")
        if old not in here and new not in here:
            raise BlockDeviceError(f"volume {old} is missing on {node.name}")
        here.discard(old)
        here.add(new)

    def _find(self, node: Node, disk: Disk) -> DiskState:
        missing = self._missing(node, disk)
        if not is_mirrored(disk):
            is_open = disk.uuid in self.open.get(node.name, set())
            return DiskState(missing=missing, is_open=is_open and not missing)
        status = self.model(disk).status(node.uuid)
        is_connected = status is not None and status.is_connected
        return DiskState(missing=missing, is_open=status is not None, is_connected=is_connected)

    def _connect(self, node: Node, call: MirrorConnect) -> None:
        for disk in call.disks:
            self._need(node, disk)
            model = self.model(disk)
            model.connect(node.uuid, _peer(disk), two_primaries=call.multimaster)
            self.mirrors[disk.uuid] = model.mirror

    def _disconnect(self, node: Node, call: MirrorDisconnect) -> None:
        for disk in call.disks:
            model = self.model(disk)
            model.disconnect(node.uuid)
            self.mirrors[disk.uuid] = model.mirror

    def _detach(self, node: Node, call: MirrorDetach) -> None:
        model = self.model(call.disk)
        model.detach(node.uuid)
        self.mirrors[call.disk.uuid] = model.mirror

    def _attach(self, node: Node, call: MirrorAttach) -> None:
        self._need(node, call.disk)
        model = self.model(call.disk)
        model.attach(node.uuid)
        self.mirrors[call.disk.uuid] = model.mirror

    # --- what is there

    def _put(self, node: Node, disk: Disk, *, is_open: bool) -> None:
        here = self.volumes.setdefault(node.name, set())
        here.update(volumes_of(disk))
        if disk.iv_name:
            self.data.setdefault(_place(disk, node.name), set()).add(disk.uuid)
        if is_open and not is_mirrored(disk):
            self.open.setdefault(node.name, set()).add(disk.uuid)

    def _begin_mirror(self, disk: Disk, primary: NodeId, *, is_open: bool) -> None:
        model = self._model_of(Mirror(size_mib=disk.size))
        # Made in step, whatever the time that a copy takes.
        for node in disk.nodes:
            model.create(node, has_newest=True)
        for node in disk.nodes if is_open else ():
            peer = next(other for other in disk.nodes if other != node)
            model.open(node, peer, as_primary=False)
        if is_open and primary not in self.dead:
            model.open(primary, None, as_primary=True)
        self.mirrors[disk.uuid] = model.mirror

    def _model_of(self, mirror: Mirror) -> MirrorModel:
        return MirrorModel(
            mirror,
            now=self._nodes.seconds(),
            rate_mib_s=self.rate_mib_s,
            is_alive=lambda node: node not in self.dead and node not in self._nodes.unreachable,
        )

    def _missing(self, node: Node, disk: Disk) -> tuple[str, ...]:
        if disk.iv_name and disk.uuid not in self.data.get(_place(disk, node.name), set()):
            return volumes_of(disk) or (disk.iv_name,)
        here = self.volumes.get(node.name, set())
        return tuple(volume for volume in volumes_of(disk) if volume not in here)

    def _need(self, node: Node, disk: Disk) -> None:
        missing = self._missing(node, disk)
        if missing:
            raise BlockDeviceError(f"disk {disk.iv_name} is missing on {node.name} ({', '.join(missing)})")

    def _size(self, node: Node, disk: Disk) -> int | None:
        return None if self._missing(node, disk) else disk.size * MIB


def is_mirrored(disk: Disk) -> bool:
    """Whether the disk is copied between two nodes."""
    traits = TRAITS.get(disk.dev_type)
    return traits is not None and traits.mirroring is Mirroring.INTERNAL


def volumes_of(disk: Disk) -> tuple[str, ...]:
    """Names of the LVM volumes of a disk."""
    return tuple("/".join(part.logical_id) for part in disk.walk() if part.dev_type == "plain")


def _peer(disk: Disk) -> str | None:
    peer = (disk.params or {}).get("remote-node")
    return None if peer is None else str(peer)


def _place(disk: Disk, node: str) -> str:
    traits = TRAITS.get(disk.dev_type)
    is_shared = traits is not None and traits.mirroring is Mirroring.EXTERNAL
    return "shared" if is_shared else node
