"""The node daemon: lets the master call functions on this node."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from twisted.application.service import IService
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.python.failure import Failure

from ganeti.daemons.common import EXIT_NOT_CLUSTER, Upkeep, end, ready, refuse
from ganeti.daemons.identity import OwnIdentity, credentials, own_identity
from ganeti.daemons.options import NetworkOptions
from ganeti.daemons.ordered import OrderedService
from ganeti.errors import ConfigurationError
from ganeti.master.node_connector import TlsNodeConnector
from ganeti.model.calls.base import NodeCall
from ganeti.model.calls.parcels import Neighbour, Parcel, SignedParcel, SpreadParcel
from ganeti.model.calls.system import QueueUpdate, WriteSsconf
from ganeti.model.ids import GroupId, NodeId
from ganeti.model.node import Node
from ganeti.model.paths import Paths
from ganeti.node.backend.files import write_ssconf
from ganeti.node.backend.host import Host
from ganeti.node.backend.queue import apply_batch
from ganeti.node.functions import Functions, InlineFunction, basic_inline
from ganeti.node.launcher import Launcher
from ganeti.node.locator import NodeLocator
from ganeti.node.parcels import InThread, NeighbourLocator, ParcelIntake, ParcelSpreader
from ganeti.node.service import LinkService
from ganeti.node.zygote import ZygoteSetup
from ganeti.wire.link import Link
from ganeti.wire.parcels import opened
from ganeti.wire.tls import ServerTls, master_or_node

PORT = 1811

Options = NetworkOptions


def makeService(options: NetworkOptions) -> IService:
    """The daemon, for twistd."""
    from twisted.internet import reactor

    paths = options.paths
    try:
        identity = own_identity(paths)
        tls = server_tls(paths, identity)
    except ConfigurationError as error:
        raise refuse(str(error), EXIT_NOT_CLUSTER) from error
    addresses = (options["bind"] or default_address(paths)).split(",")
    port = PORT if options["port"] is None else options["port"]
    endpoints = [server_endpoint(reactor, address, port) for address in addresses]
    upkeep = Upkeep.of("ganeti-noded", options)
    return build(reactor, paths, identity, endpoints, tls, upkeep, port=port, on_failure=end(reactor))


def build(
    reactor: Any,
    paths: Paths,
    identity: OwnIdentity,
    endpoints: Sequence[IStreamServerEndpoint],
    tls: ServerTls | None,
    upkeep: IService,
    *,
    port: int = PORT,
    on_failure: Callable[[Failure], None],
) -> IService:
    """The parts of the daemon, in the order in which they need each other."""
    launcher = Launcher(reactor, ZygoteSetup(root=paths.root, node_name=identity.name))
    links: list[LinkService] = []
    intake, spreader = parcel_parts(
        reactor,
        paths,
        identity,
        lambda: [secret for link in links for secret in link.factory.secrets()],
        port=port,
    )
    functions = Functions(
        reactor, launcher, inline={**inline_functions(paths), SpreadParcel: spreader.spread}
    )
    locator = NodeLocator(functions)
    links += [
        LinkService(reactor, endpoint, locator, tls=tls, from_nodes=NeighbourLocator(intake))
        for endpoint in endpoints
    ]
    return OrderedService([upkeep, launcher, functions, *links], on_failure=on_failure, on_started=ready)


def inline_functions(paths: Paths) -> dict[type[NodeCall[Any]], InlineFunction]:
    """Calls that the daemon answers itself: those that are too frequent for a process each."""
    from twisted.internet.threads import deferToThread

    def append(call: QueueUpdate) -> Any:
        return deferToThread(apply_batch, paths.data_dir, call.generation, call.records)

    return {**basic_inline(), QueueUpdate: append}


def server_tls(paths: Paths, identity: OwnIdentity) -> ServerTls:
    """Who may connect: the master, and other nodes while they have something to bring.

    Raises:
        ConfigurationError: key or certificates cannot be used.
    """
    verdict = master_or_node(identity.cluster_uuid, lambda: spreads(paths))
    return ServerTls(credentials(paths, paths.node_cert_file), verdict)


def spreads(paths: Paths) -> bool:
    """Whether groups of this cluster spread files themselves, as this node knows it."""
    try:
        with open(paths.ssconf("diffusion_min_nodes"), encoding="ascii") as stream:
            return int(stream.read()) > 0
    except (OSError, ValueError):
        return False


def parcel_parts(
    reactor: Any,
    paths: Paths,
    identity: OwnIdentity,
    secrets: Callable[[], list[bytes]],
    *,
    port: int,
    write: Callable[[WriteSsconf], None] | None = None,
    in_thread: InThread[tuple[str, ...]] | None = None,
) -> tuple[ParcelIntake, ParcelSpreader]:
    """What takes parcels of the master on this node, and what brings them to other nodes.

    Args:
        reactor: connections, time.
        paths: of this node.
        identity: of this node.
        secrets: what this node and each of its masters know.
        port: of node daemons.
        write: writes ssconf files; None: as they always are.
        in_thread: carries out what blocks; None: a thread.
    """
    from twisted.internet.threads import deferToThread

    host = Host(paths, identity.name)

    def opened_here(parcel: SignedParcel) -> Parcel:
        authority = credentials(paths, paths.node_cert_file).authority
        return opened(parcel, authority=authority, cluster_uuid=identity.cluster_uuid, now=time.time())

    intake = ParcelIntake(
        opened_here, write or (lambda call: write_ssconf(host, call)), secrets, in_thread or deferToThread
    )

    @cache
    def connector() -> TlsNodeConnector:
        own = credentials(paths, paths.node_cert_file)
        return TlsNodeConnector(reactor, own, identity.cluster_uuid, port=port)

    async def connect(neighbour: Neighbour) -> Link:
        return await connector()(
            Node(
                uuid=neighbour.uuid,
                name=neighbour.name,
                primary_ip=neighbour.primary_ip,
                secondary_ip=neighbour.primary_ip,
                group=GroupId(""),
            )
        )

    return intake, ParcelSpreader(reactor, NodeId(identity.node_uuid), connect, intake)


def default_address(paths: Paths) -> str:
    """All addresses of the IP version that the cluster uses (S2.3-135)."""
    try:
        with open(paths.ssconf("primary_ip_family"), encoding="ascii") as stream:
            family = stream.read().strip()
    except OSError:
        family = "2"
    return "::" if family == "10" else "0.0.0.0"


def server_endpoint(reactor: Any, address: str, port: int) -> IStreamServerEndpoint:
    """Where to listen."""
    from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint

    if ipaddress.ip_address(address).version == 6:
        return TCP6ServerEndpoint(reactor, port, interface=address, backlog=256)
    return TCP4ServerEndpoint(reactor, port, interface=address, backlog=256)
