"""Stops an instance: asks it, asks again, and ends it when its time is over."""

from __future__ import annotations

import contextlib

from ganeti.errors import HypervisorError
from ganeti.interfaces import IHost, IHypervisor
from ganeti.model.calls.instances import RunState

ASK_AGAIN_S = 5.0
_FORCED_S = 10.0
_LAST_CHECK_S = 1.0


def stop_instance(hypervisor: IHypervisor, host: IHost, name: str, *, timeout_s: float, force: bool) -> bool:
    """Stop an instance and clean up after it.

    Args:
        hypervisor: that runs it.
        host: the node.
        name: of the instance.
        timeout_s: how long it may take to shut down by itself; 0: it is asked once.
        force: do not ask.

    Returns:
        Whether there was anything to stop.

    Raises:
        HypervisorError: it runs all the same.
    """
    found = _state(hypervisor, host, name)
    if found is not None:
        if not force and found is not RunState.SHUTDOWN:
            _ask(hypervisor, host, name, timeout_s)
        _end(hypervisor, host, name)
    hypervisor.cleanup(host, name)
    return found is not None


def _ask(hypervisor: IHypervisor, host: IHost, name: str, timeout_s: float) -> None:
    deadline = host.now() + timeout_s
    while True:
        asked = host.now()
        # One that cannot be asked is ended in the end; that error is the one that counts.
        with contextlib.suppress(HypervisorError):
            slot_s = max(0.0, min(ASK_AGAIN_S, deadline - asked))
            hypervisor.stop(host, name, force=False, timeout_s=slot_s)
        if _is_down(hypervisor, host, name) or host.now() >= deadline:
            return
        pause_s = min(asked + ASK_AGAIN_S, deadline) - host.now()
        if pause_s > 0:
            host.sleep(pause_s)
            if _is_down(hypervisor, host, name) or host.now() >= deadline:
                return


def _end(hypervisor: IHypervisor, host: IHost, name: str) -> None:
    """End what is left, be it only the remains of a guest that switched itself off."""
    if _state(hypervisor, host, name) is None:
        return
    hypervisor.stop(host, name, force=True, timeout_s=_FORCED_S)
    if _state(hypervisor, host, name) is None:
        return
    host.sleep(_LAST_CHECK_S)
    if _state(hypervisor, host, name) is not None:
        raise HypervisorError(f"instance {name} still runs on {host.name} after it was ended by force")


def _is_down(hypervisor: IHypervisor, host: IHost, name: str) -> bool:
    return _state(hypervisor, host, name) in (None, RunState.SHUTDOWN)


def _state(hypervisor: IHypervisor, host: IHost, name: str) -> RunState | None:
    for instance in hypervisor.list_running(host):
        if instance.name == name:
            return instance.state
    return None
