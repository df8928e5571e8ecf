"""Copies of disks between simulated nodes: who listens, who may send, and what a disk holds."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from ganeti.errors import BlockDeviceError, NodeError
from ganeti.model.calls.base import NodeCall
from ganeti.model.calls.transfers import Copied, DiskReceive, DiskSend, TransferEndpoint
from ganeti.model.ids import DiskId
from ganeti.model.node import Node
from ganeti.testing.simulated_disks import SimulatedDisks


class SimulatedTransfers:
    """Copies that are over as soon as both ends are there.

    Args:
        disks: the disks of all nodes.
    """

    def __init__(self, disks: SimulatedDisks) -> None:
        self._disks = disks
        self._waiting: dict[str, tuple[str, DiskReceive, Deferred[Copied]]] = {}
        """By endpoint: name of the listening node, what it expects."""
        self.content: dict[tuple[str, DiskId], str] = {}
        """By name of node and disk; a disk that is not in there holds `data of DISK`."""
        self.is_lossy = False
        """What arrives is not what was sent, and only the target sees it."""

    def answers(self) -> Mapping[type[NodeCall[Any]], Any]:
        """What nodes say to calls about copies."""
        return {DiskReceive: self._receive, TransferEndpoint: self._endpoint, DiskSend: self._send}

    @property
    def is_listening(self) -> bool:
        """Whether any node waits for another one."""
        return bool(self._waiting)

    def _receive(self, node: Node, call: DiskReceive) -> Awaitable[Copied]:
        self._need(node, call.disk.uuid)
        endpoint = f"{call.address}:{40000 + len(self._waiting)}"

        def gone(waiting: Deferred[Copied]) -> None:
            self._waiting.pop(endpoint, None)

        waiting: Deferred[Copied] = Deferred(gone)
        self._waiting[endpoint] = (node.name, call, waiting)
        return waiting

    def _endpoint(self, node: Node, call: TransferEndpoint) -> str:
        for endpoint, (name, expected, _) in self._waiting.items():
            if (name, expected.transfer) == (node.name, call.transfer):
                return endpoint
        raise NodeError(f"no disk is being received on {node.name} for this transfer")

    def _send(self, node: Node, call: DiskSend) -> Copied:
        self._need(node, call.disk.uuid)
        name, expected, waiting = self._waiting.pop(call.endpoint, ("", None, Deferred()))
        if expected is None or (expected.source, expected.token) != (node.uuid, call.token):
            raise NodeError(f"cannot connect to {call.endpoint}")
        text = self.content.get((node.name, call.disk.uuid), f"data of {call.disk.uuid}")
        self.content[name, expected.disk.uuid] = text
        sent = Copied(size=call.disk.size << 20, digest=text)
        waiting.callback(Copied(size=sent.size, digest="rubbish") if self.is_lossy else sent)
        return sent

    def _need(self, node: Node, disk: DiskId) -> None:
        if disk not in self._disks.data.get(node.name, set()):
            raise BlockDeviceError(f"disk {disk} is missing on {node.name}")
