"""`ganeti-cleaner node|master`: for cron, once a day."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogPublisher,
)

from ganeti.daemons.logs import FileLog, classic_text
from ganeti.daemons.options import ROOT_VARIABLE
from ganeti.model.paths import Paths
from ganeti.version import RELEASE, VCS_VERSION
from ganeti.watcher.cleaner import Cleaner, trim_logs

USAGE = (
    "usage: ganeti-cleaner node|master\n"
    "  node    expired certificates of transfers, files of the watcher that are older than 21 days\n"
    "  master  archived jobs that are older than 21 days\n"
)

_LOGS = {"node": "cleaner", "master": "master-cleaner"}


def main(words: Sequence[str] | None = None) -> int:
    """Clean; gives the exit code."""
    words = sys.argv[1:] if words is None else list(words)
    match list(words):
        case ["-h" | "--help"]:
            sys.stdout.write(USAGE)
            return 0
        case ["--version"]:
            sys.stdout.write(f"ganeti-cleaner (ganeti {VCS_VERSION}) {RELEASE}\n")
            return 0
        case ["node" | "master" as kind]:
            return clean(kind, Paths(os.environ.get(ROOT_VARIABLE, "")))
    sys.stderr.write(USAGE)
    return 1


def clean(kind: str, paths: Paths) -> int:
    """Clean a node, or what only the master has; gives the exit code."""
    now = time.time()
    directory = f"{paths.log_dir}/{_LOGS[kind]}"
    stamp = time.strftime("%Y-%m-%d_%H_%M_%S", time.localtime(now))
    try:
        os.makedirs(directory, mode=0o750, exist_ok=True)
        log = FileLog(f"{directory}/cleaner-{stamp}.{os.getpid()}.log")
        trim_logs(directory)
    except OSError as error:
        sys.stderr.write(f"ganeti-cleaner cannot write its log: {error}\n")
        return 1
    # Cron sends errors to somebody.
    errors = LogLevelFilterPredicate(LogLevel.error)
    terminal = FilteringLogObserver(FileLogObserver(sys.stderr, classic_text), [errors])
    cleaner = Cleaner(paths, now)
    globalLogPublisher.addObserver(log)
    globalLogPublisher.addObserver(terminal)
    try:
        if kind == "node":
            cleaner.clean_node()
        else:
            cleaner.clean_master()
    finally:
        globalLogPublisher.removeObserver(log)
        globalLogPublisher.removeObserver(terminal)
        log.close()
    return 1 if cleaner.failures else 0


if __name__ == "__main__":
    sys.exit(main())
