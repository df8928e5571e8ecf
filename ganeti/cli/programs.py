"""Programs that a command starts on this machine: the set-up of the cluster and of nodes, consoles."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ganeti.cli.checkout import environment, interpreter


def execute(argv: Sequence[str], *, stdin: str | None = None) -> int:
    """Run a program to its end with our terminal; gives its exit code.

    Args:
        argv: program and arguments.
        stdin: text that it reads; None: our own stdin.

    Raises:
        OSError: it cannot be started.
    """
    import subprocess

    sys.stdout.flush()
    sys.stderr.flush()
    done = subprocess.run(list(argv), input=stdin, text=True, check=False, env=environment())
    return done.returncode if done.returncode >= 0 else 128 - done.returncode


def capture(argv: Sequence[str], *, stdin_path: str | None = None) -> tuple[int, str]:
    """Run a program to its end; gives its exit code and what it wrote, errors among it.

    Args:
        argv: program and arguments.
        stdin_path: file that it reads; None: it has nothing to read.

    Raises:
        OSError: it cannot be started, or the file cannot be read.
    """
    import subprocess

    with open(stdin_path or "/dev/null", "rb") as file:
        done = subprocess.run(
            list(argv),
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            env=environment(),
        )
    output = done.stdout.decode("utf-8", "replace")
    return done.returncode if done.returncode >= 0 else 128 - done.returncode, output


def module_argv(module: str, *arguments: str) -> list[str]:
    """How to run a module of ours that needs more than the standard library."""
    return [interpreter(), "-m", module, *arguments]
