"""Secrets and certificates of a cluster: made at init, issued for each node that joins."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping

from ganeti.errors import ConfigurationError
from ganeti.io.files import Ownership, write_file
from ganeti.io.x509 import KeyPair, issue, make_authority
from ganeti.model.identity import Identity, Role
from ganeti.model.paths import Paths

PRIVATE = 0o600
PUBLIC = 0o644


def create_secrets(paths: Paths, cluster_name: str, *, now: float) -> KeyPair:
    """Authority, HMAC key and domain secret of a new cluster; gives the authority.

    The domain secret is kept if there is one, so that an administrator can give several clusters
    the same before they are made (S2.2-041).
    """
    authority = make_authority(cluster_name, now=now)
    _write(paths.ca_file, authority.certificate, PUBLIC)
    _write(paths.ca_key_file, authority.key, PRIVATE)
    _write(paths.hmac_key_file, secrets.token_hex(20).encode() + b"\n", 0o440)
    if not os.path.exists(paths.domain_secret_file):
        _write(paths.domain_secret_file, secrets.token_hex(20).encode() + b"\n", PRIVATE)
    return authority


def load_authority(paths: Paths) -> KeyPair:
    """The cluster's authority, on a node that has its key.

    Raises:
        ConfigurationError: this is not such a node.
    """
    try:
        with open(paths.ca_file, "rb") as stream:
            certificate = stream.read()
        with open(paths.ca_key_file, "rb") as stream:
            return KeyPair(key=stream.read(), certificate=certificate)
    except OSError as error:
        raise ConfigurationError(
            f"the cluster's authority cannot be read here: {error}; run this on the master, as root"
        ) from error


def node_files(
    paths: Paths,
    authority: KeyPair,
    *,
    cluster_uuid: str,
    node_uuid: str,
    names: tuple[str, ...],
    now: float,
) -> Mapping[str, bytes]:
    """What a node needs before its daemon can start: file name below its data directory to content."""
    identity = Identity(role=Role.NODE, node_uuid=node_uuid, cluster_uuid=cluster_uuid)
    with open(paths.hmac_key_file, "rb") as stream:
        hmac_key = stream.read()
    return {
        os.path.basename(paths.ca_file): authority.certificate,
        os.path.basename(paths.node_cert_file): issue(authority, identity, names=names, now=now).pem,
        os.path.basename(paths.hmac_key_file): hmac_key,
    }


def write_master_files(
    paths: Paths,
    authority: KeyPair,
    *,
    cluster_uuid: str,
    node_uuid: str,
    names: tuple[str, ...],
    now: float,
) -> None:
    """Certificates with which this node acts as master: towards nodes and on the remote interface."""
    for role, path in ((Role.MASTER, paths.client_cert_file), (Role.RAPI, paths.rapi_cert_file)):
        identity = Identity(role=role, node_uuid=node_uuid, cluster_uuid=cluster_uuid)
        _write(path, issue(authority, identity, names=names, now=now).pem, PRIVATE)


def write_node_files(data_dir: str, files: Mapping[str, bytes], *, durable: bool = True) -> None:
    """Put files of `node_files` into a data directory; private ones readable by the owner only."""
    for name, content in files.items():
        mode = PUBLIC if name == "ca.pem" else PRIVATE
        _write(os.path.join(data_dir, name), content, mode, durable=durable)


def _write(path: str, content: bytes, mode: int, *, durable: bool = True) -> None:
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    write_file(path, content, Ownership(mode=mode), durable=durable)
