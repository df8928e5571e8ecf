"""Memory of the master daemon that has nothing to do, in a cluster of three nodes."""

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
    """One row: memory that the daemon holds, pages shared with others counted wholly."""
    with tempfile.TemporaryDirectory(prefix="memory-") as directory:
        path = os.path.join(directory, "c")
        _vcluster("create", path, "--nodes", "3", "--hypervisor", "fake")
        try:
            time.sleep(SETTLE_S)
            layout = load(path)
            pid = running_pid(layout.paths(layout.master), "ganeti-masterd")
            used_mb = psutil.Process(pid).memory_info().rss / 1e6
        finally:
            _vcluster("destroy", path)
    return [
        {
            "name": "master daemon, idle (RSS)",
            "value": round(used_mb, 1),
            "unit": "MB",
            "target": f"<= {LIMIT_MB}",
            "met": used_mb <= LIMIT_MB,
        }
    ]


def _vcluster(command: str, path: str, *options: str) -> None:
    argv = [sys.executable, "-m", "ganeti.vcluster.main", command, path, *options]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
