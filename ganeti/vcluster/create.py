"""Makes a virtual cluster the way a real one is made: `gnt-cluster init`, then `gnt-node add` for each."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Sequence

import bcrypt
import msgspec

from ganeti.errors import CommandFailed, PrereqError
from ganeti.io.files import Ownership, write_file
from ganeti.vcluster import netns
from ganeti.vcluster.files import write_files
from ganeti.vcluster.layout import Layout
from ganeti.vcluster.nodes import command_on, environment

RAPI_PORT = 5080


def prepare(layout: Layout) -> None:
    """Directories, names, namespaces and a user of the remote interface; no cluster yet.

    Raises:
        PrereqError: the directory holds something already.
    """
    if os.path.isdir(layout.directory) and os.listdir(layout.directory):
        raise PrereqError(
            f"{layout.directory} is not empty; destroy the cluster in it, or choose another directory"
        )
    os.makedirs(layout.directory, exist_ok=True)
    layout.save()
    write_files(layout)
    if layout.netns:
        netns.ensure(layout)
    _write_rapi_user(layout)


def init_command(layout: Layout, more: Sequence[str] = ()) -> list[str]:
    """Command that makes the cluster on its first node."""
    return [
        "gnt-cluster",
        "init",
        "--no-ssh-init",
        "--no-etc-hosts",
        "--enabled-hypervisors",
        layout.hypervisor,
        "--enabled-disk-templates",
        ",".join(layout.disk_templates),
        "--shared-file-storage-dir",
        layout.shared_dir,
        "--file-storage-dir",
        layout.file_dir,
        # Small guests without a network are what such clusters are for.
        "--ipolicy-bounds-specs",
        "min:memory-size=32,cpu-count=1,disk-count=0,disk-size=1,nic-count=0,spindle-use=1"
        "/max:memory-size=32768,cpu-count=8,disk-count=16,disk-size=1048576,nic-count=8,spindle-use=12",
        *more,
        layout.cluster_name,
    ]


def form(layout: Layout, init_options: Sequence[str] = ()) -> None:
    """Make the cluster and take all nodes into it.

    Raises:
        CommandFailed: a command failed; what it printed is on the terminal.
    """
    _run(layout, init_command(layout, init_options))
    if layout.groups > 1:
        for number in range(1, layout.groups):
            _run(layout, ["gnt-group", "add", f"group{number + 1}"])
    for node in layout.nodes[1:]:
        command = ["gnt-node", "add", "--no-ssh-key-check"]
        if layout.group_of(node):
            command += ["--node-group", f"group{layout.group_of(node) + 1}"]
        _run(layout, [*command, node.name])


def _run(layout: Layout, command: Sequence[str]) -> None:
    first = layout.nodes[0]
    done = subprocess.run(command_on(layout, first, command), env=environment(layout, first), check=False)
    if done.returncode != 0:
        raise CommandFailed(f"'{' '.join(command)}' failed with exit code {done.returncode}")


def _write_rapi_user(layout: Layout) -> None:
    """A user with write access, and `rapi.json` that says how to connect as this user."""
    password = secrets.token_urlsafe(18)
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds=10)).decode()
    first = layout.nodes[0]
    paths = layout.paths(first)
    os.makedirs(os.path.dirname(paths.rapi_users_file), exist_ok=True)
    write_file(paths.rapi_users_file, f"vcluster {{BCRYPT}}{hashed} write\n".encode(), Ownership(mode=0o640))
    access = {
        "url": f"https://{first.address}:{RAPI_PORT}",
        "user": "vcluster",
        "password": password,
        "ca": paths.ca_file,
    }
    write_file(
        os.path.join(layout.directory, "rapi.json"),
        msgspec.json.format(msgspec.json.encode(access)) + b"\n",
        Ownership(mode=0o600),
    )
