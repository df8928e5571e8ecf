"""Issues the credentials of a new node on the master; delivering them is the work of a script.

Called by `gnt-node add` as root on the master:
`python -m ganeti.daemons.node_setup NODE` with JSON `{"node_uuid", "primary_ip", "secondary_ip", ...}` on
stdin. The delivery script (`/etc/ganeti/node-setup`, else SSH) gets the node's name as argument and the
JSON `{"node", "primary_ip", "bind", "files": {name: base64}}` on its stdin. It must write the files to
the data directory of the node and start ganeti-noded there with `-b BIND` (S2.3-136, S2.3-153).
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import time
from collections.abc import Sequence

import msgspec

from ganeti.daemons.cluster_files import load_authority, node_files
from ganeti.daemons.identity import own_identity
from ganeti.daemons.options import ROOT_VARIABLE
from ganeti.errors import CommandFailed, GanetiError
from ganeti.io.names import full_name, resolve
from ganeti.model.paths import Paths


class SetupRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the new node; its name is the argument."""

    node_uuid: str
    primary_ip: str | None = None
    secondary_ip: str | None = None
    family: int = 4
    readd: bool = False
    force_join: bool = False
    ssh_key_check: bool = True
    verbose: bool = False


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """What a delivery script reads."""

    node: str
    primary_ip: str
    bind: str
    readd: bool
    force_join: bool
    ssh_key_check: bool
    files: dict[str, str]
    """Name below the data directory to content, base64."""


def set_up(paths: Paths, node: str, request: SetupRequest) -> None:
    """Issue and deliver.

    Raises:
        GanetiError: this is not the master, the name does not resolve, or the script failed.
    """
    node = full_name(paths, node, family=request.family)
    primary = request.primary_ip or resolve(paths, node, family=request.family)
    names = tuple(dict.fromkeys((node, primary, request.secondary_ip or primary)))
    files = node_files(
        paths,
        load_authority(paths),
        cluster_uuid=own_identity(paths).cluster_uuid,
        node_uuid=request.node_uuid,
        names=names,
        now=time.time(),
    )
    delivery = Delivery(
        node=node,
        primary_ip=primary,
        bind=primary,
        readd=request.readd,
        force_join=request.force_join,
        ssh_key_check=request.ssh_key_check,
        files={name: base64.b64encode(content).decode() for name, content in files.items()},
    )
    command = (
        [paths.node_setup_script]
        if os.access(paths.node_setup_script, os.X_OK)
        else [sys.executable, "-m", "ganeti.daemons.node_setup_ssh"]
    )
    done = subprocess.run(
        [*command, node], input=msgspec.json.encode(delivery), stdout=sys.stderr, timeout=300.0, check=False
    )
    if done.returncode != 0:
        raise CommandFailed(f"node {node} could not be set up: {command[0]} failed ({done.returncode})")


def main(arguments: Sequence[str]) -> int:
    """Run; gives the exit code."""
    paths = Paths(os.environ.get(ROOT_VARIABLE, ""))
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m ganeti.daemons.node_setup NODE\n")
        return 2
    try:
        set_up(paths, arguments[0], msgspec.json.decode(sys.stdin.buffer.read(), type=SetupRequest))
    except (GanetiError, msgspec.ValidationError) as error:
        sys.stderr.write(f"Failure: command execution error:\n{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
