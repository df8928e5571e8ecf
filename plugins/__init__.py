"""Plugins: hypervisors, instance allocators and storage, and where more of them are looked for."""

import os
import sys
from collections.abc import Sequence

ADMIN_PATH_VARIABLE = "GANETI_PLUGIN_PATH"
"""Environment variable with directories of the administrator, joined with colons."""


def plugin_directories(kind: str, own: Sequence[str]) -> list[str]:
    """Directories with plugins of a kind; the first that has a module of a name wins.

    Like Twisted's plugin packages: the package itself, then each `ganeti/plugins/KIND` on the module
    search path that is not a package of its own, then `DIR/KIND` of each directory of the
    administrator. No Twisted, because node functions run without it.

    Args:
        kind: `hypervisors`, `iallocators` or `storage`.
        own: the package's own `__path__`.
    """
    found = list(own)
    known = {os.path.realpath(path) for path in own}
    wanted = [os.path.join(os.path.abspath(entry), "ganeti", "plugins", kind) for entry in sys.path]
    admin = os.environ.get(ADMIN_PATH_VARIABLE, "").split(os.pathsep)
    wanted += [os.path.join(os.path.abspath(entry), kind) for entry in admin if entry]
    for path in wanted:
        real = os.path.realpath(path)
        # A second package with an __init__ would be another installation of this project.
        if real in known or os.path.exists(os.path.join(path, "__init__.py")) or not os.path.isdir(path):
            continue
        known.add(real)
        found.append(path)
    return found
