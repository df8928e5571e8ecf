"""The storage plugin for templates whose disks are files; `file` and `sharedfile` differ by a name."""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import implementer

from ganeti.interfaces import ICopyable, IHost, IStorageBackend
from ganeti.model.calls.disks import OpenDisk, StorageSpace
from ganeti.model.disk import TRAITS, Disk, TemplateTraits
from ganeti.model.ids import NodeId
from ganeti.model.node import Node
from ganeti.model.param_tables.disk import DISK
from ganeti.model.params import ParamTable
from ganeti.model.spec import DiskSpec, Reservations
from ganeti.storage import directories, file_based
from ganeti.storage.file_images import lay_out, with_other_name


@implementer(IStorageBackend, ICopyable)
class FileTemplate:
    """Disks that are files below the cluster's directory for this template.

    Args:
        template: an established file based template; its traits and parameters are taken over.
    """

    holds_content = True

    def __init__(self, template: str) -> None:
        self.name: str = template
        self.params: ParamTable = DISK[template]
        self.traits: TemplateTraits = TRAITS[template]

    def layout(self, spec: DiskSpec, nodes: Sequence[Node], reservations: Reservations) -> Disk:
        """A file in the instance's directory."""
        params = self.params.check(spec.params)
        return lay_out(self.name, spec, nodes[0].uuid, reservations, params)

    def elsewhere(self, disk: Disk, node: NodeId, uuid: str) -> Disk:
        """A file beside the old one, as nodes may share their directories."""
        return with_other_name(disk, node, uuid)

    def create(self, host: IHost, disk: Disk, *, on_primary: bool) -> None:
        """Create the file, sparse."""
        file_based.create(host, disk)

    def remove(self, host: IHost, disk: Disk) -> None:
        """Remove the file."""
        file_based.remove(host, disk)

    def open(self, host: IHost, disk: Disk, *, on_primary: bool) -> OpenDisk:
        """Find the file."""
        return file_based.open_image(host, disk)

    def close(self, host: IHost, disk: Disk) -> None:
        """Nothing: a file is not held open."""

    def grow(self, host: IHost, disk: Disk, *, by_mib: int, dry_run: bool) -> None:
        """Enlarge the file."""
        file_based.grow(host, disk, by_mib=by_mib, dry_run=dry_run)

    def size_bytes(self, host: IHost, disk: Disk) -> int | None:
        """Size that the guest sees."""
        return file_based.size_bytes(disk)

    def space(self, host: IHost, unit: str) -> StorageSpace:
        """Space of the file system of a directory."""
        return directories.space(self.traits.storage_type, unit)

    def self_test(self, host: IHost, unit: str) -> Sequence[str]:
        """What is wrong with a directory."""
        return directories.problems(host, unit)
