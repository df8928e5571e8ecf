"""What the watcher does about what it found: decided from findings, its own records and the time. Pure.

    state = remembered(findings, state, now)                 # records that still count
    plan = decide(findings, state, pending, now)             # what is to be started and stopped now
    state = attempted(plan.state, restarts, shutdowns, now)  # written down before it is tried

An instance that should run and does not is started at most `MAX_RESTARTS` times, one that its user shut down
is recorded as stopped at most `MAX_CLEANUPS` times; `EXPIRES_S` after the last attempt it starts anew.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated

import msgspec
from msgspec.structs import replace

from ganeti.errors import GanetiError
from ganeti.model.findings import Findings, InstanceFinding
from ganeti.model.reading import UNREADABLE

MAX_RESTARTS = 5
MAX_CLEANUPS = 6
EXPIRES_S = 8 * 3600.0

ERROR_DOWN = "ERROR_down"
USER_DOWN = "USER_down"
NODE_DOWN = frozenset({"ERROR_nodedown", "ERROR_nodeoffline"})

STATELESS = frozenset({"ext", "diskless"})
"""Templates whose disks `verify-disks` does not look at."""

_GIVEN_UP = MAX_RESTARTS + 1
"""Count of an instance of which it was told that it is given up."""

Count = Annotated[int, msgspec.Meta(ge=0)]


class InstanceRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How often something was tried with an instance, and when last, seconds since the epoch."""

    restart_count: Count = 0
    restart_when: float = 0.0
    cleanup_count: Count = 0
    cleanup_when: float = 0.0

    @property
    def when(self) -> float:
        """Time of the last attempt of either kind."""
        return max(self.restart_when, self.cleanup_when)


class NodeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Which boot of a node was seen last."""

    bootid: str


class WatcherState(msgspec.Struct, frozen=True, kw_only=True):
    """What the watcher of a group remembers from one run to the next; the file `watcher.<uuid>.data`."""

    instance: Mapping[str, InstanceRecord] = {}
    node: Mapping[str, NodeRecord] = {}


def encode_state(state: WatcherState) -> bytes:
    """The text of a state file."""
    return msgspec.json.encode(state, order="deterministic") + b"\n"


def decode_state(data: bytes) -> WatcherState:
    """The state that a file holds; an empty file holds an empty one.

    Raises:
        GanetiError: it is damaged.
    """
    if not data.strip():
        return WatcherState()
    try:
        return msgspec.json.decode(data, type=WatcherState)
    except UNREADABLE as error:
        raise GanetiError(f"it cannot be read: {error}") from error


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done now."""

    state: WatcherState
    """Without records of instances that are well; attempts of this plan are not counted in it."""
    restarts: tuple[str, ...] = ()
    """Instances to be started."""
    shutdowns: tuple[str, ...] = ()
    """Instances that their users shut down, to be recorded as stopped."""
    errors: tuple[str, ...] = ()
    """What somebody has to act upon."""
    warnings: tuple[str, ...] = ()


def remembered(findings: Findings, state: WatcherState, now: float) -> WatcherState:
    """The records that still count: of what is still there, and of instances not older than `EXPIRES_S`.

    A time that lies further ahead than that was written by a clock that has been set right since.
    """
    instances = {
        name: record
        for name, record in state.instance.items()
        if name in findings.instances and abs(now - record.when) <= EXPIRES_S
    }
    nodes = {name: record for name, record in state.node.items() if name in findings.nodes}
    return WatcherState(instance=instances, node=nodes)


def decide(findings: Findings, state: WatcherState, pending: Collection[str] = ()) -> Plan:
    """What is to be done with instances.

    Args:
        findings: how they are.
        state: records that count (`remembered`).
        pending: instances that a job which has not ended is to start or stop already; left alone.
    """
    records = dict(state.instance)
    restarts: list[str] = []
    shutdowns: list[str] = []
    errors: list[str] = []
    warnings: list[str] = []
    for name, found in sorted(findings.instances.items()):
        if found.is_split:
            errors.append(f"instance {name} is split over node groups and not looked after; move its nodes")
            continue
        if found.status is None or name in pending:
            continue
        record = records.get(name, InstanceRecord())
        if found.status == USER_DOWN and found.admin_state != "down":
            if record.cleanup_count < MAX_CLEANUPS:
                shutdowns.append(name)
            else:
                warnings.append(_cleanup_given_up(name))
        elif found.status == ERROR_DOWN:
            if record.restart_count < MAX_RESTARTS:
                restarts.append(name)
            elif record.restart_count == MAX_RESTARTS:
                records[name] = replace(record, restart_count=_GIVEN_UP)
                errors.append(_given_up(name))
            else:
                warnings.append(_given_up(name))
        else:
            records.pop(name, None)
    return Plan(
        state=replace(state, instance=records),
        restarts=tuple(restarts),
        shutdowns=tuple(shutdowns),
        errors=tuple(errors),
        warnings=tuple(warnings),
    )


def _given_up(name: str) -> str:
    return (
        f"instance {name} does not run after {MAX_RESTARTS} attempts to start it and is given up for now; "
        f"look at the jobs, then 'gnt-instance startup {name}'"
    )


def _cleanup_given_up(name: str) -> str:
    return (
        f"instance {name} was shut down by its user and could not be recorded as stopped in {MAX_CLEANUPS} "
        f"attempts; look at the jobs, then 'gnt-instance shutdown {name}'"
    )


def attempted(
    state: WatcherState, restarts: Collection[str], shutdowns: Collection[str], now: float
) -> WatcherState:
    """The state with attempts counted that are about to be made, so that none is forgotten in a crash."""
    records = dict(state.instance)
    for name in restarts:
        record = records.get(name, InstanceRecord())
        records[name] = replace(record, restart_count=record.restart_count + 1, restart_when=now)
    for name in shutdowns:
        record = records.get(name, InstanceRecord())
        records[name] = replace(record, cleanup_count=record.cleanup_count + 1, cleanup_when=now)
    return replace(state, instance=records)


def restored(state: WatcherState, before: WatcherState, names: Collection[str]) -> WatcherState:
    """The state with the records of some instances as they were: nothing was tried with them after all."""
    records = dict(state.instance)
    for name in names:
        if name in before.instance:
            records[name] = before.instance[name]
        else:
            records.pop(name, None)
    return replace(state, instance=records)


def settled(state: WatcherState, names: Collection[str]) -> WatcherState:
    """The state without records of instances that were recorded as stopped (by their users' wish)."""
    return replace(state, instance={name: one for name, one in state.instance.items() if name not in names})


# --- disks ----------------------------------------------------------------------------------------


def rebooted(findings: Findings, state: WatcherState) -> tuple[str, ...]:
    """Nodes that have booted since they were seen last; one never seen before has not."""
    return tuple(
        name
        for name, found in sorted(findings.nodes.items())
        if found.boot_id and name in state.node and state.node[name].bootid != found.boot_id
    )


def with_boot_ids(findings: Findings, state: WatcherState) -> WatcherState:
    """The state with the boots that were seen now."""
    seen = {name: NodeRecord(bootid=one.boot_id) for name, one in findings.nodes.items() if one.boot_id}
    return replace(state, node={**state.node, **seen})


def reconnections(
    findings: Findings, nodes: Collection[str], started: Collection[str] = ()
) -> tuple[str, ...]:
    """Instances whose disks are to be activated because a secondary node has booted.

    Args:
        findings: how they are.
        nodes: those that have booted.
        started: instances that were started just now, their disks with them.
    """
    return tuple(
        name
        for name, found in sorted(findings.instances.items())
        if _may_activate(found) and found.disks_active and name not in started
        if any(node in nodes for node in found.secondaries)
    )


def reported(findings: Findings, names: Collection[str]) -> tuple[str, ...]:
    """Of the instances whose disks a verification wants activated, those with which that can be done."""
    known = ((name, findings.instances.get(name)) for name in sorted(set(names)))
    return tuple(
        name
        for name, found in known
        if found is not None and _may_activate(found)
        if not any(_is_offline(findings, node) for node in found.secondaries)
    )


def _may_activate(found: InstanceFinding) -> bool:
    return not found.is_split and found.status is not None and found.status not in NODE_DOWN


def _is_offline(findings: Findings, node: str) -> bool:
    known = findings.nodes.get(node)
    return known is not None and known.state == "offline"


def has_disks_to_verify(findings: Findings) -> bool:
    """Whether any instance has disks that a verification looks at."""
    return any(found.disk_template not in STATELESS for found in findings.instances.values())


# --- groups ---------------------------------------------------------------------------------------

_SPACING_S = 1.0
_ALL_STARTED_S = 60.0


def spacing_s(groups: int) -> float:
    """Seconds between the starts of two children: not all at once, and all within a minute."""
    return min(_SPACING_S, _ALL_STARTED_S / max(groups, 1))
