"""The node daemon: lets the master call functions on this node."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import IService
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.python.failure import Failure

from ganeti.daemons.common import EXIT_NOT_CLUSTER, Upkeep, end, ready, refuse
from ganeti.daemons.identity import OwnIdentity, credentials, own_identity
from ganeti.daemons.options import NetworkOptions
from ganeti.daemons.ordered import OrderedService
from ganeti.errors import ConfigurationError
from ganeti.model.calls.base import NodeCall
from ganeti.model.calls.system import QueueUpdate
from ganeti.model.paths import Paths
from ganeti.node.backend.queue import apply_batch
from ganeti.node.functions import Functions, InlineFunction, basic_inline
from ganeti.node.launcher import Launcher
from ganeti.node.locator import NodeLocator
from ganeti.node.service import LinkService
from ganeti.node.zygote import ZygoteSetup
from ganeti.wire.tls import ServerTls, only_master

PORT = 1811

Options = NetworkOptions


def makeService(options: NetworkOptions) -> IService:
    """The daemon, for twistd."""
    from twisted.internet import reactor

    paths = options.paths
    try:
        identity = own_identity(paths)
        tls = ServerTls(credentials(paths, paths.node_cert_file), only_master(identity.cluster_uuid))
    except ConfigurationError as error:
        raise refuse(str(error), EXIT_NOT_CLUSTER) from error
    addresses = (options["bind"] or default_address(paths)).split(",")
    port = PORT if options["port"] is None else options["port"]
    endpoints = [server_endpoint(reactor, address, port) for address in addresses]
    upkeep = Upkeep.of("ganeti-noded", options)
    return build(reactor, paths, identity, endpoints, tls, upkeep, on_failure=end(reactor))


def build(
    reactor: Any,
    paths: Paths,
    identity: OwnIdentity,
    endpoints: Sequence[IStreamServerEndpoint],
    tls: ServerTls | None,
    upkeep: IService,
    *,
    on_failure: Callable[[Failure], None],
) -> IService:
    """The parts of the daemon, in the order in which they need each other."""
    launcher = Launcher(reactor, ZygoteSetup(root=paths.root, node_name=identity.name))
    functions = Functions(reactor, launcher, inline=inline_functions(paths))
    locator = NodeLocator(functions)
    links = [LinkService(reactor, endpoint, locator, tls=tls) for endpoint in endpoints]
    return OrderedService([upkeep, launcher, functions, *links], on_failure=on_failure, on_started=ready)


def inline_functions(paths: Paths) -> dict[type[NodeCall[Any]], InlineFunction]:
    """Calls that the daemon answers itself: those that are too frequent for a process each."""
    from twisted.internet.threads import deferToThread

    def append(call: QueueUpdate) -> Any:
        return deferToThread(apply_batch, paths.data_dir, call.generation, call.records)

    return {**basic_inline(), QueueUpdate: append}


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
