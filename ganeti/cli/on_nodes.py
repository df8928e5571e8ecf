"""gnt-cluster command and copyfile: something done on many nodes as root, over ssh, without masterd."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

from ganeti.cli.console import NODE_SHELL
from ganeti.cli.declarations import Option
from ganeti.cli.errors import CommandError

if TYPE_CHECKING:
    from ganeti.cli.invocation import Invocation
    from ganeti.model.paths import Paths

NODES = Option(
    ("-n", "--node"), "_nodes", "only this node; may be repeated", "comma_list", metavar="NODE", names="node"
)
GROUP = Option(
    ("-g", "--node-group"), "_group", "only nodes of this group", "text", metavar="GROUP", names="group"
)

_LINE = "-" * 48
_CONNECT_WITHIN_S = 10

_COPY = """\
set -e
dest="$GANETI_ROOTDIR$1"
if [ -d "$dest" ]; then echo "$dest is a directory" >&2; exit 1; fi
new=$(mktemp "$dest.new-XXXXXX")
trap 'rm -f "$new"' EXIT
cat >"$new"
if [ "$(stat -c %s "$new")" != "$3" ]; then echo "only a part of $dest arrived" >&2; exit 1; fi
chmod "$2" "$new"
touch -d "@$4" "$new"
mv -f "$new" "$dest"
"""
"""Takes over a file from stdin; whoever reads it sees the old one or the new one as a whole."""


class Target(NamedTuple):
    """A node to work on."""

    name: str
    address: str
    """Name, or address, that is connected to."""
    port: int


def run_command(invocation: Invocation) -> int:
    """Run a command on the chosen nodes, one after the other, the master last."""
    invocation.require_root("it works as root on all nodes")
    command = " ".join(invocation.arguments)
    for target in _targets(invocation, with_master=True):
        argv = _remote(invocation.world.paths, target, ["/bin/sh", "-c", command], command)
        code, output = _run(invocation, argv, None)
        if code == 0 and invocation.option("_failure_only"):
            continue
        invocation.print(_LINE)
        if invocation.option("_machine_names"):
            for line in output.splitlines():
                invocation.print(f"{target.name}: {line}")
        else:
            invocation.print(f"node: {target.name}")
            invocation.print(output)
        invocation.print(f"return code = {code}")
        invocation.flush()
    return 0


def copy_file(invocation: Invocation) -> int:
    """Copy a file of this machine to the same place on the chosen nodes."""
    invocation.require_root("it works as root on all nodes")
    paths = invocation.world.paths
    (given,) = invocation.arguments
    path = os.path.abspath(given)
    try:
        found = os.stat(path)
    except OSError as error:
        raise CommandError(f"File {path} cannot be copied: {error.strerror}") from error
    if not os.path.isfile(path):
        raise CommandError(f"{path} is not a file; directories are not copied")
    if paths.root and not path.startswith(f"{paths.root}/"):
        raise CommandError(f"{path} is not below {paths.root}, the root directory of this node")
    place = path.removeprefix(paths.root) if paths.root else path
    details = [f"{found.st_mode & 0o7777:o}", str(found.st_size), str(int(found.st_mtime))]
    words = ["/bin/sh", "-c", _COPY, "copyfile", place, *details]
    for target in _targets(invocation, with_master=False):
        code, output = _run(invocation, _remote(paths, target, words, shlex.join(words)), path)
        if code != 0:
            invocation.warn(f"Copy of file {path} to node {target.name}:{target.port} failed")
            if output.strip():
                invocation.warn(output.strip())
    return 0


def _run(invocation: Invocation, argv: list[str], stdin_path: str | None) -> tuple[int, str]:
    try:
        return invocation.world.capture(argv, stdin_path=stdin_path)
    except OSError as error:
        raise CommandError(f"cannot run {argv[0]}: {error.strerror}") from error


def _remote(paths: Paths, target: Target, words: list[str], command: str) -> list[str]:
    """The program that runs a command on a node: ssh, or a local script if there is one."""
    script = f"{paths.conf_dir}/{NODE_SHELL}"
    if os.access(script, os.X_OK):
        return [script, target.name, *words]
    options = ["-oBatchMode=yes", "-oEscapeChar=none", f"-oConnectTimeout={_CONNECT_WITHIN_S}"]
    return ["ssh", "-q", *options, "-p", str(target.port), f"root@{target.address}", command]


def _targets(invocation: Invocation, *, with_master: bool) -> list[Target]:
    """The nodes that are meant and not offline, by name; the master last.

    Raises:
        MasterError: one that is named does not exist.
        CommandError: there is none.
    """
    from ganeti.cli.filters import from_arguments
    from ganeti.cli.lists import both

    names, group = invocation.option("_nodes", ()), invocation.option("_group")
    of_group = None if group is None else ["|", ["==", "group", group], ["==", "group.uuid", group]]
    wanted = both(from_arguments(tuple(names), "name", force=False), of_group)
    fields = ["name", "offline", "role", "sip", "ndp/ssh_port"]
    rows: list[dict[str, Any]] = [
        dict(zip(fields, (value for _, value in row)))
        for row in invocation.master.call("Query", ["node", fields, wanted])["data"]
    ]
    if group is not None and not rows:
        raise CommandError(f"Node group '{group}' does not exist or has none of these nodes")
    # Nothing more is asked of masterd, and commands may take long.
    invocation.close()
    offline = [row["name"] for row in rows if row["offline"]]
    if offline:
        invocation.warn(f"Note: skipping offline node(s): {', '.join(offline)}")
    online = [row for row in rows if not row["offline"] and (with_master or row["role"] != "M")]
    online.sort(key=lambda row: row["role"] == "M")
    address = "sip" if invocation.option("_replication_network") else "name"
    return [Target(row["name"], row[address], int(row["ndp/ssh_port"])) for row in online]
