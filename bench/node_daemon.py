"""The bare parts of a node daemon, as a program: node link over TLS, functions, zygote.

For benchmarks and integration tests that need just this, on a port that the kernel chooses:

    python bench/node_daemon.py DIRECTORY CLUSTER_UUID [MODULE...]

`DIRECTORY` holds `server.pem` and `ca.pem`. Prints `listening PORT ZYGOTE_PID`, and ends on SIGTERM.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.logger import globalLogBeginner, textFileLogObserver

from ganeti.model.calls.system import Version
from ganeti.node.backend.basics import own_version
from ganeti.node.functions import Functions
from ganeti.node.launcher import Launcher
from ganeti.node.locator import NodeLocator
from ganeti.node.service import LinkService
from ganeti.node.zygote import ZygoteSetup
from ganeti.wire.tls import Credentials, ServerTls, only_master


async def start(reactor: Any, directory: Path, cluster_uuid: str, modules: tuple[str, ...]) -> None:
    """Start everything, and arrange for the end."""
    launcher = Launcher(reactor, ZygoteSetup(root=str(directory), modules=modules))
    functions = Functions(reactor, launcher, inline={Version: lambda call: own_version()})
    credentials = Credentials(
        own=(directory / "server.pem").read_bytes(), authority=(directory / "ca.pem").read_bytes()
    )
    link = LinkService(
        reactor,
        TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1", backlog=1024),
        NodeLocator(functions),
        tls=ServerTls(credentials, only_master(cluster_uuid)),
        max_connections=2000,
    )

    async def stop() -> None:
        await link.stopService()
        await functions.stopService()
        await launcher.stopService()

    reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(stop()))
    await launcher.startService()
    functions.startService()
    await link.startService()
    assert link.port is not None
    address: Any = link.port.getHost()
    print("listening", address.port, launcher.zygote_pid, flush=True)


def main() -> None:
    """Run until told to end."""
    from twisted.internet import reactor

    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    directory, cluster_uuid, *modules = sys.argv[1:]

    def failed(failure: Any) -> None:
        print("failed", failure.getErrorMessage(), flush=True)
        reactor.stop()

    def begin() -> None:
        started = Deferred.fromCoroutine(start(reactor, Path(directory), cluster_uuid, tuple(modules)))
        started.addErrback(failed)

    reactor.callWhenRunning(begin)
    reactor.run()


if __name__ == "__main__":
    main()
