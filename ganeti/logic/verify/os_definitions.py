"""OS definitions that are broken, or not the same on all nodes of a group. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from ganeti.logic.verify.findings import Findings, VerifyCode, error
from ganeti.model.calls.os import OsStatus
from ganeti.model.node import Node

Definitions = Mapping[str, tuple[OsStatus, ...]]
"""By name; the one in use first, then those that it hides."""


def os_findings(told: Collection[tuple[Node, tuple[OsStatus, ...]]]) -> Findings:
    """What is wrong with the definitions of nodes; they are compared with those of the first node.

    Args:
        told: nodes that told their definitions.
    """
    base: tuple[str, Definitions] | None = None
    for node, found in told:
        definitions = _by_name(found)
        texts = _own_problems(definitions)
        for text in texts:
            yield error(VerifyCode.ENODEOS, node.name, text)
        if base is None:
            base = node.name, definitions
            continue
        for text in _differences(definitions, *base):
            yield error(VerifyCode.ENODEOS, node.name, text)


def _by_name(found: Collection[OsStatus]) -> Definitions:
    definitions: dict[str, tuple[OsStatus, ...]] = {}
    for one in found:
        definitions[one.name] = (*definitions.get(one.name, ()), one)
    return definitions


def _own_problems(definitions: Definitions) -> Iterator[str]:
    for name, (used, *hidden) in definitions.items():
        if not used.valid:
            yield f"OS {name} in {used.path} cannot be used: {used.message}"
        if hidden:
            paths = ", ".join(one.path for one in hidden)
            yield f"OS {name} is there more than once; {used.path} counts, not {paths}"


def _differences(definitions: Definitions, base_node: str, base: Definitions) -> Iterator[str]:
    for name, (reference, *_) in base.items():
        if not reference.valid:
            continue
        if name not in definitions:
            yield f"OS {name} is missing, but is on node {base_node}"
            continue
        used = definitions[name][0]
        if not used.valid:
            continue
        for what, own, other in (
            ("API versions", used.api_versions, reference.api_versions),
            ("variants", used.variants, reference.variants),
            ("parameters", _names(used), _names(reference)),
        ):
            if set(own) != set(other):
                yield (
                    f"{what} of OS {name} differ from node {base_node}: "
                    f"{_shown(own)} here, {_shown(other)} there"
                )
    for name, (used, *_) in definitions.items():
        if name not in base and used.valid:
            yield f"OS {name} is here, but not on node {base_node}"


def _names(one: OsStatus) -> tuple[str, ...]:
    return tuple(name for name, _ in one.parameters)


def _shown(values: Collection[object]) -> str:
    return ", ".join(sorted(map(str, values))) or "none"
