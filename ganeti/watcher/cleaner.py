"""Removes what nobody needs any more: expired certificates, old files of the watcher, archived jobs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from twisted.logger import Logger

from ganeti.errors import GanetiError
from ganeti.io.files import InUse, read_limited
from ganeti.io.x509 import expires_at
from ganeti.logic.watcher_files import group_of_file
from ganeti.model.paths import Paths
from ganeti.watcher.state_file import StateFile

MAX_AGE_S = 21 * 86400.0
KEPT_LOGS = 50

_MAX_CERTIFICATE = 128 * 1024
_CRYPTO_FILES = ("key", "cert")


class Cleaner:
    """Cleans one node; what cannot be removed is told of and stays.

    Args:
        paths: of this node.
        now: seconds since the epoch.
    """

    log = Logger()

    def __init__(self, paths: Paths, now: float) -> None:
        self._paths = paths
        self._now = now
        self.failures = 0

    def clean_node(self) -> None:
        """Certificates in any case; files of the watcher if the machine is in a cluster."""
        self._remove_certificates()
        if self._is_in_cluster():
            self._remove_watcher_files()

    def clean_master(self) -> None:
        """Archived jobs, if the machine is in a cluster."""
        if self._is_in_cluster():
            self._remove_jobs()

    def _is_in_cluster(self) -> bool:
        if os.path.exists(self._paths.ssconf("master_node")):
            return True
        self.log.info("this machine is in no cluster, nothing else is to be done")
        return False

    # --- certificates of transfers between clusters

    def _remove_certificates(self) -> None:
        for entry in self._entries(self._paths.crypto_dir):
            if not entry.is_dir(follow_symlinks=False):
                continue
            path = f"{entry.path}/cert"
            try:
                end = _expiry(path)
            except FileNotFoundError:
                continue
            except (OSError, GanetiError) as error:
                self._failed(f"{path} is no certificate and left as it is: {error}")
                continue
            if end < self._now:
                self._remove_pair(entry.path)

    def _remove_pair(self, directory: str) -> None:
        for name in _CRYPTO_FILES:
            with contextlib.suppress(FileNotFoundError):
                self._remove(f"{directory}/{name}", "its certificate has expired")
        try:
            os.rmdir(directory)
        except OSError as error:
            self.log.warn("{directory} stays: {error}", directory=directory, error=error)

    # --- files of the watcher

    def _remove_watcher_files(self) -> None:
        for directory in (self._paths.data_dir, self._paths.run_dir):
            for entry in self._entries(directory):
                if group_of_file(entry.name) is None or not self._is_old(entry):
                    continue
                if entry.name.endswith(".data"):
                    self._remove_state(entry.path)
                else:
                    self._remove(entry.path, "nobody has touched it for long")

    def _remove_state(self, path: str) -> None:
        state = StateFile(path)
        try:
            state.acquire()
            state.remove()
            self.log.info("removed {path}: nobody has touched it for long", path=path)
        except InUse:
            self.log.info("{path} is in use and stays", path=path)
        except OSError as error:
            self._failed(f"{path} cannot be removed: {error}")
        finally:
            state.release()

    # --- archived jobs

    def _remove_jobs(self) -> None:
        for part in self._entries(self._paths.job_archive_dir):
            if not part.is_dir(follow_symlinks=False):
                continue
            for entry in self._entries(part.path):
                number = entry.name.removeprefix("job-")
                if entry.name.startswith("job-") and number.isdigit() and self._is_old(entry):
                    self._remove(entry.path, "archived long ago")

    # --- what they have in common

    def _entries(self, directory: str) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(directory) as entries:
                yield from sorted(entries, key=lambda entry: entry.name)
        except FileNotFoundError:
            return
        except OSError as error:
            self._failed(f"{directory} cannot be read: {error}")

    def _is_old(self, entry: os.DirEntry[str]) -> bool:
        try:
            if not entry.is_file(follow_symlinks=False):
                return False
            return self._now - entry.stat(follow_symlinks=False).st_mtime > MAX_AGE_S
        except FileNotFoundError:
            return False

    def _remove(self, path: str, why: str) -> None:
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        except OSError as error:
            self._failed(f"{path} cannot be removed: {error}")
            return
        self.log.info("removed {path}: {why}", path=path, why=why)

    def _failed(self, text: str) -> None:
        self.failures += 1
        self.log.error("{text}", text=text)


def _expiry(path: str) -> float:
    return expires_at(read_limited(path, at_most=_MAX_CERTIFICATE))


def trim_logs(directory: str, kept: int = KEPT_LOGS) -> None:
    """Remove the oldest logs of former runs.

    Args:
        directory: with files `cleaner-<date>.<pid>.log`.
        kept: so many stay.
    """
    names = [name for name in os.listdir(directory) if name.startswith("cleaner-") and name.endswith(".log")]
    paths = [f"{directory}/{name}" for name in names]
    for path in sorted(paths, key=lambda path: (_time(path), path))[: max(len(paths) - kept, 0)]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _time(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:
        return 0.0
