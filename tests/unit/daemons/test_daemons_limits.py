"""Limits that daemons set for themselves."""

from __future__ import annotations

import re
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

HEAPS = """
import ctypes, sys, threading
from ganeti.daemons.limits import share_heaps
libc = ctypes.CDLL(None)
if not hasattr(libc, "malloc_info"):
    sys.exit(77)
share_heaps()
barrier = threading.Barrier(8)
def work():
    kept = [bytearray(2000) for _ in range(100)]
    barrier.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.fdopen.restype = ctypes.c_void_p
libc.malloc_info(0, ctypes.c_void_p(libc.fdopen(1, b"w")))
libc.fflush(None)
"""


class HeapTests(SynchronousTestCase):
    """Memory of threads."""

    def test_threads_share(self) -> None:
        """Eight threads allocate from two heaps, not from eight of their own."""
        done = subprocess.run([sys.executable, "-c", HEAPS], capture_output=True, text=True, check=False)
        if done.returncode == 77:
            self.skipTest("another C library")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(re.findall("<heap nr=", done.stdout)), 2)
