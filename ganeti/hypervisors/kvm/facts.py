"""What a command line depends on and only the node knows: QEMU's version, machine types, disks."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Sequence

import msgspec

from ganeti.errors import CommandFailed, HypervisorError
from ganeti.hypervisors.kvm.accel import decide
from ganeti.hypervisors.kvm.files import state_dir
from ganeti.hypervisors.kvm.params import TABLE, KvmParams
from ganeti.interfaces import IHost
from ganeti.model.calls.disks import OpenDisk
from ganeti.model.reading import UNREADABLE

_HELP_S = 30.0


class DiskFacts(msgspec.Struct, frozen=True, kw_only=True):
    """How a disk can be opened."""

    is_block_device: bool = False
    has_direct_io: bool = True
    """Whether the page cache can be passed by; not so on tmpfs."""


class QemuFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A QEMU program."""

    path: str
    version: tuple[int, int, int]
    default_machine: str
    """The versioned name behind `pc`: what a newer QEMU on another node calls the same machine."""
    machines: tuple[str, ...]
    stamp: str
    """Changes when the program is replaced."""


class KvmFacts(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, for one instance."""

    qemu: QemuFacts
    accelerator: str
    """kvm or tcg"""
    machine: str
    has_vhost_net: bool = False
    disks: tuple[DiskFacts, ...] = ()


def gather(
    host: IHost, params: KvmParams, disks: Sequence[OpenDisk], *, machine: str | None = None
) -> KvmFacts:
    """Facts for starting an instance.

    Args:
        machine: exact type that a migration needs; None: the parameter's or QEMU's own.

    Raises:
        HypervisorError: no QEMU, or it does not know the machine type.
    """
    qemu = qemu_facts(host, qemu_path(params.kvm_path))
    wanted = machine or params.machine_version or qemu.default_machine
    if wanted.partition(",")[0] not in qemu.machines:
        raise HypervisorError(
            f"{qemu.path} knows no machine type {wanted!r}; '{qemu.path} -machine help' lists them"
        )
    return KvmFacts(
        qemu=qemu,
        accelerator=decide(host, qemu.path, params.kvm_flag, kernel=params.kernel_path),
        machine=wanted,
        has_vhost_net=os.path.exists("/dev/vhost-net"),
        disks=tuple(disk_facts(disk) for disk in disks),
    )


def qemu_path(wanted: str) -> str:
    """The program to run; instead of a missing built-in default the one on the path.

    Raises:
        HypervisorError: there is none.
    """
    if os.access(wanted, os.X_OK):
        return wanted
    found = shutil.which("qemu-system-x86_64") if wanted == TABLE.defaults["kvm_path"] else None
    if found is None:
        raise HypervisorError(f"{wanted} is not there; install QEMU (qemu-system-x86) or set kvm_path")
    return found


def qemu_facts(host: IHost, path: str) -> QemuFacts:
    """Facts of a QEMU program, remembered until it changes.

    Raises:
        HypervisorError: it does not run.
    """
    real = os.stat(path)
    stamp = f"{real.st_ino}-{real.st_size}-{real.st_mtime_ns}"
    memory = f"{state_dir(host.paths)}/qemu-{path.strip('/').replace('/', '-')}.json"
    try:
        with open(memory, "rb") as stream:
            known = msgspec.json.decode(stream.read(), type=QemuFacts)
        if known.stamp == stamp:
            return known
    except (FileNotFoundError, *UNREADABLE):
        pass
    facts = _asked(host, path, stamp)
    os.makedirs(os.path.dirname(memory), exist_ok=True)
    temporary = f"{memory}.{os.getpid()}"
    with open(temporary, "wb") as stream:
        stream.write(msgspec.json.encode(facts))
    os.rename(temporary, memory)
    return facts


def _asked(host: IHost, path: str, stamp: str) -> QemuFacts:
    try:
        version = host.processes.run([path, "--version"], timeout_s=_HELP_S).stdout
        machines = host.processes.run([path, "-machine", "help"], timeout_s=_HELP_S).stdout
    except CommandFailed as error:
        raise HypervisorError(f"QEMU does not run: {error}") from error
    return QemuFacts(
        path=path,
        version=parse_version(version),
        default_machine=parse_default_machine(machines),
        machines=tuple(re.findall(r"^(\S+) {2,}", machines, re.MULTILINE)),
        stamp=stamp,
    )


def parse_version(text: str) -> tuple[int, int, int]:
    """Version in the output of `--version`. Pure.

    Raises:
        HypervisorError: there is none.
    """
    match = re.search(r"version (\d+)\.(\d+)(?:\.(\d+))?", text)
    if match is None:
        raise HypervisorError(f"cannot read the version of QEMU in {text[:100]!r}")
    major, minor, micro = match.groups(default="0")
    return int(major), int(minor), int(micro)


def parse_default_machine(text: str) -> str:
    """The versioned name of the machine `pc` in the output of `-machine help`. Pure."""
    match = re.search(r"^pc\s.*\(alias of (\S+)\)", text, re.MULTILINE)
    return match.group(1) if match else "pc"


def disk_facts(disk: OpenDisk) -> DiskFacts:
    """How a disk can be opened; a disk that cannot be opened is for QEMU to complain about."""
    path = disk.link or disk.path
    if path is None:
        return DiskFacts()
    try:
        is_block_device = stat.S_ISBLK(os.stat(path).st_mode)
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT))
    except OSError:
        return DiskFacts(
            is_block_device=os.path.exists(path) and stat.S_ISBLK(os.stat(path).st_mode), has_direct_io=False
        )
    return DiskFacts(is_block_device=is_block_device)
