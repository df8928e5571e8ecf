"""`ganeti-vcluster`: whole clusters on one machine, for trying out and for tests."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from msgspec.structs import replace

from ganeti.daemons.bootstrap import DAEMONS
from ganeti.errors import GanetiError
from ganeti.vcluster import netns, nodes
from ganeti.vcluster.create import form, init_command, plan_free, prepare
from ganeti.vcluster.layout import FAKE_TEMPLATES, REAL_TEMPLATES, Layout, VirtualNode, load

QEMU = "/usr/bin/qemu-system-x86_64"


def parser() -> argparse.ArgumentParser:
    """Options and sub-commands."""
    top = argparse.ArgumentParser(
        prog="ganeti-vcluster",
        description="Runs a cluster of several nodes on this machine, with the real daemons.",
    )
    commands = top.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="make a cluster in a directory and start it")
    create.add_argument("dir")
    create.add_argument("--nodes", type=int, default=3, metavar="N", help="number of nodes (3)")
    create.add_argument("--hypervisor", choices=("kvm", "fake"), default="fake")
    create.add_argument(
        "--disk-templates",
        metavar="LIST",
        help="enabled disk templates (sharedfile,file,diskless; with fake guests also plain,drbd)",
    )
    create.add_argument("--groups", type=int, default=1, metavar="G", help="number of node groups (1)")
    create.add_argument("--netns", action="store_true", help="a network namespace for each node (needs root)")
    create.add_argument("--ipv6", action="store_true", help="with --netns: the primary addresses are IPv6")
    create.add_argument(
        "--simulated", action="store_true", help="serve all nodes but the master from one process"
    )
    create.add_argument(
        "--at-once",
        action="store_true",
        help="with --simulated: record the nodes together; a job for each takes minutes for 1,000",
    )
    create.add_argument(
        "--no-init", action="store_true", help="only prepare the nodes; gnt-cluster init is up to you"
    )
    for name, text in (
        ("start", "start whatever does not run"),
        ("stop", "stop the daemons; guests go on"),
        ("status", "show what runs; exit code 3 if something does not"),
        ("destroy", "end everything and remove the directory"),
        ("env", "print shell settings: after eval, gnt-* run on the master"),
    ):
        commands.add_parser(name, help=text).add_argument("dir")
    execute = commands.add_parser("exec", help="run a command on a node")
    execute.add_argument("dir")
    execute.add_argument(
        "argv", nargs=argparse.REMAINDER, metavar="[-n NODE] COMMAND", help="default node: the master"
    )
    kill = commands.add_parser("kill", help="end all processes of a node at once, as a power cut does")
    kill.add_argument("dir")
    kill.add_argument("node")
    link = commands.add_parser("link", help="cut or mend the network of a node (with --netns)")
    link.add_argument("dir")
    link.add_argument("node")
    link.add_argument("state", choices=("up", "down"))
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one sub-command; gives the exit code."""
    options = parser().parse_args(arguments)
    try:
        code = _run(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # `ganeti-vcluster status DIR | head`: nobody reads on, and nobody wants to know.
        sys.stdout = None
        return 1
    except GanetiError as error:
        sys.stderr.write(f"ganeti-vcluster: {error}\n")
        return 1


def _run(options: argparse.Namespace) -> int:
    if options.command == "create":
        return _create(options)
    layout = load(options.dir)
    match options.command:
        case "start":
            nodes.start(layout)
        case "stop":
            nodes.stop(layout)
        case "status":
            return _show(layout)
        case "destroy":
            nodes.destroy(layout)
        case "env":
            _print_environment(layout)
        case "exec":
            return _execute(layout, options)
        case "kill":
            _kill(layout, layout.node(options.node))
        case "link":
            _set_link(layout, layout.node(options.node), up=options.state == "up")
    return 0


def _create(options: argparse.Namespace) -> int:
    if options.at_once and not options.simulated:
        raise GanetiError("--at-once is for simulated nodes; give --simulated, too, or leave it away")
    layout = plan_free(
        options.dir,
        options.nodes,
        hypervisor=options.hypervisor,
        disk_templates=_templates(options),
        groups=options.groups,
        netns=options.netns,
        ipv6=options.ipv6,
        simulated=options.simulated,
    )
    prepare(layout)
    layout = with_accelerator(layout)
    if options.no_init:
        print(f"{len(layout.nodes)} nodes are prepared; the first command is\n  {_first_command(layout)}")
        return 0
    form(layout, init_options(layout), at_once=options.at_once)
    print(f'cluster of {len(layout.nodes)} nodes is up; eval "$(ganeti-vcluster env {layout.directory})"')
    return 0


def _templates(options: argparse.Namespace) -> tuple[str, ...]:
    if options.disk_templates is None:
        return (*REAL_TEMPLATES, *(FAKE_TEMPLATES if options.hypervisor == "fake" else ()))
    return tuple(name.strip() for name in options.disk_templates.split(","))


def _first_command(layout: Layout) -> str:
    return shlex.join(
        ["ganeti-vcluster", "exec", layout.directory, *init_command(layout, init_options(layout))]
    )


def init_options(layout: Layout) -> list[str]:
    """Further options of `gnt-cluster init`: KVM instances boot the tiny guest unless told otherwise."""
    if layout.hypervisor != "kvm":
        return []
    from ganeti.vcluster.tiny_guest import KERNEL_ARGS, build

    guest = build()
    values = {
        "kernel_path": guest.kernel,
        "initrd_path": guest.initrd,
        "kernel_args": KERNEL_ARGS,
        "kvm_path": QEMU,
        "root_path": "",
        "vhost_net": "false",
    }
    joined = ",".join(f"{key}={value}" for key, value in values.items())
    return ["--hypervisor-parameters", f"kvm:{joined}"]


def with_accelerator(layout: Layout) -> Layout:
    """The cluster that knows whether KVM works here: tried once instead of once on every node."""
    if layout.hypervisor != "kvm":
        return layout
    from ganeti.hypervisors.kvm.accel import decide
    from ganeti.node.backend.host import Host
    from ganeti.vcluster.tiny_guest import build

    first = layout.nodes[0]
    found = decide(Host(layout.paths(first), first.name), QEMU, "", kernel=build().kernel)
    known = replace(layout, accelerator=found)
    known.save()
    return known


def _show(layout: Layout) -> int:
    """Print what runs; exit code 0 if everything does, else 3."""
    master = layout.master
    is_all = True
    for row in nodes.status(layout):
        wanted = DAEMONS if row.node == master else ("ganeti-noded",)
        runs = row.is_simulated or set(wanted) <= set(row.daemons)
        is_all = is_all and runs
        what = "simulated" if row.is_simulated else ", ".join(row.daemons) or "stopped"
        mark = " (master)" if row.node == master else ""
        addresses = " ".join(filter(None, (row.node.address, row.node.address6)))
        cut = "" if row.is_link_up else "; its link is cut"
        count = "" if layout.is_simulated(row.node) else f"; {row.processes} processes"
        print(f"{row.node.name}{mark}: {addresses}: {what}{count}{cut}")
    return 0 if is_all else 3


def _print_environment(layout: Layout) -> None:
    environment = nodes.environment(layout, layout.master)
    for key in ("GANETI_ROOTDIR", "PYTHONPATH", "GANETI_ACCEL"):
        if key in environment:
            print(f"export {key}={shlex.quote(environment[key])}")
    print(f'export PATH={shlex.quote(":".join(nodes.own_programs()))}:"$PATH"')


def _kill(layout: Layout, node: VirtualNode) -> None:
    if layout.is_simulated(node):
        raise GanetiError("a simulated node has no processes of its own; mark it offline instead")
    killed = nodes.power_cut(layout, node)
    print(f"ended {len(killed)} processes of {node.name}")


def _set_link(layout: Layout, node: VirtualNode, *, up: bool) -> None:
    if not layout.netns:
        raise GanetiError("only clusters made with --netns have links that can be cut")
    netns.set_link(layout, node, up=up)


def _execute(layout: Layout, options: argparse.Namespace) -> int:
    wanted, argv = split_command(options.argv)
    if not argv:
        raise GanetiError("say which command is to be run")
    node = layout.node(wanted) if wanted else layout.master
    return nodes.run_on(layout, node, argv)


def split_command(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """Node and command of `[-n NODE] [--] COMMAND...`; everything behind belongs to the command."""
    rest = list(words)
    wanted = None
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word == "--":
            break
        if word in ("-n", "--node") and rest:
            wanted = rest.pop(0)
        elif word.startswith("--node="):
            wanted = word.partition("=")[2]
        else:
            raise GanetiError(f"unknown option {word}; write [-n NODE] COMMAND...")
    return wanted, rest


if __name__ == "__main__":
    sys.exit(main())
