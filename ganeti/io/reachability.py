"""What the master finds out about names and addresses, without blocking the reactor."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Protocol
from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from ganeti.interfaces import IReachability
from ganeti.io.names import full_name, resolve
from ganeti.model.paths import Paths


@implementer(IReachability)
class Reachability:
    """Resolver and TCP connections of this machine.

    Args:
        reactor: connections and threads.
        paths: of this node, for its hosts file.
    """

    def __init__(self, reactor: Any, paths: Paths) -> None:
        self._reactor = reactor
        self._paths = paths

    async def resolve(self, name: str, *, family: int) -> str:
        """First address of a host name; see `IReachability`."""
        pool = self._reactor.getThreadPool()
        address: str = await deferToThreadPool(self._reactor, pool, resolve, self._paths, name, family=family)
        return address

    async def full_name(self, name: str, *, family: int) -> str:
        """The full name of a host; see `IReachability`."""
        pool = self._reactor.getThreadPool()
        full: str = await deferToThreadPool(self._reactor, pool, full_name, self._paths, name, family=family)
        return full

    async def answers(self, address: str, port: int, *, timeout_s: float, source: str | None = None) -> bool:
        """Whether something accepts connections there."""
        kind = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
        bind = None if source is None else (source, 0)
        endpoint = kind(self._reactor, address, port, timeout=timeout_s, bindAddress=bind)
        try:
            connected = await connectProtocol(endpoint, Protocol())
        except (ConnectError, OSError):
            return False
        connected.transport.loseConnection()
        return True
