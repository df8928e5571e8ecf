"""gnt-cluster init and destroy: done on this machine, as there is no master daemon before and after."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ganeti.cli.declarations import Option
from ganeti.cli.errors import CommandError
from ganeti.cli.programs import module_argv

if TYPE_CHECKING:
    from ganeti.cli.invocation import Invocation

BOOTSTRAP = "ganeti.daemons.bootstrap"

_SPECS = (
    ("mem-size", "memory-size", "memory"),
    ("cpu-count", "cpu-count", "processors"),
    ("disk-count", "disk-count", "disks"),
    ("disk-size", "disk-size", "size of a disk"),
    ("nic-count", "nic-count", "network interfaces"),
)


_DESTS = {
    "hypervisor-parameters": "hvparams",
    "backend-parameters": "beparams",
    "nic-parameters": "nicparams",
    "node-parameters": "ndparams",
    "disk-parameters": "diskparams",
    "user-shutdown": "enabled_user_shutdown",
    "ipolicy-std-specs": "ipolicy/std",
    "ipolicy-bounds-specs": "ipolicy/minmax",
    "ipolicy-disk-templates": "ipolicy/disk-templates",
    "ipolicy-vcpu-ratio": "ipolicy/vcpu-ratio",
    "ipolicy-spindle-ratio": "ipolicy/spindle-ratio",
}
"""Keys of the request that are not called like their option."""

_KEYS = "KEY=VALUE,..."
_ROWS = (
    ("", "enabled-hypervisors", "comma_list", "NAME,...", "hypervisors in use, the first is the default"),
    (
        "",
        "enabled-disk-templates",
        "comma_list",
        "NAME,...",
        "disk templates in use, the first is the default",
    ),
    ("s", "secondary-ip", "text", "ADDRESS", "address of this node for disks and migrations"),
    ("", "primary-ip-version", "integer", "4|6", "version of IP for the traffic between nodes"),
    ("", "master-netdev", "text", "DEVICE", "device of the cluster's address"),
    ("", "master-netmask", "integer", "LENGTH", "prefix length of the cluster's address"),
    ("m", "mac-prefix", "text", "PREFIX", "first three octets of MAC addresses"),
    ("", "vg-name", "text", "NAME", "volume group of LVM disks"),
    ("", "file-storage-dir", "text", "DIRECTORY", "directory of file disks"),
    ("", "shared-file-storage-dir", "text", "DIRECTORY", "directory of shared file disks"),
    ("H", "hypervisor-parameters", "named_key_values", f"HV:{_KEYS}", "defaults of hypervisors"),
    ("B", "backend-parameters", "key_values", _KEYS, "defaults of instances: memory, processors ..."),
    ("N", "nic-parameters", "key_values", _KEYS, "defaults of network interfaces"),
    ("", "node-parameters", "key_values", _KEYS, "defaults of nodes"),
    ("D", "disk-parameters", "named_key_values", f"TEMPLATE:{_KEYS}", "defaults of disks"),
    ("C", "candidate-pool-size", "integer", "NUMBER", "wanted number of master candidates"),
    ("I", "default-iallocator", "text", "NAME", "allocator where none is given"),
    ("", "default-iallocator-params", "key_values", _KEYS, "options of that allocator"),
    ("", "maintain-node-health", "yes_no", "yes|no", "the watcher ends what runs on offline nodes"),
    ("", "prealloc-wipe-disks", "yes_no", "yes|no", "overwrite new disks with zeros"),
    ("", "use-external-mip-script", "yes_no", "yes|no", "a script of the site sets the cluster's address"),
    ("", "user-shutdown", "yes_no", "yes|no", "guests may switch themselves off"),
    ("", "compression-tools", "comma_list", "NAME,...", "tools allowed for transfers"),
    ("", "install-image", "text", "PATH", "image of the helper for OS installs"),
    ("", "zeroing-image", "text", "PATH", "image of the helper for zeroing"),
    ("", "ipolicy-std-specs", "policy_spec", _KEYS, "instance policy: the standard instance"),
    (
        "",
        "ipolicy-bounds-specs",
        "policy_bounds",
        "MIN/MAX",
        "instance policy: smallest and largest instance",
    ),
    ("", "ipolicy-disk-templates", "comma_list", "NAME,...", "instance policy: disk templates"),
    ("", "ipolicy-vcpu-ratio", "number", "NUMBER", "instance policy: virtual processors for each real one"),
    ("", "ipolicy-spindle-ratio", "number", "NUMBER", "instance policy: spindles in use for each real one"),
)


def _option(short: str, flag: str, takes: str, metavar: str, doc: str) -> Option:
    flags = (f"-{short}", f"--{flag}") if short else (f"--{flag}",)
    return Option(flags, _DESTS.get(flag, flag.replace("-", "_")), doc, takes, metavar=metavar)


def _spec_option(flag: str, key: str, what: str) -> Option:
    doc = f"instance policy: {what}"
    return Option((f"--specs-{flag}",), f"_specs/{key}", doc, "key_values", metavar="min=N,std=N,max=N")


OPTIONS = (
    *(_option(*row) for row in _ROWS),
    *(_spec_option(*row) for row in _SPECS),
    Option(("--no-etc-hosts",), "modify_etc_hosts", "leave /etc/hosts alone", value=False),
    Option(("--no-ssh-init",), "modify_ssh_setup", "leave the SSH set-up of nodes alone", value=False),
)


def init_cluster(invocation: Invocation) -> int:
    """Make the cluster; gives the exit code of the program that does it."""
    invocation.require_root()
    request: dict[str, Any] = {"cluster_name": invocation.arguments[0]}
    for dest, value in invocation.options.items():
        name, slash, part = dest.partition("/")
        if dest in ("debug", "reason") or name == "_specs":
            continue
        if slash:
            request[name] = {**request.get(name, {}), part: value}
        else:
            request[name] = value
    specs = _split_specs(invocation)
    if specs:
        request["ipolicy"] = {**request.get("ipolicy", {}), **specs}
    return invocation.world.execute(module_argv(BOOTSTRAP, "init"), stdin=json.dumps(request))


def _split_specs(invocation: Invocation) -> dict[str, Any]:
    """`--specs-mem-size min=128,max=1g` and its siblings, as the policy has them: by end, then by key."""
    from ganeti.cli.values import policy_spec

    ends: dict[str, dict[str, Any]] = {}
    for dest, values in invocation.options.items():
        if not dest.startswith("_specs/"):
            continue
        for end, value in values.items():
            if end not in ("min", "std", "max"):
                raise CommandError(f"{dest.removeprefix('_specs/')}: {end!r} is none of min, std and max")
            ends.setdefault(end, {}).update(policy_spec(f"{dest.removeprefix('_specs/')}={value}"))
    if not ends:
        return {}
    found: dict[str, Any] = {"std": ends["std"]} if "std" in ends else {}
    if "min" in ends or "max" in ends:
        found["minmax"] = [{"min": ends.get("min", {}), "max": ends.get("max", {})}]
    return found


def destroy_cluster(invocation: Invocation) -> int:
    """Ask masterd whether the cluster may go, then remove it from this machine."""
    from ganeti.cli.follow import quiet

    if not invocation.option("_yes"):
        raise CommandError(
            "Destroying a cluster is irreversible. If you really want to destroy this cluster, "
            "supply the --yes-do-it option."
        )
    invocation.require_root()
    quiet(invocation, {"OP_ID": "OP_CLUSTER_DESTROY"})
    invocation.close()
    return invocation.world.execute(module_argv(BOOTSTRAP, "destroy"))
