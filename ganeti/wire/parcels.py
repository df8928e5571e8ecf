"""Parcels signed by a master, and receipts for them: proofs that do not depend on who carried them.

A parcel is believed if its signature belongs to a certificate of the cluster's authority with the role
master. A receipt is made with a secret that only the node and its master have, both ends of their TLS
connection: whoever carries it from one to the other can lose it, but cannot make one.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from ganeti.errors import ConfigurationError, PermissionDenied
from ganeti.model.calls.parcels import MAX_PARCEL_BYTES, Parcel, SignedParcel
from ganeti.model.calls.system import WriteSsconf
from ganeti.model.identity import Role
from ganeti.model.reading import UNREADABLE
from ganeti.wire.certificates import identity_of

_DOMAIN = b"ganeti parcel 1\n"
"""Before what is signed: no other signature of the same key can be taken for one of a parcel."""
_RECEIPT = b"ganeti receipt 1\n"
_ALGORITHM = ec.ECDSA(hashes.SHA256())


class ParcelSigner:
    """Signs as the master of a cluster.

    Args:
        own: private key and certificate with the role master, PEM.
        cluster_uuid: of the cluster.

    Raises:
        ConfigurationError: the key cannot be used.
    """

    def __init__(self, own: bytes, cluster_uuid: str) -> None:
        try:
            key = load_pem_private_key(own, None)
            certificate = x509.load_pem_x509_certificate(own)
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"the master's key or certificate cannot be read: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigurationError("the master's key is not a P-256 key; renew the cluster's certificates")
        self._key = key
        self._certificate = certificate.public_bytes(Encoding.PEM).decode()
        self._cluster_uuid = cluster_uuid

    def sign(self, write: WriteSsconf) -> SignedParcel:
        """A parcel with this content; takes a millisecond for each megabyte or so."""
        body = msgspec.json.encode(Parcel(cluster_uuid=self._cluster_uuid, write=write))
        return SignedParcel(
            body=msgspec.Raw(body),
            certificate=self._certificate,
            signature=self._key.sign(_DOMAIN + body, _ALGORITHM),
        )


def opened(signed: SignedParcel, *, authority: bytes, cluster_uuid: str, now: float) -> Parcel:
    """The content of a parcel that a master of this cluster signed.

    Args:
        signed: the parcel.
        authority: certificate of the cluster's authority, PEM.
        cluster_uuid: of the cluster.
        now: seconds since the epoch.

    Raises:
        PermissionDenied: it is not one; nothing in it was looked at.
        ConfigurationError: the authority cannot be read.
    """
    body = bytes(signed.body)
    if len(body) > MAX_PARCEL_BYTES:
        raise PermissionDenied(
            f"a parcel of {len(body)} bytes is refused; at most {MAX_PARCEL_BYTES} are taken"
        )
    try:
        root = x509.load_pem_x509_certificate(authority)
    except ValueError as error:
        raise ConfigurationError(f"the certificate of the cluster's authority is damaged: {error}") from error
    key = _key_of_master(signed.certificate, root, cluster_uuid, now)
    try:
        key.verify(signed.signature, _DOMAIN + body, _ALGORITHM)
    except InvalidSignature:
        raise PermissionDenied("a parcel is refused: it is not what the master signed") from None
    try:
        parcel = msgspec.json.decode(body, type=Parcel)
    except UNREADABLE as error:
        raise PermissionDenied(
            f"a parcel is not understood ({error}); this node runs another version than the master"
        ) from error
    if parcel.cluster_uuid != cluster_uuid:
        raise PermissionDenied(f"a parcel is refused: it is for another cluster ({parcel.cluster_uuid})")
    if parcel.write.stamp is None:
        raise PermissionDenied("a parcel is refused: it does not say how new it is")
    return parcel


def digest(parcel: SignedParcel) -> bytes:
    """What receipts for a parcel are made of."""
    return hashlib.sha256(parcel.body).digest()


def receipt(secret: bytes, digest: bytes) -> str:
    """What a node gives for a parcel that it has carried out."""
    return hmac.new(secret, _RECEIPT + digest, hashlib.sha256).hexdigest()


def _key_of_master(
    pem: str, root: x509.Certificate, cluster_uuid: str, now: float
) -> ec.EllipticCurvePublicKey:
    """The key of a certificate that a master of the cluster has."""
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        certificate.verify_directly_issued_by(root)
        key = certificate.public_key()
        identity = identity_of(certificate)
    except (ValueError, TypeError, InvalidSignature, x509.InvalidVersion):
        raise PermissionDenied(
            "a parcel is refused: its certificate is not one of the cluster's authority"
        ) from None
    when = datetime.fromtimestamp(now, UTC)
    if not certificate.not_valid_before_utc <= when <= certificate.not_valid_after_utc:
        raise PermissionDenied("a parcel is refused: its certificate is not valid now; compare the clocks")
    if identity is None or identity.role is not Role.MASTER or identity.cluster_uuid != cluster_uuid:
        raise PermissionDenied("a parcel is refused: it is not signed by a master of this cluster")
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise PermissionDenied("a parcel is refused: its certificate has another kind of key")
    return key
