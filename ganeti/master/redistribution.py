"""Sends everything that nodes keep of the cluster once more: what `gnt-cluster redist-conf` asks for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from ganeti.interfaces import IConfig, IDistribution, INodes
from ganeti.master.distribution import SsconfDistributor
from ganeti.master.replication import Replicator
from ganeti.model.calls.outcome import NodeFailed
from ganeti.model.calls.system import UploadFile
from ganeti.model.paths import Paths

MAX_BYTES = 4 * 2**20


@implementer(IDistribution)
class Redistribution:
    """Copies of configuration and queue, ssconf files and the files that all nodes have alike.

    Args:
        reactor: a thread in which files are read.
        config: the cluster.
        nodes: to call functions on them.
        paths: of the master.
        ssconf: sends ssconf files.
        copies: of the configuration and of the job queue.
    """

    def __init__(
        self,
        reactor: Any,
        config: IConfig,
        nodes: INodes,
        paths: Paths,
        ssconf: SsconfDistributor,
        copies: Sequence[Replicator],
    ) -> None:
        self._reactor = reactor
        self._config = config
        self._nodes = nodes
        self._paths = paths
        self._ssconf = ssconf
        self._copies = copies

    async def redistribute(self) -> Mapping[str, str]:
        """Send everything; see `IDistribution`."""
        failures: dict[str, str] = dict(await self._ssconf.redistribute())
        for copy in self._copies:
            failures.update(await copy.rejoin())
        for path, data, mode in await self._common_files():
            failures.update(await self._upload(path, data, mode))
        return failures

    async def _upload(self, path: str, data: bytes, mode: int) -> Mapping[str, str]:
        cluster = self._config.current()
        master = cluster.settings.master_node
        others = [node for node in cluster.nodes.values() if not node.offline and node.uuid != master]
        call = UploadFile(path=path.removeprefix(self._paths.root), data=data, mode=mode)
        outcomes = await self._nodes.each(others, call)
        return {
            cluster.nodes[uuid].name: f"{path}: {outcome.reason}"
            for uuid, outcome in outcomes.items()
            if isinstance(outcome, NodeFailed)
        }

    async def _common_files(self) -> list[tuple[str, bytes, int]]:
        """Path, content and mode of the files that exist here and are the same on all nodes."""
        found: list[tuple[str, bytes, int]] = await deferToThreadPool(
            self._reactor, self._reactor.getThreadPool(), self._read_common_files
        )
        return found

    def _read_common_files(self) -> list[tuple[str, bytes, int]]:
        paths = self._paths
        found = []
        for path in (paths.hmac_key_file, paths.domain_secret_file, paths.rapi_users_file):
            try:
                with open(path, "rb") as stream:
                    mode = os.fstat(stream.fileno()).st_mode & 0o777
                    found.append((path, stream.read(MAX_BYTES), mode))
            except FileNotFoundError:
                continue
        return found
