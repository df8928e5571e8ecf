"""What every `IJobStore` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface.verify import verifyObject

from ganeti.interfaces import IJobStore
from ganeti.model.ids import JobId
from ganeti.model.job import encode_job
from ganeti.testing.jobs import queued_job

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase as _TestCase
else:
    _TestCase = object


class JobStoreBehaviours(_TestCase):
    """Mix it into a trial TestCase that makes an empty store."""

    async def make_store(self) -> IJobStore:
        """A store that is ready."""
        raise NotImplementedError

    async def test_is_what_it_says(self) -> None:
        """It provides `IJobStore`."""
        self.assertTrue(verifyObject(IJobStore, await self.make_store()))

    async def test_ids(self) -> None:
        """Ids begin at 1, follow each other, and come once."""
        store = await self.make_store()
        self.assertEqual([store.reserve(1), store.reserve(3), store.reserve(1)], [1, 2, 5])

    async def test_archive(self) -> None:
        """An archived document is the one saved last; others are not found there."""
        store = await self.make_store()
        store.reserve(2)
        await store.save({JobId(1): encode_job(queued_job(1)), JobId(2): encode_job(queued_job(2))})
        await store.save({JobId(1): encode_job(queued_job(1, "success"))})
        self.assertIsNone(await store.load_archived(JobId(1)))
        await store.archive([JobId(1)])
        self.assertEqual(await store.load_archived(JobId(1)), encode_job(queued_job(1, "success")))
        self.assertIsNone(await store.load_archived(JobId(2)))
        self.assertEqual(list(await store.archived_ids()), [1])

    async def test_drain(self) -> None:
        """The flag is as it was set last."""
        store = await self.make_store()
        self.assertFalse(store.drained)
        for wanted in (True, False):
            await store.set_drained(drained=wanted)
            self.assertEqual(store.drained, wanted)
