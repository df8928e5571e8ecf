"""gnt-node add: give the node its credentials, then take it into the cluster.

How credentials get to a node is the business of a separate program, because hosts differ;
`ganeti.daemons.node_setup` issues them, as root, and calls it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ganeti.cli.errors import CommandError
from ganeti.cli.generic import full_opcode, submit_and_report
from ganeti.cli.programs import module_argv

if TYPE_CHECKING:
    from ganeti.cli.invocation import Invocation

NODE_SETUP = "ganeti.daemons.node_setup"


def add_node(invocation: Invocation) -> int:
    """Set the node up unless told not to, then submit the operation.

    Raises:
        CommandError: the set-up failed; nothing was added.
    """
    opcode = full_opcode(invocation)
    name = opcode["node_name"]
    opcode.setdefault("node_uuid", _uuid(invocation, name))
    if not invocation.option("_no_node_setup"):
        invocation.require_root()
        _set_up(invocation, name, opcode)
    return submit_and_report(invocation, opcode)


def _uuid(invocation: Invocation, name: str) -> str:
    """The UUID of the node's certificate: the one it has if it comes back, or a new one."""
    if invocation.option("readd"):
        rows = invocation.master.call("Query", ["node", ["uuid"], ["==", "name", name]])["data"]
        return str(rows[0][0][1])
    from uuid import uuid4

    return str(uuid4())


def _set_up(invocation: Invocation, name: str, opcode: dict[str, Any]) -> None:
    request = {
        "node_uuid": opcode["node_uuid"],
        "primary_ip": opcode.get("primary_ip"),
        "secondary_ip": opcode.get("secondary_ip"),
        "family": invocation.master.call("QueryClusterInfo", [])["primary_ip_version"],
        "readd": bool(opcode.get("readd")),
        "force_join": bool(invocation.option("_force_join")),
        "ssh_key_check": not invocation.option("_no_ssh_key_check"),
        "verbose": bool(invocation.option("_verbose") or invocation.option("debug")),
    }
    code = invocation.world.execute(module_argv(NODE_SETUP, name), stdin=json.dumps(request))
    if code != 0:
        raise CommandError(
            f"setting node {name} up failed (exit code {code}, reasons above); it was not added.\n"
            f"If its credentials are in place already, use --no-node-setup."
        )
