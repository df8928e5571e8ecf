"""Confd's socket: what is not signed with the cluster's key gets no answer at all."""

from __future__ import annotations

from collections.abc import Callable

from twisted.application.service import Service
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IListeningPort, IReactorUDP
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from ganeti.interfaces import IClock
from ganeti.wire.confd_messages import (
    MAX_REQUEST_BYTES,
    Reply,
    Request,
    Unacceptable,
    read_request,
    write_reply,
)


class ConfdProtocol(DatagramProtocol):
    """Answers datagrams.

    Args:
        clock: wall clock, for the age of questions.
        key: secret of the cluster.
        answer: what a question gets.
    """

    noisy = False
    log = Logger()

    def __init__(self, clock: IClock, key: bytes, answer: Callable[[Request], Reply]) -> None:
        self._clock = clock
        self._key = key
        self._answer = answer

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Answer, or be silent: strangers must not even learn that somebody listens."""
        try:
            request = read_request(datagram, self._key, now=self._clock.seconds())
        except Unacceptable as error:
            self.log.debug("datagram from {address} dropped: {error}", address=addr[0], error=error)
            return
        reply = write_reply(self._answer(request), request.rsalt, self._key)
        if self.transport is not None:
            self.transport.write(reply, addr)


class ConfdService(Service):
    """Listens for questions.

    Args:
        reactor: sockets.
        address: where; an IP address.
        port: UDP port.
        protocol: answers.
    """

    log = Logger()

    def __init__(self, reactor: IReactorUDP, address: str, port: int, protocol: ConfdProtocol) -> None:
        self._reactor = reactor
        self._address = address
        self._number = port
        self._protocol = protocol
        self._port: IListeningPort | None = None

    def startService(self) -> None:
        """Listen.

        Raises:
            CannotListenError: the address is taken.
        """
        super().startService()  # type: ignore[no-untyped-call]
        self._port = self._reactor.listenUDP(
            self._number, self._protocol, interface=self._address, maxPacketSize=MAX_REQUEST_BYTES
        )
        self.log.info("listening on {address}", address=self._port.getHost())

    async def stopService(self) -> None:
        """Listen no more."""
        super().stopService()  # type: ignore[no-untyped-call]
        port, self._port = self._port, None
        if port is not None:
            await maybeDeferred(port.stopListening)
