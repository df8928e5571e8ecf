"""Node functions with which a node stops being a candidate, or leaves the cluster (rpc.md 2.4)."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import time

from ganeti.errors import ConfigurationError, OperationFailed, StorageError
from ganeti.interfaces import IHost
from ganeti.logic.os_env import SCRIPT_PATH
from ganeti.model.calls.system import NodeDemote, NodeLeaveCluster
from ganeti.node.backend.registry import NodeWorld, node_function
from ganeti.node.backend.system import read_master_name

_QUIT_DELAY_S = 1


@node_function(NodeDemote)
def node_demote_from_mc(call: NodeDemote, node: NodeWorld) -> None:
    """Back up and remove the configuration of a node that is no candidate any more."""
    host = node.host
    if _is_master(host):
        raise OperationFailed(f"node {host.name} is the master and keeps its configuration")
    if _daemon_pid(host, "ganeti-masterd") is not None:
        raise OperationFailed(f"the master daemon runs on node {host.name}; stop it there first")
    when = time.strftime("%Y-%m-%d_%H_%M_%S", time.localtime(host.now()))
    # Older parts of the journal lie beside it with a number.
    parts = sorted(glob.glob(f"{glob.escape(host.paths.config_journal)}.[0-9]*"))
    for path in (host.paths.config_file, host.paths.config_journal, *parts):
        with contextlib.suppress(FileNotFoundError):
            os.replace(path, f"{path}.backup-{when}")


@node_function(NodeLeaveCluster)
def node_leave_cluster(call: NodeLeaveCluster, node: NodeWorld) -> None:
    """Forget everything about the cluster and let the node daemon quit after the answer."""
    host = node.host
    if _is_master(host):
        raise OperationFailed(f"node {host.name} is the master; move that role to another node first")
    try:
        for path in _cluster_files(host):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        shutil.rmtree(host.paths.queue_dir, ignore_errors=True)
    except OSError as error:
        raise StorageError(f"{error.filename} cannot be removed: {error.strerror}") from error
    pid = _daemon_pid(host, "ganeti-noded")
    if pid is not None:
        host.processes.start(
            ["/bin/sh", "-c", f"sleep {_QUIT_DELAY_S}; kill -TERM {pid}"],
            env={"PATH": SCRIPT_PATH},
            log_path=f"{host.paths.log_dir}/leave.log",
        )


def _is_master(host: IHost) -> bool:
    try:
        return read_master_name(host) == host.name
    except ConfigurationError:
        return False


def _cluster_files(host: IHost) -> list[str]:
    """Credentials, configuration and ssconf files of this node."""
    paths = host.paths
    found = [
        paths.node_cert_file,
        paths.client_cert_file,
        paths.ca_key_file,
        paths.ca_file,
        paths.rapi_cert_file,
        paths.rapi_users_file,
        paths.hmac_key_file,
        paths.domain_secret_file,
        paths.config_file,
        paths.config_journal,
        paths.ssconf_stamp_file,
    ]
    with contextlib.suppress(FileNotFoundError):
        prefix = os.path.basename(paths.ssconf(""))
        found += [
            f"{paths.data_dir}/{name}" for name in os.listdir(paths.data_dir) if name.startswith(prefix)
        ]
    return found


def _daemon_pid(host: IHost, daemon: str) -> int | None:
    """Process of a running daemon of this node; None: it does not run."""
    try:
        with open(host.paths.pid_file(daemon), encoding="ascii") as file:
            pid = int(file.read())
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            command = file.read()
    except (OSError, ValueError):
        return None
    # A pid file may outlive its daemon, and the number go to another program.
    return pid if daemon.encode() in command else None
