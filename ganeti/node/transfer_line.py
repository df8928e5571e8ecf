"""The line between two nodes on which the content of one disk goes from one to the other.

TLS 1.3 with the nodes' own certificates, and each end lets in the one node that it was told. Messages
are JSON with their length before them; blocks are a kind, an offset and a length before the data. The
receiving end speaks twice: that it is ready, and at the end what it got or what went wrong.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import select
import socket
import ssl
import struct
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import msgspec

from ganeti.errors import BlockDeviceError, ConfigurationError, NodeError, PermissionDenied
from ganeti.model.calls.transfers import Copied
from ganeti.model.identity import Role
from ganeti.model.paths import Paths
from ganeti.model.reading import UNREADABLE

_LENGTH = struct.Struct("!I")
_BLOCK = struct.Struct("!cQI")
_DATA, _PACKED, _ZEROS, _END = b"D", b"P", b"Z", b"E"
_MAX_MESSAGE = 64 * 1024
_MAX_BLOCK = 1024 * 1024

M = TypeVar("M", bound=msgspec.Struct)


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long one end waits for the other, seconds."""

    arrival_s: float = 60.0
    """For the one that is to connect."""
    silence_s: float = 60.0
    """For the next bytes, or for room to send some."""
    handshake_s: float = 10.0
    """For whoever connects to prove who it is."""
    farewell_s: float = 5.0
    """For the other one to read why it was given up."""


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """The first message, of the sending end."""

    token: str
    size: int


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """The receiving end expects blocks now, or gives up before the first one."""

    ready: bool = False
    problem: str = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The last message of each end."""

    copied: Copied | None = None
    problem: str = ""


class Line:
    """An open line.

    Args:
        connection: whose handshake is done, and whose peer was looked at.
    """

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self._connection = connection

    def say(self, message: msgspec.Struct) -> None:
        """Send a message."""
        data = msgspec.json.encode(message)
        self._send(_LENGTH.pack(len(data)) + data)

    def hear(self, kind: type[M]) -> M:
        """The next message.

        Raises:
            NodeError: none comes, or it is not understood.
        """
        (length,) = _LENGTH.unpack(self._take(_LENGTH.size))
        if length > _MAX_MESSAGE:
            raise NodeError("the other node sends something that is not a message")
        try:
            return msgspec.json.decode(self._take(length), type=kind)
        except UNREADABLE as error:
            raise NodeError(f"the other node is not understood ({error}); it runs another version") from error

    def send_block(self, offset: int, data: bytes, *, level: int) -> None:
        """Send a block, compressed if that makes it smaller; without data: all is zero up to there."""
        kind = _DATA if data else _ZEROS
        if level and data:
            packed = zlib.compress(data, level)
            if len(packed) < len(data):
                kind, data = _PACKED, packed
        self._send(_BLOCK.pack(kind, offset, len(data)) + data)

    def send_end(self) -> None:
        """Say that there are no more blocks."""
        self._send(_BLOCK.pack(_END, 0, 0))

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """Blocks as they come, to the end.

        Raises:
            NodeError: they break off, or are not understood.
        """
        while True:
            kind, offset, length = _BLOCK.unpack(self._take(_BLOCK.size))
            if kind == _END:
                return
            if (
                kind not in (_DATA, _PACKED, _ZEROS)
                or length > _MAX_BLOCK
                or (kind == _ZEROS) != (length == 0)
            ):
                raise NodeError("the other node sends something that is not a block")
            data = self._take(length)
            yield offset, _unpacked(data) if kind == _PACKED else data

    def has_spoken(self) -> bool:
        """Whether the other end said something, or is gone."""
        return bool(self._connection.pending()) or bool(select.select([self._connection], [], [], 0)[0])

    def drain(self, within_s: float) -> None:
        """Take what still comes, so that the last message is not lost with the connection."""
        ends_at = time.monotonic() + within_s
        with contextlib.suppress(OSError, ValueError):
            while time.monotonic() < ends_at:
                self._connection.settimeout(max(0.01, ends_at - time.monotonic()))
                if not self._connection.recv(_MAX_BLOCK):
                    return

    def _send(self, data: bytes) -> None:
        with _problems():
            self._connection.sendall(data)

    def _take(self, count: int) -> bytes:
        data = bytearray(count)
        view, done = memoryview(data), 0
        with _problems():
            while done < count:
                got = self._connection.recv_into(view[done:])
                if not got:
                    raise NodeError("the other node went away in the middle of the copy")
                done += got
        return bytes(data)


@contextlib.contextmanager
def awaited(
    paths: Paths, address: str, source: str, token: str, patience: Patience, announce: Callable[[str], None]
) -> Iterator[tuple[Line, Hello]]:
    """A line to the one node that is to connect; others are refused, and it is waited for on.

    Args:
        paths: where the own certificate is.
        address: where to listen.
        source: UUID of that node.
        token: what it has to know.
        patience: how long.
        announce: told of the endpoint as soon as somebody can connect.

    Raises:
        NodeError: it does not come.
    """
    context = _context(paths, ssl.PROTOCOL_TLS_SERVER)
    ends_at = time.monotonic() + patience.arrival_s
    try:
        listening = socket.create_server((address, 0), family=_family(address), backlog=4)
    except OSError as error:
        raise NodeError(
            f"cannot listen at {address}: {error.strerror}; is it an address of this node?"
        ) from error
    with contextlib.closing(listening):
        announce(_endpoint(address, listening.getsockname()[1]))
        while True:
            connection, hello = _accepted(listening, context, ends_at, patience, paths, source, token)
            if connection is not None:
                break
    assert hello is not None
    with connection:
        connection.settimeout(patience.silence_s)
        yield Line(connection), hello


@contextlib.contextmanager
def connected(paths: Paths, endpoint: str, target: str, patience: Patience) -> Iterator[Line]:
    """A line to the node that listens.

    Raises:
        NodeError: it cannot be reached.
        PermissionDenied: it is another one.
    """
    context = _context(paths, ssl.PROTOCOL_TLS_CLIENT)
    host, _, port = endpoint.rpartition(":")
    try:
        raw = socket.create_connection((host.strip("[]"), int(port)), timeout=patience.handshake_s)
        connection = context.wrap_socket(raw)
    except (OSError, ValueError) as error:
        raise NodeError(f"cannot connect to {endpoint}: {error}") from error
    with connection:
        _check_peer(connection, paths, target)
        connection.settimeout(patience.silence_s)
        yield Line(connection)


def _accepted(
    listening: socket.socket,
    context: ssl.SSLContext,
    ends_at: float,
    patience: Patience,
    paths: Paths,
    source: str,
    token: str,
) -> tuple[ssl.SSLSocket | None, Hello | None]:
    """The next connection, if it is the one that is waited for."""
    left = ends_at - time.monotonic()
    if left <= 0:
        raise NodeError(f"the sending node did not connect within {patience.arrival_s:g} s")
    listening.settimeout(left)
    try:
        raw, peer = listening.accept()
    except TimeoutError:
        return None, None
    connection: ssl.SSLSocket | None = None
    try:
        raw.settimeout(min(left, patience.handshake_s))
        connection = context.wrap_socket(raw, server_side=True)
        _check_peer(connection, paths, source)
        hello = Line(connection).hear(Hello)
        if not hmac.compare_digest(hello.token.encode(), token.encode()):
            raise PermissionDenied("it does not know the token of this transfer")
    except (OSError, NodeError, PermissionDenied) as error:
        print(f"a connection from {peer[0]} for the copy of a disk is refused: {error}", file=sys.stderr)
        (connection or raw).close()
        return None, None
    except BaseException:
        (connection or raw).close()
        raise
    return connection, hello


def _context(paths: Paths, protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    # Names count for nothing here: the peer is recognised by the UUID in its certificate.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_COMPRESSION
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        # Tickets would look like words of the receiving end.
        context.num_tickets = 0
    try:
        context.load_cert_chain(paths.node_cert_file)
        context.load_verify_locations(paths.ca_file)
    except OSError as error:
        raise ConfigurationError(
            f"certificate or authority of this node cannot be used: {error}; is it part of a cluster?"
        ) from error
    return context


def _check_peer(connection: ssl.SSLSocket, paths: Paths, expected: str) -> None:
    """Refuse whoever is not the node with this UUID, of the own cluster."""
    # Only transfers need the library, and every function process would pay for it.
    from ganeti.wire.certificates import identity_in_der

    with open(paths.node_cert_file, encoding="ascii") as stream:
        own = identity_in_der(ssl.PEM_cert_to_DER_cert(_certificate_in(stream.read())))
    found = identity_in_der(connection.getpeercert(binary_form=True) or b"")
    if own is None or found is None:
        raise PermissionDenied("its certificate has no identity of this kind of cluster")
    if found.cluster_uuid != own.cluster_uuid:
        raise PermissionDenied(f"it belongs to another cluster ({found.cluster_uuid})")
    if found.role is not Role.NODE or found.node_uuid != expected:
        raise PermissionDenied(f"it is not node {expected} but {found.role.value} {found.node_uuid}")


def _certificate_in(pem: str) -> str:
    return pem[pem.index("-----BEGIN CERTIFICATE-----") :]


def _unpacked(data: bytes) -> bytes:
    unpacking = zlib.decompressobj()
    try:
        found = unpacking.decompress(data, _MAX_BLOCK)
    except zlib.error as error:
        raise NodeError(f"the other node sends a damaged block: {error}") from error
    if not found or not unpacking.eof:
        raise NodeError("the other node sends a damaged block")
    return found


@contextlib.contextmanager
def _problems() -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise NodeError("the other node neither sends nor takes anything any more") from None
    except OSError as error:
        raise NodeError(f"the line to the other node broke: {error.strerror or error}") from error


def _family(address: str) -> socket.AddressFamily:
    try:
        return socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    except ValueError as error:
        raise BlockDeviceError(f"{address!r} is no address") from error


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
