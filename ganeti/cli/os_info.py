"""The texts of `gnt-os info` and `gnt-os diagnose`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ganeti.cli.info import lines_of

Row = Mapping[str, Any]
Entry = Sequence[Any]
"""Path, whether it is usable, message, variants, parameters, API versions, whether it is trusted."""

_WITH_VARIANTS, _WITH_PARAMETERS = 15, 20


def describe(row: Row) -> Iterator[str]:
    """The block of one OS in `info`."""
    yield f"{row['name']}:"
    yield f"  - valid: {row['valid']}"
    yield f"  - hidden: {row['hidden']}"
    yield f"  - blacklisted: {row['blacklisted']}"
    if row["valid"]:
        yield from _items("API versions", [str(version) for version in sorted(row["api_versions"])])
        yield from _items("variants", row["variants"])
        yield from _items("parameters", [f"{name}: {text}" for name, text in row["parameters"]])
    yield f"  - trusted: {row['trusted']}"


def _items(title: str, items: Sequence[str]) -> Iterator[str]:
    yield f"  - {title}:"
    for item in items:
        yield f"    - {item}"


def describe_settings(name: str, row: Row | None) -> Iterator[str]:
    """What the cluster says of an OS with variant, or of one that no node has."""
    hypervisors = (row or {}).get("os_hvp", {}).get(name)
    parameters = (row or {}).get("osparams", {}).get(name)
    yield f"{name}: "
    if hypervisors:
        yield "  OS-specific hypervisor parameters: "
        yield from lines_of(hypervisors, 2)
    if parameters:
        yield "  OS parameters: "
        yield from lines_of(parameters, 2)


def is_valid_everywhere(row: Row, nodes: Mapping[str, str]) -> bool:
    """Whether every node that answered has a usable definition."""
    return all(_is_usable(entries) for entries in _on_nodes(row, nodes).values())


def _on_nodes(row: Row, nodes: Mapping[str, str]) -> dict[str, Sequence[Entry]]:
    return {nodes[uuid]: entries for uuid, entries in row["node_status"].items() if uuid in nodes}


def _is_usable(entries: Sequence[Entry]) -> bool:
    return bool(entries) and bool(entries[0][1])


def diagnosis(row: Row, nodes: Mapping[str, str]) -> Iterator[str]:
    """The block of one OS in `diagnose`; nodes where it is usable come first.

    Args:
        row: the OS.
        nodes: names of the nodes looked at, by UUID.
    """
    found = _on_nodes(row, nodes)
    good = sorted(node for node, entries in found.items() if _is_usable(entries))
    bad = sorted(node for node in found if node not in good)
    status = "invalid" if not good else "partial valid" if bad else "valid"
    marks = "".join(f" [{mark}]" for mark in ("hidden", "blacklisted") if row[mark])
    yield f"OS: {row['name']} [global status: {status}]{marks}"
    if row["variants"]:
        yield f"  Variants: [{', '.join(row['variants'])}]"
    for node in [*good, *bad]:
        entries = found[node]
        if not entries:
            yield f"  Node: {node}, status: OS not found"
            continue
        yield f"  Node: {node}, status: {_status(entries[0])}"
        for path, is_usable, message, *_ in entries[1:]:
            state = "valid" if is_usable else f"invalid - {message}"
            yield f"    [hidden] path: {path}, status: {state}"


def _status(entry: Entry) -> str:
    path, is_usable, message, variants, parameters, versions, is_trusted = entry
    if not is_usable:
        return f"invalid - {message} (path: {path})"
    parts = [f"valid (path: {path})"]
    newest = max(versions, default=0)
    parts.append(_listed("API versions", versions, "no API versions declared"))
    if newest >= _WITH_VARIANTS:
        parts.append(_listed("variants", variants, "no variants"))
    if newest >= _WITH_PARAMETERS:
        parts.append(_listed("parameters", [name for name, _ in parameters], "no parameters"))
    parts.append("[trusted]" if is_trusted else "[untrusted]")
    return " ".join(parts)


def _listed(title: str, items: Sequence[Any], otherwise: str) -> str:
    return f"[{title}: {', '.join(map(str, items))}]" if items else f"[{otherwise}]"
