"""Sockets whose first visitor ends a wait."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from ganeti.io.doorbell import SocketDoorbell


class DoorbellTests(TestCase):
    """Real sockets."""

    def setUp(self) -> None:
        """A directory."""
        self.base = tempfile.TemporaryDirectory()
        self.addCleanup(self.base.cleanup)

    async def wait(self, *, within_s: float, come: Any = None, directory: str = "") -> bool:
        """Wait at a door to which somebody may come."""
        async with SocketDoorbell(reactor, directory or self.base.name) as bell:
            self.path = bell.path
            self.mode = stat.S_IMODE(os.stat(bell.path).st_mode)
            if come is not None:
                come(bell.path)
            return await bell.rung(within_s=within_s)

    def visit(self, path: str) -> None:
        """Connect and go."""
        with socket.socket(socket.AF_UNIX) as visitor:
            visitor.connect(path)

    async def test_rung(self) -> None:
        """A visitor ends it, and the socket is gone afterwards; others may not use it."""
        self.assertTrue(await Deferred.fromCoroutine(self.wait(within_s=30, come=self.visit)))
        self.assertFalse(os.path.exists(self.path))
        self.assertEqual(self.mode & 0o007, 0)

    async def test_crowd(self) -> None:
        """More visitors than one do no harm."""

        def crowd(path: str) -> None:
            for _ in range(5):
                self.visit(path)

        self.assertTrue(await Deferred.fromCoroutine(self.wait(within_s=30, come=crowd)))

    async def test_nobody(self) -> None:
        """Nobody comes in time."""
        self.assertFalse(await Deferred.fromCoroutine(self.wait(within_s=0.05)))
        self.assertFalse(os.path.exists(self.path))

    async def test_long_path(self) -> None:
        """Directories may have any length."""
        deep = os.path.join(self.base.name, "d" * 100, "e" * 50)
        os.makedirs(deep)
        self.assertFalse(await Deferred.fromCoroutine(self.wait(within_s=0.05, directory=deep)))

    async def test_cancelled(self) -> None:
        """Whoever waits can be cancelled; the socket is gone."""
        waiting = Deferred.fromCoroutine(self.wait(within_s=30))
        waiting.addErrback(lambda failure: None)
        waiting.cancel()
        await waiting
        self.assertFalse(os.path.exists(self.path))
