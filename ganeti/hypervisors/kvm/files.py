"""Where the files of a KVM instance lie, and the record of what was started.

Below `RUN/kvm-hypervisor`: `pid/NAME`, `ctrl/NAME.qmp` (for us), `ctrl/NAME.monitor` (for people),
`ctrl/NAME.serial`, `ctrl/NAME.qga`, and `conf/NAME.runtime`, the record. Output of the serial console
goes to `LOG/kvm/NAME.console`, that of the start before to `NAME.console.old`.
"""

from __future__ import annotations

import os
from contextlib import suppress

import msgspec

from ganeti.errors import HypervisorError
from ganeti.model.calls.disks import OpenDisk
from ganeti.model.filled import FilledInstance
from ganeti.model.paths import Paths
from ganeti.model.reading import UNREADABLE


class InstanceFiles(msgspec.Struct, frozen=True, kw_only=True):
    """File names of one instance."""

    name: str
    state_dir: str
    log_dir: str

    @property
    def control_dir(self) -> str:
        """Directory of the sockets; QEMU gets their names relative to it, as addresses are short."""
        return f"{self.state_dir}/ctrl"

    @property
    def pid(self) -> str:
        """Process id of QEMU; the path in its arguments proves that a process is ours."""
        return f"{self.state_dir}/pid/{self.name}"

    @property
    def qmp(self) -> str:
        """Control socket."""
        return f"{self.control_dir}/{self.name}.qmp"

    @property
    def serial(self) -> str:
        """Socket of the serial console."""
        return f"{self.control_dir}/{self.name}.serial"

    @property
    def runtime(self) -> str:
        """Record of what was started."""
        return f"{self.state_dir}/conf/{self.name}.runtime"

    @property
    def console_log(self) -> str:
        """Output of the serial console."""
        return f"{self.log_dir}/{self.name}.console"


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """What was started; outlives the daemon and is what a migration repeats on the target."""

    instance: FilledInstance
    """As it was at the start, without secrets."""
    disks: tuple[OpenDisk, ...]
    taps: tuple[str, ...]
    machine: str
    accelerator: str
    argv: tuple[str, ...]
    is_incoming: bool = False
    is_set_up: bool = False
    """False: whoever started it was ended before it was done."""
    resumes: bool = True
    """Whether the guest ran when a migration began: then it has to run afterwards, wherever it is."""


def state_dir(paths: Paths) -> str:
    """Directory of all that must not survive a reboot of the node."""
    return paths.hypervisor_dir("kvm")


def files_of(paths: Paths, name: str) -> InstanceFiles:
    """File names of an instance."""
    return InstanceFiles(name=name, state_dir=state_dir(paths), log_dir=f"{paths.log_dir}/kvm")


def known_names(paths: Paths) -> list[str]:
    """Instances with a pid file, whether they run or not."""
    try:
        return sorted(os.listdir(f"{state_dir(paths)}/pid"))
    except FileNotFoundError:
        return []


def prepare(files: InstanceFiles) -> None:
    """Create the directories and put the old console log aside."""
    for directory in (f"{files.state_dir}/pid", f"{files.state_dir}/conf", files.control_dir, files.log_dir):
        os.makedirs(directory, mode=0o750, exist_ok=True)
    with suppress(FileNotFoundError):
        os.rename(files.console_log, f"{files.console_log}.old")


def save(files: InstanceFiles, runtime: Runtime) -> None:
    """Write the record; a reader sees the old or the new one."""
    instance = msgspec.structs.replace(runtime.instance, osparams={}, osparams_private={})
    data = msgspec.json.encode(msgspec.structs.replace(runtime, instance=instance))
    temporary = f"{files.runtime}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
    os.rename(temporary, files.runtime)


def load(files: InstanceFiles) -> Runtime | None:
    """The record, or None if there is none.

    Raises:
        HypervisorError: it cannot be read.
    """
    try:
        with open(files.runtime, "rb") as stream:
            return msgspec.json.decode(stream.read(), type=Runtime)
    except FileNotFoundError:
        return None
    except UNREADABLE as error:
        raise HypervisorError(
            f"the record of instance {files.name} is damaged: {error}; stop the instance by force"
        ) from error


def remove(files: InstanceFiles) -> None:
    """Remove all but the console logs; what is gone already is no error."""
    for path in (
        files.runtime,
        files.pid,
        files.qmp,
        files.serial,
        f"{files.control_dir}/{files.name}.monitor",
        f"{files.control_dir}/{files.name}.qga",
    ):
        with suppress(FileNotFoundError):
            os.unlink(path)
