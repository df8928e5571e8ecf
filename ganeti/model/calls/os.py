"""Calls that find and run OS definitions (rpc.md section 2.5, plugins.md section 1)."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from ganeti.model.calls.base import Duration, NodeCall
from ganeti.model.filled import FilledInstance
from ganeti.model.params import ParamValues


class OsStatus(msgspec.Struct, frozen=True, kw_only=True):
    """An OS definition as found in one directory of one node."""

    name: str
    path: str
    valid: bool
    message: str
    """What is wrong, empty if valid."""
    variants: tuple[str, ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()
    """Name and explanation."""
    api_versions: tuple[int, ...] = ()
    trusted: bool = True
    os_version: str | None = None


class OsDiagnose(NodeCall[tuple[OsStatus, ...]], frozen=True, kw_only=True, tag="os_diagnose"):
    """Every OS definition of the node, in search order; duplicates after the one in use."""

    duration: ClassVar[Duration] = Duration.FAST


class OsValidate(NodeCall[bool], frozen=True, kw_only=True, tag="os_validate"):
    """Whether the OS exists; fails if the variant or the parameters are wrong, or if required."""

    duration: ClassVar[Duration] = Duration.FAST
    name: str
    parameters: ParamValues = {}
    required: bool = True
    force_variant: bool = False


class InstanceOsAdd(NodeCall[None], frozen=True, kw_only=True, tag="instance_os_add"):
    """Run the `create` script on open disks."""

    duration: ClassVar[Duration] = Duration.DAY
    instance: FilledInstance
    reinstall: bool = False
    debug_level: int = 0


class InstanceRunRename(NodeCall[None], frozen=True, kw_only=True, tag="instance_run_rename"):
    """Run the `rename` script on open disks."""

    duration: ClassVar[Duration] = Duration.SLOW
    instance: FilledInstance
    old_name: str
    debug_level: int = 0
