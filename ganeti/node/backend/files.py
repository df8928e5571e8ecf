"""Node functions that write files which the master distributes: ssconf, and a few by name."""

from __future__ import annotations

import fcntl
import os
import re

from ganeti.errors import PermissionDenied
from ganeti.interfaces import IHost
from ganeti.io.files import Ownership, write_file
from ganeti.logic.ssconf import MAX_BYTES, is_due
from ganeti.model.calls.system import Stamp, UploadFile, WriteSsconf
from ganeti.model.paths import Paths
from ganeti.node.backend.registry import NodeWorld, node_function

_SSCONF_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_READABLE_BY_ALL = Ownership(mode=0o444)


@node_function(WriteSsconf)
def write_ssconf_files(call: WriteSsconf, node: NodeWorld) -> None:
    """Write ssconf files, one after the other, each in one step."""
    write_ssconf(node.host, call)


@node_function(UploadFile)
def upload_file_single(call: UploadFile, node: NodeWorld) -> None:
    """Write a file if it is one of those that the master may write."""
    target = allowed_target(call.path, node.host.paths)
    os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
    write_file(target, call.data, Ownership(mode=call.mode & 0o777))


def write_ssconf(host: IHost, call: WriteSsconf) -> None:
    """Write ssconf files, unless they are there already.

    Args:
        host: the node.
        call: name to text; a text ends with a newline or is empty.

    Raises:
        PermissionDenied: a name that no such file has, or a text that is too long; nothing is written.
        NodeError: the node has newer ones (see `is_due`); nothing is written.
        CopyBehind: they continue something else than the node has; nothing is written.
    """
    check_ssconf(call)
    os.makedirs(host.paths.lock_dir, mode=0o755, exist_ok=True)
    # Whoever may open it may lock it.
    private = f"{host.paths.lock_dir}/ganeti-ssconf.lock"
    with open(private, "ab", opener=lambda name, flags: os.open(name, flags, 0o600)) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_due(stored_stamp(host.paths), call):
            return
        for name, text in call.values.items():
            write_file(host.paths.ssconf(name), text.encode(), _READABLE_BY_ALL, durable=False)
        # Last: a set that is not complete has the stamp of the one before, and is sent once more.
        if call.stamp is not None:
            text = f"{call.stamp.generation} {call.stamp.number}\n"
            write_file(host.paths.ssconf_stamp_file, text.encode(), durable=False)


def check_ssconf(call: WriteSsconf) -> None:
    """Refuse names that no ssconf file has.

    Raises:
        PermissionDenied: there is one, or a text that is too long.
    """
    for name, text in call.values.items():
        if not _SSCONF_NAME.fullmatch(name):
            raise PermissionDenied(f"{name!r} is not the name of an ssconf file")
        if len(text.encode()) > MAX_BYTES:
            raise PermissionDenied(f"ssconf_{name} would have more than {MAX_BYTES} bytes")


def stored_stamp(paths: Paths) -> Stamp | None:
    """Which set of ssconf files a node has; None: unknown."""
    try:
        with open(paths.ssconf_stamp_file, encoding="ascii") as stream:
            generation, number = stream.read().split()
        return Stamp(generation=int(generation), number=int(number))
    except (FileNotFoundError, ValueError):
        return None


def allowed_target(path: str, own: Paths) -> str:
    """Where a file of the master goes on this node.

    Args:
        path: as on an ordinary host (a node of a virtual cluster has it below its own root).
        own: files of this node.

    Raises:
        PermissionDenied: the master may not write this file.
    """
    if own.root and path.startswith(f"{own.root}/"):
        path = path[len(own.root) :]
    if path not in uploadable(Paths()):
        raise PermissionDenied(f"{path} is not among the files that the master may write to nodes")
    return f"{own.root}{path}"


def uploadable(paths: Paths) -> frozenset[str]:
    """Files that the master may write; the list of file storage paths is never one of them."""
    data, conf = paths.data_dir, paths.conf_dir
    return frozenset(
        (
            paths.config_file,
            paths.hmac_key_file,
            paths.domain_secret_file,
            paths.rapi_cert_file,
            paths.rapi_users_file,
            paths.ca_file,
            paths.ca_key_file,
            f"{data}/known_hosts",
            f"{data}/spice.pem",
            f"{data}/spice-ca.pem",
            f"{conf}/vnc-cluster-password",
            f"{paths.root}/etc/hosts",
            f"{paths.root}/etc/xen/xend-config.sxp",
            f"{paths.root}/etc/xen/scripts/vif-bridge",
        )
    )
