"""The files of the job queue on this machine: blocking code, used by one thread at a time.

Documents are written by rename and not synced one by one: the journal holds what is not yet on disk.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from ganeti.errors import JobQueueError
from ganeti.io.files import FileLock, Ownership, write_file
from ganeti.model.ids import JobId
from ganeti.model.job import Job, encode_job
from ganeti.model.paths import Paths

JOB_FILE = re.compile(r"^job-([1-9]\d*)$")
_UNFINISHED = re.compile(r"\.new-\d+$")
JOBS_PER_DIRECTORY = 10_000
VERSION = "1"

_DOCUMENT = Ownership(mode=0o640)
_DRAIN = Ownership(mode=0o644)
_libc = ctypes.CDLL(None, use_errno=True)


class Move(msgspec.Struct, frozen=True):
    """A job goes to the archive, with this document or (None) with the one its file has."""

    document: bytes | None


Change = bytes | Job | Move
"""What is to be done for a job: write a document, or move it."""


class FilesFound(msgspec.Struct, frozen=True, kw_only=True):
    """What lies in the queue directory."""

    documents: Mapping[JobId, bytes]
    unreadable: Mapping[JobId, str]
    """Files that could not be read, with the reason."""
    serial: int
    drained: bool


class QueueFiles:
    """Documents, archive, serial number, flags and the lock.

    Args:
        paths: of this node.
    """

    def __init__(self, paths: Paths) -> None:
        self._directory = paths.queue_dir
        self._archive = paths.job_archive_dir
        self._lock = FileLock(os.path.join(self._directory, "lock"), f"the job queue {self._directory}")

    def open(self) -> FilesFound:
        """Make the directory if it is missing, take the lock, read everything.

        Raises:
            GanetiError: another master daemon has the lock, or the queue is of another version.
        """
        os.makedirs(self._archive, mode=0o750, exist_ok=True)
        self._lock.acquire()
        try:
            self._check_version()
            return self._read_all()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the lock."""
        self._lock.release()

    def write(self, changes: Mapping[JobId, Change], serial: int) -> tuple[Mapping[JobId, Change], str]:
        """Write the serial number and then documents, and move some to the archive.

        What fails does not keep the rest from being done.

        Returns:
            What failed and may be tried again, and why (empty if nothing did).
        """
        try:
            self._write_text("serial", f"{serial}\n")
        except OSError as error:
            return changes, str(error)
        failed: dict[JobId, Change] = {}
        reason = ""
        for job, change in changes.items():
            try:
                self._apply(job, change)
            except OSError as error:
                failed[job] = change
                reason = str(error)
        return failed, reason

    def _apply(self, job: JobId, change: Change) -> None:
        match change:
            case Move(document):
                self._move(job, document)
            case Job():
                write_file(self._path(job), encode_job(change), _DOCUMENT, durable=False)
            case _:
                write_file(self._path(job), change, _DOCUMENT, durable=False)

    def set_drained(self, *, drained: bool) -> None:
        """Make or remove the drain flag."""
        path = os.path.join(self._directory, "drain")
        if drained:
            write_file(path, b"", _DRAIN, durable=False)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def contents(self) -> dict[str, bytes]:
        """Serial number, version, drain flag and live documents: name below the data directory to content."""
        found: dict[str, bytes] = {}
        for name in os.listdir(self._directory):
            if name not in ("serial", "version", "drain") and JOB_FILE.fullmatch(name) is None:
                continue
            # A document that is archived just now is missing, and is not live any more.
            with (
                contextlib.suppress(FileNotFoundError),
                open(os.path.join(self._directory, name), "rb") as file,
            ):
                found[f"queue/{name}"] = file.read()
        return found

    def sync(self) -> None:
        """Make all that was written durable, at once."""
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if _libc.syncfs(fd):
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code), self._directory)
        finally:
            os.close(fd)

    def read_archived(self, job: JobId) -> bytes | None:
        """An archived document."""
        try:
            with open(self.archive_path(job), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def archived_ids(self) -> tuple[JobId, ...]:
        """Ids of all archived jobs, ascending."""
        found: list[JobId] = []
        for entry in os.scandir(self._archive):
            if entry.is_dir() and entry.name.isdecimal():
                names = (JOB_FILE.match(name) for name in os.listdir(entry.path))
                found += [JobId(int(match.group(1))) for match in names if match]
        return tuple(sorted(found))

    def set_aside(self, job: JobId, document: bytes) -> str:
        """Put a document that is none into the archive, beside one that may be there; gives where."""
        target = self.archive_path(job)
        while os.path.exists(target):
            target += ".unreadable"
        os.makedirs(os.path.dirname(target), mode=0o750, exist_ok=True)
        try:
            os.rename(self._path(job), target)
        except FileNotFoundError:
            write_file(target, document, _DOCUMENT)
        return target

    def archive_path(self, job: JobId) -> str:
        """Where the document of an archived job lies."""
        return os.path.join(self._archive, str(job // JOBS_PER_DIRECTORY), f"job-{job}")

    def _path(self, job: JobId) -> str:
        return os.path.join(self._directory, f"job-{job}")

    def _move(self, job: JobId, document: bytes | None) -> None:
        source, target = self._path(job), self.archive_path(job)
        try:
            self._move_to(source, target, document)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(target), mode=0o750, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                self._move_to(source, target, document)

    @staticmethod
    def _move_to(source: str, target: str, document: bytes | None) -> None:
        if document is None:
            os.rename(source, target)
            return
        write_file(target, document, _DOCUMENT, durable=False)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(source)

    def _check_version(self) -> None:
        found = self._read_text("version")
        if found is None:
            self._write_text("version", f"{VERSION}\n")
        elif found.strip() != VERSION:
            raise JobQueueError(
                f"the job queue {self._directory} has version {found.strip()!r}, this release reads "
                f"{VERSION}; archive all jobs with the release that wrote it"
            )

    def _read_all(self) -> FilesFound:
        documents: dict[JobId, bytes] = {}
        unreadable: dict[JobId, str] = {}
        for name in os.listdir(self._directory):
            match = JOB_FILE.match(name)
            if match is None:
                if _UNFINISHED.search(name):
                    os.unlink(os.path.join(self._directory, name))
                continue
            job = JobId(int(match.group(1)))
            try:
                with open(os.path.join(self._directory, name), "rb") as file:
                    documents[job] = file.read()
            except OSError as error:
                unreadable[job] = error.strerror or str(error)
        return FilesFound(
            documents=documents,
            unreadable=unreadable,
            serial=self._read_serial(),
            drained=os.path.exists(os.path.join(self._directory, "drain")),
        )

    def _read_serial(self) -> int:
        text = self._read_text("serial")
        if text is None:
            return 0
        try:
            return int(text)
        except ValueError:
            raise JobQueueError(
                f"{self._directory}/serial holds {text[:40]!r} instead of the last job id; write a number "
                "not smaller than that of any job, archived ones included"
            ) from None

    def _read_text(self, name: Literal["serial", "version"]) -> str | None:
        try:
            with open(os.path.join(self._directory, name), encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def _write_text(self, name: Literal["serial", "version"], text: str) -> None:
        write_file(os.path.join(self._directory, name), text.encode(), _DOCUMENT, durable=False)
