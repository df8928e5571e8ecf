"""Builds the tiny guest: a kernel and an initial RAM disk that boot in seconds without acceleration.

It is made of a kernel of Debian (the one of this machine, or its package, unpacked and not
installed), a static busybox and `tiny_init.sh`. The result is for tests and the demonstration:
`kernel_path` and `initrd_path` of an instance. `python -m ganeti.vcluster.tiny_guest [DIR]` builds
it and prints the two file names; a finished build is not repeated.
"""

from __future__ import annotations

import fcntl
import glob
import gzip
import hashlib
import lzma
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files

import msgspec

from ganeti.errors import CommandFailed
from ganeti.vcluster.cpio import Member, archive

MODULES = (
    "virtio_pci", "virtio_blk", "virtio_net", "virtio_scsi", "virtio_balloon", "virtio_rng", "sd_mod",
    "ata_piix", "button", "evdev", "e1000",
)  # fmt: skip
KERNEL_PACKAGE = "linux-image-cloud-amd64"
KERNEL_ARGS = "quiet panic=1 mitigations=off"
"""What is good to have on its kernel command line."""
_FORMAT = 1
_DOWNLOAD_S = 300.0


class TinyGuest(msgspec.Struct, frozen=True, kw_only=True):
    """A finished build."""

    kernel: str
    """ELF kernel if it could be taken out of the compressed one: it starts faster."""
    initrd: str


class KernelTree(msgspec.Struct, frozen=True, kw_only=True):
    """A kernel and its modules as they lie below a root directory."""

    root: str
    version: str

    @property
    def image(self) -> str:
        """Compressed kernel."""
        return f"{self.root}/boot/vmlinuz-{self.version}"


def default_directory() -> str:
    """Where builds are kept for later."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return f"{cache}/ganeti/tiny"


def build(directory: str | None = None) -> TinyGuest:
    """Build the guest unless it is there; several processes may do so at once.

    Raises:
        CommandFailed: a program or package is missing; says which and how to get it.
    """
    directory = os.path.abspath(directory or default_directory())
    os.makedirs(directory, exist_ok=True)
    guest = TinyGuest(kernel=f"{directory}/kernel", initrd=f"{directory}/initrd")
    stamp = f"{directory}/stamp"
    with _locked(f"{directory}/lock"):
        if not _is_current(stamp):
            _build(directory, guest)
            _write(stamp, _fingerprint().encode())
    return guest


def _build(directory: str, guest: TinyGuest) -> None:
    busybox = _static_busybox()
    tree = _kernel_tree(directory)
    with open(tree.image, "rb") as compressed:
        image = compressed.read()
    _write(guest.kernel, elf_kernel(image) or image)
    _write(guest.initrd, _initrd(busybox, _module_files(tree)))


def elf_kernel(image: bytes) -> bytes | None:
    """The ELF kernel inside a compressed one, or None if no program here can take it out."""
    for magic, program in ((b"\x02!L\x18", "lz4"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\x1f\x8b\x08", "gzip")):
        start = image.find(magic)
        if start < 0 or shutil.which(program) is None:
            continue
        # The compressed kernel is followed by other data, which the program complains about.
        done = subprocess.run(
            [program, "-dc"], input=image[start:], capture_output=True, timeout=60, check=False
        )
        if done.stdout.startswith(b"\x7fELF"):
            return done.stdout
    return None


# --- where the kernel comes from ---------------------------------------------------------------


def _kernel_tree(directory: str) -> KernelTree:
    local = _trees("/")
    for tree in local:
        if "cloud" in tree.version:
            return tree
    unpacked = f"{directory}/kernel-package"
    try:
        if not _trees(unpacked):
            _unpack_kernel(unpacked)
        return _trees(unpacked)[0]
    except (CommandFailed, IndexError) as error:
        if local:
            return local[0]
        raise CommandFailed(
            f"no kernel for the tiny guest: {error}; run 'apt-get update', or install {KERNEL_PACKAGE}"
        ) from error


def _trees(root: str) -> list[KernelTree]:
    images = sorted(glob.glob(f"{root.rstrip('/')}/boot/vmlinuz-*"), reverse=True)
    found = (KernelTree(root=root.rstrip("/"), version=image.partition("/vmlinuz-")[2]) for image in images)
    return [tree for tree in found if os.path.isdir(f"{tree.root}/lib/modules/{tree.version}/kernel")]


def _unpack_kernel(target: str) -> None:
    depends = _run(["apt-cache", "depends", KERNEL_PACKAGE])
    names = re.findall(r"Depends: (linux-image-\S+)", depends)
    if not names:
        raise CommandFailed(f"the package index has no {KERNEL_PACKAGE}")
    shutil.rmtree(target, ignore_errors=True)
    work = f"{target}.download"
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    # Without the option a download as root into a private directory ends with a warning on stderr.
    _run(["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", names[0]], cwd=work)
    for package in glob.glob(f"{work}/*.deb"):
        _run(["dpkg-deb", "-x", package, f"{work}/tree"])
    version = names[0].removeprefix("linux-image-")
    _run(["depmod", "-b", f"{work}/tree", version])
    os.rename(f"{work}/tree", target)
    shutil.rmtree(work)


def _module_files(tree: KernelTree) -> list[str]:
    """Files of the modules and of all they need, in the order in which they can be loaded.

    A module that this kernel has built in or does not know is passed over.
    """
    found: dict[str, None] = {}
    for name in MODULES:
        root = ["-d", tree.root] if tree.root else []
        listed = _run(["modprobe", *root, "-S", tree.version, "--show-depends", name], check=False)
        found.update(dict.fromkeys(re.findall(r"^insmod (\S+)", listed, re.MULTILINE)))
    return list(found)


# --- the initial RAM disk ----------------------------------------------------------------------


def _initrd(busybox: str, modules: Sequence[str]) -> bytes:
    directories = ("bin", "dev", "proc", "sys", "modules")
    members = [Member(name=name, mode=0o040755) for name in directories]
    with open(busybox, "rb") as program:
        members.append(Member(name="bin/busybox", mode=0o100755, data=program.read()))
    members.append(Member(name="init", mode=0o100755, data=_init_script()))
    order = []
    for path in modules:
        name = re.sub(r"\.(xz|gz|zst)$", "", os.path.basename(path))
        order.append(name)
        members.append(Member(name=f"modules/{name}", mode=0o100644, data=_plain(path)))
    members.append(
        Member(name="modules/order", mode=0o100644, data="".join(f"{name}\n" for name in order).encode())
    )
    return archive(members)


def _plain(path: str) -> bytes:
    with open(path, "rb") as stream:
        data = stream.read()
    match os.path.splitext(path)[1]:
        case ".xz":
            return lzma.decompress(data)
        case ".gz":
            return gzip.decompress(data)
        case ".zst":
            return subprocess.run(["zstd", "-dc", path], capture_output=True, timeout=60, check=True).stdout
    return data


def _init_script() -> bytes:
    return (files("ganeti.vcluster") / "tiny_init.sh").read_bytes()


def _static_busybox() -> str:
    busybox = shutil.which("busybox")
    if busybox is None:
        raise CommandFailed("the tiny guest needs busybox: apt-get install busybox-static")
    with open(busybox, "rb") as program:
        # A dynamic program names its loader in the first page.
        if b"/ld-linux" in program.read(4096):
            raise CommandFailed(f"{busybox} is not static: apt-get install busybox-static")
    return busybox


# --- small things ------------------------------------------------------------------------------


def _fingerprint() -> str:
    return f"{_FORMAT} {hashlib.sha256(_init_script()).hexdigest()}"


def _is_current(stamp: str) -> bool:
    try:
        with open(stamp, encoding="ascii") as stream:
            return stream.read() == _fingerprint()
    except FileNotFoundError:
        return False


def _write(path: str, data: bytes) -> None:
    with open(f"{path}.new", "wb") as stream:
        stream.write(data)
    os.rename(f"{path}.new", path)


def _run(argv: Sequence[str], *, cwd: str | None = None, check: bool = True) -> str:
    # modprobe and depmod are not on the path of ordinary users.
    env = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=_DOWNLOAD_S, check=False
        )
    except FileNotFoundError:
        raise CommandFailed(f"the tiny guest needs {argv[0]}; install apt, dpkg and kmod") from None
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"{' '.join(argv)} did not end in {_DOWNLOAD_S:.0f} s") from None
    if check and done.returncode != 0:
        raise CommandFailed(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


@contextmanager
def _locked(path: str) -> Iterator[None]:
    with open(path, "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(argv: Sequence[str]) -> int:
    """Build the guest in a directory and print its files, one a line."""
    if any(arg.startswith("-") for arg in argv) or len(argv) > 1:
        print("usage: python -m ganeti.vcluster.tiny_guest [DIRECTORY]", file=sys.stderr)
        return 2
    try:
        guest = build(argv[0] if argv else None)
    except CommandFailed as error:
        print(error, file=sys.stderr)
        return 1
    print(guest.kernel)
    print(guest.initrd)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
