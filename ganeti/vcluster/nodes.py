"""Starts and stops the nodes of a virtual cluster."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence

from ganeti.daemons import control
from ganeti.daemons.bootstrap import DAEMONS
from ganeti.daemons.options import ROOT_VARIABLE
from ganeti.vcluster import netns
from ganeti.vcluster.files import checkout
from ganeti.vcluster.layout import Layout, VirtualNode
from ganeti.vcluster.processes import kill_all, processes_of

SIMULATOR = "ganeti-simulated-nodes"


def environment(layout: Layout, node: VirtualNode) -> dict[str, str]:
    """Environment of whatever runs on a node."""
    known = {
        key: value
        for key, value in os.environ.items()
        if key in ("HOME", "LANG", "LC_ALL", "TERM", "USER", "LOGNAME", "TMPDIR", "XDG_CACHE_HOME")
        or key.startswith("GANETI_")
    }
    bins = os.path.join(checkout(), "bin")
    if layout.accelerator:
        known["GANETI_ACCEL"] = layout.accelerator
    own_python = os.path.dirname(sys.executable)
    return {
        **known,
        ROOT_VARIABLE: layout.root(node),
        "PATH": os.pathsep.join((bins, own_python, "/usr/sbin", "/usr/bin", "/sbin", "/bin")),
        "PYTHONPATH": checkout(),
    }


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
    return subprocess.run(command_on(layout, node, argv), env=env, check=False).returncode


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
    if layout.simulated and node.number != 1:
        _start_simulator(layout)
        return
    for daemon in DAEMONS:
        if daemon == "ganeti-noded" or node == layout.master:
            _start_daemon(layout, node, daemon)


def _start_daemon(layout: Layout, node: VirtualNode, daemon: str) -> None:
    options = (
        []
        if daemon == "ganeti-masterd"
        else ["--bind", layout.bind_address(node, with_cluster=daemon == "ganeti-noded")]
    )
    control.start(
        layout.paths(node),
        daemon,
        options,
        environment=environment(layout, node),
        prefix=command_on(layout, node, ()),
    )


def _start_simulator(layout: Layout) -> None:
    """One process for all simulated nodes; told by SIGHUP that there are more."""
    paths = layout.paths(layout.nodes[1])
    pid = control.running_pid(paths, SIMULATOR)
    if pid is not None:
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
        f"the simulated nodes do not come up: {control.tail(paths.log_file(SIMULATOR))}",
        timeout_s=control.START_TIMEOUT_S,
    )


def start(layout: Layout) -> None:
    """Start whatever does not run; may be repeated."""
    if layout.netns:
        netns.ensure(layout)
    master = layout.master
    others = [node for node in layout.nodes if node != master]
    if layout.simulated:
        # One process serves them all.
        others = others[:1]
    for node in (*others, master):
        start_node(layout, node)


def stop(layout: Layout, *, guests: bool = False) -> None:
    """Stop the daemons, the master's first; guests go on unless asked otherwise."""
    for node in (layout.master, *(other for other in layout.nodes if other != layout.master)):
        paths = layout.paths(node)
        for daemon in (*reversed(DAEMONS), SIMULATOR):
            control.stop(paths, daemon)
        if guests:
            kill_all(layout.root(node))


def status(layout: Layout) -> list[tuple[VirtualNode, list[str], int]]:
    """Each node with the daemons that run and the number of its processes."""
    rows = []
    for node in layout.nodes:
        paths = layout.paths(node)
        running = [daemon for daemon in (*DAEMONS, SIMULATOR) if control.running_pid(paths, daemon)]
        rows.append((node, running, len(processes_of(layout.root(node)))))
    return rows


def destroy(layout: Layout) -> None:
    """End every process of the cluster, and remove namespaces and files."""
    try:
        stop(layout)
    finally:
        for node in layout.nodes:
            kill_all(layout.root(node))
        if layout.netns:
            netns.remove(layout)
        shutil.rmtree(layout.directory, ignore_errors=False)
