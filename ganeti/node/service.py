"""The node link's listening end: a service on any endpoint, with TLS or, in tests, without.

Masters may call functions. Other nodes, where they are let in at all, have one command, which is
answered by another locator; which of both a connection gets is decided when its handshake is done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from OpenSSL import SSL
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHandshakeListener,
    IListeningPort,
    IProtocolFactory,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.amp import CommandLocator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from ganeti.model.calls.parcels import MAX_PARCEL_BYTES
from ganeti.model.identity import Role
from ganeti.wire.link import Link
from ganeti.wire.tls import ServerTls, secret_of, tls_factory

MAX_CONNECTIONS = 500
"""Connections at once; the master needs one, and during a failover two masters have one."""

MAX_FROM_NODES = 8
"""Of these from other nodes; one is in use, and that only while something is spread."""

FROM_NODE_S = 60.0
"""A connection from another node lasts no longer."""

_RECEIPTS = 4
"""Most connections of masters for which a receipt is given."""


@implementer(IHandshakeListener)
class AdmittedLink(Link):
    """A link that answers nothing until it is known who is at the other end.

    Args:
        clock: time.
        admit: gives it what it answers.
    """

    def __init__(self, clock: IReactorTime, admit: Callable[[AdmittedLink, SSL.Connection], None]) -> None:
        super().__init__(clock, _Nothing())
        self._admit = admit
        self._secret: bytes | None = None
        self.until: IDelayedCall | None = None
        """When it ends, if it may not last."""

    def handshakeCompleted(self) -> None:
        """The other end has shown its certificate."""
        if self.transport is not None:
            self._admit(self, self._connection())

    def secret(self) -> bytes | None:
        """What the other end knows, too."""
        if self._secret is None and self.transport is not None:
            self._secret = secret_of(self._connection())
        return self._secret

    def _connection(self) -> SSL.Connection:
        return cast(SSL.Connection, cast(TLSMemoryBIOProtocol, self.transport).getHandle())


class _Nothing(CommandLocator):
    """Answers no command, not even a ping."""


class LinkFactory(Factory):
    """Makes a `Link` for each connection, up to a number.

    Args:
        reactor: time.
        locator: answers masters on all of them; where there is no TLS, everybody.
        from_nodes: answers other nodes; None: they are not let in.
        tls: knows who is at the other end.
        max_connections: further ones are closed at once.
    """

    noisy = False
    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        locator: CommandLocator,
        *,
        from_nodes: CommandLocator | None = None,
        tls: ServerTls | None = None,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._clock = reactor
        self._locator = locator
        self._from_nodes = from_nodes
        self._tls = tls
        self._max_connections = max_connections
        self.links: set[Link] = set()
        self._masters: dict[AdmittedLink, None] = {}
        self._nodes: set[AdmittedLink] = set()

    def buildProtocol(self, addr: IAddress | None) -> Link | None:
        """A new link, or None when there are too many."""
        if len(self.links) >= self._max_connections:
            self.log.warn("more than {limit} connections; refusing one", limit=self._max_connections)
            return None
        link = (
            Link(self._clock, self._locator) if self._tls is None else AdmittedLink(self._clock, self._admit)
        )
        self.links.add(link)
        link.when_lost().addCallback(lambda _: self.links.discard(link))
        return link

    def secrets(self) -> list[bytes]:
        """What we and each of the newest masters know."""
        found = (link.secret() for link in list(self._masters)[-_RECEIPTS:])
        return [secret for secret in found if secret is not None]

    def _admit(self, link: AdmittedLink, connection: SSL.Connection) -> None:
        assert self._tls is not None
        peer = self._tls.peer_of(connection)
        role = None if peer is None else peer.identity.role
        if role is Role.MASTER:
            link.locator = self._locator
            self._masters[link] = None
            link.when_lost().addCallback(lambda _: self._masters.pop(link, None))
        elif role is Role.NODE and self._from_nodes is not None and len(self._nodes) < MAX_FROM_NODES:
            link.locator = self._from_nodes
            link.limit(2 * MAX_PARCEL_BYTES)
            self._nodes.add(link)
            link.until = self._clock.callLater(FROM_NODE_S, link.abort)
            link.when_lost().addCallback(self._node_gone, link)
        else:
            self.log.warn("connection of a {role} closed", role="stranger" if role is None else role.value)
            link.abort()

    def _node_gone(self, _: None, link: AdmittedLink) -> None:
        self._nodes.discard(link)
        if link.until is not None and link.until.active():
            link.until.cancel()


class LinkService(Service):
    """Listens for the master.

    Args:
        reactor: time.
        endpoint: where.
        locator: answers masters, a `NodeLocator`.
        tls: certificate and rule of admission; None only where nobody else can connect.
        from_nodes: answers other nodes, if the rule lets them in.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        endpoint: IStreamServerEndpoint,
        locator: CommandLocator,
        *,
        tls: ServerTls | None,
        from_nodes: CommandLocator | None = None,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._reactor = reactor
        self._endpoint = endpoint
        self._tls = tls
        self.factory = LinkFactory(
            reactor, locator, from_nodes=from_nodes, tls=tls, max_connections=max_connections
        )
        self.port: IListeningPort | None = None
        """What listens, while it does."""

    def startService(self) -> Deferred[None]:
        """Listen; fails if the address is taken."""
        Service.startService(self)
        return Deferred.fromCoroutine(self._listen())

    def stopService(self) -> Deferred[None]:
        """Listen no more and close what is open."""
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _listen(self) -> None:
        factory: IProtocolFactory = self.factory
        if self._tls is not None:
            factory = tls_factory(self._tls, self.factory, self._reactor, is_client=False)
        self.port = await self._endpoint.listen(factory)
        self.log.info("listening on {address}", address=self.port.getHost())

    async def _stop(self) -> None:
        port, self.port = self.port, None
        if port is not None:
            await _as_deferred(port.stopListening())
        for link in list(self.factory.links):
            lost = link.when_lost()
            link.abort()
            await lost


def _as_deferred(result: Deferred[None] | None) -> Deferred[None]:
    if result is not None:
        return result
    done: Deferred[None] = Deferred()
    done.callback(None)
    return done
