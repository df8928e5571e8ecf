"""Runs one script of an OS definition: its environment, its log, and what its failure is called.

Every run has a log file of its own below the node's log directory. A script that fails becomes an
error with the last lines of that log.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence

from ganeti.errors import CommandFailed
from ganeti.interfaces import IHost
from ganeti.logic.os_definition import OsDefinition, OsScript
from ganeti.logic.os_env import core_env, instance_env
from ganeti.model.calls.disks import OpenDisk
from ganeti.model.filled import FilledInstance
from ganeti.node.backend.plugin_choice import traits_of_templates
from ganeti.node.backend.registry import NodeWorld

_TAIL_LINES = 20
_TAIL_BYTES = 64 * 1024


def script_env(
    node: NodeWorld,
    definition: OsDefinition,
    instance: FilledInstance,
    disks: Sequence[OpenDisk],
    *,
    debug_level: int,
) -> dict[str, str]:
    """The whole environment of a script that works on an instance."""
    params = {**instance.osparams, **instance.osparams_private}
    return {
        **core_env(definition, instance.os, params, debug_level=debug_level),
        **instance_env(instance, disks, traits_of_templates(node)),
    }


def new_log(host: IHost, kind: str, os_name: str, instance: str, *, component: str | None = None) -> str:
    """Name of a log file that is not there yet; its directory is made."""
    os.makedirs(host.paths.os_log_dir, 0o750, exist_ok=True)
    when = time.strftime("%Y-%m-%d_%H_%M_%S", time.localtime(host.now()))
    parts = [kind, os_name, instance, *([component] if component else []), when]
    stem = f"{host.paths.os_log_dir}/{'-'.join(parts).replace('/', '_')}"
    log, number = f"{stem}.log", 1
    while os.path.exists(log):
        number += 1
        log = f"{stem}-{number}.log"
    return log


def run_script(
    host: IHost,
    definition: OsDefinition,
    script: OsScript,
    env: Mapping[str, str],
    *,
    log: str,
    timeout_s: float,
    redirect: tuple[list[str], list[str]] = ([], []),
) -> None:
    """Run a script in its definition's directory.

    Args:
        host: the node.
        definition: whose script.
        script: which one.
        env: its whole environment.
        log: file for its output.
        timeout_s: then it is ended.
        redirect: what stands before and after the script on the command line.

    Raises:
        CommandFailed: a bad exit code, or not in time; with the last lines of the log.
    """
    before, after = redirect
    argv = [*before, f"{definition.path}/{script}", *after]
    what = f"script {script} of OS {definition.name} failed on node {host.name}"
    try:
        done = host.processes.run(
            argv, timeout_s=timeout_s, env=env, cwd=definition.path, check=False, log_path=log
        )
    except CommandFailed as error:
        raise CommandFailed(f"{what}: {error}") from error
    if done.code != 0:
        reason = f"exit code {done.code}" if done.code > 0 else f"signal {-done.code}"
        raise CommandFailed(f"{what} ({reason}); log: {log}; its last lines:\n{_tail(log)}")


def _tail(path: str) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return "(no log)"
    return "\n".join(lines[-_TAIL_LINES:]) or "(empty)"
