"""Makes TLS connections from masterd to node daemons, and proves that they reached the right node."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol, cast

from OpenSSL import SSL
from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IReactorTCP, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory

from ganeti.errors import NodeUnreachable
from ganeti.model.node import Node
from ganeti.wire.link import Link
from ganeti.wire.locator import GuardedLocator
from ganeti.wire.tls import (
    ClientConnection,
    ClientTls,
    Credentials,
    explain,
    only_node,
    secret_of,
    tls_factory,
)

NODED_PORT = 1811
"""TCP port of node daemons, unless the services database says otherwise."""

_CONNECT_S = 5.0


class IConnectReactor(IReactorTCP, IReactorTime):
    """What is needed of the reactor."""


class NodeConnector(Protocol):
    """Makes connections to nodes."""

    def __call__(self, node: Node) -> Awaitable[Link]:
        """A new connection; raises NodeUnreachable."""


class TlsNodeConnector:
    """Connects over TCP and TLS.

    Args:
        reactor: connections, time.
        credentials: certificate with the role master, and the authority.
        cluster_uuid: of our cluster.
        port: of node daemons.
        bind_ip: address that connections come from; None: the kernel chooses.
    """

    def __init__(
        self,
        reactor: IConnectReactor,
        credentials: Credentials,
        cluster_uuid: str,
        *,
        port: int = NODED_PORT,
        bind_ip: str | None = None,
    ) -> None:
        self._reactor = reactor
        self._tls = ClientTls(credentials)
        self._cluster_uuid = cluster_uuid
        self._port = port
        self._bind = None if bind_ip is None else (bind_ip, 0)

    async def __call__(self, node: Node) -> Link:
        """A connection whose other end showed the certificate of this node.

        Raises:
            NodeUnreachable: says why. What is wrong with the certificates may show only at first use.
        """
        tls = self._tls.to(only_node(self._cluster_uuid, node.uuid, node.name))
        link = _TlsLink(self._reactor, tls)
        factory = tls_factory(tls, _Once(link), self._reactor, is_client=True)
        try:
            await self._endpoint(node.primary_ip).connect(factory)
        except CancelledError:
            raise
        except (ConnectError, OSError) as error:
            raise NodeUnreachable(f"{node.primary_ip} port {self._port}: {_words(error)}") from error
        return link

    def _endpoint(self, ip: str) -> IStreamClientEndpoint:
        make: Any = TCP6ClientEndpoint if ":" in ip else TCP4ClientEndpoint
        endpoint = make(self._reactor, ip, self._port, timeout=_CONNECT_S, bindAddress=self._bind)
        return cast(IStreamClientEndpoint, endpoint)


class _TlsLink(Link):
    """A link that can say what its TLS layer found wrong."""

    def __init__(self, clock: IReactorTime, tls: ClientConnection) -> None:
        super().__init__(clock, GuardedLocator())
        self._tls = tls
        self._secret: bytes | None = None

    def secret(self) -> bytes | None:
        """What the node at the other end knows, too."""
        if self._secret is None and self.transport is not None:
            self._secret = secret_of(cast(SSL.Connection, self.transport.getHandle()))  # type: ignore[attr-defined]
        return self._secret

    def loss(self) -> str:
        """Why the connection ended."""
        if self._tls.refusal is not None:
            return f"its certificate is refused: {self._tls.refusal}"
        if self.lost_because is not None and isinstance(self.lost_because.value, SSL.Error):
            return explain(self.lost_because.value)
        return super().loss()


class _Once(Factory):
    noisy = False

    def __init__(self, link: Link) -> None:
        self._link = link

    def buildProtocol(self, addr: object) -> Link:
        return self._link


def _words(error: BaseException) -> str:
    text = str(error)
    # Twisted's texts are sentences of their own: "Connection was refused by other side: 111: ...".
    return text[:1].lower() + text[1:].rstrip(".") if text else type(error).__name__
