"""Resources that describe the interface and the cluster: `/version` and `/2/info`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ganeti.rapi.master_link import MasterLink
from ganeti.rapi.routes import Call, HttpRoute
from ganeti.version import RAPI_VERSION
from ganeti.wire.master_commands import QueryClusterInfo

ALIASES = {"vg_name": "volume_group_name", "drbd_helper": "drbd_usermode_helper"}
"""Older names of fields of `/2/info`, which clients still read."""


def info_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The body of `/2/info` from masterd's description of the cluster."""
    info = {**settings, **{alias: settings.get(name) for alias, name in ALIASES.items()}}
    word, *rest = info.get("architecture") or ["64bit", ""]
    # Clients of this interface know the word size in the plural.
    info["architecture"] = [word if word.endswith("s") else f"{word}s", *rest]
    return info


def info_routes(master: MasterLink) -> tuple[HttpRoute, ...]:
    """Rows of the table of routes."""

    async def version(call: Call) -> int:
        return RAPI_VERSION

    async def nothing(call: Call) -> None:
        return None

    async def info(call: Call) -> dict[str, Any]:
        return info_of(await master.ask(QueryClusterInfo))

    return (
        HttpRoute(method="GET", path="/", answer=nothing, doc="Nothing; shows that somebody answers."),
        HttpRoute(method="GET", path="/2", answer=nothing, doc="Nothing; shows that version 2 is spoken."),
        HttpRoute(method="GET", path="/version", answer=version, doc="Version of the interface."),
        HttpRoute(method="GET", path="/2/info", answer=info, doc="Settings of the cluster."),
    )
