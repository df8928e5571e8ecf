"""The files that make directories look like hosts: names, allowed paths, OS definitions, delivery."""

from __future__ import annotations

import os
import shlex
import shutil
import sys

from ganeti.daemons.bootstrap import DAEMONS
from ganeti.vcluster.layout import Layout, VirtualNode


def checkout() -> str:
    """The directory with our `bin` and `examples`: a checkout, or where the package is installed."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


def write_files(layout: Layout) -> None:
    """Make the directories of all nodes and everything in them that no daemon writes."""
    os.makedirs(layout.shared_dir, exist_ok=True)
    os.makedirs(layout.file_dir, exist_ok=True)
    if layout.has_fake_templates:
        os.makedirs(f"{layout.plugin_dir}/storage", exist_ok=True)
        _write(f"{layout.plugin_dir}/storage/pretended.py", _storage_plugins(layout))
    hosts = _hosts(layout)
    for node in layout.nodes:
        _write_node(layout, node, hosts)


def _storage_plugins(layout: Layout) -> str:
    return (
        '"""Disk templates plain and drbd, pretended, with the rules of the real ones."""\n'
        "\n"
        "from ganeti.model.disk import TRAITS\n"
        "from ganeti.storage.fake import FakeStorage\n"
        "from ganeti.storage.fake_mirror import FakeMirror\n"
        "\n"
        'plain = FakeStorage("plain", TRAITS["plain"])\n'
        f"drbd = FakeMirror({layout.directory + '/mirrors'!r}, plain)\n"
    )


def _hosts(layout: Layout) -> str:
    lines = [f"{layout.cluster_address} {layout.cluster_name}"]
    if layout.cluster_address6 is not None:
        lines.append(f"{layout.cluster_address6} {layout.cluster_name}")
    for node in layout.nodes:
        names = f"{node.name} {node.name.partition('.')[0]}"
        lines.append(f"{node.address} {names}")
        if node.address6 is not None:
            lines.append(f"{node.address6} {names}")
    return "\n".join(lines) + "\n"


def _write_node(layout: Layout, node: VirtualNode, hosts: str) -> None:
    paths = layout.paths(node)
    for directory in (
        paths.data_dir,
        paths.run_dir,
        paths.log_dir,
        paths.lock_dir,
        paths.hooks_dir,
        os.path.dirname(paths.daemon_options),
        f"{paths.root}/srv/ganeti/os",
    ):
        os.makedirs(directory, exist_ok=True)
    _write(paths.hosts_file, hosts)
    _write(paths.hostname_file, node.name + "\n")
    if not layout.is_simulated(node):
        _write(paths.daemon_options, _daemon_options(layout, node))
    _write(paths.file_storage_paths, f"{layout.shared_dir}\n{layout.file_dir}\n")
    _write_program(paths.node_setup_script, _delivery_script(layout))
    _write_program(f"{paths.conf_dir}/node-shell", _shell_script(layout))
    _add_examples(layout, node)


def _daemon_options(layout: Layout, node: VirtualNode) -> str:
    lines = ["# Options with which the watcher starts daemons of this node."]
    for daemon in DAEMONS:
        words = layout.daemon_options(node, daemon)
        if words:
            lines.append(f'{daemon.removeprefix("ganeti-").upper()}_ARGS="{shlex.join(words)}"')
    return "\n".join(lines) + "\n"


def _add_examples(layout: Layout, node: VirtualNode) -> None:
    """The OS definitions of the examples."""
    for name in ("noop", "tiny"):
        source = os.path.join(checkout(), "examples", "os", name)
        target = f"{layout.root(node)}/srv/ganeti/os/{name}"
        if not os.path.isdir(source) or os.path.lexists(target):
            continue
        if layout.simulated and node.number > 2:
            # They are many; all have those of the first simulated one.
            os.symlink(f"{layout.root(layout.nodes[1])}/srv/ganeti/os/{name}", target)
        else:
            # A copy, as a link would lead out of the node's own tree.
            shutil.copytree(source, target)


def _shell_script(layout: Layout) -> str:
    return (
        "#!/bin/sh\n"
        "# Runs a command on a node of this virtual cluster, where real ones use SSH.\n"
        "node=$1; shift\n"
        f'{_program("main")} exec {shlex.quote(layout.directory)} -n "$node" -- "$@"\n'
    )


def _delivery_script(layout: Layout) -> str:
    return (
        "#!/bin/sh\n"
        "# Delivers credentials to a node of this virtual cluster: a copy instead of SSH.\n"
        f'{_program("deliver")} {shlex.quote(layout.directory)} "$@"\n'
    )


def _program(module: str) -> str:
    path, python = shlex.quote(checkout()), shlex.quote(sys.executable)
    return f"PYTHONPATH={path} exec {python} -m ganeti.vcluster.{module}"


def _write_program(path: str, text: str) -> None:
    _write(path, text)
    os.chmod(path, 0o755)


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)
