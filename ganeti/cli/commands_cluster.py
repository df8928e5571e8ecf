"""gnt-cluster: what it does beyond the declarations of operations."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ganeti.cli.declarations import Argument, Command, Opcode, Option
from ganeti.cli.errors import CommandError, MasterError, explain
from ganeti.cli.lists import OUTPUT
from ganeti.cli.on_nodes import GROUP, NODES
from ganeti.cli.tags import search, tag_commands

if TYPE_CHECKING:
    from ganeti.cli.invocation import Invocation

_YES_DO_IT = Option(("--yes-do-it", "--ya-rly"), "_yes", "really do it")
_NOT_A_CHANGE = frozenset(("OP_ID", "force"))


def _init(invocation: Invocation) -> int:
    from ganeti.cli.cluster_setup import init_cluster

    return init_cluster(invocation)


def _init_options() -> tuple[Option, ...]:
    from ganeti.cli.cluster_setup import OPTIONS

    return OPTIONS


def _destroy(invocation: Invocation) -> int:
    from ganeti.cli.cluster_setup import destroy_cluster

    return destroy_cluster(invocation)


def _info(invocation: Invocation) -> int:
    from ganeti.cli.cluster_info import describe
    from ganeti.cli.info import text_of
    from ganeti.cli.lists import wants_json

    data = invocation.master.call("QueryClusterInfo", [])
    if wants_json(invocation):
        import json

        invocation.print(json.dumps(data, indent=1))
    else:
        invocation.world.out.write(text_of(describe(data, invocation.world.paths)))
    return 0


def _version(invocation: Invocation) -> int:
    data = invocation.master.call("QueryClusterInfo", [])
    for title, key in (
        ("Software version", "software_version"),
        ("Internode protocol", "protocol_version"),
        ("Configuration format", "config_version"),
        ("OS api version", "os_api_version"),
        ("Export interface", "export_version"),
        ("VCS version", "vcs_version"),
    ):
        invocation.print(f"{title}: {data[key]}")
    return 0


def _getmaster(invocation: Invocation) -> int:
    path = invocation.world.paths.ssconf("master_node")
    try:
        with open(path, encoding="utf-8") as file:
            invocation.print(file.read().strip())
    except OSError:
        raise CommandError(
            f"This node does not know of a cluster ({path} cannot be read); "
            "'gnt-cluster init' makes one, 'gnt-node add' on a master takes this node into one"
        ) from None
    return 0


def _master_ping(invocation: Invocation) -> int:
    try:
        invocation.master.call("Version", [])
    except (CommandError, MasterError):
        return 1
    return 0


def _prepare_modify(invocation: Invocation, opcode: Opcode) -> Opcode:
    if not set(opcode) - _NOT_A_CHANGE:
        raise CommandError("Please give at least one of the parameters.")
    return opcode


def _report_modify(invocation: Invocation, opcode: Opcode, result: Any) -> int:
    from ganeti.cli.follow import wait

    code = 0
    for ok, value in (result or {}).get("jobs", ()):
        text = value
        if ok:
            try:
                wait(invocation, value)
                continue
            except MasterError as error:
                text = explain(error)[0]
        invocation.print(f"Job failed, result is '{text}'.")
        code = 1
    return code


def _verify(invocation: Invocation) -> int:
    from ganeti.cli.generic import run_declared

    return run_declared(invocation)


def _report_verify(invocation: Invocation, opcode: Opcode, result: Any) -> int:
    """Follow the jobs; each gives whether what it looked at is fine."""
    from ganeti.cli.follow import wait_all

    outcomes = wait_all(invocation, [(bool(ok), None, value) for ok, value in result["jobs"]])
    failed = sum(not ok for ok, _ in outcomes)
    if failed:
        invocation.print(f"{failed} job(s) failed while verifying the cluster.")
    return 0 if all(ok and all(results) for ok, results in outcomes) else 1


def _verify_disks(invocation: Invocation) -> int:
    from ganeti.cli.verify_disks import verify_cluster_disks

    return verify_cluster_disks(invocation)


def _balance(invocation: Invocation) -> int:
    from ganeti.cli.balance import balance

    return balance(invocation)


def _capacity(invocation: Invocation) -> int:
    from ganeti.cli.capacity import capacity

    return capacity(invocation)


def _queue(invocation: Invocation) -> int:
    match invocation.arguments[0]:
        case "drain" | "undrain" as action:
            invocation.master.call("SetDrainFlag", [action == "drain"])
        case "info":
            (is_set,) = invocation.master.call("QueryConfigValues", [["drain_flag"]])
            invocation.print(f"The drain flag is {'set' if is_set else 'unset'}")
        case other:
            raise CommandError(f"Command '{other}' is not valid; use drain, undrain or info")
    return 0


def _watcher(invocation: Invocation) -> int:
    action, *rest = invocation.arguments
    match action, rest:
        case "pause", [duration]:
            _print_pause(
                invocation, invocation.master.call("SetWatcherPause", [_until(invocation, duration)])
            )
        case "pause", []:
            raise CommandError("Missing pause duration; write for example 'gnt-cluster watcher pause 2h'")
        case "continue", []:
            invocation.master.call("SetWatcherPause", [None])
            invocation.print("The watcher is no longer paused.")
        case "info", []:
            (until,) = invocation.master.call("QueryConfigValues", [["watcher_pause"]])
            _print_pause(invocation, until)
        case _:
            words = " ".join(invocation.arguments)
            raise CommandError(f"Command '{words}' is not valid; use pause DURATION, continue or info")
    return 0


def _until(invocation: Invocation, text: str) -> float:
    from ganeti.cli.values import duration

    try:
        return invocation.world.clock() + duration(text)
    except ValueError as error:
        raise CommandError(str(error)) from None


def _print_pause(invocation: Invocation, until: float | None) -> None:
    if until is None:
        invocation.print("The watcher is not paused.")
    else:
        invocation.print(f"The watcher is paused until {time.ctime(until)}.")


def _command(invocation: Invocation) -> int:
    from ganeti.cli.on_nodes import run_command

    return run_command(invocation)


def _copyfile(invocation: Invocation) -> int:
    from ganeti.cli.on_nodes import copy_file

    return copy_file(invocation)


COMMANDS = (
    *tag_commands("cluster"),
    Command("search-tags", arguments=(Argument("REGEX"),), run=search),
    Command(
        "init",
        "Make a new cluster, with this machine as its master.",
        arguments=(Argument("CLUSTER-NAME"),),
        options=_init_options(),
        run=_init,
    ),
    Command(
        "command",
        "Run a command as root on all nodes that are not offline, or on some.",
        arguments=(Argument("COMMAND", 1, None),),
        options=(
            NODES,
            GROUP,
            Option(("-M", "--show-machine-names"), "_machine_names", "put the node before each line"),
            Option(("--failure-only",), "_failure_only", "show only nodes on which it fails"),
        ),
        run=_command,
    ),
    Command(
        "copyfile",
        "Copy a file of the master to the same place on all other nodes that are not offline, or on some.",
        arguments=(Argument("FILE"),),
        options=(
            NODES,
            GROUP,
            Option(
                ("--use-replication-network",),
                "_replication_network",
                "connect to the secondary addresses",
            ),
        ),
        run=_copyfile,
    ),
    Command("destroy", arguments=(), options=(_YES_DO_IT,), run=_destroy),
    Command("info", "Show the settings of the cluster.", aliases=("show",), options=(OUTPUT,), run=_info),
    Command("version", "Show the versions in use.", run=_version),
    Command("getmaster", "Print the name of the master node.", run=_getmaster),
    Command("master-ping", "Tell by the exit code whether the master daemon answers.", run=_master_ping),
    Command("modify", prepare=_prepare_modify, report=_report_modify),
    Command("verify", run=_verify, report=_report_verify),
    Command("verify-disks", run=_verify_disks),
    Command("balance", run=_balance),
    Command("capacity", options=(OUTPUT,), run=_capacity),
    Command("redist-conf", options=(_YES_DO_IT,)),
    Command(
        "queue",
        "Let no new jobs in, let them in again, or tell which of both.",
        arguments=(Argument("ACTION", choices=("drain", "undrain", "info")),),
        run=_queue,
    ),
    Command(
        "watcher",
        "Pause the watcher for a time, let it go on, or tell whether it is paused.",
        arguments=(
            Argument("ACTION", choices=("pause", "continue", "info")),
            Argument("DURATION", 0),
        ),
        run=_watcher,
    ),
)
