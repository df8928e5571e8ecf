"""Starts and stops the nodes of a virtual cluster."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence

import msgspec

from ganeti.daemons import control
from ganeti.daemons.bootstrap import DAEMONS, stop_all
from ganeti.daemons.options import ROOT_VARIABLE
from ganeti.plugins import ADMIN_PATH_VARIABLE
from ganeti.vcluster import netns
from ganeti.vcluster.files import checkout
from ganeti.vcluster.layout import Layout, VirtualNode
from ganeti.vcluster.processes import MARK, count_by_root, kill_all

SIMULATOR = "ganeti-simulated-nodes"
SIMULATOR_START_S = 120.0

_INHERITED = ("HOME", "LANG", "LC_ALL", "TERM", "USER", "LOGNAME", "TMPDIR", "XDG_CACHE_HOME")


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What of a node runs."""

    node: VirtualNode
    daemons: tuple[str, ...]
    is_simulated: bool
    """Served by the process of all simulated nodes."""
    processes: int
    is_link_up: bool = True


def environment(layout: Layout, node: VirtualNode) -> dict[str, str]:
    """Environment of whatever runs on a node."""
    known = {
        key: value for key, value in os.environ.items() if key in _INHERITED or key.startswith("GANETI_")
    }
    if layout.accelerator:
        known["GANETI_ACCEL"] = layout.accelerator
    if layout.has_fake_templates:
        others = known.get(ADMIN_PATH_VARIABLE)
        known[ADMIN_PATH_VARIABLE] = os.pathsep.join([*([others] if others else []), layout.plugin_dir])
    return {
        **known,
        MARK: layout.root(node),
        ROOT_VARIABLE: layout.root(node),
        "PATH": os.pathsep.join((*own_programs(), "/usr/sbin", "/usr/bin", "/sbin", "/bin")),
        "PYTHONPATH": checkout(),
    }


def own_programs() -> tuple[str, str]:
    """Directories of our programs and of the interpreter that runs them."""
    return os.path.join(checkout(), "bin"), os.path.dirname(sys.executable)


def command_on(layout: Layout, node: VirtualNode, argv: Sequence[str]) -> list[str]:
    """A command line that runs a program on a node."""
    if not layout.netns:
        return list(argv)
    return ["ip", "netns", "exec", layout.namespace(node), *argv]


def run_on(
    layout: Layout, node: VirtualNode, argv: Sequence[str], *, more: Mapping[str, str] | None = None
) -> int:
    """Run a program on a node with our terminal; gives its exit code."""
    env = {**environment(layout, node), **(more or {})}
    command = command_on(layout, node, argv)
    if not layout.netns:
        # The search path of the node counts, not ours.
        command[0] = shutil.which(command[0], path=env["PATH"]) or command[0]
    try:
        code = subprocess.run(command, env=env, check=False).returncode
    except FileNotFoundError:
        sys.stderr.write(f"{argv[0]}: there is no such program\n")
        return 127
    return code if code >= 0 else 128 - code


def start_node(layout: Layout, node: VirtualNode) -> None:
    """Start whatever of a node does not run: its node daemon, and on the master the others.

    A node without credentials is not in the cluster yet; nothing is started on it.

    Raises:
        GanetiError: a daemon does not start.
    """
    if not os.path.exists(layout.paths(node).node_cert_file):
        return
    if layout.netns:
        netns.ensure(layout)
    if layout.is_simulated(node):
        start_simulator(layout)
        return
    for daemon in DAEMONS:
        if daemon == "ganeti-noded" or node == layout.master:
            _start_daemon(layout, node, daemon)


def _start_daemon(layout: Layout, node: VirtualNode, daemon: str) -> None:
    control.start(
        layout.paths(node),
        daemon,
        layout.daemon_options(node, daemon),
        environment=environment(layout, node),
        prefix=command_on(layout, node, ()),
    )


def start_simulator(layout: Layout) -> None:
    """One process for all simulated nodes; told by SIGHUP that there are more.

    Raises:
        GanetiError: it does not come up.
    """
    paths = layout.paths(layout.nodes[1])
    if control.running_pid(paths, SIMULATOR) is not None:
        control.reload(paths, SIMULATOR)
        return
    with open(paths.log_file(SIMULATOR), "ab") as log:
        subprocess.Popen(
            [sys.executable, "-m", "ganeti.vcluster.simulator", SIMULATOR, layout.directory],
            env=environment(layout, layout.nodes[1]),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    control.wait_until(
        lambda: control.running_pid(paths, SIMULATOR) is not None,
        f"the simulated nodes do not come up; the log is {paths.log_file(SIMULATOR)}",
        timeout_s=SIMULATOR_START_S,
    )


def start(layout: Layout) -> None:
    """Start whatever does not run; may be repeated.

    Raises:
        GanetiError: a daemon does not start.
    """
    if layout.netns:
        netns.ensure(layout)
    master = layout.master
    others = [node for node in layout.nodes if node != master]
    if layout.simulated:
        # One process serves them all.
        others = others[:1]
    for node in (*others, master):
        start_node(layout, node)


def stop(layout: Layout) -> None:
    """Stop the daemons, the master's first; guests go on.

    Raises:
        GanetiError: one cannot be ended.
    """
    master = layout.master
    for node in (master, *(other for other in layout.nodes if other != master)):
        if not layout.is_simulated(node):
            stop_all(layout.paths(node))
        control.stop(layout.paths(node), SIMULATOR)


def power_cut(layout: Layout, node: VirtualNode) -> list[int]:
    """End all processes of a node at once, and what a machine forgets without power; gives their ids.

    What lies in its directory for run-time state is gone as `/run` is after a boot: also the
    instances of the hypervisor fake, which have no processes.
    """
    killed = kill_all(layout.root(node))
    run_dir = layout.paths(node).run_dir
    shutil.rmtree(run_dir, ignore_errors=True)
    os.makedirs(run_dir, exist_ok=True)
    return killed


def status(layout: Layout) -> list[NodeStatus]:
    """What runs, node by node."""
    real = [node for node in layout.nodes if not layout.is_simulated(node)]
    count = count_by_root([layout.root(node) for node in real])
    is_served = layout.simulated and control.running_pid(layout.paths(layout.nodes[1]), SIMULATOR) is not None
    rows = []
    for node in layout.nodes:
        paths = layout.paths(node)
        is_simulated = layout.is_simulated(node)
        rows.append(
            NodeStatus(
                node=node,
                daemons=()
                if is_simulated
                else tuple(daemon for daemon in DAEMONS if control.running_pid(paths, daemon)),
                is_simulated=is_simulated and is_served and os.path.exists(paths.node_cert_file),
                processes=count.get(layout.root(node), 0),
                is_link_up=not layout.netns or netns.is_link_up(layout, node),
            )
        )
    return rows


def destroy(layout: Layout) -> None:
    """End every process of the cluster, and remove namespaces and files.

    Raises:
        CommandFailed: a namespace cannot be removed.
        OSError: a file cannot be removed.
    """
    # Nothing of it is wanted any more, so nobody is asked politely.
    kill_all(*(layout.root(node) for node in layout.nodes))
    if layout.netns:
        netns.remove(layout)
    shutil.rmtree(layout.directory, ignore_errors=False)
