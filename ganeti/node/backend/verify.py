"""Node function that checks a node: each check by itself, so that one that fails hides no other.

The result has an entry for each check that could be made. Those that could not are in the entry
`check-errors`, name to reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ganeti.errors import GanetiError, ParameterError
from ganeti.model.calls.system import NodeVerify
from ganeti.node.backend.registry import NodeWorld, node_function
from ganeti.node.backend.verify_files import FILE_CHECKS
from ganeti.node.backend.verify_network import NETWORK_CHECKS
from ganeti.node.backend.verify_system import SYSTEM_CHECKS

CHECK_ERRORS = "check-errors"
CHECKS = {**FILE_CHECKS, **NETWORK_CHECKS, **SYSTEM_CHECKS}
"""Name to function; rpc.md section 3."""


@node_function(NodeVerify)
def node_verify(call: NodeVerify, node: NodeWorld) -> Mapping[str, Any]:
    """Make the checks that were asked for."""
    results: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for name, argument in call.checks.items():
        try:
            results[name] = _check(name, argument, node)
        except (GanetiError, OSError) as error:
            errors[name] = str(error)
    return {**results, CHECK_ERRORS: errors}


def _check(name: str, argument: Any, node: NodeWorld) -> Any:
    check = CHECKS.get(name)
    if check is None:
        raise ParameterError(f"node {node.host.name} does not know the check {name!r}")
    try:
        return msgspec.to_builtins(check(node, argument))
    except msgspec.ValidationError as error:
        raise ParameterError(f"the argument of check {name!r} is wrong: {error}") from error
