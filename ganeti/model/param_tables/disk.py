"""Disk parameters of each template (objects.md section 13)."""

from __future__ import annotations

from collections.abc import Mapping

from ganeti.model.disk import DiskTemplate
from ganeti.model.param_tables.rows import choice, flag, number, text
from ganeti.model.params import ParamSpec, ParamTable, ParamValue

_ACCESS = choice(
    "access",
    "kernelspace",
    "whether the node's kernel or the hypervisor itself opens the disk",
    ("kernelspace", "userspace"),
)


def _barriers(value: ParamValue) -> str | None:
    letters = str(value)
    if letters == "n" or (letters and set(letters) <= set("bfd") and len(set(letters)) == len(letters)):
        return None
    return f"{letters!r} is neither n nor a combination of b, f and d"


_DRBD = (
    number("c-delay-target", 1, "dynamic resync: delay aimed at, tenths of a second", at_least=0),
    number("c-fill-target", 0, "dynamic resync: data in flight aimed at, sectors", at_least=0),
    number("c-max-rate", 61440, "dynamic resync: highest rate, KiB/s", at_least=0),
    number("c-min-rate", 4096, "dynamic resync: lowest rate, KiB/s", at_least=0),
    number("c-plan-ahead", 20, "dynamic resync: horizon of the controller, tenths of a second", at_least=0),
    number("data-stripes", 1, "LVM stripes of the volume with the data", at_least=1),
    text(
        "disk-barriers",
        "n",
        "barriers switched off: n none, or any of b, f and d",
        _barriers,
    ),
    text("disk-custom", "", "further arguments of the disk section of drbdsetup"),
    flag("dynamic-resync", False, "let DRBD choose the rate of synchronisation"),
    flag("meta-barriers", False, "switch off barriers for metadata"),
    number("meta-stripes", 1, "LVM stripes of the volume with the metadata", at_least=1),
    text("metavg", "xenvg", "volume group for metadata"),
    text("net-custom", "", "further arguments of the net section of drbdsetup"),
    choice("protocol", "C", "when a write counts as done: A, B or C (both sides have it)", ("A", "B", "C")),
    number("resync-rate", 61440, "rate of synchronisation, KiB/s", at_least=0),
)

_ROWS: Mapping[str, tuple[ParamSpec, ...]] = {
    DiskTemplate.DISKLESS: (),
    DiskTemplate.PLAIN: (number("stripes", 1, "LVM stripes", at_least=1),),
    DiskTemplate.DRBD: _DRBD,
    DiskTemplate.FILE: (),
    DiskTemplate.SHAREDFILE: (),
    DiskTemplate.BLOCKDEV: (),
    DiskTemplate.RBD: (
        _ACCESS,
        text("pool", "rbd", "pool that images are created in"),
        text("user-id", "", "Ceph user"),
    ),
    DiskTemplate.EXT: (_ACCESS,),
    DiskTemplate.GLUSTER: (
        _ACCESS,
        text("host", "127.0.0.1", "host of the Gluster volume"),
        number("port", 24007, "port of the Gluster daemon", at_least=1, at_most=65535),
        text("volume", "gv0", "name of the Gluster volume"),
    ),
}

DISK: Mapping[str, ParamTable] = {
    str(template): ParamTable(f"disk template {template}", rows) for template, rows in _ROWS.items()
}
"""Parameters of each established template; plugins bring their own."""
