"""Both stores of jobs behave alike."""

from __future__ import annotations

import os

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from ganeti.interfaces import IJobStore
from ganeti.master.job_store import JobStore
from ganeti.model.paths import Paths
from ganeti.testing.job_store_behaviours import JobStoreBehaviours
from ganeti.testing.jobs import MemoryJobStore


class MemoryJobStoreTests(JobStoreBehaviours, TestCase):
    """The one in memory."""

    async def make_store(self) -> IJobStore:
        """An empty one."""
        return MemoryJobStore()


class FileJobStoreTests(JobStoreBehaviours, TestCase):
    """The one on disk."""

    async def make_store(self) -> IJobStore:
        """One in a new directory."""
        paths = Paths(os.path.abspath(self.mktemp()))
        os.makedirs(paths.queue_dir)
        store = JobStore(reactor, paths)  # type: ignore[arg-type]
        await store.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(store.stop()))
        return store
