"""Which directories disk files may lie in: the administrator's list, and what it may never name.

The list is local to each node and not distributed, so that whoever rules the cluster does not rule
the file systems of the nodes. A path is judged by where it really leads: symbolic links are followed
first, and anything that has to be normalised (`..`, `//`) is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from ganeti.errors import FileStoragePathError
from ganeti.interfaces import IHost

_BINARIES = [
    f"{prefix}/{name}"
    for prefix in ("", "/usr", "/usr/local")
    for name in ("bin", "lib", "lib32", "lib64", "sbin")
]
FORBIDDEN = frozenset(["/boot", "/dev", "/etc", "/home", "/proc", "/root", "/sys", *_BINARIES])
"""Directories that the list may not name, nor anything below them."""


def parse_allowed_paths(text: str) -> tuple[str, ...]:
    """Entries of the list: one a line; blank lines and lines beginning with `#` do not count."""
    lines = (line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def usable_entries(entries: Iterable[str]) -> tuple[str, ...]:
    """Entries that count; relative ones do not."""
    return tuple(os.path.normpath(entry) for entry in entries if os.path.isabs(entry))


def bad_entries(entries: Iterable[str], *, own_root: str = "") -> tuple[str, ...]:
    """Entries that should not be in the list: relative, or in a directory of the system.

    Args:
        entries: as written.
        own_root: root directory of a virtual node. Such a node keeps all its files in there, so
            that it is the part below it that counts.
    """
    return tuple(entry for entry in entries if not os.path.isabs(entry) or is_forbidden(entry, own_root))


def is_forbidden(path: str, own_root: str = "") -> bool:
    """Whether a path is a directory of the system or lies below one; `own_root` as in `bad_entries`."""
    normal = os.path.normpath(path)
    # A virtual cluster keeps what its nodes share beside their root directories.
    for base in _bases(own_root):
        if is_below(normal, base):
            normal = normal[len(base) :]
            break
    return any(normal == forbidden or is_below(normal, forbidden) for forbidden in FORBIDDEN)


def is_below(path: str, directory: str) -> bool:
    """Whether a normal path lies strictly below a normal directory."""
    return path != directory and path.startswith(directory.rstrip("/") + "/")


def read_entries(host: IHost) -> tuple[str, ...]:
    """Entries of the node's list as written; empty if there is no list.

    Raises:
        FileStoragePathError: it cannot be read.
    """
    try:
        with open(host.paths.file_storage_paths, encoding="utf-8") as file:
            return parse_allowed_paths(file.read())
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise FileStoragePathError(
            f"the list of allowed paths {host.paths.file_storage_paths} cannot be read: {error}"
        ) from error


def check_allowed(host: IHost, path: str, *, may_be_entry: bool = False) -> str:
    """Refuse a path that file storage may not touch on this node.

    Args:
        host: the node.
        path: of a disk file or a directory; need not exist.
        may_be_entry: the path may also be an entry of the list itself.

    Returns:
        The allowed directory under which it lies, links followed.

    Raises:
        FileStoragePathError: with the reason and what to do.
    """
    if not os.path.isabs(path) or "\0" in path or os.path.normpath(path) != path:
        raise FileStoragePathError(f"{path!r} is not an absolute path in its plain form (no .., no //)")
    entries = usable_entries(read_entries(host))
    # The last part may be missing or a link; where its directory leads is what counts.
    real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    real = os.path.realpath(real) if may_be_entry else real
    entry = _entry_above(real, entries, may_be_entry=may_be_entry)
    if entry is None:
        known = ", ".join(entries) or "none"
        raise FileStoragePathError(
            f"{path} is not below a directory in which node {host.name or 'here'} allows disk files"
            f" (allowed: {known}); name its directory in {host.paths.file_storage_paths} there"
        )
    if is_forbidden(real, os.path.realpath(host.paths.root) if host.paths.root else ""):
        raise FileStoragePathError(f"{path} lies in a directory of the system; disk files may not")
    return entry


def _entry_above(real: str, entries: Sequence[str], *, may_be_entry: bool) -> str | None:
    for entry in entries:
        real_entry = os.path.realpath(entry)
        if is_below(real, real_entry) or (may_be_entry and real == real_entry):
            return real_entry
    return None


def _bases(own_root: str) -> tuple[str, ...]:
    root = own_root.rstrip("/")
    beside = os.path.dirname(root)
    return tuple(base for base in (root, beside) if base not in ("", "/"))
