"""Entry of the scripts in `bin`: starts a tool and ends the process without delay."""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import NoReturn


def start(tool: str) -> NoReturn:
    """Run a tool with the arguments of the process.

    A command lives for milliseconds, so collecting garbage and taking the interpreter apart at the end
    would only cost time.
    """
    gc.disable()
    # `gnt-instance list | head` ends like any other program whose reader went away.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    from ganeti.cli.main import real_world, run

    try:
        code = run(tool, sys.argv[1:], real_world())
    except KeyboardInterrupt:
        code = 1
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError as error:
        os.write(2, f"cannot write the output: {error}\n".encode())
        code = code or 1
    os._exit(code)
