"""gnt-instance console: reach the console of an instance, or tell how."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ganeti.cli.errors import CommandError, MasterError
from ganeti.cli.follow import quiet
from ganeti.model.paths import Paths

if TYPE_CHECKING:
    from ganeti.cli.invocation import Invocation

Console = Mapping[str, Any]

NODE_SHELL = "node-shell"
"""Executable in the configuration directory that runs `NODE COMMAND...` on a node instead of ssh."""


def run_console(invocation: Invocation) -> int:
    """Show the console, print its command, or say where it listens."""
    name = invocation.arguments[0]
    console = quiet(invocation, {"OP_ID": "OP_INSTANCE_CONSOLE", "instance_name": name})
    if console["kind"] != "ssh":
        invocation.print(notice(console))
        return 0
    argv = command_line(console, invocation.world.paths)
    if invocation.option("_show_cmd"):
        invocation.print(shlex.join(argv))
        return 0
    # The console may stay open for days, and masterd needs no idle connection for that.
    invocation.close()
    try:
        return invocation.world.execute(argv)
    except OSError as error:
        raise CommandError(f"cannot run {argv[0]} for the console of {name}: {error}") from None


def notice(console: Console) -> str:
    """What to tell of a console that is no command."""
    instance, host, port = console["instance"], console.get("host"), console.get("port")
    match console["kind"]:
        case "vnc":
            display = console.get("display")
            url = f"<vnc://{host}:{port}/>"
            return f"Instance {instance} has VNC listening on {host}:{port} (display {display}), URL {url}"
        case "spice":
            return f"Instance {instance} has SPICE listening on {host}:{port}"
        case "msg":
            return str(console.get("message") or f"instance {instance} has no console")
    raise MasterError(
        "OpExecError", [f"the console of {instance} is of the unknown kind {console['kind']!r}"]
    )


def command_line(console: Console, paths: Paths) -> list[str]:
    """The program that shows the console: through ssh, or through a local script if there is one."""
    command = [str(word) for word in console.get("command") or ()]
    host = str(console.get("host") or "")
    script = f"{paths.conf_dir}/{NODE_SHELL}"
    if os.access(script, os.X_OK):
        return [script, host, *command]
    target = f"{console['user']}@{host}" if console.get("user") else host
    port = ["-p", str(console["port"])] if console.get("port") else []
    return ["ssh", "-q", "-t", *port, target, shlex.join(command)]
