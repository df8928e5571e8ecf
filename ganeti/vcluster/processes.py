"""Finds and ends the processes of virtual nodes: daemons, function processes, scripts and guests."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection, Iterable, Sequence

import msgspec
import psutil

from ganeti.daemons.options import ROOT_VARIABLE

MARK = "GANETI_VIRTUAL_NODE"
"""Variable with the root directory in everything that we start on a node."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What decides whether a process belongs to a node."""

    pid: int
    parent: int
    argv: tuple[str, ...] = ()
    mark: str | None = None
    root: str | None = None
    """Value of the variable that tells our programs where they are."""


def members(seen: Collection[Seen], roots: Iterable[str]) -> frozenset[int]:
    """Processes that belong to nodes with these root directories, with all that they have started.

    That the root directory is in the environment or among the arguments is not enough: whoever typed
    `eval "$(ganeti-vcluster env DIR)"` has it in everything started from that shell, and editors are
    opened on log files. Pure.
    """
    wanted = frozenset(roots)
    found = {one.pid for one in seen if _is_member(one, wanted)}
    children: dict[int, list[int]] = {}
    for one in seen:
        children.setdefault(one.parent, []).append(one.pid)
    unseen = list(found)
    while unseen:
        more = [pid for pid in children.get(unseen.pop(), ()) if pid not in found]
        found.update(more)
        unseen += more
    return frozenset(found)


def _is_member(one: Seen, roots: frozenset[str]) -> bool:
    if one.mark in roots:
        return True
    if one.root in roots and any(_is_ours(word) for word in one.argv):
        return True
    # Guests have a clean environment.
    is_guest = bool(one.argv) and os.path.basename(one.argv[0]).startswith("qemu-system")
    return is_guest and any(f"{root}/" in word for word in one.argv for root in roots)


def _is_ours(word: str) -> bool:
    name = os.path.basename(word)
    return name.startswith(("ganeti-", "gnt-")) or word.startswith("ganeti.")


def processes_of(*roots: str) -> list[psutil.Process]:
    """Every process of the nodes with these root directories; we and our ancestors are not among them."""
    running = {process.pid: process for process in psutil.process_iter()}
    return [running[pid] for pid in sorted(members(_others(running.values()), roots))]


def count_by_root(roots: Sequence[str]) -> dict[str, int]:
    """Number of processes of each node."""
    seen = _others(psutil.process_iter())
    return {root: len(members(seen, [root])) for root in roots}


def _others(running: Iterable[psutil.Process]) -> list[Seen]:
    # Whoever asks may run on a node itself, and is not to end itself.
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    looked = (_look(process) for process in running if process.pid not in own)
    return [one for one in looked if one is not None]


def _look(process: psutil.Process) -> Seen | None:
    try:
        environ = process.environ()
        return Seen(
            pid=process.pid,
            parent=process.ppid(),
            argv=tuple(process.cmdline()),
            mark=environ.get(MARK),
            root=environ.get(ROOT_VARIABLE),
        )
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return None


def kill_all(*roots: str, timeout_s: float = 20.0) -> list[int]:
    """End every process of some nodes at once, as a power cut does; gives their ids.

    Looks again until nothing is left, as a dying process may have just started another one.
    """
    killed: list[int] = []
    deadline = time.monotonic() + timeout_s
    while True:
        found = processes_of(*roots)
        if not found or time.monotonic() > deadline:
            return killed
        killed += _kill(found)
        _wait_for_end(found)


def _wait_for_end(processes: Sequence[psutil.Process]) -> None:
    """Wait a moment until they are gone; what nobody has collected yet counts as gone."""
    deadline = time.monotonic() + 2.0
    while any(map(_is_alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.01)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _kill(processes: Sequence[psutil.Process]) -> list[int]:
    killed = []
    for process in processes:
        try:
            os.kill(process.pid, signal.SIGKILL)
            killed.append(process.pid)
        except ProcessLookupError:
            continue
    return killed
