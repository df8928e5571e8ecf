"""The listening end of the remote interface: HTTP, over TLS unless told otherwise."""

from __future__ import annotations

from OpenSSL import SSL, crypto
from twisted.application.service import Service
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IReactorTime, IStreamServerEndpoint
from twisted.internet.ssl import CertificateOptions, TLSVersion
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.http import Request as HttpRequest
from twisted.web.server import Site

from ganeti.errors import ConfigurationError
from ganeti.rapi.app import App

IDLE_S = 60


def server_tls(pem: bytes, source: str) -> CertificateOptions:
    """TLS 1.2 and later with a key and its certificate; no certificate is asked of clients.

    Args:
        pem: both, and further certificates of the chain.
        source: where they are from, for messages.

    Raises:
        ConfigurationError: they cannot be used.
    """
    try:
        key = crypto.load_privatekey(crypto.FILETYPE_PEM, pem)
        certificate = crypto.load_certificate(crypto.FILETYPE_PEM, pem)
        options = CertificateOptions(
            privateKey=key, certificate=certificate, raiseMinimumTo=TLSVersion.TLSv1_2
        )
        options.getContext()
    except (crypto.Error, SSL.Error, ValueError) as error:
        raise ConfigurationError(
            f"key and certificate in {source} cannot be used: {error}; "
            "renew them with 'gnt-cluster renew-crypto'"
        ) from error
    return options


class _QuietSite(Site):
    """The log of a daemon says what was done, not who looked: requests are not logged one by one."""

    noisy = False
    displayTracebacks = False

    def log(self, request: HttpRequest) -> None:
        """Nothing."""


class WebService(Service):
    """Listens.

    Args:
        reactor: time.
        endpoint: where.
        app: what is served.
        tls: None: without, for a proxy on the same machine.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        endpoint: IStreamServerEndpoint,
        app: App,
        tls: CertificateOptions | None,
    ) -> None:
        self._reactor = reactor
        self._endpoint = endpoint
        self._tls = tls
        self.site = _QuietSite(app, reactor=reactor, timeout=IDLE_S)  # type: ignore[no-untyped-call]
        self._port: IListeningPort | None = None

    async def startService(self) -> None:
        """Listen.

        Raises:
            CannotListenError: the address is taken.
        """
        super().startService()  # type: ignore[no-untyped-call]
        factory: IProtocolFactory = self.site
        if self._tls is not None:
            factory = TLSMemoryBIOFactory(self._tls, False, self.site, self._reactor)
            factory.noisy = False
        self._port = await self._endpoint.listen(factory)
        self.log.info("listening on {address}", address=self._port.getHost())

    async def stopService(self) -> None:
        """Listen no more."""
        super().stopService()  # type: ignore[no-untyped-call]
        port, self._port = self._port, None
        if port is not None:
            await maybeDeferred(port.stopListening)
