"""Going to the background: what the starting process learns, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ganeti.daemons import background

PROJECT = Path(background.__file__).parents[2]

PRELUDE = """
import os, sys, time
from ganeti.daemons import background
code = background.detach("a-daemon", patience_s=float(sys.argv[1]))
if code is not None:
    sys.exit(code)
"""


class DetachTests(SynchronousTestCase):
    """What `detach` gives to whom."""

    def started(self, daemon: str, *, patience_s: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Run a starter whose daemon does this."""
        # With pipes: a daemon that kept them open would keep this from returning.
        return subprocess.run(
            [sys.executable, "-c", PRELUDE + daemon, str(patience_s)],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    def test_ready(self) -> None:
        """The starter returns at once when the daemon serves, and the daemon goes on without its pipes."""
        done = os.path.abspath(self.mktemp())
        result = self.started(
            "print('hello', flush=True); background.report_ready(); print('unseen', flush=True); "
            f"time.sleep(0.3); os.write(1, b'x'); open({done!r}, 'w').close(); time.sleep(0.2)"
        )
        self.assertEqual((result.returncode, result.stderr), (0, "hello\n"))
        deadline = time.monotonic() + 10
        while not os.path.exists(done) and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertTrue(os.path.exists(done))

    def test_failure(self) -> None:
        """The starter ends with the daemon's code and shows what it printed."""
        result = self.started("sys.stderr.write('cannot: no\\n'); background.report_failure(11); sys.exit(0)")
        self.assertEqual((result.returncode, result.stderr), (11, "cannot: no\n"))

    def test_death(self) -> None:
        """A daemon that dies without a word is a failure, too."""
        self.assertEqual(self.started("os.kill(os.getpid(), 9)").returncode, 1)

    def test_patience(self) -> None:
        """A daemon that neither serves nor ends is left alone after a time, and this is said."""
        result = self.started("time.sleep(2)", patience_s=0.2)
        self.assertEqual(result.returncode, 1)
        self.assertIn("a-daemon still does not serve after 0.2 s", result.stderr)

    def test_session(self) -> None:
        """The daemon has left the starter's session and terminal."""
        path = os.path.abspath(self.mktemp())
        own = os.getsid(0)
        self.started(f"open({path!r}, 'w').write(str(os.getsid(0))); background.report_ready()")
        self.assertNotEqual(int(Path(path).read_text()), own)

    def test_foreground(self) -> None:
        """In the foreground there is nobody to tell."""
        background.report_ready()
        background.report_failure(1)
