"""Whom a certificate speaks for. Without Twisted and TLS, so that function processes can read it, too."""

from __future__ import annotations

from cryptography import x509
from pyasn1.codec.der import decoder
from pyasn1.error import PyAsn1Error
from pyasn1.type import char, univ

from ganeti.model.identity import IDENTITY_OID, Identity, Role


def identity_of(certificate: x509.Certificate) -> Identity | None:
    """What the private extension says; None if there is none or it cannot be read."""
    try:
        extension = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier(IDENTITY_OID)).value
        if not isinstance(extension, x509.UnrecognizedExtension):
            return None
        parts, rest = decoder.decode(
            extension.value, asn1Spec=univ.SequenceOf(componentType=char.UTF8String())
        )
        role, node_uuid, cluster_uuid = (str(part) for part in parts)
        if rest:
            return None
        return Identity(role=Role(role), node_uuid=node_uuid, cluster_uuid=cluster_uuid)
    except (x509.ExtensionNotFound, PyAsn1Error, ValueError):
        return None


def identity_in_der(der: bytes) -> Identity | None:
    """The same of a certificate as TLS hands it over."""
    try:
        return identity_of(x509.load_der_x509_certificate(der))
    except ValueError:
        return None
