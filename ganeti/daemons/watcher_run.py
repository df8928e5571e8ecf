"""`ganeti-watcher`: one run (`--once`, for cron), or the service under twistd."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogPublisher,
)
from zope.interface import implementer

from ganeti.cli.client import connect
from ganeti.daemons.local import LocalDaemons
from ganeti.daemons.logs import FileLog, classic_text, level_filter
from ganeti.daemons.options import ROOT_VARIABLE
from ganeti.errors import GanetiError
from ganeti.interfaces import IClock
from ganeti.io.watcher_pause import WatcherPause
from ganeti.model.paths import Paths
from ganeti.node.backend.host import ProcessRunner
from ganeti.watcher.codes import EXIT_FAILURE
from ganeti.watcher.node_part import NodePart
from ganeti.watcher.options import RunOptions, read
from ganeti.watcher.run import Run

NAME = "ganeti-watcher"
MODULE = "ganeti.daemons.watcher_run"

_ALONE = ("--once", "-h", "--help", "--version")


def main(words: Sequence[str] | None = None) -> int:
    """Run as the options say; gives the exit code."""
    words = sys.argv[1:] if words is None else list(words)
    if not is_run(words):
        # Refused here already: the service would only tell of it in its log.
        read(words)
        from ganeti.daemons.launcher import main as launch

        return launch(NAME, words)
    return once(read(words), Paths(os.environ.get(ROOT_VARIABLE, "")))


def is_run(words: Sequence[str]) -> bool:
    """Whether one run is wanted, not the service."""
    return any(word in _ALONE or word == "-g" or word.startswith("--node-group") for word in words)


def once(options: RunOptions, paths: Paths) -> int:
    """One run, in this process; gives the exit code."""
    try:
        for directory in (paths.run_dir, paths.log_dir, paths.lock_dir):
            os.makedirs(directory, mode=0o755, exist_ok=True)
        observers = _observers(options, paths)
    except OSError as error:
        sys.stderr.write(f"{NAME} cannot run: {error}\n")
        return EXIT_FAILURE
    for observer in observers:
        globalLogPublisher.addObserver(observer)
    processes = ProcessRunner()
    daemons = LocalDaemons(paths, processes)
    run = Run(
        paths,
        options,
        daemons,
        NodePart(paths, daemons, processes),
        WatcherPause(paths, _Clock()),
        lambda: connect(paths),
        time.time,
        time.sleep,
    )

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        run.children.signal(signal.SIGTERM)
        raise SystemExit(EXIT_FAILURE)

    signal.signal(signal.SIGTERM, end)
    try:
        return run.run()
    except (GanetiError, OSError) as error:
        run.log.error("{error}", error=error)
        return EXIT_FAILURE


@implementer(IClock)
class _Clock:
    def seconds(self) -> float:
        """Seconds since the epoch."""
        return time.time()


def _observers(options: RunOptions, paths: Paths) -> list[ILogObserver]:
    """The log; errors also go to whoever started us (cron sends them to somebody)."""
    file = level_filter(FileLog(paths.log_file(NAME)), debug=options.debug)
    least = LogLevel.debug if options.debug else LogLevel.error
    terminal = FileLogObserver(sys.stderr, classic_text)
    return [file, FilteringLogObserver(terminal, [LogLevelFilterPredicate(least)])]


if __name__ == "__main__":
    sys.exit(main())
