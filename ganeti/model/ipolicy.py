"""Instance policies: how large an instance may be, and which disk templates it may use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ganeti.errors import PrereqError


class InstanceSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """Size of an instance; memory in MiB, disk size in MiB of each disk."""

    memory_size: int
    cpu_count: int
    disk_count: int
    disk_size: int
    nic_count: int
    spindle_use: int


class SpecRange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An instance fits when every figure lies between the two."""

    min: InstanceSpec
    max: InstanceSpec


class InstancePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """A complete policy, as the cluster has one; groups override parts (objects.md section 14)."""

    minmax: tuple[SpecRange, ...]
    std: InstanceSpec
    disk_templates: tuple[str, ...]
    vcpu_ratio: float = 4.0
    spindle_ratio: float = 32.0


DEFAULT_MIN = InstanceSpec(
    memory_size=128, cpu_count=1, disk_count=1, disk_size=1024, nic_count=1, spindle_use=1
)
DEFAULT_MAX = InstanceSpec(
    memory_size=32768, cpu_count=8, disk_count=16, disk_size=1048576, nic_count=8, spindle_use=12
)
DEFAULT_POLICY = InstancePolicy(
    minmax=(SpecRange(min=DEFAULT_MIN, max=DEFAULT_MAX),),
    std=DEFAULT_MIN,
    disk_templates=(
        "blockdev",
        "diskless",
        "drbd",
        "ext",
        "file",
        "gluster",
        "plain",
        "rbd",
        "sharedfile",
    ),
)


def merge_policy(base: InstancePolicy, partial: Mapping[str, Any]) -> InstancePolicy:
    """A cluster policy with a group's partial one laid over it.

    `std` is merged figure by figure, everything else replaced.
    """
    values = msgspec.to_builtins(base)
    values.update({key: value for key, value in partial.items() if key != "std"})
    values["std"] = {**values["std"], **partial.get("std", {})}
    return msgspec.convert(values, InstancePolicy)


FIGURES: Mapping[str, str] = {
    "memory-size": "memory (MiB)",
    "cpu-count": "number of processors",
    "disk-count": "number of disks",
    "disk-size": "size of disk (MiB)",
    "nic-count": "number of network interfaces",
    "spindle-use": "spindle use",
}
"""Keys of a spec and what they mean, for messages."""


def policy_from(base: InstancePolicy, partial: Mapping[str, Any]) -> InstancePolicy:
    """As `merge_policy`, for parts that a user gave.

    Raises:
        PrereqError: wrong_input, with the key that is unknown or has the wrong type.
    """
    known = {field.encode_name for field in msgspec.structs.fields(InstancePolicy)}
    for key in partial:
        if key not in known:
            raise PrereqError(f"an instance policy has no {key!r}; known: {', '.join(sorted(known))}")
    try:
        return merge_policy(base, partial)
    except (msgspec.ValidationError, TypeError) as error:
        raise PrereqError(f"the instance policy cannot be read: {error}") from error


def check_policy(policy: InstancePolicy, *, of_group: bool = False) -> None:
    """Refuse a complete policy that contradicts itself.

    Args:
        policy: complete.
        of_group: that counts in a group: the standard size is a matter of the cluster.

    Raises:
        PrereqError: wrong_input, with everything that is wrong.
    """
    problems = policy_problems(policy, of_group=of_group)
    if problems:
        raise PrereqError("instance policy: " + "; ".join(problems))


def check_templates(policy: InstancePolicy, enabled: Sequence[str]) -> None:
    """Refuse a policy that allows disk templates which are not enabled.

    Raises:
        PrereqError: wrong_input, with the templates.
    """
    others = [name for name in policy.disk_templates if name not in enabled]
    if others:
        raise PrereqError(
            f"the instance policy allows disk template {', '.join(others)}, which is not enabled; enable it "
            "or leave it out of the policy"
        )


def policy_problems(policy: InstancePolicy, *, of_group: bool = False) -> tuple[str, ...]:
    """What is wrong in a policy: ranges that run backwards, a standard size outside all of them."""
    problems = [
        f"{figure} may be at least {low} but at most {high}"
        for pair in policy.minmax
        for figure, low, high in _bounds(pair)
        if low > high
    ]
    if not policy.minmax:
        problems.append("it has no range (minmax)")
    elif not of_group and not any(_contains(pair, policy.std) for pair in policy.minmax):
        outside = min((_outside(pair, policy.std) for pair in policy.minmax), key=len)
        problems.append(f"the standard size lies in no range: {', '.join(outside)}")
    if not policy.disk_templates:
        problems.append("it allows no disk template")
    for name, ratio in (("vcpu-ratio", policy.vcpu_ratio), ("spindle-ratio", policy.spindle_ratio)):
        if ratio < 1:
            problems.append(f"{name} is {ratio}; it must be at least 1")
    return tuple(problems)


def violations(
    policy: InstancePolicy,
    *,
    memory: int | None,
    vcpus: int | None,
    disk_sizes: Sequence[int],
    nic_count: int,
    spindle_use: int | None,
    template: str,
) -> tuple[str, ...]:
    """Why an instance does not fit a policy; empty: it does.

    It has to fit one of the ranges; what is told is the range that it misses least.

    Args:
        policy: complete.
        memory: MiB; None: not to be looked at.
        vcpus: None: not to be looked at.
        disk_sizes: MiB, each disk.
        nic_count: network interfaces.
        spindle_use: None: not to be looked at.
        template: of the disks.
    """
    found: list[str] = []
    if template not in policy.disk_templates:
        allowed = ", ".join(policy.disk_templates)
        found.append(f"disk template {template} is not allowed; allowed: {allowed}")
    wanted: list[tuple[str, str, int | None]] = [
        ("memory-size", "", memory),
        ("cpu-count", "", vcpus),
        ("nic-count", "", nic_count),
        ("spindle-use", "", spindle_use),
        *(("disk-size", f" {index}", size) for index, size in enumerate(disk_sizes)),
    ]
    if template != "diskless":
        wanted.append(("disk-count", "", len(disk_sizes)))
    misses = [_misses(pair, wanted) for pair in policy.minmax]
    return (*found, *min(misses, key=len, default=()))


def _misses(pair: SpecRange, wanted: Sequence[tuple[str, str, int | None]]) -> tuple[str, ...]:
    bounds = {figure: (low, high) for figure, low, high in _bounds(pair)}
    return tuple(
        f"{FIGURES[figure]}{which} is {value}; allowed: {bounds[figure][0]} to {bounds[figure][1]}"
        for figure, which, value in wanted
        if value is not None and not bounds[figure][0] <= value <= bounds[figure][1]
    )


def _bounds(pair: SpecRange) -> Iterator[tuple[str, int, int]]:
    for figure in FIGURES:
        name = figure.replace("-", "_")
        yield figure, getattr(pair.min, name), getattr(pair.max, name)


def _outside(pair: SpecRange, spec: InstanceSpec) -> list[str]:
    return [
        f"{figure} {value} ({low} to {high})"
        for figure, low, high in _bounds(pair)
        if not low <= (value := getattr(spec, figure.replace("-", "_"))) <= high
    ]


def _contains(pair: SpecRange, spec: InstanceSpec) -> bool:
    return not _outside(pair, spec)
