"""Node functions that find and check OS definitions and run their scripts (plugins.md section 1)."""

from __future__ import annotations

from ganeti.errors import InvalidOperatingSystem
from ganeti.interfaces import IHost
from ganeti.logic.os_definition import (
    OsDefinition,
    OsScript,
    check_parameter_names,
    check_variant,
    split_os_name,
)
from ganeti.logic.os_env import core_env
from ganeti.model.calls.os import InstanceOsAdd, InstanceRunRename, OsDiagnose, OsStatus, OsValidate
from ganeti.node.backend.instance_disks import open_all
from ganeti.node.backend.os_runs import new_log, run_script, script_env
from ganeti.node.backend.os_search import diagnose, find_definition
from ganeti.node.backend.registry import NodeWorld, node_function
from ganeti.storage.raw_views import raw_views

_MARGIN_S = 60.0
"""So much before the master gives up a script is ended, so that the reason gets there."""


@node_function(OsDiagnose)
def os_diagnose(call: OsDiagnose, node: NodeWorld) -> tuple[OsStatus, ...]:
    """Every OS definition of this node."""
    return diagnose(node.host)


@node_function(OsValidate)
def os_validate(call: OsValidate, node: NodeWorld) -> bool:
    """Whether the OS is there; its variant and parameters are checked if so."""
    try:
        definition = find_definition(node.host, call.name)
    except InvalidOperatingSystem:
        if call.required:
            raise
        return False
    if not call.force_variant:
        check_variant(definition, split_os_name(call.name)[1])
    if definition.has_parameters:
        check_parameter_names(definition, call.parameters)
        _verify(node.host, definition, call, timeout_s=call.duration.value - _MARGIN_S)
    return True


@node_function(InstanceOsAdd)
def instance_os_add(call: InstanceOsAdd, node: NodeWorld) -> None:
    """Install an instance, or do so again."""
    definition = find_definition(node.host, call.instance.os)
    if OsScript.CREATE not in definition.scripts:
        raise InvalidOperatingSystem(
            f"OS {definition.name} has only create_untrusted, for which this node has no helper machine;"
            " give it a create script"
        )
    with raw_views(node.host, open_all(node, call.instance)) as disks:
        env = script_env(node, definition, call.instance, disks, debug_level=call.debug_level)
        if call.reinstall:
            env["INSTANCE_REINSTALL"] = "1"
        log = new_log(node.host, "add", call.instance.os, call.instance.name)
        run_script(
            node.host, definition, OsScript.CREATE, env, log=log, timeout_s=call.duration.value - _MARGIN_S
        )


@node_function(InstanceRunRename)
def instance_run_rename(call: InstanceRunRename, node: NodeWorld) -> None:
    """Tell an installed instance its new name."""
    definition = find_definition(node.host, call.instance.os)
    with raw_views(node.host, open_all(node, call.instance)) as disks:
        env = script_env(node, definition, call.instance, disks, debug_level=call.debug_level)
        env["OLD_INSTANCE_NAME"] = call.old_name
        log = new_log(node.host, "rename", call.instance.os, f"{call.old_name}-{call.instance.name}")
        run_script(
            node.host, definition, OsScript.RENAME, env, log=log, timeout_s=call.duration.value - _MARGIN_S
        )


def _verify(host: IHost, definition: OsDefinition, call: OsValidate, *, timeout_s: float) -> None:
    done = host.processes.run(
        [f"{definition.path}/{OsScript.VERIFY}", "parameters"],
        timeout_s=timeout_s,
        env=core_env(definition, call.name, call.parameters),
        cwd=definition.path,
        check=False,
    )
    if done.code != 0:
        output = "\n".join(part.strip() for part in (done.stdout, done.stderr) if part.strip())
        raise InvalidOperatingSystem(
            f"OS {definition.name} refuses its parameters (exit code {done.code}):"
            f" {output or 'no reason given'}"
        )
