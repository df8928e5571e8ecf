"""The call by which a node tells everything about itself and its instances at once (S2.3-062, SX-003)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import msgspec

from ganeti.model.calls.base import Duration, NodeCall
from ganeti.model.calls.instances import RunningInstance
from ganeti.model.calls.system import NodeInfoResult


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a node tells."""

    info: NodeInfoResult
    running: Mapping[str, RunningInstance]
    """Instances that run there, by name."""
    problems: Mapping[str, str] = {}
    """Hypervisors that could not be asked, and why; what runs under them is not known."""


class KnownReport(Report, frozen=True, kw_only=True):
    """A report and its age."""

    at: float
    """When it came, seconds since the epoch."""


class NodeReport(NodeCall[Report], frozen=True, kw_only=True, tag="node_report"):
    """Facts of a node and all its instances; storage units as type to name, hypervisors by name."""

    duration: ClassVar[Duration] = Duration.URGENT
    storage_units: Mapping[str, str] = {}
    hypervisors: tuple[str, ...] = ()
