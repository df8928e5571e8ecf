"""Checks of a node's files: checksums, programs, certificate, directories for disks (rpc.md section 3)."""

from __future__ import annotations

import hashlib
import os
import ssl
from collections.abc import Mapping
from typing import Any

import msgspec

from ganeti.node.backend.registry import NodeWorld
from ganeti.node.backend.verify_system import Check
from ganeti.storage import directories
from ganeti.storage.allowed_paths import bad_entries, read_entries

_NAMES = tuple[str, ...]
_DAY_S = 86400.0
_ERROR_DAYS, _WARNING_DAYS = 7, 30


def checksums(node: NodeWorld, argument: Any) -> Mapping[str, str]:
    """SHA-1 of each file by its name as given; those that cannot be read are left out.

    Names are absolute and without the root directory of a virtual node, so that the same list is
    right for every node.
    """
    found = {}
    for path in msgspec.convert(argument, _NAMES):
        try:
            with open(node.host.paths.root + path, "rb") as file:
                found[path] = hashlib.file_digest(file, "sha1").hexdigest()
        except OSError:
            continue
    return found


def missing_programs(node: NodeWorld, argument: Any) -> list[str]:
    """Scripts that are missing or not executable."""
    paths = msgspec.convert(argument, _NAMES)
    return [path for path in paths if _program_problem(path) is not None]


def oob_programs(node: NodeWorld, argument: Any) -> list[str | None]:
    """For each out-of-band program what is wrong with it, or None."""
    return [_program_problem(path) for path in msgspec.convert(argument, _NAMES)]


def bad_allowed_paths(node: NodeWorld, argument: Any) -> list[str]:
    """Entries that the list of allowed directories should not have."""
    host = node.host
    return list(bad_entries(read_entries(host), own_root=host.paths.root))


def storage_directory(node: NodeWorld, argument: Any) -> str | None:
    """What is wrong with a directory for disk files, or None."""
    return "; ".join(directories.problems(node.host, msgspec.convert(argument, str))) or None


def client_certificate(node: NodeWorld, argument: Any) -> tuple[str | None, str]:
    """ERROR or WARNING with the reason, or None with the SHA-1 of the node's certificate."""
    host = node.host
    path = host.paths.client_cert_file
    if not os.path.exists(path):
        path = host.paths.node_cert_file
    try:
        with open(path, encoding="ascii") as file:
            der = _first_certificate(file.read())
    except (OSError, ValueError) as error:
        return "ERROR", f"certificate {path} of node {host.name} cannot be read: {error}"
    days_left = (_end_of_validity(der) - host.now()) / _DAY_S
    if days_left < _WARNING_DAYS:
        level = "ERROR" if days_left < _ERROR_DAYS else "WARNING"
        return level, f"certificate {path} of node {host.name} ends in {days_left:.0f} days; renew it"
    return None, hashlib.sha1(der).hexdigest()


FILE_CHECKS: Mapping[str, Check] = {
    "filelist": checksums,
    "user-scripts": missing_programs,
    "oob-paths": oob_programs,
    "allowed-file-storage-paths": bad_allowed_paths,
    "file-storage-path": storage_directory,
    "shared-file-storage-path": storage_directory,
    "gluster-storage-path": storage_directory,
    "client-cert": client_certificate,
}


def _program_problem(path: str) -> str | None:
    if not os.path.isfile(path):
        return f"{path} is missing"
    return None if os.access(path, os.X_OK) else f"{path} is not executable"


def _first_certificate(pem: str) -> bytes:
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    start = pem.find(begin)
    stop = pem.find(end, start)
    if start < 0 or stop < 0:
        raise ValueError("it holds no certificate")
    return ssl.PEM_cert_to_DER_cert(pem[start : stop + len(end)])


def _end_of_validity(der: bytes) -> float:
    # Only this check needs the library, and every function process would pay for it.
    from cryptography import x509

    return x509.load_der_x509_certificate(der).not_valid_after_utc.timestamp()
