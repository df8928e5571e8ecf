"""One run of the watcher: this node, then (on the master) a child process for each node group.

The lock of the run is held until the children are started, and shared: runs may overlap (S2.3-063, S2.3-064),
while somebody who must not be disturbed holds it alone. Children of one group never overlap.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from twisted.logger import Logger

from ganeti.cli.errors import CommandError, MasterError, NoMaster
from ganeti.errors import GanetiError, ResolverError
from ganeti.io.files import FileLock, InUse
from ganeti.io.names import own_name
from ganeti.io.watcher_pause import WatcherPause
from ganeti.logic.watcher import spacing_s
from ganeti.model.ids import GroupId
from ganeti.model.paths import Paths
from ganeti.watcher import rapi_check
from ganeti.watcher.children import Children
from ganeti.watcher.codes import EXIT_FAILURE, EXIT_MANAGED, EXIT_NOT_CLUSTER, EXIT_NOT_MASTER, EXIT_OK
from ganeti.watcher.group import Group, GroupWatch
from ganeti.watcher.master import Connection, MasterLink
from ganeti.watcher.node_part import Daemons, NodePart
from ganeti.watcher.options import RunOptions
from ganeti.watcher.state_file import StateFile
from ganeti.watcher.status_files import StatusFiles

ARCHIVE_S = 30
CHILDREN_S = 2 * 3600.0
"""Every wait of a child has its own end; one that is not done by then is stuck."""

_NO_NEW_JOBS = ("JobQueueDrainError", "JobQueueFull")

Connect = Callable[[], Connection]


class Run:
    """A run with its collaborators.

    Args:
        paths: of this node.
        options: of this run.
        daemons: of this node.
        node_part: what is done on every node.
        pause: until when nothing is to be done.
        connect: opens a connection to masterd.
        clock: seconds since the epoch.
        sleep: waits so many seconds.
    """

    log = Logger()

    def __init__(
        self,
        paths: Paths,
        options: RunOptions,
        daemons: Daemons,
        node_part: NodePart,
        pause: WatcherPause,
        connect: Connect,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._paths = paths
        self._options = options
        self._daemons = daemons
        self._node_part = node_part
        self._pause = pause
        self._connect = connect
        self._clock = clock
        self._sleep = sleep
        self._link = self._new_link()
        self._status = StatusFiles(paths)
        self.children = Children(sleep=sleep)
        self._code = EXIT_OK

    def run(self) -> int:
        """Do what the options say; gives the exit code."""
        until = None if self._options.ignore_pause else self._pause.until()
        if until is not None:
            self.log.info("paused until {until}, nothing is done", until=time.ctime(until))
            return EXIT_OK
        if self._options.node_group is not None:
            return self._run_group(self._options.node_group)
        lock = FileLock(self._paths.watcher_lock_file, "the watcher", shared=True)
        try:
            lock.acquire()
        except InUse:
            self.log.info("somebody keeps the watcher away for now, nothing is done")
            return EXIT_OK
        try:
            self._start_all(lock)
        except _Ended as ended:
            return ended.code
        except MasterError as error:
            self._failed(f"masterd refuses: {error.text}")
        except (CommandError, GanetiError, OSError) as error:
            self._failed(str(error))
        finally:
            lock.release()
            self._link.close()
        return self._wait() if self._options.wait_children else self._code

    # --- the whole

    def _start_all(self, lock: FileLock) -> None:
        master = self._master_name()
        if not self._node_part.run():
            self._code = EXIT_FAILURE
        if master != self._own_name():
            self.log.debug("this is not the master, {master} is", master=master)
            raise _Ended(EXIT_NOT_MASTER)
        self._ensure_masterd()
        self._ensure_rapi()
        archived, left = self._link.call("AutoArchiveJobs", [self._options.job_age_s, ARCHIVE_S])
        self.log.info("{archived} jobs archived, {left} left", archived=archived, left=left)
        groups = self._groups()
        self._remove_extra(groups)
        self._link.close()
        for number, group in enumerate(groups):
            if number:
                self._sleep(spacing_s(len(groups)))
            self.children.start(group.name, partial(self._child, group, lock))

    def _master_name(self) -> str:
        try:
            with open(self._paths.ssconf("master_node"), encoding="utf-8") as file:
                return file.read().strip()
        except (OSError, ValueError) as error:
            self.log.error("this node is not part of a cluster, or damaged: {error}", error=error)
            raise _Ended(EXIT_NOT_CLUSTER) from error

    def _own_name(self) -> str:
        try:
            return own_name(self._paths)
        except ResolverError as error:
            self.log.error("{error}", error=error)
            raise _Ended(EXIT_NOT_CLUSTER) from error

    def _ensure_masterd(self) -> None:
        try:
            self._connect().close()
        except NoMaster:
            self.log.warn("ganeti-masterd does not run and is started")
            self._daemons.start("ganeti-masterd")
            self._connect().close()

    def _ensure_rapi(self) -> None:
        where = rapi_check.place(self._daemons.options("ganeti-rapi"), self._options.rapi_ip)
        problem = rapi_check.problem_of(where)
        if problem is None:
            return
        self.log.warn("ganeti-rapi is started again: {problem}", problem=problem)
        try:
            self._daemons.stop("ganeti-rapi")
            self._daemons.start("ganeti-rapi")
            problem = rapi_check.problem_of(where)
        except GanetiError as error:
            problem = str(error)
        if problem is not None:
            self.log.error("the remote interface does not work: {problem}", problem=problem)

    def _groups(self) -> list[Group]:
        rows = self._link.rows("group", ["uuid", "name"])
        return [Group(uuid=GroupId(uuid), name=name) for uuid, name in rows]

    def _remove_extra(self, groups: list[Group]) -> None:
        try:
            self._status.remove_extra([group.uuid for group in groups])
        except (GanetiError, OSError) as error:
            self._failed(f"files of former groups are not removed: {error}")

    def _wait(self) -> int:
        for name, code in sorted(self.children.wait(at_most_s=CHILDREN_S).items()):
            match code:
                case 0:
                    self.log.debug("group {group} is done", group=name)
                case _ if code == EXIT_MANAGED:
                    self.log.info("group {group} is being looked after by another run", group=name)
                case _:
                    self.log.error("the child of group {group} ended with {code}", group=name, code=code)
                    self._code = EXIT_FAILURE
        return self._code

    # --- one group

    def _child(self, group: Group, lock: FileLock) -> int:
        """In a child process: the lock of the run is our parent's business."""
        lock.release()
        self._link = self._new_link()
        return self._look_after(group)

    def _run_group(self, wanted: str) -> int:
        try:
            with open(self._paths.ssconf("nodegroups"), encoding="utf-8") as file:
                rows = [line.split() for line in file]
        except OSError as error:
            self.log.error("this node is not part of a cluster, or damaged: {error}", error=error)
            return EXIT_NOT_CLUSTER
        for uuid, name in (row for row in rows if len(row) == 2):
            if wanted in (uuid, name):
                return self._look_after(Group(uuid=GroupId(uuid), name=name))
        return self._failed(
            f"there is no node group {wanted}; 'gnt-group list -o uuid,name' shows those there are"
        )

    def _look_after(self, group: Group) -> int:
        file = StateFile(self._paths.watcher_state(group.uuid))
        try:
            file.acquire()
        except InUse:
            self.log.info("group {group} is looked after by another process", group=group.name)
            return EXIT_MANAGED
        except OSError as error:
            return self._failed(f"group {group.name}: {error}")
        try:
            watch = GroupWatch(
                group,
                self._link,
                file,
                self._status,
                self._clock,
                verify_disks=self._options.verify_disks,
                strict=self._options.strict,
            )
            return watch.run()
        except MasterError as error:
            if error.name in _NO_NEW_JOBS:
                self.log.info("the queue takes no jobs now: {why}", why=error.text)
                return EXIT_OK
            return self._failed(f"group {group.name}: masterd refuses: {error.text}")
        except (CommandError, GanetiError) as error:
            return self._failed(f"group {group.name}: {error}")
        except OSError as error:
            return self._failed(f"group {group.name}: {error}; nothing is done that could not be recorded")
        finally:
            file.release()
            self._link.close()

    def _new_link(self) -> MasterLink:
        return MasterLink(self._connect, time.monotonic, self._sleep)

    def _failed(self, text: str) -> int:
        self.log.error("{text}", text=text)
        self._code = EXIT_FAILURE
        return EXIT_FAILURE


class _Ended(Exception):
    """There is nothing more to be done here."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code
