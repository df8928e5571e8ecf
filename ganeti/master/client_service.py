"""The socket on which masterd serves its clients: requests in, answers and news of jobs out.

Everything happens on the reactor in small steps: a client that sends nothing, or a byte a second, or
does not read, costs its own connection and delays nobody (S2.2-002 to 005).
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec

from twisted.application.service import Service
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IPushProducer,
    IReactorTime,
    IReactorUNIX,
    ITransport,
)
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from ganeti.io.unix_address import UnixAddress
from ganeti.master.client_api import ClientRequests, MasterApi, Outlet
from ganeti.master.inlet import Inlet
from ganeti.wire import master_commands as commands
from ganeti.wire.link import Link

SOCKET_MODE = 0o660
MAX_BOX_BYTES = commands.MAX_REQUEST_BYTES + 2**20
_CREDENTIALS = struct.Struct("3i")


class IClientReactor(IReactorTime, IReactorUNIX):
    """Parts of the reactor that serving clients needs."""


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Who is at the other end of the socket, as the kernel says."""

    pid: int
    uid: int
    gid: int


class ClientLink(Link):
    """The connection of one client.

    Args:
        clock: time.
        api: answers.
        may_connect: whether a peer is let in.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, api: MasterApi, may_connect: Callable[[Peer], bool]) -> None:
        self._outlet = Outlet()
        self._requests = ClientRequests(api, self._outlet)
        self._may_connect = may_connect
        super().__init__(clock, self._requests, max_box_bytes=MAX_BOX_BYTES, has_keepalive=False)
        self._inlet = Inlet(clock, super().dataReceived, self.abort)

    def makeConnection(self, transport: ITransport) -> None:
        """Let the client in, or not."""
        self._requests.attach(self)
        super().makeConnection(transport)
        peer = peer_of(transport)
        if peer is not None and not self._may_connect(peer):
            self.log.warn("client with uid {uid}, pid {pid} is refused", uid=peer.uid, pid=peer.pid)
            self.abort()
            return
        self._inlet.source = cast("IPushProducer", transport)
        self._outlet.inlet = self._inlet
        cast("Any", transport).registerProducer(self._outlet, True)

    def dataReceived(self, data: bytes) -> None:
        """Take what arrived, not too much in one turn."""
        self._inlet.put(data)

    def push(self, command: type[commands.PushedCommand], args: list[Any]) -> None:
        """Send something that wants no answer; does nothing once the connection is gone."""
        if self.lost_because is None:
            cast("Any", self).callRemote(command, args=args)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The client went away."""
        self._inlet.stopProducing()
        self._requests.close()
        super().connectionLost(reason)


class ClientService(Service):
    """Listens for clients.

    Args:
        reactor: listens and gives the time.
        path: of the socket; whoever starts this holds the lock of the queue, so that nobody else
            listens there.
        api: answers.
        gid: group that may connect besides root and the daemon's own user.
    """

    name = "clients"

    def __init__(self, reactor: IClientReactor, path: str, api: MasterApi, *, gid: int | None = None) -> None:
        self._reactor = reactor
        self._path = path
        self._api = api
        self._gid = gid
        self._port: IListeningPort | None = None
        self._address: UnixAddress | None = None
        self._links: set[ClientLink] = set()

    def startService(self) -> None:
        """Listen."""
        super().startService()  # type: ignore[no-untyped-call]
        os.makedirs(os.path.dirname(self._path), mode=0o755, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        self._address = UnixAddress(self._path)
        self._port = self._reactor.listenUNIX(self._address.text, _ClientFactory(self), 1024, SOCKET_MODE)
        if self._gid is not None:
            os.chown(self._path, -1, self._gid)

    async def stopService(self) -> None:
        """Let nobody in any more, and hang up."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._port is not None:
            port, self._port = self._port, None
            await maybeDeferred(port.stopListening)
        if self._address is not None:
            self._address.close()
        for link in tuple(self._links):
            link.close()

    def may_connect(self, peer: Peer) -> bool:
        """Whether this user is one of those that the socket is for."""
        return peer.uid in (0, os.getuid()) or (self._gid is not None and peer.gid == self._gid)

    def new_link(self) -> ClientLink:
        """Serve one more client."""
        link = ClientLink(self._reactor, self._api, self.may_connect)
        self._links.add(link)
        link.when_lost().addCallback(lambda _: self._links.discard(link))
        return link


class _ClientFactory(Factory):
    """Makes a connection for each client."""

    noisy = False

    def __init__(self, service: ClientService) -> None:
        self._service = service

    def buildProtocol(self, addr: IAddress | None) -> ClientLink:
        """The connection of one client."""
        return self._service.new_link()


def peer_of(transport: ITransport) -> Peer | None:
    """Who is at the other end; None where it is no socket of this machine."""
    connection = getattr(transport, "socket", None)
    if not isinstance(connection, socket.socket) or connection.family is not socket.AF_UNIX:
        return None
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    return Peer(pid=pid, uid=uid, gid=gid)


def turn_of(reactor: IReactorTime) -> Callable[[], Awaitable[None]]:
    """Something to await that gives the reactor a turn."""
    return lambda: deferLater(reactor, 0)
