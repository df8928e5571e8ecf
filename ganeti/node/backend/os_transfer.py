"""Lets an OS definition write the content of a disk to a file, and fill a disk from one."""

from __future__ import annotations

import os

from ganeti.logic.os_definition import OsScript
from ganeti.logic.os_env import transfer_env
from ganeti.model.filled import FilledInstance
from ganeti.node.backend.instance_disks import open_all
from ganeti.node.backend.os_runs import new_log, run_script, script_env
from ganeti.node.backend.os_search import find_definition
from ganeti.node.backend.registry import NodeWorld
from ganeti.storage.raw_views import raw_views


def run_export_script(
    node: NodeWorld,
    instance: FilledInstance,
    index: int,
    *,
    dump_path: str,
    timeout_s: float,
    debug_level: int = 0,
) -> int | None:
    """Let the OS write a disk's content to a file.

    Returns:
        Bytes that the script said it would write, None if it said nothing.

    Raises:
        CommandFailed: the script failed; with the last lines of its log.
    """
    definition = find_definition(node.host, instance.os)
    size_path = f"{dump_path}.size"
    with raw_views(node.host, open_all(node, instance), writable=False) as disks:
        env = script_env(node, definition, instance, disks, debug_level=debug_level)
        env.update(transfer_env("EXPORT", index, disks[index]), EXP_SIZE_FD="3")
        log = new_log(node.host, "export", instance.os, instance.name, component=f"disk{index}")
        try:
            # The runner gives a program one log; here output is data, so a shell redirects it.
            redirect = ["/bin/sh", "-c", 'exec "$0" >"$1" 3>"$2"']
            run_script(
                node.host,
                definition,
                OsScript.EXPORT,
                env,
                log=log,
                timeout_s=timeout_s,
                redirect=(redirect, [dump_path, size_path]),
            )
            return _predicted_size(size_path)
        finally:
            if os.path.exists(size_path):
                os.unlink(size_path)


def run_import_script(
    node: NodeWorld,
    instance: FilledInstance,
    index: int,
    *,
    dump_path: str,
    timeout_s: float,
    debug_level: int = 0,
) -> None:
    """Let the OS fill a disk from a file that its `export` wrote.

    Raises:
        CommandFailed: the script failed; with the last lines of its log.
    """
    definition = find_definition(node.host, instance.os)
    with raw_views(node.host, open_all(node, instance)) as disks:
        env = script_env(node, definition, instance, disks, debug_level=debug_level)
        env.update(transfer_env("IMPORT", index, disks[index]))
        log = new_log(node.host, "import", instance.os, instance.name, component=f"disk{index}")
        redirect = ["/bin/sh", "-c", 'exec "$0" <"$1"']
        run_script(
            node.host,
            definition,
            OsScript.IMPORT,
            env,
            log=log,
            timeout_s=timeout_s,
            redirect=(redirect, [dump_path]),
        )


def _predicted_size(path: str) -> int | None:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.readline().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
