"""Mutual TLS between nodes: who may speak with whom is decided inside the handshake.

Both ends show a certificate of the cluster's authority. Its private extension says role, node and
cluster (`ganeti.model.identity`); node daemons let in the role master of their cluster only, and
masterd checks that it reached the very node it meant, by the extension and by the host name. Sessions
are never resumed, since a resumed one would not be checked again.
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import extract_patterns
from service_identity.hazmat import DNS_ID, verify_service_identity
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorTime,
)
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from ganeti.errors import ConfigurationError
from ganeti.model.identity import Identity, Role
from ganeti.wire.certificates import identity_of


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What this end shows and whom it believes, all PEM."""

    own: bytes
    """Private key and certificate."""
    authority: bytes
    """Certificate of the cluster's authority."""


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """The other end, with a certificate of our authority."""

    identity: Identity
    certificate: x509.Certificate


_SECRET_LABEL = b"EXPORTER-ganeti-receipt"

Verdict = Callable[[Peer], str | None]
"""Why a peer is refused, or None if it is welcome."""


def only_master(cluster_uuid: str) -> Verdict:
    """Lets in the master of one cluster: the rule of node daemons."""

    def judge(peer: Peer) -> str | None:
        if peer.identity.cluster_uuid != cluster_uuid:
            return f"it belongs to another cluster ({peer.identity.cluster_uuid})"
        if peer.identity.role is not Role.MASTER:
            return f"its role is {peer.identity.role.value}, and only the master may call functions"
        return None

    return judge


def master_or_node(cluster_uuid: str, lets_nodes_in: Callable[[], bool]) -> Verdict:
    """Lets in the master of one cluster and, while something is true, its nodes, which may do less."""
    as_master = only_master(cluster_uuid)

    def judge(peer: Peer) -> str | None:
        found = peer.identity
        if found.role is Role.NODE and found.cluster_uuid == cluster_uuid and lets_nodes_in():
            return None
        return as_master(peer)

    return judge


def only_node(cluster_uuid: str, node_uuid: str, name: str) -> Verdict:
    """Lets in one node of one cluster: the rule of masterd."""

    def judge(peer: Peer) -> str | None:
        found = peer.identity
        if found.cluster_uuid != cluster_uuid:
            return f"it belongs to another cluster ({found.cluster_uuid})"
        if found.role is not Role.NODE or found.node_uuid != node_uuid:
            return f"this is not node {name} but {found.role.value} {found.node_uuid}"
        try:
            verify_service_identity(extract_patterns(peer.certificate), [DNS_ID(name)], [])
        except (VerificationError, CertificateError):
            return f"its certificate is not for the name {name}"
        return None

    return judge


@implementer(IOpenSSLServerConnectionCreator)
class ServerTls:
    """TLS of an end that listens.

    Args:
        credentials: own certificate and the authority.
        verdict: who is let in.

    Raises:
        ConfigurationError: key or certificates cannot be used.
    """

    log = Logger()

    def __init__(self, credentials: Credentials, verdict: Verdict) -> None:
        self._verdict = verdict
        self._context = _context(credentials, self._judge)
        self._let_in: WeakKeyDictionary[SSL.Connection, Peer] = WeakKeyDictionary()

    def peer_of(self, connection: SSL.Connection) -> Peer | None:
        """Who is at the other end of a connection whose handshake is done."""
        return self._let_in.get(connection)

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """State of a new connection."""
        return SSL.Connection(self._context, None)

    def _judge(self, connection: SSL.Connection, peer: Peer | str) -> bool:
        refusal = peer if isinstance(peer, str) else self._verdict(peer)
        if refusal is not None:
            self.log.warn("connection refused: {refusal}", refusal=refusal)
        elif isinstance(peer, Peer):
            self._let_in[connection] = peer
        return refusal is None


class ClientTls:
    """TLS of an end that connects; one for all connections.

    Args:
        credentials: own certificate and the authority.

    Raises:
        ConfigurationError: key or certificates cannot be used.
    """

    def __init__(self, credentials: Credentials) -> None:
        self._context = _context(credentials, self._judge)
        # The connection's own place for such data is used by Twisted.
        self._expected: WeakKeyDictionary[SSL.Connection, ClientConnection] = WeakKeyDictionary()

    def to(self, verdict: Verdict) -> ClientConnection:
        """TLS of one connection, to whoever `verdict` lets in."""
        return ClientConnection(self._new, verdict)

    def _new(self, expected: ClientConnection) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        self._expected[connection] = expected
        return connection

    def _judge(self, connection: SSL.Connection, peer: Peer | str) -> bool:
        expected = self._expected[connection]
        expected.refusal = peer if isinstance(peer, str) else expected.verdict(peer)
        return expected.refusal is None


@implementer(IOpenSSLClientConnectionCreator)
class ClientConnection:
    """TLS of one connection; remembers why the other end was refused."""

    def __init__(self, new: Callable[[ClientConnection], SSL.Connection], verdict: Verdict) -> None:
        self._new = new
        self.verdict = verdict
        self.refusal: str | None = None

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """State of the connection."""
        return self._new(self)


def secret_of(connection: SSL.Connection) -> bytes | None:
    """What both ends of a connection know, and nobody else (RFC 5705); None before the handshake is done."""
    try:
        return bytes(connection.export_keying_material(_SECRET_LABEL, 32))
    except SSL.Error:
        return None


def tls_factory(
    creator: IOpenSSLClientConnectionCreator | IOpenSSLServerConnectionCreator,
    factory: IProtocolFactory,
    clock: IReactorTime,
    *,
    is_client: bool,
) -> TLSMemoryBIOFactory:
    """A factory whose connections speak TLS, around one whose protocols are links."""
    wrapped = TLSMemoryBIOFactory(creator, is_client, factory, clock)
    # Not the default, which collects small writes for a turn of the reactor: links write whole messages.
    wrapped.protocol = TLSMemoryBIOProtocol
    wrapped.noisy = False
    return wrapped


def explain(error: BaseException) -> str:
    """Why a connection failed, for the operator; alerts of the TLS library in words."""
    if not isinstance(error, SSL.Error):
        return str(error) or type(error).__name__
    reasons = " ".join(str(entry[-1]) for entry in (error.args[0] if error.args else ()) if entry)
    if "alert" in reasons:
        # Where the rule of admission said no, and not the TLS library, the alert is "internal error".
        return f"the other side refused our certificate ({reasons}); its log says why"
    if "certificate verify failed" in reasons:
        return "the certificate of the other side is not from this cluster, expired, or not the expected one"
    return f"TLS failed ({reasons or 'connection closed'})"


def _context(credentials: Credentials, judge: Callable[[SSL.Connection, Peer | str], bool]) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    # Without this a thousand idle connections hold 20 MB of empty buffers.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_options(SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    try:
        authority = x509.load_pem_x509_certificate(credentials.authority)
        context.use_certificate(x509.load_pem_x509_certificate(credentials.own))
        context.use_privatekey(load_pem_private_key(credentials.own, None))  # type: ignore[arg-type]
        context.check_privatekey()
        store = context.get_cert_store()
        assert store is not None
        store.add_cert(crypto.X509.from_cryptography(authority))
    except (ValueError, TypeError, SSL.Error, crypto.Error) as error:
        raise ConfigurationError(
            f"certificate or key of this node cannot be used: {error}; renew the cluster's certificates"
        ) from error

    def verify(connection: SSL.Connection, certificate: crypto.X509, code: int, depth: int, ok: int) -> bool:
        if not ok:
            judge(connection, f"certificate not accepted: {crypto_text(code)}")
            return False
        if depth > 0:
            return True
        found = certificate.to_cryptography()
        identity = identity_of(found)
        if identity is None:
            return judge(connection, "its certificate has no identity of this kind of cluster")
        return judge(connection, Peer(identity=identity, certificate=found))

    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
    return context


def crypto_text(code: int) -> str:
    """A verification code of the TLS library in words."""
    return {
        9: "it is not valid yet; compare the clocks",
        10: "it has expired",
        18: "it is self-signed",
        19: "it is from another authority",
        20: "it is from another authority",
        26: "it is for another purpose",
    }.get(code, f"verification code {code}")
