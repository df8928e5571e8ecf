"""What operations on one node group are made of: its name in the opcode, its lock, its hooks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, ClassVar, TypeVar

from ganeti.errors import ErrorCode, PrereqError
from ganeti.model.cluster import Cluster
from ganeti.model.ids import GROUP_NAME, GroupId
from ganeti.model.ipolicy import check_policy, check_templates, policy_from
from ganeti.model.locks import LockLevel, LockPlan, exclusive
from ganeti.model.node import NodeGroup
from ganeti.ops.base import OpCode, Operation, Param
from ganeti.ops.kinds import GROUP


class GroupOpCode(OpCode, frozen=True, kw_only=True):
    """Acts on a node group that exists."""

    summary_field: ClassVar[str | None] = "group_name"

    group_name: Annotated[str, Param("name of the group", kind=GROUP)]


O = TypeVar("O", bound=GroupOpCode)  # noqa: E741
F = TypeVar("F")
R = TypeVar("R")


class GroupOperation(Operation[O, F, R]):
    """Locks the group, and runs hooks on the master."""

    def group(self, cluster: Cluster) -> NodeGroup:
        """The group as it is now.

        Raises:
            PrereqError: unknown_entity.
        """
        return cluster.group(self.op.group_name)

    def locks(self, cluster: Cluster) -> LockPlan:
        """The group."""
        return LockPlan(requests={LockLevel.NODEGROUP: exclusive([self.group(cluster).uuid])})

    def hook_env(self, cluster: Cluster) -> Mapping[str, str]:
        """The name of the group."""
        return {"OP_TARGET": self.op.group_name, "GROUP_NAME": self.op.group_name}


def check_new_name(cluster: Cluster, name: str) -> None:
    """Refuse a name that is none, or that means a group already.

    Raises:
        PrereqError: wrong_input or already_exists.
    """
    if GROUP_NAME.match(name) is None:
        raise PrereqError(f"{name!r} cannot name a node group; use letters, digits, _, minus and dots")
    for group in cluster.groups.values():
        if name in (group.name, group.uuid):
            raise PrereqError(
                f"there is a node group {group.name} ({group.uuid}) already; choose another name",
                code=ErrorCode.EXISTS,
            )


def check_group_policy(cluster: Cluster, group: NodeGroup) -> None:
    """Refuse a policy that makes no sense below that of the cluster.

    Raises:
        PrereqError: with everything that is wrong.
    """
    if "std" in group.ipolicy:
        raise PrereqError("the standard size (std) is set for the cluster, not for a group")
    policy = policy_from(cluster.settings.ipolicy, group.ipolicy)
    check_policy(policy, of_group=True)
    check_templates(policy, cluster.settings.enabled_disk_templates)


def target_groups(
    cluster: Cluster, wanted: Sequence[str] | None, homes: Collection[GroupId]
) -> tuple[GroupId, ...]:
    """Groups to which instances may go that are to leave others.

    Args:
        cluster: the configuration.
        wanted: names or UUIDs; None or nothing: all others.
        homes: groups that they are to leave.

    Raises:
        PrereqError: wrong_input: one of the homes, or there are no others.
    """
    if wanted:
        found = tuple(dict.fromkeys(cluster.group(name).uuid for name in wanted))
        for group in found:
            if group in homes:
                raise PrereqError(
                    f"instances are to leave group {cluster.groups[group].name}; it cannot be their target"
                )
        return found
    others = tuple(group for group in cluster.groups if group not in homes)
    if not others:
        raise PrereqError("there is no other node group to which they could go; 'gnt-group add' makes one")
    return others
