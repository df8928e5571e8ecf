"""Parameters of capacity: those of the cluster, of a group and of one question, laid over each other.

What is set nowhere follows from the instance policy of the group: the largest size that it allows, its ratio
of processors, the first enabled disk template that it allows; disks may be used to the full.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ganeti.errors import PrereqError
from ganeti.model.capacity import CapacityParams, CapacitySettings
from ganeti.model.cluster import Cluster
from ganeti.model.node import NodeGroup
from ganeti.model.params import RESET

NAMES = tuple(field.name for field in msgspec.structs.fields(CapacitySettings))


def given_params(opcode: object) -> dict[str, Any]:
    """The parameters of an opcode that are there."""
    return {name: value for name in NAMES if (value := getattr(opcode, name)) is not None}


def merged_settings(own: CapacitySettings, given: Mapping[str, Any]) -> CapacitySettings:
    """Settings after a change; `default` takes one away.

    Raises:
        PrereqError: wrong_input, with the parameter and what it may be.
    """
    changes = {name: None if value == RESET else value for name, value in given.items()}
    for name, value in changes.items():
        if value is not None:
            check_param(name, value)
    return msgspec.structs.replace(own, **changes)


def check_param(name: str, value: Any) -> None:
    """Refuse a value that cannot be one of this parameter.

    Raises:
        PrereqError: wrong_input.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match name:
        case "max_inst_spec":
            is_good = not isinstance(value, str) and len(value) == 3 and all(one > 0 for one in value)
            wanted = "memory (MiB), disk (MiB) and virtual processors, each a whole number above 0"
        case "default_template":
            is_good, wanted = isinstance(value, str) and bool(value), "the name of a disk template"
        case "max_cpu_ratio":
            is_good, wanted = is_number and 0 < value < float("inf"), "a number above 0"
        case _:
            is_good, wanted = is_number and 0 < value <= 1, "a number above 0 and at most 1"
    if not is_good:
        raise PrereqError(f"{name} is {value!r}; it must be {wanted}")


def check_template(cluster: Cluster, name: str | None) -> None:
    """Refuse a disk template that is not enabled.

    Raises:
        PrereqError: wrong_input.
    """
    enabled = cluster.settings.enabled_disk_templates
    if name is not None and name != RESET and name not in enabled:
        raise PrereqError(
            f"default_template is {name!r}, which is not enabled; enabled: {', '.join(enabled)}"
        )


def oversize(
    cluster: Cluster, group: NodeGroup, *, memory: int, vcpus: int, disk_sizes: Sequence[int]
) -> tuple[str, ...]:
    """In what an instance is larger than any that capacity counts in a group, if that is refused (S2.3-088).

    Args:
        cluster: the configuration, in which it is refused or not.
        group: where it is to be.
        memory: MiB.
        vcpus: virtual processors.
        disk_sizes: MiB each; together they are compared.
    """
    if not cluster.settings.enforce_max_inst_spec:
        return ()
    largest = filled_params(cluster, group).max_inst_spec
    asked = (("memory", memory, " MiB"), ("disk space", sum(disk_sizes), " MiB"), ("vcpus", vcpus, ""))
    return tuple(
        f"{name} {value}{unit} is more than the {most}{unit} of max_inst_spec"
        for (name, value, unit), most in zip(asked, largest)
        if value > most
    )


def filled_params(
    cluster: Cluster, group: NodeGroup, asked: CapacitySettings | None = None
) -> CapacityParams:
    """What counts in a group: that of the question before that of the group before that of the cluster."""
    policy = cluster.policy_of(group.uuid)
    largest = max(
        ((pair.max.memory_size, pair.max.disk_size, pair.max.cpu_count) for pair in policy.minmax),
        default=(1, 1, 1),
    )
    enabled = cluster.settings.enabled_disk_templates
    allowed = [name for name in enabled if name in policy.disk_templates]
    values: dict[str, Any] = {
        "max_inst_spec": largest,
        "default_template": (allowed or [*enabled, "plain"])[0],
        "max_cpu_ratio": policy.vcpu_ratio,
        "max_disk_usage": 1.0,
    }
    for layer in (cluster.settings.capacity_params, group.capacity_params, asked):
        if layer is not None:
            values.update({name: value for name in NAMES if (value := getattr(layer, name)) is not None})
    return CapacityParams(**values)
