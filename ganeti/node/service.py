"""The node link's listening end: a service on any endpoint, with TLS or, in tests, without."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.amp import CommandLocator

from ganeti.wire.link import Link
from ganeti.wire.tls import tls_factory

MAX_CONNECTIONS = 500
"""Connections at once; the master needs one, and during a failover two masters have one."""


class LinkFactory(Factory):
    """Makes a `Link` for each connection, up to a number.

    Args:
        reactor: time.
        locator: answers on all of them.
        max_connections: further ones are closed at once.
    """

    noisy = False
    log = Logger()

    def __init__(
        self, reactor: IReactorTime, locator: CommandLocator, *, max_connections: int = MAX_CONNECTIONS
    ) -> None:
        self._clock = reactor
        self._locator = locator
        self._max_connections = max_connections
        self.links: set[Link] = set()

    def buildProtocol(self, addr: IAddress | None) -> Link | None:
        """A new link, or None when there are too many."""
        if len(self.links) >= self._max_connections:
            self.log.warn("more than {limit} connections; refusing one", limit=self._max_connections)
            return None
        link = Link(self._clock, self._locator)
        self.links.add(link)
        link.when_lost().addCallback(lambda _: self.links.discard(link))
        return link


class LinkService(Service):
    """Listens for the master.

    Args:
        reactor: time.
        endpoint: where.
        locator: answers, a `NodeLocator`.
        tls: certificate and rule of admission; None only where nobody else can connect.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        endpoint: IStreamServerEndpoint,
        locator: CommandLocator,
        *,
        tls: IOpenSSLServerConnectionCreator | None,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._reactor = reactor
        self._endpoint = endpoint
        self._tls = tls
        self.factory = LinkFactory(reactor, locator, max_connections=max_connections)
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
