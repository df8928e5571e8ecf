"""The ssconf files of all simulated nodes: they have the same text everywhere, so it is written once."""

from __future__ import annotations

import os

from ganeti.interfaces import IHost
from ganeti.logic.ssconf import is_due
from ganeti.model.calls.system import Stamp, WriteSsconf
from ganeti.model.paths import Paths
from ganeti.node.backend.files import write_ssconf


class SharedSsconf:
    """Writes the files of one node; those of the others are links to them.

    What one node was sent last is what all have: the master sends everybody the same, one a moment
    after the other.

    Args:
        first: whose files are real.
    """

    def __init__(self, first: IHost) -> None:
        self._first = first
        self._texts: dict[str, str] = {}
        self._linked: set[str] = set()
        self._stamps: dict[str, Stamp] = {}

    def write(self, paths: Paths, call: WriteSsconf) -> None:
        """Take over what the master sends to a node; errors as of `write_ssconf`."""
        if not is_due(self._stamps.get(paths.root), call):
            return
        changed = {name: text for name, text in call.values.items() if self._texts.get(name) != text}
        if changed:
            write_ssconf(self._first, WriteSsconf(values=changed))
            self._texts.update(changed)
        if paths.root != self._first.paths.root:
            for name in call.values:
                self._link(paths.ssconf(name), self._first.paths.ssconf(name))
        if call.stamp is not None:
            self._stamps[paths.root] = call.stamp

    def _link(self, path: str, target: str) -> None:
        if path in self._linked:
            return
        if not os.path.islink(path):
            temporary = f"{path}.link"
            os.symlink(target, temporary)
            os.rename(temporary, path)
        self._linked.add(path)
