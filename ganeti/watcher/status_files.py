"""Files with names and states of instances for other programs: one for each group, one of all (S2.3-070)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection

from twisted.logger import Logger

from ganeti.errors import GanetiError
from ganeti.io.files import FileLock, InUse, Ownership, read_limited, write_file
from ganeti.logic.watcher_files import (
    STATUS_PREFIX,
    extra_files,
    group_of_file,
    merged_status,
    read_status,
    status_text,
)
from ganeti.model.findings import Findings
from ganeti.model.ids import GroupId
from ganeti.model.paths import Paths
from ganeti.watcher.state_file import StateFile

MERGE_LOCK_S = 10.0
MAX_BYTES = 64 * 2**20

_READABLE = Ownership(mode=0o644)


class StatusFiles:
    """The files of all groups of a node.

    Args:
        paths: of this node.
        merge_lock_s: so long others who merge are waited for.
    """

    log = Logger()

    def __init__(self, paths: Paths, *, merge_lock_s: float = MERGE_LOCK_S) -> None:
        self._paths = paths
        self._merge_lock_s = merge_lock_s

    def write(self, findings: Findings) -> None:
        """Replace the file of a group, and merge all; its time of change tells its age (S2.3-072).

        Raises:
            GanetiError: too many others merge now.
            OSError: a file cannot be written.
        """
        path = self._paths.group_status(findings.group)
        text = status_text(findings, read_status(_text(path)))
        write_file(path, text.encode(), _READABLE, durable=False)
        self.merge()

    def merge(self) -> None:
        """Write the file of all groups anew; of an instance in two files the newer one counts.

        Raises:
            GanetiError: another process does so all the time.
            OSError: it cannot be written.
        """
        lock = FileLock(f"{self._paths.lock_dir}/ganeti-instance-status.lock", "the merged status file")
        lock.acquire(timeout_s=self._merge_lock_s)
        with lock:
            files = []
            for name in os.listdir(self._paths.run_dir):
                if name.startswith(STATUS_PREFIX) and group_of_file(name):
                    path = f"{self._paths.run_dir}/{name}"
                    # Removed in this moment: its group is gone.
                    with contextlib.suppress(FileNotFoundError):
                        files.append((os.stat(path).st_mtime, _text(path)))
            write_file(self._paths.instance_status, merged_status(files).encode(), _READABLE, durable=False)

    def remove_extra(self, groups: Collection[GroupId]) -> None:
        """Remove all files of groups that do not exist (S2.3-071); what somebody uses stays for now.

        Args:
            groups: all there are.

        Raises:
            GanetiError: there are none, which cannot be.
            OSError: a directory cannot be read, or the merged file not be written.
        """
        removed = False
        for directory in (self._paths.run_dir, self._paths.data_dir):
            for name in extra_files(os.listdir(directory), groups):
                try:
                    _remove(f"{directory}/{name}")
                except FileNotFoundError:
                    continue
                except (InUse, OSError) as error:
                    self.log.warn("{name} is not removed now: {error}", name=name, error=error)
                    continue
                self.log.info("removed {name}: its node group is gone", name=name)
                removed = True
        if removed:
            self.merge()


def _remove(path: str) -> None:
    if path.endswith(".data"):
        state = StateFile(path)
        state.acquire()
        try:
            state.remove()
        finally:
            state.release()
    else:
        os.unlink(path)


def _text(path: str) -> str:
    try:
        return read_limited(path, at_most=MAX_BYTES).decode("utf-8", "replace")
    except (FileNotFoundError, GanetiError):
        return ""
