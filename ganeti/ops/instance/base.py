"""What operations on one instance are made of: its name in the opcode, its lock, its hooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, TypeVar

from ganeti.model.cluster import Cluster
from ganeti.model.instance import Instance
from ganeti.model.locks import LockLevel, LockPlan, exclusive
from ganeti.ops.base import HookNodes, OpCode, Operation, Param
from ganeti.ops.instance.common import hook_env, hook_nodes
from ganeti.ops.kinds import INSTANCE


class InstanceOpCode(OpCode, frozen=True, kw_only=True):
    """Acts on an instance that exists."""

    summary_field: ClassVar[str | None] = "instance_name"

    instance_name: Annotated[str, Param("name of the instance", kind=INSTANCE)]
    instance_uuid: Annotated[str | None, Param("the same by UUID, which counts if both are given")] = None


O = TypeVar("O", bound=InstanceOpCode)  # noqa: E741
F = TypeVar("F")
R = TypeVar("R")


class InstanceOperation(Operation[O, F, R]):
    """Locks the instance, and runs hooks on the master and the nodes of the instance."""

    def instance(self, cluster: Cluster) -> Instance:
        """The instance as it is now.

        Raises:
            PrereqError: unknown_entity.
        """
        uuid = self.op.instance_uuid
        return cluster.instance(self.op.instance_name if uuid is None else uuid)

    def locks(self, cluster: Cluster) -> LockPlan:
        """The instance."""
        return LockPlan(requests={LockLevel.INSTANCE: exclusive([self.instance(cluster).name])})

    def hook_values(self) -> Mapping[str, object]:
        """Variables for hooks besides those of the instance."""
        return {}

    def hook_env(self, cluster: Cluster) -> Mapping[str, str]:
        """The instance, and `hook_values`."""
        return hook_env(cluster, self.instance(cluster), **self.hook_values())

    def hook_nodes(self, cluster: Cluster) -> HookNodes:
        """Master and the instance's nodes."""
        return hook_nodes(cluster, self.instance(cluster))
