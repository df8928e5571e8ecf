"""A node function that misbehaves as asked; in a module of its own, because the zygote imports it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

from ganeti.errors import GanetiError
from ganeti.model.calls.base import NodeCall
from ganeti.node.backend.registry import NodeWorld, node_function


def _is_open(descriptor: int) -> bool:
    return os.path.islink(f"/proc/self/fd/{descriptor}")


class Behave(NodeCall[Any], frozen=True, kw_only=True, tag="test_behave"):
    """A function that behaves as asked."""

    how: str


@node_function(Behave)
def behave(call: Behave, node: NodeWorld) -> object:
    """What processes may do; runs in the function process, which imports this module."""
    match call.how.split():
        case ["exit", code]:
            os._exit(int(code))
        case ["die", name]:
            os.kill(os.getpid(), signal.Signals[name])
        case ["write", text]:
            # Descriptors above the standard ones: one of them is the channel to the daemon.
            for descriptor in range(3, 20):
                try:
                    os.write(descriptor, bytes.fromhex(text))
                except OSError:
                    continue
            os._exit(0)
        case ["mistake"]:
            raise ZeroDivisionError("secret text")
        case ["refuse"]:
            raise GanetiError("not today")
        case ["unserializable"]:
            return object()
        case ["print"]:
            print("to the log")
            return "printed"
        case ["big"]:
            return "x" * 3_000_000
        case ["whoami"]:
            return [os.getpid(), os.getsid(0), os.getppid(), "twisted" in sys.modules, node.host.paths.root]
        case ["descriptors"]:
            return sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in range(100) if _is_open(fd))
        case ["run", *argv]:
            return node.host.processes.run(argv, timeout_s=60).stdout
        case ["start", log, *argv]:
            return node.host.processes.start(argv, log_path=log)
        case ["stubborn"]:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            subprocess.run(["sleep", "50"], check=False)
    return None
