"""Mirrored disks without disks: the template `drbd` as fake storage, on volumes of the fake `plain`.

The state of each mirror is a file that all nodes reach, as they share a machine. It keeps the rules of
`MirrorModel`, also when the processes end; what was open on a node is closed once the node's run-time
directory was emptied, as it is by a boot.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from zope.interface import implementer

from ganeti.errors import BlockDeviceError, PrereqError
from ganeti.interfaces import IHost, IStorageBackend, ISyncing
from ganeti.model.calls.disks import OpenDisk, StorageSpace, SyncStatus
from ganeti.model.disk import TRAITS, Disk, DiskTemplate, TemplateTraits
from ganeti.model.filled import MirrorEnds
from ganeti.model.ids import NodeId
from ganeti.model.node import Node
from ganeti.model.param_tables.disk import DISK
from ganeti.model.params import ParamTable
from ganeti.model.spec import DiskSpec, Reservations
from ganeti.storage.fake import FakeStorage
from ganeti.storage.mirror_layout import mirror_layout, with_other_node
from ganeti.storage.mirror_model import Mirror, MirrorModel


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    """The file of a mirror."""

    mirror: Mirror
    marks: Mapping[str, str] = {}
    """By node: a file that is there as long as the end is open."""


@implementer(IStorageBackend, ISyncing)
class FakeMirror:
    """Pretends to mirror disks between two nodes.

    Args:
        shared_dir: where the states of all mirrors are; every node reaches it.
        volumes: what the data lies on, for questions about space.
        rate_mib_s: how fast it pretends to copy.
    """

    name: str = DiskTemplate.DRBD.value
    params: ParamTable = DISK[DiskTemplate.DRBD]
    traits: TemplateTraits = TRAITS[DiskTemplate.DRBD]
    is_stand_in = True

    def __init__(
        self, shared_dir: str, volumes: FakeStorage | None = None, *, rate_mib_s: float = 4096.0
    ) -> None:
        self._directory = shared_dir
        self._volumes = volumes or FakeStorage(DiskTemplate.PLAIN.value, TRAITS[DiskTemplate.PLAIN])
        self._rate_mib_s = rate_mib_s

    # --- storage

    def layout(self, spec: DiskSpec, nodes: Sequence[Node], reservations: Reservations) -> Disk:
        """A disk on the first two nodes, as a real one is laid out."""
        if spec.size < 1:
            raise PrereqError(f"disk {spec.index}: a size of {spec.size} MiB is not possible; at least 1 MiB")
        return mirror_layout(spec, nodes, reservations, self.params)

    def create(self, host: IHost, disk: Disk, *, on_primary: bool) -> None:
        """A new end on volumes that are there; the primary's data is what counts."""
        self._require_volumes(host, disk)
        with self._changed(host, disk, may_be_new=True) as model:
            # Where another end has good data, new and empty data is never taken for newer.
            is_first = all(end.behind_mib for end in model.mirror.ends.values())
            model.create(_ends(disk).local_node, has_newest=on_primary and is_first)

    def remove(self, host: IHost, disk: Disk) -> None:
        """Forget this end."""
        with contextlib.suppress(FileNotFoundError), self._changed(host, disk) as model:
            model.remove(_ends(disk).local_node)

    def open(self, host: IHost, disk: Disk, *, on_primary: bool) -> OpenDisk:
        """Open this end with the role that was asked for."""
        self._require_volumes(host, disk)
        ends = _ends(disk)
        with self._existing(host, disk) as model:
            model.open(ends.local_node, ends.remote_node, as_primary=on_primary)
        return OpenDisk(path=self._path(disk), mode=disk.mode, size=disk.size)

    def close(self, host: IHost, disk: Disk) -> None:
        """Close this end."""
        with contextlib.suppress(FileNotFoundError), self._changed(host, disk) as model:
            model.close(_ends(disk).local_node)

    def grow(self, host: IHost, disk: Disk, *, by_mib: int, dry_run: bool) -> None:
        """Make the mirror as large as what it stands on is now."""
        with self._existing(host, disk) as model:
            if by_mib < 0:
                raise BlockDeviceError(f"mirrored disk {disk.uuid} cannot grow by {by_mib} MiB")
            if not dry_run:
                model.mirror = replace(model.mirror, size_mib=disk.size + by_mib)

    def size_bytes(self, host: IHost, disk: Disk) -> int | None:
        """Size of the mirror, if this node has data of it."""
        try:
            document = self._load(disk)
        except FileNotFoundError:
            return None
        if _ends(disk).local_node not in document.mirror.ends:
            return None
        return document.mirror.size_mib * 1024 * 1024

    def space(self, host: IHost, unit: str) -> StorageSpace:
        """Space for volumes."""
        return self._volumes.space(host, unit)

    def self_test(self, host: IHost, unit: str) -> Sequence[str]:
        """Nothing can be wrong."""
        return ()

    # --- mirroring

    def moved(self, disk: Disk, leaving: NodeId, to: NodeId, reservations: Reservations) -> Disk:
        """The disk with another node."""
        return with_other_node(disk, leaving, to, reservations)

    def sync_status(self, host: IHost, disk: Disk) -> SyncStatus | None:
        """State of this end."""
        try:
            with self._changed(host, disk) as model:
                status = model.status(_ends(disk).local_node)
        except FileNotFoundError:
            return None
        return None if status is None else replace(status, path=self._path(disk))

    def connect(self, host: IHost, disk: Disk, *, two_primaries: bool) -> None:
        """Look for the other end."""
        self._require_volumes(host, disk)
        ends = _ends(disk)
        with self._existing(host, disk) as model:
            model.connect(ends.local_node, ends.remote_node, two_primaries=two_primaries)

    def disconnect(self, host: IHost, disk: Disk) -> None:
        """Stand alone."""
        with contextlib.suppress(FileNotFoundError), self._changed(host, disk) as model:
            model.disconnect(_ends(disk).local_node)

    def detach(self, host: IHost, disk: Disk) -> None:
        """Go on without own data."""
        with self._existing(host, disk) as model:
            model.detach(_ends(disk).local_node)

    def attach(self, host: IHost, disk: Disk) -> None:
        """Use own data again."""
        self._require_volumes(host, disk)
        with self._existing(host, disk) as model:
            model.attach(_ends(disk).local_node)

    # --- files

    def _require_volumes(self, host: IHost, disk: Disk) -> None:
        for part in disk.children:
            if self._volumes.size_bytes(host, part) is None:
                volume = "/".join(map(str, part.logical_id))
                where = f"node {host.name or 'here'}"
                raise BlockDeviceError(f"{volume} of {disk.iv_name or disk.uuid} is missing on {where}")

    def _path(self, disk: Disk) -> str:
        return f"{self._directory}/{disk.uuid}.mirror"

    def _load(self, disk: Disk) -> _Document:
        with open(self._path(disk), "rb") as stream:
            return msgspec.json.decode(stream.read(), type=_Document)

    @contextlib.contextmanager
    def _existing(self, host: IHost, disk: Disk) -> Iterator[MirrorModel]:
        try:
            with self._changed(host, disk) as model:
                yield model
        except FileNotFoundError:
            raise BlockDeviceError(
                f"disk {disk.iv_name or disk.uuid} is missing on node {host.name or 'here'}"
            ) from None

    @contextlib.contextmanager
    def _changed(self, host: IHost, disk: Disk, *, may_be_new: bool = False) -> Iterator[MirrorModel]:
        """The mirror, locked against the other nodes; what the block makes of it is written down."""
        os.makedirs(self._directory, 0o750, exist_ok=True)
        with open(f"{self._directory}/.lock", "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                document = self._load(disk)
            except FileNotFoundError:
                if not may_be_new:
                    raise
                document = _Document(mirror=Mirror(size_mib=disk.size))
            marks = document.marks
            model = MirrorModel(
                document.mirror,
                now=host.now(),
                rate_mib_s=self._rate_mib_s,
                is_alive=lambda node: os.path.exists(marks.get(node, "")),
            )
            try:
                yield model
            except BlockDeviceError as error:
                where = f"{disk.iv_name or disk.uuid} on node {host.name or 'here'}"
                raise BlockDeviceError(f"{where}: {error}") from None
            self._save(host, disk, document, model.mirror)

    def _save(self, host: IHost, disk: Disk, before: _Document, mirror: Mirror) -> None:
        path = self._path(disk)
        if not mirror.ends:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            return
        here = _ends(disk).local_node
        marks = {node: mark for node, mark in before.marks.items() if node in mirror.ends and node != here}
        mark = f"{host.paths.run_dir}/fake-storage/{disk.uuid}.open"
        if here in mirror.ends and mirror.ends[here].is_open:
            marks[here] = mark
            os.makedirs(os.path.dirname(mark), 0o750, exist_ok=True)
            with open(mark, "w", encoding="ascii"):
                pass
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(mark)
        document = _Document(mirror=mirror, marks=marks)
        if document != before:
            with open(f"{path}.new", "wb") as stream:
                stream.write(msgspec.json.encode(document))
            os.replace(f"{path}.new", path)


def _ends(disk: Disk) -> MirrorEnds:
    try:
        return msgspec.convert(
            {name: (disk.params or {}).get(name) for name in MirrorEnds.__struct_encode_fields__}, MirrorEnds
        )
    except msgspec.ValidationError:
        raise BlockDeviceError(f"mirrored disk {disk.iv_name or disk.uuid} has no end on this node") from None
