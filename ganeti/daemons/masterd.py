"""The master daemon: holds the configuration, runs jobs, serves clients."""

from __future__ import annotations

import os
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from twisted.application.service import IService, Service
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from zope.interface import implementer

from ganeti.daemons.common import EXIT_NOT_CLUSTER, Upkeep, end, ready, refuse, refuse_elsewhere
from ganeti.daemons.identity import credentials, own_identity
from ganeti.daemons.options import DaemonOptions
from ganeti.daemons.ordered import OrderedService
from ganeti.errors import ConfigurationError, GanetiError
from ganeti.interfaces import IClock, Plugins
from ganeti.io.doorbell import SocketDoorbell
from ganeti.io.files import Ownership
from ganeti.io.journal import Journal
from ganeti.io.reachability import Reachability
from ganeti.io.watcher_pause import WatcherPause
from ganeti.master.allocation import Allocation
from ganeti.master.client_api import MasterApi
from ganeti.master.client_service import ClientService, turn_of
from ganeti.master.cluster_state import ClusterState, ObservedNodes
from ganeti.master.config_store import ConfigStore
from ganeti.master.diffusion import Diffusion
from ganeti.master.distribution import SsconfDistributor
from ganeti.master.hooks import NodeHooks, OperationHooks
from ganeti.master.job_engine import JobEngine
from ganeti.master.job_store import JobStore
from ganeti.master.lock_manager import LockManager
from ganeti.master.node_connector import NodeConnector, TlsNodeConnector
from ganeti.master.node_pool import NodePool
from ganeti.master.op_executor import OpExecutor, Services
from ganeti.master.queries import Queries
from ganeti.master.redistribution import Redistribution
from ganeti.master.replication import Replicator, claim_generation
from ganeti.model.cluster import Cluster
from ganeti.model.delta import Delta
from ganeti.model.paths import Paths
from ganeti.ops.registry import load
from ganeti.plugin_registry import demand, discover
from ganeti.wire.parcels import ParcelSigner

Options = DaemonOptions

T = TypeVar("T")


@implementer(IClock)
class SystemClock:
    """The time of this machine."""

    def seconds(self) -> float:
        """Seconds since the epoch."""
        return time.time()


def makeService(options: DaemonOptions) -> IService:
    """The daemon, for twistd."""
    from twisted.internet import reactor

    paths = options.paths
    try:
        identity = own_identity(paths)
    except ConfigurationError as error:
        raise refuse(str(error), EXIT_NOT_CLUSTER) from error
    refuse_elsewhere(paths, identity.name)
    try:
        own = credentials(paths, paths.client_cert_file)
        connector = TlsNodeConnector(reactor, own, identity.cluster_uuid)  # type: ignore[arg-type]
        signer = ParcelSigner(own.own, identity.cluster_uuid)
    except GanetiError as error:
        raise refuse(str(error)) from error
    upkeep = Upkeep.of("ganeti-masterd", options)
    return build(reactor, paths, connector, upkeep, discover(), signer=signer, on_failure=end(reactor))


def build(
    reactor: Any,
    paths: Paths,
    connector: NodeConnector,
    upkeep: IService,
    plugins: Plugins,
    *,
    on_failure: Callable[[Failure], None],
    signer: ParcelSigner | None = None,
    clock: IClock | None = None,
    rng: random.Random | None = None,
) -> IService:
    """The parts of the daemon, in the order in which they need each other."""
    master = Master(
        reactor, paths, connector, plugins, clock or SystemClock(), rng or random.Random(), signer
    )
    clients = ClientService(reactor, paths.master_socket, master.api)
    return OrderedService(
        [upkeep, QueueFirst(master), master, clients], on_failure=on_failure, on_started=ready
    )


class QueueFirst(Service):
    """Takes the lock of the job queue before anything is written, and gives it back last."""

    def __init__(self, master: Master) -> None:
        self._master = master

    async def startService(self) -> None:
        """Read the queue."""
        super().startService()  # type: ignore[no-untyped-call]
        await self._master.load_queue()

    async def stopService(self) -> None:
        """Write what is left of the queue."""
        super().stopService()  # type: ignore[no-untyped-call]
        await self._master.store.stop()


class Master(Service):
    """Configuration, nodes, locks and jobs, wired together."""

    def __init__(
        self,
        reactor: Any,
        paths: Paths,
        connector: NodeConnector,
        plugins: Plugins,
        clock: IClock,
        rng: random.Random,
        signer: ParcelSigner | None,
    ) -> None:
        self._reactor = reactor
        self._paths = paths
        self._plugins = plugins
        self.nodes = NodePool(reactor, connector)
        self._clock = clock
        self._config_copies = Replicator(
            reactor,
            self.nodes,
            self._cluster,
            self._config_state,
            generation=0,
            what="configuration",
        )
        self._queue_copies = Replicator(
            reactor, self.nodes, self._cluster, self._queue_state, generation=0, what="job queue"
        )
        self.config = ConfigStore(
            reactor,
            Journal(
                reactor,
                paths.config_journal,
                also=self._config_copies.send,
                ownership=Ownership(mode=0o640),
            ),
            paths.config_file,
            clock,
        )
        self.store = JobStore(reactor, paths, replicate=self._queue_copies.send)
        self.locks = LockManager(reactor)

        def in_thread(work: Callable[[], T]) -> Awaitable[T]:
            return deferToThreadPool(reactor, reactor.getThreadPool(), work)

        diffusion = None
        if signer is not None:
            diffusion = Diffusion(self.nodes, signer.sign, self.nodes.secret_with, in_thread, reactor.seconds)
        self._distributor = SsconfDistributor(reactor, self.config, self.nodes, diffusion=diffusion)
        later = turn_of(reactor)
        pause = WatcherPause(paths, clock)
        self.state = ClusterState(self.config, self.nodes, clock)
        self.nodes.on_lost = lambda node: self.state.forget([node])
        nodes = ObservedNodes(self.nodes, self.state)
        self.queries = Queries(self.config, self.nodes, self.state, self._lock_rows, pause, later)

        executor = OpExecutor(
            load(),
            self.locks,
            OperationHooks(NodeHooks(self.nodes), self.config, paths.data_dir),
            Services(
                config=self.config,
                nodes=nodes,
                state=self.state,
                allocation=Allocation(
                    self.state,
                    nodes,
                    plugins,
                    in_thread,
                    paths.allocator_search_path,
                ),
                reachability=Reachability(reactor, paths),
                queries=self.queries,
                plugins=plugins,
                clock=clock,
                sleep=lambda seconds: deferLater(reactor, seconds),
                doorbell=lambda: SocketDoorbell(reactor, paths.socket_dir),
                in_thread=in_thread,
                new_uuid=lambda: str(uuid.uuid4()),
                rng=rng,
                distribution=Redistribution(
                    reactor,
                    self.config,
                    self.nodes,
                    paths,
                    self._distributor,
                    (self._config_copies, self._queue_copies),
                ),
            ),
            reactor.seconds,
        )
        self.engine = JobEngine(
            reactor,
            self.store,
            load(),
            self.locks,
            executor,
            clock,
            rng=rng,
            max_running=lambda: self._cluster().settings.max_running_jobs,
        )
        self.queries.attach(self.engine.queue)
        self.api = MasterApi(self.engine.queue, self.engine.watch, self.queries, self.config, pause, later)
        self._jobs: Any = None

    async def load_queue(self) -> None:
        """Take the queue's lock, read the jobs of the last master daemon, become its successor."""
        os.makedirs(self._paths.queue_dir, mode=0o750, exist_ok=True)
        self._jobs = (await self.store.start()).jobs
        generation = claim_generation(self._paths, self._clock.seconds())
        self._config_copies.generation = self._queue_copies.generation = generation
        self._distributor.generation = generation

    async def startService(self) -> None:
        """Read the configuration, connect to the nodes, take over the jobs."""
        super().startService()  # type: ignore[no-untyped-call]
        cluster = await self.config.start()
        demand(
            self._plugins,
            hypervisors=cluster.settings.enabled_hypervisors,
            storage=cluster.settings.enabled_disk_templates,
        )
        self.locks.populate(cluster)
        self.nodes.startService()  # type: ignore[no-untyped-call]
        self.nodes.sync(cluster)
        self.config.subscribe(self._changed)
        self._config_copies.start()
        self._queue_copies.start()
        self._distributor.start()
        await self.engine.start(self._jobs)

    async def stopService(self) -> None:
        """Let running jobs end, then let go of everything in reverse."""
        super().stopService()  # type: ignore[no-untyped-call]
        await self.engine.stop()
        await self._distributor.stop()
        await self._queue_copies.stop()
        await self._config_copies.stop()
        await self.config.stop()
        self.nodes.stopService()

    def _cluster(self) -> Cluster:
        return self.config.current()

    def _changed(self, old: Cluster, new: Cluster, changes: Sequence[Delta]) -> None:
        self.state.config_changed(old, new, changes)
        if old.nodes is not new.nodes:
            self.nodes.sync(new)
        self._config_copies.cluster_changed(old, new)
        self._queue_copies.cluster_changed(old, new)

    async def _config_state(self) -> Any:
        return await self.config.state()

    async def _queue_state(self) -> Any:
        return await self.store.state()

    def _lock_rows(self) -> list[Any]:
        return [*self.locks.pending(), *self.engine.runner.waited_for(), *self.nodes.in_flight()]
