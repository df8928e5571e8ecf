"""Makes a new cluster on this machine, and erases one: what cannot be a job, as there is no master yet.

`python -m ganeti.daemons.bootstrap init` reads an `InitRequest` as JSON; `destroy` reads nothing and is
called after OP_CLUSTER_DESTROY has said that nothing is left. Both need root or a root directory of
their own (GANETI_ROOTDIR). Messages go to stdout, errors to stderr as the tools print them.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from ganeti.cli.client import Client
from ganeti.cli.errors import CommandError, MasterError
from ganeti.daemons import control
from ganeti.daemons.cluster_files import create_secrets, node_files, write_master_files, write_node_files
from ganeti.daemons.options import ROOT_VARIABLE
from ganeti.errors import ErrorCode, GanetiError, PrereqError, TypeEnforcementError
from ganeti.interfaces import Plugins
from ganeti.io.files import FileLock, InUse, Ownership, write_file
from ganeti.io.names import has_address, own_name, resolve
from ganeti.logic.settings_changes import check_directory, checked_mac_prefix
from ganeti.logic.ssconf import ssconf_files
from ganeti.model.cluster import Cluster, empty_cluster
from ganeti.model.codec import encode_cluster
from ganeti.model.defaults import DEFAULT_GROUP_NAME, new_cluster_settings
from ganeti.model.ids import GroupId, NodeId, is_host_name
from ganeti.model.node import Node, NodeGroup
from ganeti.model.param_tables.disk import DISK
from ganeti.model.params import ParamTable, ParamValue
from ganeti.model.paths import Paths
from ganeti.plugin_registry import demand, discover

DAEMONS = ("ganeti-noded", "ganeti-masterd", "ganeti-confd", "ganeti-rapi")
NODED_PORT = 1811
WATCHER_S = 10.0
"""A run of the watcher that has begun is waited for so long before daemons are stopped."""


class InitRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `gnt-cluster init` asks for; absent: the default."""

    cluster_name: str
    primary_ip_version: int = 4
    secondary_ip: str | None = None
    bind: str | None = None
    """Address on which the daemons of this node listen; None: all."""
    master_netdev: str | None = None
    master_netmask: int | None = None
    mac_prefix: str | None = None
    enabled_hypervisors: tuple[str, ...] = ("kvm",)
    enabled_disk_templates: tuple[str, ...] = ("sharedfile", "file", "diskless")
    vg_name: str | None = None
    file_storage_dir: str | None = None
    shared_file_storage_dir: str | None = None
    hvparams: Mapping[str, Mapping[str, ParamValue]] = {}
    beparams: Mapping[str, ParamValue] = {}
    nicparams: Mapping[str, ParamValue] = {}
    ndparams: Mapping[str, ParamValue] = {}
    diskparams: Mapping[str, Mapping[str, ParamValue]] = {}
    ipolicy: Mapping[str, Any] = {}
    candidate_pool_size: int = 10
    default_iallocator: str = "builtin"
    default_iallocator_params: Mapping[str, ParamValue] = {}
    maintain_node_health: bool = False
    prealloc_wipe_disks: bool = False
    use_external_mip_script: bool = False
    enabled_user_shutdown: bool = False
    modify_etc_hosts: bool = True
    modify_ssh_setup: bool = True
    compression_tools: tuple[str, ...] | None = None
    install_image: str | None = None
    zeroing_image: str | None = None


class _Place(msgspec.Struct, frozen=True, kw_only=True):
    """Names and addresses of the new cluster and its first node, checked."""

    node_name: str
    primary_ip: str
    secondary_ip: str
    master_ip: str


def init(paths: Paths, request: InitRequest) -> None:
    """Make a cluster whose only node is this one, and start its daemons.

    Raises:
        PrereqError: refused before anything was written.
        GanetiError: a daemon does not start; everything written is left for the administrator.
    """
    _refuse_leftovers(paths)
    place = _check_place(paths, request)
    plugins = discover()
    demand(plugins, hypervisors=request.enabled_hypervisors, storage=request.enabled_disk_templates)
    cluster = _new_cluster(paths, request, place, plugins)
    _write(paths, cluster, place)
    _start_daemons(paths, request, place)
    submitted = Client(paths.master_socket).submit([{"OP_ID": "OP_CLUSTER_POST_INIT"}])
    print(f"cluster {cluster.name} is initialised; job {submitted} runs its hooks")


def stop_all(paths: Paths) -> None:
    """Stop the daemons of this node; the watcher first, as it would start the others again.

    Raises:
        GanetiError: one cannot be ended.
    """
    control.stop(paths, "ganeti-watcher")
    lock = FileLock(paths.watcher_lock_file, "the watcher")
    # A run of cron that is about to start daemons is waited for, and none begins meanwhile.
    with contextlib.suppress(InUse, OSError):
        lock.acquire(timeout_s=WATCHER_S)
    try:
        for daemon in reversed(DAEMONS):
            control.stop(paths, daemon)
    finally:
        lock.release()


def destroy(paths: Paths) -> None:
    """Stop the daemons of this node and remove the cluster's files from it."""
    stop_all(paths)
    for directory, _subdirs, files in os.walk(paths.data_dir, topdown=False):
        for name in files:
            os.unlink(os.path.join(directory, name))
        if directory != paths.data_dir:
            os.rmdir(directory)
    print("the cluster is gone from this node")


def _refuse_leftovers(paths: Paths) -> None:
    if os.path.exists(paths.config_file) or os.path.exists(paths.ssconf("cluster_name")):
        raise PrereqError("Cluster is already initialised", code=ErrorCode.STATE)
    if os.path.exists(paths.node_cert_file):
        raise PrereqError(
            f"this node belongs to a cluster ({paths.node_cert_file} exists); remove it from there first",
            code=ErrorCode.STATE,
        )
    queue = os.path.join(paths.queue_dir, "serial")
    if os.path.exists(queue):
        raise PrereqError(
            f"{paths.queue_dir} holds the jobs of a former cluster; move it away first",
            code=ErrorCode.STATE,
        )


def _check_place(paths: Paths, request: InitRequest) -> _Place:
    if request.primary_ip_version not in (4, 6):
        raise PrereqError(f"the IP version is 4 or 6, not {request.primary_ip_version}")
    family = request.primary_ip_version
    if not is_host_name(request.cluster_name.lower()):
        raise PrereqError(f"{request.cluster_name!r} cannot be the name of a cluster; use a host name")
    name = own_name(paths)
    primary = resolve(paths, name, family=family)
    if ipaddress.ip_address(primary).is_loopback and not paths.root:
        raise PrereqError(
            f"this host's name {name} resolves to the loopback address {primary}; "
            "give it a real address in DNS or /etc/hosts"
        )
    if not has_address(primary):
        raise PrereqError(f"this host's name {name} resolves to {primary}, which no interface here has")
    master_ip = resolve(paths, request.cluster_name, family=family)
    if master_ip != primary and _answers(master_ip):
        raise PrereqError(
            f"the address {master_ip} of cluster {request.cluster_name} is in use already",
            code=ErrorCode.NOT_UNIQUE,
        )
    secondary = request.secondary_ip or primary
    if ipaddress.ip_address(secondary).version != 4:
        raise PrereqError("with IPv6 as primary version an IPv4 secondary address is needed (-s)")
    if not has_address(secondary):
        raise PrereqError(f"no interface of this host has the secondary address {secondary}")
    return _Place(node_name=name, primary_ip=primary, secondary_ip=secondary, master_ip=master_ip)


def _answers(address: str) -> bool:
    try:
        with socket.create_connection((address, NODED_PORT), timeout=5.0):
            return True
    except OSError:
        return False


def _new_cluster(paths: Paths, request: InitRequest, place: _Place, plugins: Plugins) -> Cluster:
    now = time.time()
    node_uuid, group_uuid = NodeId(str(uuid.uuid4())), GroupId(str(uuid.uuid4()))
    if request.default_iallocator and request.default_iallocator not in plugins.iallocators:
        known = any(
            os.access(os.path.join(directory, request.default_iallocator), os.X_OK)
            for directory in paths.allocator_search_path
        )
        if not known:
            raise PrereqError(f"there is no allocator {request.default_iallocator!r} on this node")
    given = {
        name: getattr(request, name)
        for name in (
            "master_netdev",
            "master_netmask",
            "candidate_pool_size",
            "default_iallocator",
            "default_iallocator_params",
            "maintain_node_health",
            "prealloc_wipe_disks",
            "use_external_mip_script",
            "enabled_user_shutdown",
            "modify_etc_hosts",
            "modify_ssh_setup",
            "compression_tools",
            "install_image",
            "zeroing_image",
        )
        if getattr(request, name) is not None
    }
    for what in ("file_storage_dir", "shared_file_storage_dir"):
        check_directory(getattr(request, what) or "", what)
    if request.mac_prefix is not None:
        given["mac_prefix"] = checked_mac_prefix(request.mac_prefix)
    try:
        settings = new_cluster_settings(
            uuid=str(uuid.uuid4()),
            cluster_name=request.cluster_name.lower(),
            master_node=node_uuid,
            master_ip=place.master_ip,
            now=now,
            enabled_hypervisors=request.enabled_hypervisors,
            enabled_disk_templates=request.enabled_disk_templates,
            volume_group_name=request.vg_name,
            primary_ip_family=int(socket.AF_INET6 if request.primary_ip_version == 6 else socket.AF_INET),
            hypervisors=_tables(plugins.hypervisors),
            templates={**DISK, **_tables(plugins.storage)},
            hvparams=request.hvparams,
            beparams=request.beparams,
            nicparams=request.nicparams,
            ndparams=request.ndparams,
            diskparams=request.diskparams,
            ipolicy=request.ipolicy,
            file_storage_dir=request.file_storage_dir or paths.file_storage_dir,
            shared_file_storage_dir=request.shared_file_storage_dir or paths.shared_file_storage_dir,
            **given,
        )
    except TypeEnforcementError as error:
        raise PrereqError(str(error)) from error
    for name in request.enabled_hypervisors:
        plugins.hypervisors[name].check_params(settings.hvparams[name])
    cluster = empty_cluster(settings, now=now)
    group = NodeGroup(uuid=group_uuid, name=DEFAULT_GROUP_NAME, ctime=now, mtime=now)
    node = Node(
        uuid=node_uuid,
        name=place.node_name,
        primary_ip=place.primary_ip,
        secondary_ip=place.secondary_ip,
        group=group_uuid,
        master_candidate=True,
        ctime=now,
        mtime=now,
    )
    return replace(
        cluster,
        groups=cluster.groups.with_item(group_uuid, group).settled(),
        nodes=cluster.nodes.with_item(node_uuid, node).settled(),
    )


def _tables(plugins: Mapping[str, Any]) -> dict[str, ParamTable]:
    return {name: plugin.params for name, plugin in plugins.items()}


def _write(paths: Paths, cluster: Cluster, place: _Place) -> None:
    for directory in (paths.data_dir, paths.run_dir, paths.log_dir, paths.lock_dir, paths.socket_dir):
        os.makedirs(directory, mode=0o755, exist_ok=True)
    for template, directory in (
        ("file", cluster.settings.file_storage_dir),
        ("sharedfile", cluster.settings.shared_file_storage_dir),
    ):
        if template in cluster.settings.enabled_disk_templates:
            os.makedirs(directory, mode=0o750, exist_ok=True)
    now = time.time()
    authority = create_secrets(paths, cluster.name, now=now)
    identity = {"cluster_uuid": cluster.settings.uuid, "node_uuid": cluster.settings.master_node}
    names = tuple(dict.fromkeys((place.node_name, place.primary_ip, place.secondary_ip)))
    write_node_files(paths.data_dir, node_files(paths, authority, names=names, now=now, **identity))
    write_master_files(
        paths,
        authority,
        names=(*names, cluster.name, cluster.settings.master_ip),
        now=now,
        **identity,
    )
    for name, text in ssconf_files(cluster).items():
        write_file(paths.ssconf(name), text.encode(), Ownership(mode=0o444))
    # Last, as it is what makes this node a master.
    write_file(paths.config_file, encode_cluster(cluster), Ownership(mode=0o640))


def _start_daemons(paths: Paths, request: InitRequest, place: _Place) -> None:
    for daemon in DAEMONS:
        address = request.bind or _own_addresses(paths, place, daemon)
        network = [] if address is None or daemon == "ganeti-masterd" else ["--bind", address]
        control.start(paths, daemon, network)
        if daemon == "ganeti-masterd":
            wait_for_master(paths)


def _own_addresses(paths: Paths, place: _Place, daemon: str) -> str | None:
    """Where a daemon listens on a node that shares its machine with others; None: everywhere."""
    if not paths.root:
        return None
    if daemon != "ganeti-noded":
        return place.primary_ip
    return ",".join(dict.fromkeys((place.primary_ip, place.secondary_ip, place.master_ip)))


def wait_for_master(paths: Paths, *, timeout_s: float = 30.0) -> None:
    """Wait until the master daemon of this node answers.

    Raises:
        GanetiError: it does not, with the end of its log.
    """

    def answers() -> bool:
        try:
            client = Client(paths.master_socket)
        except CommandError:
            return False
        try:
            client.call("Version", [])
        except (CommandError, MasterError):
            return False
        finally:
            client.close()
        return True

    control.wait_until(
        answers,
        f"ganeti-masterd does not answer: {control.tail(paths.log_file('ganeti-masterd'))}",
        timeout_s=timeout_s,
    )


def main(arguments: Sequence[str]) -> int:
    """Run one action; gives the exit code."""
    paths = Paths(os.environ.get(ROOT_VARIABLE, ""))
    if os.geteuid() != 0 and not paths.root:
        sys.stderr.write("this needs root\n")
        return 1
    try:
        match list(arguments):
            case ["init"]:
                init(paths, msgspec.json.decode(sys.stdin.buffer.read(), type=InitRequest))
            case ["destroy"]:
                destroy(paths)
            case _:
                sys.stderr.write("usage: python -m ganeti.daemons.bootstrap init|destroy\n")
                return 2
    except msgspec.ValidationError as error:
        sys.stderr.write(f"Failure: prerequisites not met for this operation:\n{error}\n")
        return 1
    except PrereqError as error:
        sys.stderr.write(
            "Failure: prerequisites not met for this operation:\n"
            f"error type: {error.code}, error details:\n{error}\n"
        )
        return 1
    except (GanetiError, MasterError, CommandError) as error:
        sys.stderr.write(f"Failure: command execution error:\n{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
