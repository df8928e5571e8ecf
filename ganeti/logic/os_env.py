"""Environment in which the scripts of OS definitions run. Pure.

It is the whole environment: scripts see nothing of the daemon's. Which variables there are, and
when, is what authors of definitions rely on (docs/reference/os-interface.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ganeti.errors import InvalidOperatingSystem
from ganeti.logic.os_definition import PARAMETER_NAME, OsDefinition, split_os_name, variable_of
from ganeti.model.calls.disks import OpenDisk
from ganeti.model.disk import TRAITS, Disk, TemplateTraits
from ganeti.model.filled import FilledInstance, FilledNic
from ganeti.model.params import ParamValue, ParamValues

SCRIPT_PATH = "/sbin:/bin:/usr/sbin:/usr/bin"

_NETWORK_ALWAYS = ("name", "uuid", "tags")
_NETWORK_IF_SET = ("subnet", "gateway", "subnet6", "gateway6", "mac_prefix")


def core_env(
    definition: OsDefinition, os: str, osparams: ParamValues, *, debug_level: int = 0
) -> dict[str, str]:
    """What every script gets, `verify` included.

    Args:
        definition: whose script will run.
        os: as asked for, with `+variant` where one was chosen.
        osparams: parameters that count; scripts treat an empty one like a missing one.
        debug_level: as the operator gave it.

    Raises:
        InvalidOperatingSystem: a parameter that no environment can carry.
    """
    name, variant = split_os_name(os)
    env = {
        "PATH": SCRIPT_PATH,
        "OS_API_VERSION": str(definition.effective_version),
        "OS_NAME": name,
        "OS_VARIANT": definition.variant(variant),
        "DEBUG_LEVEL": str(debug_level),
    }
    for parameter, value in osparams.items():
        if not PARAMETER_NAME.match(parameter):
            raise InvalidOperatingSystem(
                f"OS parameter {parameter!r} cannot become an environment variable;"
                " use letters, digits, _ and -"
            )
        env[variable_of(parameter)] = _param(value)
    return _checked(env)


def instance_env(
    instance: FilledInstance,
    disks: Sequence[OpenDisk],
    traits: Mapping[str, TemplateTraits] = TRAITS,
) -> dict[str, str]:
    """What scripts that work on an instance get in addition.

    Args:
        instance: with its parameters filled in.
        disks: the instance's disks, open on this node, in their order.
        traits: of each disk template.

    Raises:
        InvalidOperatingSystem: a value that no environment can carry.
    """
    env = {
        "INSTANCE_NAME": instance.name,
        "INSTANCE_OS": instance.os,
        "INSTANCE_UUID": instance.uuid,
        "INSTANCE_CTIME": str(instance.ctime),
        "INSTANCE_MTIME": str(instance.mtime),
        "INSTANCE_PRIMARY_NODE": instance.primary_node,
        "INSTANCE_SECONDARY_NODES": " ".join(instance.secondary_nodes),
        "HYPERVISOR": instance.hypervisor,
        "DISK_COUNT": str(len(disks)),
        "NIC_COUNT": str(len(instance.nics)),
    }
    for index, (disk, opened) in enumerate(zip(instance.disks, disks, strict=True)):
        env.update(_prefixed(f"DISK_{index}_", _disk_env(instance, disk, opened, traits)))
    for index, nic in enumerate(instance.nics):
        env.update(_prefixed(f"NIC_{index}_", _nic_env(instance, nic)))
    backend = msgspec.structs.asdict(instance.beparams)
    env.update(_prefixed("INSTANCE_BE_", {key: str(value) for key, value in backend.items()}))
    env.update(_prefixed("INSTANCE_HV_", {key: str(value) for key, value in instance.hvparams.items()}))
    return _checked(env)


def transfer_env(direction: str, index: int, disk: OpenDisk) -> dict[str, str]:
    """What `import` and `export` get in addition, for the disk they work on.

    Args:
        direction: IMPORT or EXPORT.
        index: number of the disk.
        disk: open on this node.
    """
    env = {f"{direction}_INDEX": str(index)}
    if disk.path is not None:
        env[f"{direction}_DISK_PATH"] = disk.path
        # The older name of the same thing, which definitions still read.
        env[f"{direction}_DEVICE"] = disk.path
    if disk.uri is not None:
        env[f"{direction}_DISK_URI"] = disk.uri
    return env


def _disk_env(
    instance: FilledInstance, disk: Disk, opened: OpenDisk, traits: Mapping[str, TemplateTraits]
) -> dict[str, str]:
    env = {"ACCESS": disk.mode, "UUID": disk.uuid, "SIZE": str(disk.size)}
    if opened.path is not None:
        env["PATH"] = opened.path
    if opened.uri is not None:
        env["URI"] = opened.uri
    if disk.name:
        env["NAME"] = disk.name
    if instance.hvparams.get("disk_type"):
        env["FRONTEND_TYPE"] = str(instance.hvparams["disk_type"])
    known = traits.get(disk.dev_type)
    is_file = known is not None and known.is_file_based
    env["BACKEND_TYPE"] = f"file:{disk.logical_id[0]}" if is_file else "block"
    return env


def _nic_env(instance: FilledInstance, nic: FilledNic) -> dict[str, str]:
    env = {"MAC": nic.mac, "UUID": nic.uuid, "MODE": nic.mode}
    if nic.name:
        env["NAME"] = nic.name
    if nic.ip:
        env["IP"] = nic.ip
    if nic.mode == "bridged":
        env["BRIDGE"] = nic.link
    if nic.link:
        env["LINK"] = nic.link
    if instance.hvparams.get("nic_type"):
        env["FRONTEND_TYPE"] = str(instance.hvparams["nic_type"])
    if nic.network is not None:
        env.update(_prefixed("NETWORK_", _network_env(nic)))
    return env


def _network_env(nic: FilledNic) -> dict[str, str]:
    facts = nic.network_facts
    env = {key.upper(): _text(facts.get(key)) for key in _NETWORK_ALWAYS}
    env["UUID"] = env["UUID"] or str(nic.network)
    env.update((key.upper(), _text(facts[key])) for key in _NETWORK_IF_SET if facts.get(key))
    return env


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return " ".join(str(item) for item in value)
    return "" if value is None else str(value)


def _param(value: ParamValue) -> str:
    return "" if value is None else str(value)


def _prefixed(prefix: str, values: Mapping[str, str]) -> dict[str, str]:
    return {prefix + name: value for name, value in values.items()}


def _checked(env: dict[str, str]) -> dict[str, str]:
    for name, value in env.items():
        if "\0" in value:
            raise InvalidOperatingSystem(
                f"the value of {name} holds a NUL character, which scripts cannot get"
            )
    return env
