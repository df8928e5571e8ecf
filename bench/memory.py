"""Memory of daemons that have nothing to do, in a cluster of three nodes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from typing import Any

import psutil

from ganeti.daemons.control import running_pid
from ganeti.vcluster.layout import load

LIMIT_MB = 70
SETTLE_S = 3.0


def run() -> list[dict[str, Any]]:
    """A row for the master daemon, pages shared with others counted wholly, and one for a node.

    The node daemon and its zygote share most pages, as one was forked from the other; the sum counts
    them once (PSS).
    """
    with tempfile.TemporaryDirectory(prefix="memory-") as directory:
        path = os.path.join(directory, "c")
        _vcluster("create", path, "--nodes", "3", "--hypervisor", "fake")
        try:
            time.sleep(SETTLE_S)
            layout = load(path)
            masterd = running_pid(layout.paths(layout.master), "ganeti-masterd")
            master_mb = psutil.Process(masterd).memory_info().rss / 1e6
            noded = psutil.Process(running_pid(layout.paths(layout.nodes[1]), "ganeti-noded"))
            both = [noded, *noded.children(recursive=True)]
            node_mb = sum(process.memory_full_info().pss for process in both) / 1e6
        finally:
            _vcluster("destroy", path)
    return [
        _row("master daemon, idle (RSS)", master_mb),
        _row(f"node daemon with zygote, idle ({len(both)} processes, PSS)", node_mb),
    ]


def _row(name: str, used_mb: float) -> dict[str, Any]:
    return {
        "name": name,
        "value": round(used_mb, 1),
        "unit": "MB",
        "target": f"<= {LIMIT_MB}",
        "met": used_mb <= LIMIT_MB,
    }


def _vcluster(command: str, path: str, *options: str) -> None:
    argv = [sys.executable, "-m", "ganeti.vcluster.main", command, path, *options]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
