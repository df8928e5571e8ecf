"""Runs one of the daemons: what `bin/ganeti-masterd` and its siblings call.

Takes the daemon's own options and starts it under twistd, in the background unless `-f` is given.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ganeti.daemons.options import ROOT_VARIABLE
from ganeti.model.paths import Paths


def twistd_arguments(daemon: str, options: Sequence[str], paths: Paths) -> list[str]:
    """Command line for twistd that runs a daemon with its options."""
    foreground = any(option in ("-f", "--foreground") for option in options)
    arguments = ["twistd", "--no_save", f"--rundir={paths.run_dir if not foreground else '.'}"]
    # twistd's own pid file would be written before the daemon knows that it may run.
    arguments.append("--pidfile=")
    if foreground:
        arguments.append("--nodaemon")
    else:
        arguments.append(f"--logfile={paths.log_dir}/{daemon}.start.log")
    return [*arguments, daemon, *options]


def main(daemon: str, options: Sequence[str] | None = None) -> int:
    """Run a daemon until it ends; gives its exit code."""
    options = sys.argv[1:] if options is None else options
    paths = Paths(os.environ.get(ROOT_VARIABLE, ""))
    for directory in (paths.run_dir, paths.log_dir):
        os.makedirs(directory, mode=0o755, exist_ok=True)
    sys.argv = twistd_arguments(daemon, options, paths)

    from twisted.scripts.twistd import run

    from ganeti.daemons import common

    run()
    return common.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
