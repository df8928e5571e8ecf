"""The configuration daemon: answers signed questions about the cluster over UDP."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from twisted.application.service import IService
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from zope.interface import implementer

from ganeti.confd.answers import answer
from ganeti.confd.config_reader import ConfigReader
from ganeti.confd.service import ConfdProtocol, ConfdService
from ganeti.daemons.common import EXIT_NOT_CLUSTER, Upkeep, end, ready, refuse
from ganeti.daemons.noded import default_address
from ganeti.daemons.options import NetworkOptions
from ganeti.daemons.ordered import OrderedService
from ganeti.interfaces import IClock
from ganeti.model.cluster import Cluster
from ganeti.model.paths import Paths
from ganeti.wire.confd_messages import Reply, Request

PORT = 1814

Options = NetworkOptions

InThread = Callable[[Callable[[], Cluster]], Awaitable[Cluster]]


@implementer(IClock)
class WallClock:
    """The time of this machine; other machines compare theirs with it."""

    def seconds(self) -> float:
        """Seconds since the epoch."""
        return time.time()


def makeService(options: NetworkOptions) -> IService:
    """The daemon, for twistd."""
    from twisted.internet import reactor

    paths = options.paths
    key = _key(paths)
    reader = ConfigReader(reactor, paths.config_file, deferToThread)
    return build(
        reactor,
        reader,
        key,
        (options["bind"] or default_address(paths)).split(","),
        PORT if options["port"] is None else options["port"],
        Upkeep.of("ganeti-confd", options, reload=reader.look_soon),
        clock=WallClock(),
        on_failure=end(reactor),
    )


def build(
    reactor: Any,
    reader: ConfigReader,
    key: bytes,
    addresses: Sequence[str],
    port: int,
    upkeep: IService,
    *,
    clock: IClock,
    on_failure: Callable[[Failure], None],
) -> IService:
    """The parts of the daemon, in the order in which they need each other."""
    sockets = [
        ConfdService(reactor, address, port, ConfdProtocol(clock, key, partial(_answer, reader)))
        for address in addresses
    ]
    return OrderedService([upkeep, reader, *sockets], on_failure=on_failure, on_started=ready)


def _answer(reader: ConfigReader, request: Request) -> Reply:
    return answer(request, reader.cluster)


def _key(paths: Paths) -> bytes:
    try:
        with open(paths.hmac_key_file, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise refuse(
            f"cannot read the cluster's key: {error}; this node is not part of a cluster yet",
            EXIT_NOT_CLUSTER,
        ) from error
