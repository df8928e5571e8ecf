"""Debian's htools (hail, hspace, hbal ...), to compare with, and clusters in the text format they read.

The package `ganeti-htools-3.0` is fetched with apt-get into a cache directory and unpacked there;
nothing is installed. Without it the tests that need it are skipped.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from unittest import SkipTest

from ganeti.logic.node_figures import NodeFigures, Question, backend_reader, disk_space, node_figures
from ganeti.model.allocation import ClusterView
from ganeti.model.cluster import Cluster
from ganeti.model.filled import BackendParams, ndparams_of
from ganeti.model.instance import AdminState, Instance
from ganeti.model.ipolicy import InstancePolicy, InstanceSpec
from ganeti.model.node import Node, NodeGroup

PACKAGES = ("ganeti-htools-3.0", "libpcre3")
HTOOLS = "usr/lib/ganeti/3.0/usr/bin/htools"
NODE_MEMORY = "--static-kvm-node-memory=0"
"""Without it 4,096 MiB are taken for the system of each KVM node in place of what the node reports."""


@cache
def htools_root() -> Path:
    """Where the package is unpacked; raises SkipTest if it cannot be had."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ganeti-tests"
    root = base / "htools-3.0"
    if not (root / HTOOLS).exists():
        base.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=base) as work:
            try:
                subprocess.run(
                    ["apt-get", "download", *PACKAGES], cwd=work, check=True, capture_output=True, timeout=120
                )
                for package in Path(work).glob("*.deb"):
                    unpack = ["dpkg-deb", "-x", str(package), f"{work}/root"]
                    subprocess.run(unpack, check=True, capture_output=True, timeout=60)
            except (OSError, subprocess.SubprocessError) as error:
                raise SkipTest(f"ganeti-htools-3.0 cannot be fetched with apt-get: {error}") from error
            try:
                os.rename(f"{work}/root", root)
            except OSError:
                if not (root / HTOOLS).exists():
                    raise
    return root


def run_htools(program: str, *arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run one of the programs (`hail`, `hspace`, `hbal`); raises SkipTest where it does not run at all.

    Args:
        program: which.
        arguments: its command line.
        timeout_s: how long it may take.
    """
    root = htools_root()
    libraries = [*root.glob("*lib/*-linux-gnu"), *root.glob("usr/lib/*-linux-gnu")]
    environment = {"HTOOLS": program, "LD_LIBRARY_PATH": ":".join(map(str, libraries)), "LC_ALL": "C"}
    done = subprocess.run(
        [str(root / HTOOLS), *arguments], env=environment, capture_output=True, text=True, timeout=timeout_s
    )
    if done.returncode == 127 or "shared libraries" in done.stderr:
        raise SkipTest(f"{program} does not run on this system: {done.stderr.strip()}")
    return done


def text_data(view: ClusterView, question: Question) -> str:
    """A cluster in the text format of htools (`-t`); a node that may not be used is an offline one."""
    cluster = view.cluster
    figures = node_figures(view, question)
    backend = backend_reader(cluster.settings)
    groups = sorted(cluster.groups.values(), key=lambda group: group.name)
    nodes = sorted(cluster.nodes.values(), key=lambda node: node.name)
    instances = sorted(cluster.instances.values(), key=lambda instance: instance.name)
    sections: tuple[Iterable[str], ...] = (
        (_group(group) for group in groups),
        (_node(cluster, node, figures.get(node.uuid)) for node in nodes),
        (_instance(cluster, one, backend(one)) for one in instances),
        cluster.settings.tags,
        (
            _policy("", cluster.settings.ipolicy),
            *(_policy(group.name, cluster.policy_of(group.uuid)) for group in groups),
        ),
    )
    return "\n".join("".join(line + "\n" for line in lines) for lines in sections)


def _group(group: NodeGroup) -> str:
    return "|".join((group.name, group.uuid, group.alloc_policy.value, ",".join(group.tags), ""))


def _node(cluster: Cluster, node: Node, figures: NodeFigures | None) -> str:
    params = ndparams_of(cluster, node)
    exclusive = bool(params["exclusive_storage"])
    usable = figures is not None and node.may_get_instances
    amounts: tuple[object, ...] = (0, 0, 0, 0, 0, 0)
    spindles: tuple[object, ...] = (params["spindle_count"], 0)
    if figures is not None:
        amounts = (
            figures.total_memory,
            figures.reserved_memory,
            figures.free_memory,
            figures.total_disk or 0,
            figures.free_disk or 0,
            figures.total_cpus,
        )
        if exclusive:
            spindles = (figures.total_spindles, figures.free_spindles)
    columns = (
        node.name,
        *amounts,
        "N" if usable else "Y",
        node.group,
        spindles[0],
        ",".join(node.tags),
        "Y" if exclusive else "N",
        spindles[1],
        0 if figures is None else figures.reserved_cpus,
        1.0,
    )
    return "|".join(map(str, columns))


def _instance(cluster: Cluster, instance: Instance, backend: BackendParams) -> str:
    template = cluster.disk_template(instance)
    spindles = [disk.spindles for disk in cluster.disks_of(instance)]
    states = {AdminState.UP: "running", AdminState.DOWN: "ADMIN_down", AdminState.OFFLINE: "ADMIN_offline"}
    columns = (
        instance.name,
        backend.maxmem,
        disk_space(template, tuple(disk.size for disk in cluster.disks_of(instance))),
        backend.vcpus,
        states[instance.admin_state],
        "Y" if backend.auto_balance else "N",
        cluster.nodes[instance.primary_node].name,
        ",".join(cluster.nodes[node].name for node in cluster.secondary_nodes(instance)),
        template,
        ",".join(instance.tags),
        backend.spindle_use,
        "-" if not spindles or None in spindles else sum(filter(None, spindles)),
        "Y" if instance.forthcoming else "N",
    )
    return "|".join(map(str, columns))


def _policy(owner: str, policy: InstancePolicy) -> str:
    ranges = ";".join(f"{_spec(allowed.min)};{_spec(allowed.max)}" for allowed in policy.minmax)
    templates = ",".join(sorted(policy.disk_templates))
    ratios = (str(policy.vcpu_ratio), str(policy.spindle_ratio))
    return "|".join((owner, _spec(policy.std), ranges, templates, *ratios))


def _spec(spec: InstanceSpec) -> str:
    figures = (
        spec.memory_size,
        spec.cpu_count,
        spec.disk_size,
        spec.disk_count,
        spec.nic_count,
        spec.spindle_use,
    )
    return ",".join(map(str, figures))
