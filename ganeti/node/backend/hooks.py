"""Node function that runs hook scripts (plugins.md section 3)."""

from __future__ import annotations

import os
import re

from ganeti.errors import CommandFailed, HooksFailure
from ganeti.interfaces import IHost
from ganeti.logic.os_env import SCRIPT_PATH
from ganeti.model.calls.system import HookResult, HooksRunner
from ganeti.model.ids import PLUGIN_NAME
from ganeti.node.backend.registry import NodeWorld, node_function

_SKIPPED, _FAILED, _WELL = 0, 1, 2
_MARGIN_S = 30.0
_PHASES = ("pre", "post")


@node_function(HooksRunner)
def hooks_runner(call: HooksRunner, node: NodeWorld) -> tuple[HookResult, ...]:
    """Run the scripts of one directory by name; the result tells of each, also of those skipped."""
    host = node.host
    if call.phase not in _PHASES or not re.fullmatch(r"[a-z0-9-]+", call.hpath):
        raise HooksFailure(f"there are no hooks {call.hpath!r} of phase {call.phase!r}")
    directory = f"{call.hpath}-{call.phase}.d"
    deadline = host.now() + call.duration.value - _MARGIN_S
    env = {**call.env, "PATH": SCRIPT_PATH, "GANETI_DATA_DIR": host.paths.data_dir}
    return tuple(
        _run(host, directory, script, env, deadline)
        for script in _names(f"{host.paths.hooks_dir}/{directory}")
    )


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HooksFailure(f"hooks directory {directory} cannot be read: {error.strerror}") from error


def _run(host: IHost, directory: str, script: str, env: dict[str, str], deadline: float) -> HookResult:
    path = f"{host.paths.hooks_dir}/{directory}/{script}"
    name = f"{directory}/{script}"
    if not PLUGIN_NAME.match(script) or not os.path.isfile(path) or not os.access(path, os.X_OK):
        return HookResult(script=name, code=_SKIPPED, output="")
    left_s = deadline - host.now()
    if left_s <= 0:
        return HookResult(script=name, code=_FAILED, output="not run: the hooks before it took too long")
    try:
        done = host.processes.run([path], timeout_s=left_s, env=env, cwd="/", check=False)
    except CommandFailed as error:
        return HookResult(script=name, code=_FAILED, output=str(error))
    output = "\n".join(part.strip() for part in (done.stdout, done.stderr) if part.strip())
    return HookResult(script=name, code=_WELL if done.code == 0 else _FAILED, output=output)
