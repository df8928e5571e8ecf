"""Finds out whether KVM works here, by booting a kernel with it, and remembers the answer.

That `/dev/kvm` is there proves nothing: there are hosts on which QEMU starts with it, the firmware
runs, and a stock kernel never comes up.
"""

from __future__ import annotations

import fcntl
import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec

from ganeti.errors import CommandFailed
from ganeti.hypervisors.kvm.files import state_dir
from ganeti.interfaces import IHost

VARIABLE = "GANETI_ACCEL"
"""Environment variable that decides instead: kvm or tcg; auto: find out."""
KVM, TCG = "kvm", "tcg"
FIRST_SIGN_S = 6.0
"""After this a kernel that runs at all has printed something."""
PROBE_S = 30.0
"""How long a kernel may need to come to its end; one under nested emulation needs several seconds."""
_DEVICE = "/dev/kvm"
# The last thing that a kernel without a root device does: it has initialised everything by then.
_FIRST_SIGN = b"Linux version"
_CAME_UP = b"Unable to mount root fs"


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    host: str
    qemu: str
    accelerator: str


def decide(host: IHost, qemu: str, flag: str, *, kernel: str = "", device: str = _DEVICE) -> str:
    """`kvm` or `tcg`.

    Args:
        host: this node.
        qemu: program.
        flag: parameter `kvm_flag`: enabled and disabled are obeyed, else it is tried once.
        kernel: a kernel to try it with; empty: the newest of the node.
        device: of the kernel.
    """
    if flag in ("enabled", "disabled"):
        return KVM if flag == "enabled" else TCG
    forced = os.environ.get(VARIABLE, "")
    if forced in (KVM, TCG):
        return forced
    if not os.access(device, os.R_OK | os.W_OK):
        return TCG
    kernel = kernel or _newest_kernel()
    if not os.path.exists(kernel):
        # Unproven: slow is better than never.
        return TCG
    return _remembered(host, qemu, kernel)


def _remembered(host: IHost, qemu: str, kernel: str) -> str:
    memory = f"{state_dir(host.paths)}/accelerator.json"
    key = os.uname().release, f"{qemu} {os.stat(qemu).st_mtime_ns}"
    with _locked(f"{memory}.lock"):
        with suppress(FileNotFoundError, msgspec.DecodeError), open(memory, "rb") as stream:
            known = msgspec.json.decode(stream.read(), type=_Answer)
            if (known.host, known.qemu) == key:
                return known.accelerator
        answer = KVM if boots(host, qemu, kernel) else TCG
        with open(memory, "wb") as stream:
            stream.write(msgspec.json.encode(_Answer(host=key[0], qemu=key[1], accelerator=answer)))
    return answer


def boots(host: IHost, qemu: str, kernel: str) -> bool:
    """Whether a kernel comes up with KVM; it has no root device and ends by itself, quickly."""
    # Where nothing is printed within the first seconds, nothing will be.
    output = b""
    for timeout_s in (FIRST_SIGN_S, PROBE_S):
        output = _boot_output(host, qemu, kernel, timeout_s)
        if _CAME_UP in output or _FIRST_SIGN not in output:
            break
    return _CAME_UP in output


def _boot_output(host: IHost, qemu: str, kernel: str, timeout_s: float) -> bytes:
    log = f"{state_dir(host.paths)}/accelerator.log"
    os.makedirs(os.path.dirname(log), exist_ok=True)
    with suppress(FileNotFoundError):
        os.unlink(log)
    argv = [
        qemu, "-accel", "kvm", "-m", "256", "-nodefaults", "-no-user-config", "-display", "none",
        "-no-reboot", "-serial", "stdio", "-kernel", kernel,
        "-append", "earlyprintk=serial,ttyS0 console=ttyS0 panic=-1 root=none",
    ]  # fmt: skip
    # One that hangs is what is looked for: it is killed after the time.
    with suppress(CommandFailed):
        host.processes.run(argv, timeout_s=timeout_s, check=False, log_path=log)
    try:
        with open(log, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return b""


def _newest_kernel() -> str:
    running = f"/boot/vmlinuz-{os.uname().release}"
    others = sorted(glob.glob("/boot/vmlinuz-*"), key=os.path.getmtime, reverse=True)
    return running if os.path.exists(running) else (others[0] if others else "")


@contextmanager
def _locked(path: str) -> Iterator[None]:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
