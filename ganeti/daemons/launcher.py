"""Runs one of the daemons: what `bin/ganeti-masterd` and its siblings call.

Takes the daemon's own options and starts it under twistd, in the background unless `-f` is given. In
the background this returns when the daemon serves, or with its exit code when it cannot.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from ganeti.daemons import background
from ganeti.daemons.limits import raise_open_files, share_heaps
from ganeti.daemons.options import ROOT_VARIABLE
from ganeti.model.paths import Paths


def twistd_arguments(daemon: str, options: Sequence[str], paths: Paths) -> list[str]:
    """Command line for twistd that runs a daemon with its options."""
    in_foreground = is_foreground(options)
    logger = "nowhere" if not in_foreground else "debug_console" if is_debug(options) else "console"
    return [
        # In place of twistd's name: help and complaints about options begin with it.
        daemon,
        "--no_save",
        # Going to the background, pid files and logs are our own.
        "--nodaemon",
        "--pidfile=",
        f"--logger=ganeti.daemons.logs.{logger}",
        f"--rundir={'.' if in_foreground else paths.run_dir}",
        "--umask=022",
        daemon,
        *options,
    ]


def is_foreground(options: Sequence[str]) -> bool:
    """Whether to stay: asked for, or only to print help or version and end."""
    return _has(options, "f", "--foreground") or "--help" in options or "--version" in options


def is_debug(options: Sequence[str]) -> bool:
    """Whether debug messages are wanted."""
    return _has(options, "d", "--debug")


def _has(options: Sequence[str], letter: str, word: str) -> bool:
    # Single letters may be written as one word: -df
    return any(
        option == word or (option.startswith("-") and option[1:].isalpha() and letter in option[1:])
        for option in options
    )


def main(daemon: str, options: Sequence[str] | None = None) -> int:
    """Run a daemon until it ends, or until it serves in the background; gives the exit code."""
    options = sys.argv[1:] if options is None else options
    paths = Paths(os.environ.get(ROOT_VARIABLE, ""))
    try:
        for directory in (paths.run_dir, paths.log_dir):
            os.makedirs(directory, mode=0o755, exist_ok=True)
    except OSError as error:
        sys.stderr.write(f"{daemon} cannot start: {error}\n")
        return 1
    raise_open_files()
    share_heaps()
    sys.argv = twistd_arguments(daemon, options, paths)
    if not is_foreground(options):
        code = background.detach(daemon)
        if code is not None:
            return code
    return _serve()


def _serve() -> int:
    from twisted.scripts.twistd import run

    try:
        run()
    except SystemExit as stop:
        background.report_failure(stop.code if isinstance(stop.code, int) else 1)
        raise
    except Exception:
        # By now stderr may be the log, which nobody looks at before the daemon runs.
        traceback.print_exc(file=sys.__stderr__)
        background.report_failure(1)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
