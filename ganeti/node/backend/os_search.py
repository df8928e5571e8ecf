"""Finds OS definitions in the directories of this node.

The environment variable GANETI_OS_SEARCH_PATH, directories separated by colons, takes the place of
the built-in search path (`Paths.os_search_path`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from ganeti.errors import InvalidOperatingSystem
from ganeti.interfaces import IHost
from ganeti.logic.os_definition import (
    TEXT_FILES,
    FoundFile,
    OsDefinition,
    OsScript,
    judge,
    split_os_name,
)
from ganeti.model.calls.os import OsStatus
from ganeti.model.ids import PLUGIN_NAME

SEARCH_PATH_VARIABLE = "GANETI_OS_SEARCH_PATH"
_LARGEST_TEXT = 1024 * 1024


def search_path(host: IHost) -> tuple[str, ...]:
    """Directories with definitions; the first that has one of a name wins."""
    given = os.environ.get(SEARCH_PATH_VARIABLE)
    if given:
        return tuple(directory for directory in given.split(":") if os.path.isabs(directory))
    return host.paths.os_search_path


def find_definition(host: IHost, name: str) -> OsDefinition:
    """The usable definition of an OS.

    Args:
        host: the node.
        name: with or without `+variant`.

    Raises:
        InvalidOperatingSystem: it is not there, or cannot be used.
    """
    plain, _ = split_os_name(name)
    directories = search_path(host)
    for directory in directories if PLUGIN_NAME.match(plain) else ():
        path = os.path.join(directory, plain)
        if os.path.isdir(path):
            try:
                return read_definition(plain, path)
            except InvalidOperatingSystem as error:
                raise InvalidOperatingSystem(
                    f"OS {plain} on node {host.name} cannot be used: {error} (in {path})"
                ) from error
    raise InvalidOperatingSystem(
        f"OS {plain!r} is not there on node {host.name}; searched: {', '.join(directories) or 'nowhere'}"
    )


def read_definition(name: str, path: str) -> OsDefinition:
    """The definition in a directory.

    Raises:
        InvalidOperatingSystem: it cannot be used.
    """
    wanted = (*TEXT_FILES, *OsScript)
    files = {file: found for file in wanted if (found := _look_at(os.path.join(path, file), file))}
    return judge(name, path, files)


def diagnose(host: IHost) -> tuple[OsStatus, ...]:
    """Every definition of this node in search order; those hidden by an earlier one are not valid."""
    first: dict[str, str] = {}
    found = []
    for name, path in _candidates(host):
        status = _status(name, path)
        if name in first:
            status = OsStatus(
                name=name,
                path=path,
                valid=False,
                message=f"duplicate: {first[name]} comes first and is used",
                os_version=status.os_version,
            )
        first.setdefault(name, path)
        found.append(status)
    return tuple(found)


def _candidates(host: IHost) -> Iterator[tuple[str, str]]:
    for directory in search_path(host):
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue
        for name in names:
            path = os.path.join(directory, name)
            if not name.startswith(".") and os.path.isdir(path):
                yield name, path


def _status(name: str, path: str) -> OsStatus:
    try:
        definition = read_definition(name, path)
    except InvalidOperatingSystem as error:
        return OsStatus(name=name, path=path, valid=False, message=str(error))
    return OsStatus(
        name=name,
        path=path,
        valid=True,
        message="",
        variants=definition.variants,
        parameters=definition.parameters,
        api_versions=definition.api_versions,
        trusted=definition.is_trusted,
        os_version=definition.os_version,
    )


def _look_at(path: str, name: str) -> FoundFile | None:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        # Also what a link to nowhere is: not there.
        return None
    is_regular = stat.S_ISREG(mode)
    return FoundFile(
        is_regular=is_regular,
        is_executable=bool(mode & stat.S_IXUSR),
        text=_read(path) if is_regular and name in TEXT_FILES else None,
    )


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_LARGEST_TEXT)
    except OSError:
        return None
