"""Live migration between two QEMU: addresses, settings and states, and the commands for them.

The target listens on its own address at the cluster's `migration_port` or, when that is taken by
another migration, at one of the ports after it, and says which. The source is told when the target
failed to take over (`return-path`) and then goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from ganeti.errors import HypervisorError
from ganeti.hypervisors.kvm.params import KvmParams
from ganeti.hypervisors.kvm.qmp import QmpClient, QmpError
from ganeti.interfaces import IHost
from ganeti.model.calls.disks import OpenDisk
from ganeti.model.calls.instances import MigrationProgress
from ganeti.model.filled import FilledInstance
from ganeti.model.reading import UNREADABLE

PORTS = 64
"""Migrations that a node can receive at the same time."""
_MIB = 1024 * 1024
_POLL_S = 0.1
_ARRIVAL_S = 60.0
_CANCEL_S = 20.0
_OVER = ("completed", "failed", "cancelled")


class SourceState(msgspec.Struct, frozen=True, kw_only=True):
    """What the target has to know; JSON between the plugins of the two nodes."""

    instance: FilledInstance
    """As it was started: what was changed since counts from the next start on."""
    disks: tuple[OpenDisk, ...]
    machine: str
    accelerator: str
    was_running: bool


def decode_info(info: str, name: str) -> SourceState:
    """Read what the source said.

    Raises:
        HypervisorError: it is not from a plugin like this one.
    """
    try:
        return msgspec.json.decode(info, type=SourceState)
    except UNREADABLE as error:
        raise HypervisorError(
            f"cannot read what the source says of instance {name}: {error}; both nodes need the same version"
        ) from error


# --- target ------------------------------------------------------------------------------------


def listen(qmp: QmpClient, params: KvmParams, address: str) -> str:
    """Let a waiting QEMU listen; gives the endpoint.

    Raises:
        HypervisorError: no port is free.
    """
    _switch_on(qmp, params)
    host = f"[{address}]" if ":" in address else address
    first = params.migration_port
    qmp.execute("migrate-incoming", uri=f"tcp:{host}:{first},to={min(first + PORTS - 1, 65535)}")
    for found in qmp.execute("query-migrate").get("socket-address", ()):
        return f"{host}:{found['port']}"
    raise HypervisorError("QEMU does not say where it waits for the migration")


def await_arrival(host: IHost, connected: Callable[[], QmpClient]) -> str:
    """Wait until the guest has arrived; gives the status of QEMU.

    Raises:
        HypervisorError: not in time, or QEMU ended.
    """
    give_up = host.now() + _ARRIVAL_S
    while True:
        with connected() as qmp:
            status = str(qmp.execute("query-status")["status"])
        if status != "inmigrate":
            return status
        if host.now() >= give_up:
            raise HypervisorError("the migration is over for the source, but the guest did not arrive")
        host.sleep(_POLL_S)


# --- source ------------------------------------------------------------------------------------


def send(qmp: QmpClient, params: KvmParams, target_ip: str, endpoint: str, *, live: bool) -> None:
    """Begin to send.

    Raises:
        HypervisorError: QEMU refuses.
    """
    _switch_on(qmp, params)
    qmp.execute(
        "migrate-set-parameters",
        max_bandwidth=params.migration_bandwidth * _MIB,
        downtime_limit=params.migration_downtime,
    )
    if not live:
        qmp.execute("stop")
    qmp.execute("migrate", uri=f"tcp:{endpoint or default_endpoint(params, target_ip)}")


def default_endpoint(params: KvmParams, target_ip: str) -> str:
    """Where a target listens that did not say otherwise."""
    host = f"[{target_ip}]" if ":" in target_ip else target_ip
    return f"{host}:{params.migration_port}"


def progress_of(answer: Mapping[str, Any]) -> MigrationProgress:
    """How far a migration is, from an answer to `query-migrate`. Pure."""
    status = str(answer.get("status", "cancelled"))
    if status == "none":
        status = "cancelled"
    ram = answer.get("ram") or {}
    is_postcopy = status.startswith("postcopy")
    return MigrationProgress(
        status=status if status in _OVER else ("postcopy-active" if is_postcopy else "active"),
        transferred_ram=ram.get("transferred"),
        total_ram=ram.get("total"),
        postcopy_status=status if is_postcopy else None,
        error=answer.get("error-desc"),
    )


def wants_postcopy(answer: Mapping[str, Any], params: KvmParams) -> bool:
    """Whether it is time to let the guest go on at the target while memory follows. Pure.

    One round over the whole memory is done first, so that little is missing there.
    """
    rounds = (answer.get("ram") or {}).get("dirty-sync-count", 0)
    return "postcopy-ram" in params.capabilities and answer.get("status") == "active" and rounds >= 2


def cancel(host: IHost, connected: Callable[[], QmpClient]) -> None:
    """Stop sending, if anything is sent, and wait until that is done.

    Raises:
        HypervisorError: QEMU does not stop, or the guest cannot go on here any more.
    """
    give_up = host.now() + _CANCEL_S
    while True:
        with connected() as qmp:
            status = str(qmp.execute("query-migrate").get("status", "none"))
            if status == "none" or status in _OVER:
                return
            if status.startswith("postcopy"):
                raise HypervisorError("the guest runs at the target already; the migration has to go on")
            if status != "cancelling":
                qmp.execute("migrate_cancel")
        if host.now() >= give_up:
            raise HypervisorError("the migration cannot be cancelled")
        host.sleep(_POLL_S)


def blocked_reasons(answer: Mapping[str, Any]) -> tuple[str, ...]:
    """Why QEMU would refuse to migrate, from an answer to `query-migrate`. Pure."""
    return tuple(answer.get("blocked-reasons", ()))


def _switch_on(qmp: QmpClient, params: KvmParams) -> None:
    for name in ("return-path", *params.capabilities):
        try:
            qmp.execute("migrate-set-capabilities", capabilities=[{"capability": name, "state": True}])
        except QmpError as error:
            raise HypervisorError(f"migration_caps: QEMU does not know or allow {name!r}: {error}") from error


def go_on(qmp: QmpClient) -> None:
    """Let a guest run that stands still."""
    with suppress(QmpError):
        # Announces the guest's addresses, so that switches learn where it is; older QEMU lack it.
        qmp.execute("announce-self", initial=50, max=550, rounds=5, step=50)
    if qmp.execute("query-status")["status"] in ("paused", "postmigrate", "prelaunch", "finish-migrate"):
        qmp.execute("cont")
