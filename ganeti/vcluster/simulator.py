"""Many nodes in one process: the real node functions with fake hypervisor and storage, without forks.

Started by `ganeti-vcluster --simulated` as `python -m ganeti.vcluster.simulator NAME DIR`. Every node has
its own directory, address and certificate, and answers over the same TLS link as a real one. At SIGHUP
nodes that have joined meanwhile are served, too.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger, globalLogBeginner, textFileLogObserver
from twisted.python.threadpool import ThreadPool

from ganeti.daemons.identity import own_identity
from ganeti.daemons.limits import raise_open_files
from ganeti.daemons.noded import PORT, inline_functions, parcel_parts, server_endpoint, server_tls
from ganeti.interfaces import Plugins
from ganeti.model.calls.parcels import SpreadParcel
from ganeti.model.calls.system import HooksRunner, WriteSsconf
from ganeti.node.backend.execution import answer_to
from ganeti.node.backend.hooks import hooks_runner
from ganeti.node.backend.host import Host
from ganeti.node.backend.registry import NodeWorld, load_all
from ganeti.node.functions import Functions, InlineFunction
from ganeti.node.launcher import Watcher
from ganeti.node.locator import NodeLocator
from ganeti.node.parcels import NeighbourLocator
from ganeti.node.service import LinkService
from ganeti.plugin_registry import discover
from ganeti.vcluster.layout import Layout, VirtualNode, load
from ganeti.vcluster.shared_ssconf import SharedSsconf

THREADS = 8


class InProcess:
    """Carries functions out in threads of this process; takes the place of the launcher of a node.

    Args:
        reactor: threads.
        pool: the threads.
        world: the node.
    """

    def __init__(self, reactor: Any, pool: ThreadPool, world: NodeWorld) -> None:
        self._reactor = reactor
        self._pool = pool
        self._world = world

    def launch(self, request: bytes, watcher: Watcher) -> None:
        """Begin to carry out a call."""
        watcher.started(os.getpid())
        done = deferToThreadPool(self._reactor, self._pool, answer_to, request, self._world)
        done.addCallback(lambda answer: watcher.answered(answer[0]))
        done.addBoth(lambda _: watcher.ended("done"))

    def signal(self, pid: int, number: int) -> None:
        """Threads cannot be ended; the call goes on and its result is dropped."""


class Simulator:
    """All simulated nodes of a cluster."""

    log = Logger()

    def __init__(self, reactor: Any, layout: Layout) -> None:
        self._reactor = reactor
        self._layout = layout
        self._pool = ThreadPool(THREADS, THREADS, name="nodes")
        self._plugins: Plugins = discover()
        self._serving: set[int] = set()
        self._ssconf: SharedSsconf | None = None
        load_all()

    def start(self) -> None:
        """Serve every node that has credentials and is not served yet."""
        if not self._pool.started:
            self._pool.start()
            self._reactor.addSystemEventTrigger("after", "shutdown", self._pool.stop)
        for node in self._layout.nodes[1:]:
            if node.number in self._serving or not os.path.exists(self._layout.paths(node).node_cert_file):
                continue
            self._serve(node)

    def _serve(self, node: VirtualNode) -> None:
        paths = self._layout.paths(node)
        identity = own_identity(paths)
        world = NodeWorld(host=Host(paths, identity.name), plugins=self._plugins)
        if self._ssconf is None:
            self._ssconf = SharedSsconf(world.host)
        ssconf = self._ssconf
        links: list[LinkService] = []
        intake, spreader = parcel_parts(
            self._reactor,
            paths,
            identity,
            lambda: links[0].factory.secrets(),
            port=PORT,
            write=lambda call: ssconf.write(paths, call),
            in_thread=maybeDeferred,
        )
        functions = Functions(
            self._reactor,
            InProcess(self._reactor, self._pool, world),
            inline={
                **inline_functions(paths),
                HooksRunner: self._hooks_function(world),
                WriteSsconf: lambda call: ssconf.write(paths, call),
                SpreadParcel: spreader.spread,
            },
        )
        link = LinkService(
            self._reactor,
            server_endpoint(self._reactor, node.address, PORT),
            NodeLocator(functions),
            tls=server_tls(paths, identity),
            from_nodes=NeighbourLocator(intake),
        )
        links.append(link)
        functions.startService()
        link.startService().addErrback(
            lambda failure: self.log.failure("cannot serve {node}", failure=failure, node=node.name)
        )
        self._serving.add(node.number)

    def _hooks_function(self, world: NodeWorld) -> InlineFunction:
        """Hooks; the usual case, that there are none, has to be quick, as every job asks many nodes."""

        def run(call: HooksRunner) -> Any:
            if not os.listdir(world.host.paths.hooks_dir):
                return ()
            return deferToThreadPool(self._reactor, self._pool, hooks_runner, call, world)

        return run


def main(arguments: Sequence[str]) -> int:
    """Serve until ended."""
    from twisted.internet import reactor

    raise_open_files()
    layout = load(arguments[1])
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    simulator = Simulator(reactor, layout)
    pid_file = layout.paths(layout.nodes[1]).pid_file(arguments[0])

    def serve() -> None:
        simulator.start()
        with open(pid_file, "w", encoding="ascii") as stream:
            stream.write(f"{os.getpid()}\n")

    reactor.callWhenRunning(serve)
    signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(simulator.start))  # type: ignore[attr-defined]
    reactor.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
