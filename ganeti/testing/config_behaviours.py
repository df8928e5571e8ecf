"""What every implementation of `IConfig` does."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, gatherResults
from zope.interface.verify import verifyObject

from ganeti.errors import PrereqError
from ganeti.interfaces import IConfig
from ganeti.model.cluster import Cluster
from ganeti.testing.clusters import NOW, changed_instance, cluster, with_instance, with_settings

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase as _TestCase
else:
    _TestCase = object


class ConfigBehaviours(_TestCase):
    """Mix into a `TestCase` that has `make_config`."""

    async def make_config(self, value: Cluster) -> IConfig:
        """A configuration with this value, whose clock is past `NOW`."""
        raise NotImplementedError

    async def _config(self) -> IConfig:
        return await self.make_config(cluster(instances=3))

    async def test_interface(self) -> None:
        """It provides `IConfig`."""
        verifyObject(IConfig, await self._config())

    async def test_update(self) -> None:
        """A change is there when its update returns, stamped; the old value is as it was."""
        config = await self._config()
        old = config.current()
        new = await config.update(lambda value: changed_instance(value, "inst1", os="new"), reason="test")
        self.assertIs(config.current(), new)
        instance = new.instance("inst1")
        self.assertEqual((instance.os, instance.serial_no), ("new", 2))
        self.assertGreater(instance.mtime, NOW)
        self.assertEqual((old.serial_no, new.serial_no), (1, 2))
        self.assertEqual(old.instance("inst1").os, "noop")

    async def test_serialised(self) -> None:
        """Changes that are asked for at once each see the one before."""
        config = await self._config()

        def grown(value: Cluster) -> Cluster:
            return with_settings(value, candidate_pool_size=value.settings.candidate_pool_size + 1)

        before = config.current().settings.candidate_pool_size
        await gatherResults([_deferred(config.update(grown, reason="test")) for _ in range(25)])
        self.assertEqual(config.current().settings.candidate_pool_size, before + 25)
        self.assertEqual(config.current().serial_no, 26)

    async def test_failing_change(self) -> None:
        """A change that raises changes nothing, and others that wait are made."""
        config = await self._config()

        def refuse(value: Cluster) -> Cluster:
            raise PrereqError("no")

        first = _deferred(config.update(lambda value: with_instance(value, "a"), reason="test"))
        second = _deferred(config.update(refuse, reason="test"))
        third = _deferred(config.update(lambda value: with_instance(value, "b"), reason="test"))
        await first
        with self.assertRaises(PrereqError):
            await second
        await third
        self.assertEqual(len(config.current().instances), 5)

    async def test_taken_name(self) -> None:
        """Two instances cannot get one name."""
        config = await self._config()
        with self.assertRaises(PrereqError):
            await config.update(
                lambda value: changed_instance(value, "inst1", name="inst2.example.com"), reason="test"
            )

    async def test_no_change(self) -> None:
        """A change that changes nothing leaves the very same value."""
        config = await self._config()
        old = config.current()
        self.assertIs(await config.update(lambda value: value, reason="test"), old)
        same = await config.update(lambda value: changed_instance(value, "inst1", os="noop"), reason="test")
        self.assertIs(same, old)

    async def test_subscribe(self) -> None:
        """Subscribers are told of each change, with the value before and after, until they leave."""
        config = await self._config()
        told: list[tuple[int, int]] = []
        leave = config.subscribe(lambda old, new, _: told.append((old.serial_no, new.serial_no)))
        await config.update(lambda value: with_instance(value, "a"), reason="test")
        await config.update(lambda value: value, reason="test")
        leave()
        await config.update(lambda value: with_instance(value, "b"), reason="test")
        self.assertEqual(told, [(1, 2)])

    async def test_next_change_from_an_answer(self) -> None:
        """Whoever is answered may ask for the next change at once."""
        config = await self._config()

        async def twice(names: tuple[str, str]) -> None:
            for name in names:
                await config.update(lambda value: with_instance(value, name), reason="test")  # noqa: B023

        await gatherResults([_deferred(twice(names)) for names in (("a", "b"), ("c", "d"))])
        self.assertEqual(len(config.current().instances), 7)


def _deferred(waiting: Awaitable[Any]) -> Deferred[Any]:
    async def wait() -> Any:
        return await waiting

    return Deferred.fromCoroutine(wait())
