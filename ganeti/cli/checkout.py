"""Running from a checkout, where nothing is installed: finds the interpreter that has what we need."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
"""Directory above the package."""

PRIVATE_PYTHON = os.path.join(CHECKOUT, ".venv", "bin", "python3")
"""Interpreter with the libraries of the daemons, made by `bin/demo` and `bin/test`."""


def _lacks_libraries() -> bool:
    # Twisted would not do: the directory of our drop-ins looks like a package of that name.
    return find_spec("msgspec") is None and os.access(PRIVATE_PYTHON, os.X_OK)


def use_venv() -> None:
    """Go on with the checkout's own interpreter if this one lacks our libraries; else comes back."""
    if _lacks_libraries():
        os.execv(PRIVATE_PYTHON, [PRIVATE_PYTHON, *sys.argv])


def interpreter() -> str:
    """An interpreter that can run modules of ours that need more than the standard library."""
    return PRIVATE_PYTHON if _lacks_libraries() else sys.executable


def environment() -> dict[str, str]:
    """Environment for programs of ours: from a checkout the package is found nowhere else."""
    environ = dict(os.environ)
    if os.path.exists(os.path.join(CHECKOUT, "setup.cfg")):
        paths = [CHECKOUT, *environ.get("PYTHONPATH", "").split(os.pathsep)]
        environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, paths)))
    return environ
