"""Finds and ends the processes of one virtual node: its daemons, function processes and guests."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import psutil

from ganeti.daemons.options import ROOT_VARIABLE


def processes_of(root: str) -> list[psutil.Process]:
    """Every process of the node with this root directory, found by environment or command line."""
    return [process for process in psutil.process_iter() if _belongs(process, root)]


def _belongs(process: psutil.Process, root: str) -> bool:
    if process.pid == os.getpid():
        return False
    try:
        if process.environ().get(ROOT_VARIABLE) == root:
            return not _is_ours(process)
        return any(f"{root}/" in part for part in process.cmdline()) and not _is_ours(process)
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return False


def _is_ours(process: psutil.Process) -> bool:
    """Whether it is one of our own ancestors, such as the shell in which this was typed."""
    return process.pid in set(_ancestors())


def _ancestors() -> Iterator[int]:
    for parent in psutil.Process().parents():
        yield parent.pid


def kill_all(root: str, *, timeout_s: float = 20.0) -> list[int]:
    """End every process of a node at once, as a power cut does; gives their ids.

    Looks again until nothing is left, as a dying process may have just started another one.
    """
    killed: list[int] = []
    deadline = time.monotonic() + timeout_s
    while True:
        found = processes_of(root)
        if not found or time.monotonic() > deadline:
            return killed
        for process in found:
            try:
                os.kill(process.pid, signal.SIGKILL)
                killed.append(process.pid)
            except ProcessLookupError:
                continue
        psutil.wait_procs(found, timeout=2.0)
