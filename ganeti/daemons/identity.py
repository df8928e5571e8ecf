"""Who this node is, as its own certificate says."""

from __future__ import annotations

import msgspec
from cryptography import x509
from cryptography.x509.oid import NameOID

from ganeti.errors import ConfigurationError
from ganeti.model.paths import Paths
from ganeti.wire.certificates import identity_of
from ganeti.wire.tls import Credentials


class OwnIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Name and UUID of this node, and the UUID of its cluster."""

    name: str
    node_uuid: str
    cluster_uuid: str


def own_identity(paths: Paths) -> OwnIdentity:
    """What the node's certificate says.

    Raises:
        ConfigurationError: the node belongs to no cluster yet, or its certificate is damaged.
    """
    pem = _read(paths.node_cert_file)
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise ConfigurationError(f"cannot read the certificate in {paths.node_cert_file}: {error}") from error
    identity = identity_of(certificate)
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if identity is None or not names:
        raise ConfigurationError(f"the certificate in {paths.node_cert_file} is not one of a node")
    return OwnIdentity(
        name=str(names[0].value), node_uuid=identity.node_uuid, cluster_uuid=identity.cluster_uuid
    )


def credentials(paths: Paths, own_file: str) -> Credentials:
    """A key with its certificate, and the cluster's authority.

    Raises:
        ConfigurationError: a file is missing: the node belongs to no cluster.
    """
    return Credentials(own=_read(own_file), authority=_read(paths.ca_file))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path} is missing: this node is not part of a cluster yet "
            "('gnt-cluster init' makes one, 'gnt-node add' on its master takes this node in)"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error}") from error
