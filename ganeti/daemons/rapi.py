"""The daemon of the remote HTTP interface; runs on the master."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from twisted.application.service import IService
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.ssl import CertificateOptions
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from ganeti.daemons.common import EXIT_NOT_CLUSTER, Upkeep, end, ready, refuse, refuse_elsewhere
from ganeti.daemons.identity import own_identity
from ganeti.daemons.noded import default_address, server_endpoint
from ganeti.daemons.options import NetworkOptions
from ganeti.daemons.ordered import OrderedService
from ganeti.errors import ConfigurationError
from ganeti.io.unix_address import UnixAddress
from ganeti.model.paths import Paths
from ganeti.rapi.app import App
from ganeti.rapi.info import info_routes
from ganeti.rapi.login import Gate
from ganeti.rapi.master_link import MasterLink
from ganeti.rapi.routes import Routes
from ganeti.rapi.service import WebService, server_tls

PORT = 5080


class Options(NetworkOptions):
    """Options of rapi."""

    optFlags: ClassVar[list[list[Any]]] = [
        ["no-ssl", None, "Speak plain HTTP; only where nobody else can listen."],
        ["require-authentication", None, "Ask for name and password even where anybody may read."],
    ]


def makeService(options: Options) -> IService:
    """The daemon, for twistd."""
    from twisted.internet import reactor

    paths = options.paths
    try:
        identity = own_identity(paths)
        refuse_elsewhere(paths, identity.name)
        tls = None if options["no-ssl"] else _tls(paths)
    except ConfigurationError as error:
        raise refuse(str(error), EXIT_NOT_CLUSTER) from error
    gate = Gate(paths.rapi_users_file, deferToThread, is_closed=bool(options["require-authentication"]))
    gate.reload()
    addresses = (options["bind"] or default_address(paths)).split(",")
    port = PORT if options["port"] is None else options["port"]
    return build(
        reactor,
        [server_endpoint(reactor, address, port) for address in addresses],
        UNIXClientEndpoint(reactor, _master_address(paths)),
        tls,
        gate,
        Upkeep.of("ganeti-rapi", options, reload=gate.reload),
        on_failure=end(reactor),
    )


def _master_address(paths: Paths) -> str:
    os.makedirs(paths.socket_dir, mode=0o755, exist_ok=True)
    # Never closed: it is needed until the end.
    return UnixAddress(paths.master_socket).text


def build(
    reactor: Any,
    endpoints: Sequence[IStreamServerEndpoint],
    master_endpoint: IStreamClientEndpoint,
    tls: CertificateOptions | None,
    gate: Gate,
    upkeep: IService,
    *,
    on_failure: Callable[[Failure], None],
) -> IService:
    """The parts of the daemon, in the order in which they need each other."""
    master = MasterLink(reactor, master_endpoint)
    app = App(Routes(info_routes(master)), gate)
    web = [WebService(reactor, endpoint, app, tls) for endpoint in endpoints]
    return OrderedService([upkeep, master, *web], on_failure=on_failure, on_started=ready)


def _tls(paths: Paths) -> CertificateOptions:
    try:
        with open(paths.rapi_cert_file, "rb") as stream:
            return server_tls(stream.read(), paths.rapi_cert_file)
    except OSError as error:
        raise ConfigurationError(f"cannot read {paths.rapi_cert_file}: {error}") from error
