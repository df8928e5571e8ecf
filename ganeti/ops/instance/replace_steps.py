"""The six steps in which one end of mirrored disks gets new data, on its node or on another one.

Until the new data is in place the old one is what counts, and a failure takes the new one away again.
After that the other end is what counts, and whoever comes next - the same command again, or
`activate-disks` - finds in the configuration what ought to be there. What a broken-off attempt left
behind has names that follow from those of the disk, so that the next attempt removes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from msgspec.structs import replace

from ganeti.errors import GanetiError, OperationFailed
from ganeti.interfaces import IRenamable, ISyncing
from ganeti.logic.disk_replacement import Replacement
from ganeti.logic.instance_changes import put_instance
from ganeti.logic.reservations import free_minor
from ganeti.model.calls.disks import (
    DiskAssemble,
    DiskCreate,
    DiskRemove,
    DiskRename,
    DiskShutdown,
    FindDisks,
    LocalData,
    MirrorAttach,
    MirrorConnect,
    MirrorDetach,
    MirrorDisconnect,
    SyncStatus,
)
from ganeti.model.cluster import Cluster
from ganeti.model.disk import Disk
from ganeti.model.filled import fill_disk
from ganeti.model.ids import InstanceId, NodeId
from ganeti.model.instance import Instance
from ganeti.model.locks import LockLevel
from ganeti.model.node import Node
from ganeti.model.spec import Reservations
from ganeti.ops.base import Context
from ganeti.ops.mirrors import mirror_states, wait_for_sync
from ganeti.ops.steps import attempt

STEPS = 6
NEW, REPLACED = "_new", "_replaced"
"""Ends of the names of volumes that are about to be used, and of those that are not used any more."""


class _Replacing:
    """What both ways have in common.

    Args:
        ctx: of the operation.
        uuid: the instance; its disks are open on the primary.
        plan: what is replaced.
        early_release: old data is removed, and locks are released, before the new data is in step.
    """

    def __init__(self, ctx: Context, uuid: InstanceId, plan: Replacement, *, early_release: bool) -> None:
        cluster = ctx.cluster
        self.ctx = ctx
        self.plan = plan
        self.early_release = early_release
        self.instance: Instance = cluster.instances[uuid]
        all_disks = tuple(cluster.disks_of(self.instance))
        self.disks: tuple[Disk, ...] = tuple(all_disks[index] for index in plan.disks)
        self.node: Node = cluster.nodes[plan.node]
        self.primary: Node = cluster.nodes[self.instance.primary_node]

    async def run(self) -> None:
        """All steps.

        Raises:
            OperationFailed: with what holds now, and what goes on from there.
        """
        await self._check_existence()
        self._step(2, "Check peer consistency")
        await self._check_source()
        self._step(3, "Allocate new storage")
        await self._create()
        self._step(4, "Changing drbd configuration")
        await self._switch()
        steps = [self._sync, self._remove_old]
        texts = {self._sync: "Sync devices", self._remove_old: "Removing old storage"}
        if self.early_release:
            steps.reverse()
        for number, step in enumerate(steps, start=5):
            self._step(number, texts[step])
            await step()
            if step == self._remove_old and self.early_release:
                # Nobody else waits for hours because of a copy.
                self.ctx.held.release(LockLevel.NODE)
                self.ctx.held.release(LockLevel.NODE_RES)

    async def _create(self) -> None:
        raise NotImplementedError

    async def _switch(self) -> None:
        raise NotImplementedError

    async def _remove_old(self) -> None:
        raise NotImplementedError

    @property
    def _source(self) -> Node:
        """The node whose data is copied."""
        raise NotImplementedError

    def _step(self, number: int, text: str) -> None:
        self.ctx.feedback.step(number, STEPS, text)

    async def _check_existence(self) -> None:
        self._step(1, "Check device existence")
        self._refuse_closed(await self._states(self.primary), self.primary)

    async def _check_source(self) -> None:
        states = await self._states(self._source)
        self._refuse_closed(states, self._source)
        for index, state in zip(self.plan.disks, states):
            if state is not None and state.ldisk_status is not LocalData.OKAY:
                raise OperationFailed(
                    f"disk {index} of {self.instance.name} has no good data on {self._source.name}, "
                    "from where it would be copied; nothing was changed"
                )

    def _refuse_closed(self, states: Sequence[SyncStatus | None], node: Node) -> None:
        for index, state in zip(self.plan.disks, states):
            if state is None:
                raise OperationFailed(
                    f"disk {index} of {self.instance.name} is not open on {node.name}; "
                    f"'gnt-instance activate-disks {self.instance.name}' opens it"
                )

    async def _states(self, node: Node) -> Sequence[SyncStatus | None]:
        return await attempt(
            mirror_states(self.ctx, self.instance.uuid, node.uuid, only=self.plan.disks),
            f"cannot find out the state of the disks of {self.instance.name} on {node.name}",
        )

    async def _sync(self) -> None:
        try:
            await wait_for_sync(self.ctx, self.instance.uuid)
        except OperationFailed as error:
            raise OperationFailed(f"the new data is in use, but not in step: {error}") from error

    async def _remove_quietly(self, node: Node, disk: Disk, why: str) -> None:
        """Remove data that nobody needs; a failure is only told."""
        try:
            await self.ctx.nodes.call(node, DiskRemove(disk=fill_disk(self.ctx.cluster, disk, node.uuid)))
        except GanetiError as error:
            self.ctx.feedback.warning(
                f"cannot remove {why} of {disk.iv_name or disk.uuid} on {node.name}: {error}",
                hint="remove it by hand",
            )

    async def _create_all(self, disks: Sequence[Disk]) -> None:
        """Create data on the node; what an earlier attempt left goes first, nothing stays of a failure."""
        created: list[Disk] = []
        for disk in disks:
            filled = fill_disk(self.ctx.cluster, disk, self.node.uuid)
            try:
                await self.ctx.nodes.call(self.node, DiskRemove(disk=filled))
                await self.ctx.nodes.call(
                    self.node, DiskCreate(disk=filled, owner=self.instance.name, on_primary=False)
                )
            except GanetiError as error:
                for done in created:
                    await self._remove_quietly(self.node, done, "new data")
                raise OperationFailed(
                    f"cannot create new data for {self.instance.name} on {self.node.name}: {error}; "
                    "nothing was changed"
                ) from error
            created.append(disk)


class SameNode(_Replacing):
    """New volumes on a node that has a part of the mirror: what it stands on is exchanged."""

    @property
    def _source(self) -> Node:
        (other,) = (node for node in self.ctx.cluster.nodes_of(self.instance) if node != self.plan.node)
        return self.ctx.cluster.nodes[other]

    async def _create(self) -> None:
        await self._create_all([self._beside(part, NEW) for disk in self.disks for part in disk.children])

    async def _switch(self) -> None:
        for index, disk in zip(self.plan.disks, self.disks):
            filled = fill_disk(self.ctx.cluster, disk, self.node.uuid)
            try:
                await self.ctx.nodes.call(self.node, MirrorDetach(disk=filled))
            except GanetiError as error:
                for left in self.disks[self.plan.disks.index(index) :]:
                    for part in left.children:
                        await self._remove_quietly(self.node, self._beside(part, NEW), "new data")
                raise OperationFailed(
                    f"disk {index} of {self.instance.name} does not let go of its data on {self.node.name}: "
                    f"{error}; it goes on as before"
                ) from error
            try:
                for part in disk.children:
                    await self._exchange(part)
                await self.ctx.nodes.call(self.node, MirrorAttach(disk=filled))
            except GanetiError as error:
                raise OperationFailed(
                    f"disk {index} of {self.instance.name} has only its data on {self._source.name} now: "
                    f"{error}; repeat when {self.node.name} is well",
                    detail=error.detail,
                ) from error

    async def _exchange(self, part: Disk) -> None:
        (found,) = await self.ctx.nodes.call(self.node, FindDisks(disks=(part,)))
        old, new = self._beside(part, REPLACED), self._beside(part, NEW)
        if not found.missing:
            await self.ctx.nodes.call(self.node, DiskRemove(disk=old))
            await self.ctx.nodes.call(self.node, DiskRename(disk=part, new=old))
        await self.ctx.nodes.call(self.node, DiskRename(disk=new, new=part))

    async def _remove_old(self) -> None:
        for disk in self.disks:
            for part in disk.children:
                await self._remove_quietly(self.node, self._beside(part, REPLACED), "old data")

    def _beside(self, part: Disk, suffix: str) -> Disk:
        plugin = self.ctx.plugins.storage[part.dev_type]
        if not IRenamable.providedBy(plugin):
            raise OperationFailed(f"disks of template {part.dev_type} cannot be renamed; nothing was changed")
        found: Disk = plugin.beside(part, suffix)
        return found


class NewSecondary(_Replacing):
    """The mirror gets another secondary node."""

    def __init__(self, ctx: Context, uuid: InstanceId, plan: Replacement, *, early_release: bool) -> None:
        super().__init__(ctx, uuid, plan, early_release=early_release)
        assert plan.leaving is not None
        self.leaving: Node = ctx.cluster.nodes[plan.leaving]
        self.moved: tuple[Disk, ...] = ()
        """The disks as they will be."""

    @property
    def _source(self) -> Node:
        return self.primary

    async def _create(self) -> None:
        self.moved = self._laid_out(self.ctx.cluster)
        await self._create_all(self.moved)

    def _laid_out(self, cluster: Cluster) -> tuple[Disk, ...]:
        taken: set[int] = set()

        def new_minor(node: str) -> int:
            taken.add(minor := free_minor(cluster, NodeId(node), taken=taken))
            return minor

        reservations = Reservations(
            instance_uuid=self.instance.uuid,
            instance_name=self.instance.name,
            new_uuid=self.ctx.new_uuid,
            new_port=_nothing_new,
            new_secret=_nothing_new,
            new_minor=new_minor,
        )
        moved = []
        for disk in self.disks:
            plugin = self.ctx.plugins.storage[disk.dev_type]
            if not ISyncing.providedBy(plugin):
                raise OperationFailed(f"disks of template {disk.dev_type} are not mirrored")
            moved.append(plugin.moved(disk, self.leaving.uuid, self.node.uuid, reservations))
        return tuple(moved)

    async def _switch(self) -> None:
        await self._close_leaving()
        try:
            await self.ctx.nodes.call(
                self.primary, MirrorDisconnect(disks=self._filled(self.disks, self.primary))
            )
        except GanetiError as error:
            await self._return_to_leaving()
            raise OperationFailed(
                f"the disks of {self.instance.name} do not disconnect on {self.primary.name}: {error}; they "
                f"stay mirrored to {self.leaving.name}"
            ) from error
        # From here on the new node is what everybody finds in the configuration.
        await self.ctx.config.update(
            partial(_with_disks, uuid=self.instance.uuid, disks=self.moved),
            reason=f"{self.instance.name} is mirrored to {self.node.name} in place of {self.leaving.name}",
        )
        for node in (self.node, self.primary):
            await attempt(
                self.ctx.nodes.call(node, MirrorConnect(disks=self._filled(self.moved, node))),
                f"the new secondary node {self.node.name} of {self.instance.name} is recorded, but its disks "
                f"do not connect on {node.name} ('gnt-instance activate-disks {self.instance.name}' helps)",
            )

    async def _close_leaving(self) -> None:
        if self.leaving.offline:
            self.ctx.feedback.warning(f"node {self.leaving.name} is offline: nothing is closed there")
            return
        for index, disk in zip(self.plan.disks, self._filled(self.disks, self.leaving)):
            try:
                await self.ctx.nodes.call(
                    self.leaving, DiskShutdown(disk=disk, instance=self.instance.name, index=index)
                )
            except GanetiError as error:
                self.ctx.feedback.warning(
                    f"cannot close disk {index} of {self.instance.name} on {self.leaving.name}: {error}",
                    hint="the node may need to be cleaned up by hand",
                )

    async def _return_to_leaving(self) -> None:
        """Undo what was done on the old node, as well as possible, and drop the new data."""
        for disk in self.moved:
            await self._remove_quietly(self.node, disk, "new data")
        for index, disk in zip(self.plan.disks, self._filled(self.disks, self.leaving)):
            call = DiskAssemble(disk=disk, instance=self.instance.name, on_primary=False, index=index)
            try:
                await self.ctx.nodes.call(self.leaving, call)
            except GanetiError as error:
                self.ctx.feedback.warning(
                    f"disk {index} of {self.instance.name} is closed on {self.leaving.name}: {error}",
                    hint=f"'gnt-instance activate-disks {self.instance.name}' opens it",
                )

    async def _remove_old(self) -> None:
        if self.leaving.offline:
            self.ctx.feedback.warning(
                f"the old data of {self.instance.name} stays on offline node {self.leaving.name}",
                hint="remove it by hand when the node is back",
            )
            return
        for disk in self.disks:
            await self._remove_quietly(self.leaving, disk, "old data")

    def _filled(self, disks: Sequence[Disk], node: Node) -> tuple[Disk, ...]:
        return tuple(fill_disk(self.ctx.cluster, disk, node.uuid) for disk in disks)


def _with_disks(cluster: Cluster, *, uuid: InstanceId, disks: Sequence[Disk]) -> Cluster:
    current = {disk.uuid: disk for disk in disks}
    kept = (
        replace(cluster.disks[disk], logical_id=new.logical_id, nodes=new.nodes, children=new.children)
        for disk, new in current.items()
    )
    return put_instance(cluster, cluster.instances[uuid], kept)


def _nothing_new() -> Any:
    raise OperationFailed("a disk that moves keeps its port and its secret")
