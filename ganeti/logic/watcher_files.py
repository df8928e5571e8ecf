"""Names and texts of the watcher's files: one of each kind for each node group, and one merged of all. Pure.

watcher.<uuid>.data                 what the watcher of a group remembers (S2.3-069)
watcher.<uuid>.data.damaged         such a file that could not be read, for whoever wants to know why
instance-status.group-<uuid>        a line `name status` for each instance (S2.3-070)
instance-status                     all of them together
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from ganeti.errors import GanetiError
from ganeti.model.findings import Findings
from ganeti.model.ids import GroupId

STATUS_PREFIX = "instance-status.group-"
STATE_PREFIX = "watcher."
STATE_SUFFIX = ".data"
DAMAGED_SUFFIX = ".data.damaged"

_KINDS = ((STATUS_PREFIX, ""), (STATE_PREFIX, STATE_SUFFIX), (STATE_PREFIX, DAMAGED_SUFFIX))


def status_text(findings: Findings, before: Mapping[str, str]) -> str:
    """Content of the status file of a group.

    Args:
        findings: how instances are.
        before: what the file held; of an instance that is busy now that still is the newest there is.
    """
    known = {name: found.status or before.get(name) for name, found in findings.instances.items()}
    return _lines({name: status for name, status in known.items() if status is not None})


def read_status(text: str) -> dict[str, str]:
    """Instance to status; lines that are none are left out."""
    rows = (line.split() for line in text.splitlines())
    return {row[0]: row[1] for row in rows if len(row) == 2}


def merged_status(files: Sequence[tuple[float, str]]) -> str:
    """One text of those of all groups, given as time and content; of an instance the newest line counts."""
    found: dict[str, str] = {}
    for _, text in sorted(files, key=lambda file: file[0]):
        found.update(read_status(text))
    return _lines(found)


def _lines(status: Mapping[str, str]) -> str:
    return "".join(f"{name} {status[name]}\n" for name in sorted(status))


def group_of_file(name: str) -> str | None:
    """UUID of the group to which a file belongs; None: it is no file of the watcher."""
    for prefix, suffix in _KINDS:
        uuid = name.removeprefix(prefix).removesuffix(suffix)
        if f"{prefix}{uuid}{suffix}" == name and _is_uuid(uuid):
            return uuid
    return None


def extra_files(names: Collection[str], groups: Collection[GroupId]) -> tuple[str, ...]:
    """Of some file names those of groups that do not exist (S2.3-071).

    Raises:
        GanetiError: there are no groups at all, which cannot be.
    """
    if not groups:
        raise GanetiError("the list of node groups is empty; nothing is removed")
    return tuple(name for name in sorted(names) if (uuid := group_of_file(name)) and uuid not in groups)


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
