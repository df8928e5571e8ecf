"""The cluster's certificate authority: making it, and certificates of nodes, masters and RAPI.

Keys are P-256. A certificate says in a private extension for which role, node and cluster it is
(`ganeti.model.identity`), and in its alternative names under which names and addresses it is reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pyasn1.codec.der import encoder
from pyasn1.type import char, univ

from ganeti.errors import ConfigurationError
from ganeti.model.identity import IDENTITY_OID, Identity, Role

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 5 * 365

_EARLIER = timedelta(hours=1)
"""Certificates are valid from before they were made, for clocks that are behind."""


class KeyPair(msgspec.Struct, frozen=True, kw_only=True):
    """A private key and its certificate, each PEM."""

    key: bytes
    certificate: bytes

    @property
    def pem(self) -> bytes:
        """Both, as stored in one file."""
        return self.key + self.certificate


def make_authority(cluster_name: str, *, now: float, days: int = AUTHORITY_DAYS) -> KeyPair:
    """A new authority; its certificate goes to every node, its key to master candidates.

    Args:
        cluster_name: for the subject.
        now: seconds since the epoch.
        days: how long it is valid.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"authority of cluster {cluster_name}")
    begins = datetime.fromtimestamp(now, UTC)
    certificate = (
        _builder(key, name, name, begins, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return _pair(key, certificate)


def issue(
    authority: KeyPair,
    identity: Identity,
    *,
    names: Sequence[str],
    now: float,
    days: int = CERTIFICATE_DAYS,
) -> KeyPair:
    """A new key with a certificate.

    Args:
        authority: who signs.
        identity: role, node and cluster that it speaks for.
        names: host names and addresses, the one for the subject first.
        now: seconds since the epoch.
        days: how long it is valid.

    Raises:
        ConfigurationError: the authority's key cannot be read.
    """
    signer, issuer = _loaded(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    purposes = {
        # A node that spreads what the master signed connects to others.
        Role.NODE: [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
        Role.MASTER: [ExtendedKeyUsageOID.CLIENT_AUTH],
        Role.RAPI: [ExtendedKeyUsageOID.SERVER_AUTH],
    }[identity.role]
    begins = datetime.fromtimestamp(now, UTC)
    certificate = (
        _builder(key, _name(names[0]), issuer.subject, begins, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .add_extension(_identity_extension(identity), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return _pair(key, certificate)


def digest(pem: bytes, algorithm: hashes.HashAlgorithm | None = None) -> str:
    """Fingerprint of the certificate in a PEM file (SHA-256 unless told otherwise): `AA:BB:...`."""
    found = _certificate(pem).fingerprint(algorithm or hashes.SHA256())
    return found.hex(":").upper()


def expires_at(pem: bytes) -> float:
    """When the certificate in a PEM file ends, seconds since the epoch."""
    return _certificate(pem).not_valid_after_utc.timestamp()


def _certificate(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise ConfigurationError(f"not a certificate: {error}") from error


def _loaded(authority: KeyPair) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    try:
        key = serialization.load_pem_private_key(authority.key, None)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"the key of the cluster's authority cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigurationError("the key of the cluster's authority is not a P-256 key")
    return key, _certificate(authority.certificate)


def _builder(
    key: ec.EllipticCurvePrivateKey, subject: x509.Name, issuer: x509.Name, begins: datetime, days: int
) -> x509.CertificateBuilder:
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins - _EARLIER)
        .not_valid_after(begins + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _identity_extension(identity: Identity) -> x509.UnrecognizedExtension:
    texts = univ.SequenceOf(componentType=char.UTF8String())
    texts.extend([identity.role.value, identity.node_uuid, identity.cluster_uuid])
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(IDENTITY_OID), encoder.encode(texts))


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(text: str) -> x509.Name:
    # The subject holds at most 64 characters; the full name stands in the alternative names.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _pair(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> KeyPair:
    return KeyPair(
        key=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        certificate=certificate.public_bytes(serialization.Encoding.PEM),
    )
