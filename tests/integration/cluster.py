"""`RunningCluster`: a virtual cluster of real daemons for tests that break things.

    cluster = RunningCluster(nodes=3)          # in a temporary directory, 127.x.y.z addresses
    cluster.gnt("gnt-instance list")           # a tool, on the master
    cluster.client().submit([...])             # masterd's socket
    cluster.kill("ganeti-masterd")             # SIGKILL, and gone when this returns
    cluster.start()                            # whatever does not run
    cluster.destroy()

Everything is ended and removed even if the test run itself is killed: a guardian, which is this file
run as a program, waits for the end of a pipe.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil

from ganeti.cli.client import Client
from ganeti.daemons import control
from ganeti.errors import GanetiError
from ganeti.model.paths import Paths
from ganeti.model.records import read_journal
from ganeti.vcluster import nodes as vnodes
from ganeti.vcluster.layout import Layout, VirtualNode, load
from ganeti.vcluster.processes import kill_all, processes_of

CHECKOUT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60.0
FINAL = ("success", "error", "canceled")

T = TypeVar("T")
Done = subprocess.CompletedProcess[str]


class RunningCluster:
    """A cluster that runs.

    Args:
        nodes: how many.
        hypervisor: `fake` or `kvm`.
        templates: enabled disk templates.
        groups: of nodes; nodes are dealt out in turn.
        environment: further variables for whatever runs on the nodes.
    """

    def __init__(
        self,
        nodes: int = 1,
        *,
        hypervisor: str = "fake",
        templates: str = "diskless,file,sharedfile",
        groups: int = 1,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.environment = dict(environment or {})
        self.directory = tempfile.mkdtemp(prefix="fault-")
        self._guardian = subprocess.Popen(
            [sys.executable, __file__, self.directory],
            cwd=CHECKOUT,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
            stdin=subprocess.PIPE,
        )
        self._clients: list[Client] = []
        try:
            self.vcluster(
                "create",
                *("--nodes", str(nodes), "--hypervisor", hypervisor, "--disk-templates", templates),
                *("--groups", str(groups)),
            )
            self.layout: Layout = load(self.directory)
        except BaseException:
            self.destroy()
            raise

    def destroy(self) -> None:
        """End every process and remove every file."""
        for client in self._clients:
            client.close()
        assert self._guardian.stdin is not None
        self._guardian.stdin.close()
        code = self._guardian.wait(timeout=TIMEOUT_S)
        if code != 0:
            raise AssertionError(f"the cluster in {self.directory} could not be removed")

    # --- nodes and daemons

    def node(self, wanted: int | str = 1) -> VirtualNode:
        """A node by its number or name."""
        return self.layout.node(str(wanted))

    def paths(self, node: int | str = 1) -> Paths:
        """Files of a node."""
        return self.layout.paths(self.node(node))

    def pid(self, daemon: str, node: int | str = 1) -> int:
        """Process id of a daemon that runs."""
        pid = control.running_pid(self.paths(node), daemon)
        assert pid is not None, f"{daemon} does not run on node {node}"
        return pid

    def runs(self, daemon: str, node: int | str = 1) -> bool:
        """Whether a daemon runs."""
        return control.running_pid(self.paths(node), daemon) is not None

    def kill(self, daemon: str, node: int | str = 1) -> None:
        """End a daemon without warning; it is gone when this returns."""
        os.kill(self.pid(daemon, node), signal.SIGKILL)
        until(lambda: not self.runs(daemon, node), f"{daemon} survives")

    def kill_node(self, node: int | str) -> None:
        """End all processes of a node at once."""
        kill_all(self.layout.root(self.node(node)))

    def stop(self, daemon: str, node: int | str = 1) -> None:
        """End a daemon in an orderly way."""
        control.stop(self.paths(node), daemon)

    def start(self) -> None:
        """Start whatever does not run."""
        self.vcluster("start")

    def start_daemon(
        self, daemon: str, node: int | str = 1, *options: str, wrapped: Sequence[str] = ()
    ) -> Done:
        """Start one daemon; gives how that went.

        Args:
            daemon: its name.
            node: where.
            options: of the daemon; none: those it always has.
            wrapped: words before the command.
        """
        bind = [] if daemon == "ganeti-masterd" else ["--bind", self.layout.bind_address(self.node(node))]
        command = [*wrapped, sys.executable, "-m", "ganeti.daemons.launcher", daemon, *(options or bind)]
        return self.run(command, node)

    @contextlib.contextmanager
    def stopped(self, daemon: str, node: int | str) -> Iterator[None]:
        """A daemon that is stopped (SIGSTOP) inside the block."""
        pid = self.pid(daemon, node)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def processes(self, node: int | str = 1) -> list[psutil.Process]:
        """All processes of a node."""
        return processes_of(self.layout.root(self.node(node)))

    def programs(self, name: str, node: int | str = 1) -> list[int]:
        """Ids of the processes of a node whose program's name begins so; none that have just ended."""
        found = []
        for process in self.processes(node):
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.name().startswith(name) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
        return found

    def log(self, daemon: str, node: int | str = 1) -> str:
        """What a daemon logged."""
        return Path(self.paths(node).log_file(daemon)).read_text(errors="replace")

    # --- commands

    def vcluster(self, command: str, *arguments: str) -> Done:
        """`ganeti-vcluster COMMAND DIR ...`; it must succeed."""
        argv = [sys.executable, "-m", "ganeti.vcluster.main", command, self.directory, *arguments]
        env = {**os.environ, **self.environment}
        return _run(argv, {key: value for key, value in env.items() if key != "GANETI_ROOTDIR"}, check=True)

    def run(self, argv: Sequence[str], node: int | str = 1, *, check: bool = False) -> Done:
        """Run a program on a node."""
        where = self.node(node)
        env = {**vnodes.environment(self.layout, where), **self.environment}
        return _run(vnodes.command_on(self.layout, where, argv), env, check=check)

    def gnt(self, command: str, *more: str, node: int | str = 1, check: bool = True) -> Done:
        """Run a tool; by default it must succeed.

        Args:
            command: the line, split at blanks.
            more: further words, not split.
            node: where.
            check: whether a failure fails the test.
        """
        tool, *words = command.split()
        argv = [sys.executable, str(CHECKOUT / "bin" / tool), *words, *more]
        return self.run(argv, node, check=check)

    # --- jobs

    def client(self) -> Client:
        """A new connection to masterd."""
        client = Client(self.paths().master_socket)
        self._clients.append(client)
        return client

    def jobs(self, *fields: str, client: Client | None = None) -> dict[int, tuple[Any, ...]]:
        """Fields of all jobs that are not archived, by id; each id must be there once."""
        answer = (client or self.client()).call("Query", ["job", ["id", *fields], None])
        rows = [[value for _, value in row] for row in answer["data"]]
        found = {row[0]: tuple(row[1:]) for row in rows}
        assert len(found) == len(rows), "a job is listed twice"
        return found

    def job(self, number: int) -> tuple[str, Any]:
        """Status of a job and the result of its last opcode."""
        status, results = self.jobs("status", "opresult")[number]
        return status, results[-1]

    def wait_for_jobs(self, *numbers: int, timeout_s: float = TIMEOUT_S) -> dict[int, str]:
        """Wait until these jobs, or (none given) all, have ended; gives their status."""
        client = self.client()

        def ended() -> dict[int, str] | None:
            status = {job: row[0] for job, row in self.jobs("status", client=client).items()}
            wanted = {job: status[job] for job in numbers} if numbers else status
            return wanted if all(each in FINAL for each in wanted.values()) else None

        found = until(ended, "jobs do not end", timeout_s=timeout_s)
        assert found is not None
        return found

    def serial(self) -> int:
        """Serial number of the configuration, journal included: no change, no other number."""
        paths = self.paths(self.layout.master.number)
        newest: int = json.loads(Path(paths.config_file).read_bytes())["serial_no"]
        journal = Path(paths.config_journal)
        for part in journal.parent.glob(journal.name + "*"):
            newest = max([newest, *(record.seq for record in read_journal(part.read_bytes()).records)])
        return newest


def until(look: Callable[[], T], complaint: str, *, timeout_s: float = TIMEOUT_S) -> T:
    """What `look` gives as soon as it is true."""
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline, complaint
        time.sleep(0.05)
    return found


def seconds_of(work: Callable[[], object]) -> float:
    """How long something takes."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def matches(pattern: str, text: str) -> bool:
    """Whether a text has a pattern somewhere; lines are joined."""
    return re.search(pattern, " ".join(text.split())) is not None


def _run(argv: Sequence[str], env: Mapping[str, str], *, check: bool) -> Done:
    # Daemons that a command starts must not keep our pipes open, or we would wait for their end.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        code = subprocess.run(
            list(argv),
            env=dict(env),
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            timeout=TIMEOUT_S,
            start_new_session=True,
            check=False,
        ).returncode
        out.seek(0)
        err.seek(0)
        done = subprocess.CompletedProcess(list(argv), code, out.read(), err.read())
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(argv)} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done


def _guard(directory: str) -> int:
    """Wait for the end of the test run, then end and remove everything."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdin.read()
    with contextlib.suppress(GanetiError):
        vnodes.destroy(load(directory))
    shutil.rmtree(directory, ignore_errors=True)
    return int(os.path.exists(directory))


if __name__ == "__main__":
    sys.exit(_guard(sys.argv[1]))
