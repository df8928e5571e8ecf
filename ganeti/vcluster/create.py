"""Makes a virtual cluster the way a real one is made: `gnt-cluster init`, then `gnt-node add` for each."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
from collections.abc import Sequence

import bcrypt
import msgspec

from ganeti.daemons.bootstrap import NODED_PORT
from ganeti.errors import CommandFailed, PrereqError
from ganeti.io.files import Ownership, write_file
from ganeti.vcluster import netns
from ganeti.vcluster.files import write_files
from ganeti.vcluster.join import join_at_once, join_by_jobs
from ganeti.vcluster.layout import Layout, VirtualNode, plan
from ganeti.vcluster.nodes import command_on, environment
from ganeti.vcluster.processes import kill_all

RAPI_PORT = 5080
ADDRESS_ATTEMPTS = 240


def plan_free(
    directory: str,
    count: int,
    *,
    hypervisor: str,
    disk_templates: tuple[str, ...],
    groups: int = 1,
    netns: bool = False,
    ipv6: bool = False,
    simulated: bool = False,
) -> Layout:
    """A new cluster as `plan` makes it, with loopback addresses that nobody listens on now.

    Raises:
        PrereqError: see `plan`; or everything is taken.
    """
    for shift in range(ADDRESS_ATTEMPTS):
        layout = plan(
            directory,
            count,
            hypervisor=hypervisor,
            disk_templates=disk_templates,
            groups=groups,
            netns=netns,
            ipv6=ipv6,
            simulated=simulated,
            shift=shift,
        )
        if netns or _is_free(layout):
            return layout
    raise PrereqError("no free loopback addresses: too many virtual clusters run on this machine")


def _is_free(layout: Layout) -> bool:
    for address in (layout.cluster_address, layout.nodes[0].address, layout.nodes[-1].address):
        with socket.socket() as tried:
            # Connections of a cluster that was destroyed a moment ago are not in the way.
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind((address, NODED_PORT))
            except OSError:
                return False
    return True


def prepare(layout: Layout) -> None:
    """Directories, names, namespaces and a user of the remote interface; no cluster yet.

    What is left of a cluster whose directory was removed without `destroy` is ended.

    Raises:
        PrereqError: the directory holds something already.
        CommandFailed: the namespaces cannot be made.
    """
    require_empty(layout.directory)
    kill_all(*(layout.root(node) for node in layout.nodes))
    os.makedirs(layout.directory, exist_ok=True)
    layout.save()
    write_files(layout)
    if layout.netns:
        netns.remove(layout)
        netns.ensure(layout)
    _write_rapi_user(layout)


def require_empty(directory: str) -> None:
    """Refuse a directory with something in it.

    Raises:
        PrereqError: there is something.
    """
    if os.path.exists(directory) and not os.path.isdir(directory):
        raise PrereqError(f"{directory} is no directory; choose another one")
    if not os.path.isdir(directory) or not os.listdir(directory):
        return
    if os.path.exists(os.path.join(directory, Layout.FILE)):
        raise PrereqError(
            f"{directory} holds a virtual cluster; 'ganeti-vcluster start {directory}' starts it, "
            f"'ganeti-vcluster destroy {directory}' removes it"
        )
    raise PrereqError(f"{directory} is not empty; choose another directory")


def init_command(layout: Layout, more: Sequence[str] = ()) -> list[str]:
    """Command that makes the cluster on its first node."""
    family = ["--primary-ip-version", "6", *secondary(layout, layout.nodes[0])] if layout.ipv6 else []
    return [
        "gnt-cluster",
        "init",
        *family,
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
        # A network that needs nothing on this machine.
        "--nic-parameters",
        "mode=user",
        # Small guests without a network are what such clusters are for.
        "--ipolicy-bounds-specs",
        "min:memory-size=32,cpu-count=1,disk-count=0,disk-size=1,nic-count=0,spindle-use=1"
        "/max:memory-size=32768,cpu-count=8,disk-count=16,disk-size=1048576,nic-count=8,spindle-use=12",
        *more,
        layout.cluster_name,
    ]


def add_command(layout: Layout, node: VirtualNode) -> list[str]:
    """Command that takes a node into the cluster, into its group."""
    group = layout.group_of(node)
    chosen = ["--node-group", group_name(group)] if group else []
    return ["gnt-node", "add", "--no-ssh-key-check", *chosen, *secondary(layout, node), node.name]


def secondary(layout: Layout, node: VirtualNode) -> list[str]:
    """Options with the secondary address, which is always one of version 4."""
    return ["--secondary-ip", node.address] if layout.ipv6 else []


def group_name(number: int) -> str:
    """Name of a group by its number, from 0 on."""
    return f"group{number + 1}" if number else "default"


def form(layout: Layout, init_options: Sequence[str] = (), *, at_once: bool = False) -> None:
    """Make the cluster and take all nodes into it.

    Args:
        layout: the cluster.
        init_options: further options of `gnt-cluster init`.
        at_once: record simulated nodes together, without a job for each.

    Raises:
        CommandFailed: a command failed; what it printed is on the terminal.
    """
    _run(layout, init_command(layout, init_options))
    for number in range(1, layout.groups):
        _run(layout, ["gnt-group", "add", group_name(number)])
    if layout.simulated:
        join = join_at_once if at_once else join_by_jobs
        join(layout, {node.number: group_name(layout.group_of(node)) for node in layout.nodes})
        return
    for node in layout.nodes[1:]:
        _run(layout, add_command(layout, node))


def _run(layout: Layout, command: Sequence[str]) -> None:
    first = layout.nodes[0]
    done = subprocess.run(command_on(layout, first, command), env=environment(layout, first), check=False)
    if done.returncode != 0:
        raise CommandFailed(
            f"'{' '.join(command)}' failed with exit code {done.returncode}; "
            f"logs: {layout.paths(first).log_dir}; to clean up: ganeti-vcluster destroy {layout.directory}"
        )


def _write_rapi_user(layout: Layout) -> None:
    """A user with write access, and `rapi.json` that says how to connect as this user."""
    password = secrets.token_urlsafe(18)
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds=10)).decode()
    first = layout.nodes[0]
    paths = layout.paths(first)
    os.makedirs(os.path.dirname(paths.rapi_users_file), exist_ok=True)
    write_file(paths.rapi_users_file, f"vcluster {{BCRYPT}}{hashed} write\n".encode(), Ownership(mode=0o640))
    host = f"[{first.address6}]" if layout.ipv6 else first.address
    access = {
        "url": f"https://{host}:{RAPI_PORT}",
        "user": "vcluster",
        "password": password,
        "ca": paths.ca_file,
    }
    write_file(
        os.path.join(layout.directory, "rapi.json"),
        msgspec.json.format(msgspec.json.encode(access)) + b"\n",
        Ownership(mode=0o600),
    )
