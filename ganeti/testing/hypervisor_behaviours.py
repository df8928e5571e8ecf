"""What every hypervisor does: suites that each plugin's tests mix in.

    class AcmeTests(HypervisorBehaviours, MigratableBehaviours, SynchronousTestCase):
        def make_hypervisor(self): return AcmeHypervisor()
        def make_host(self): return FakeHost(self.mktemp())

A third party's hypervisor that passes works with the cluster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from zope.interface.verify import verifyObject

from ganeti.errors import HypervisorError, ParameterError
from ganeti.interfaces import IConsole, IHost, IHypervisor, IMigratable
from ganeti.model.calls.disks import OpenDisk
from ganeti.model.calls.instances import RunningInstance, RunState
from ganeti.model.filled import BackendParams, FilledInstance
from ganeti.model.ids import GroupId, InstanceId, NodeId
from ganeti.model.node import Node
from ganeti.model.params import ParamValues

if TYPE_CHECKING:
    from twisted.trial.unittest import SynchronousTestCase as _TestCase
else:
    _TestCase = object


def filled_instance(
    name: str,
    hypervisor: str,
    hvparams: ParamValues,
    *,
    memory: int = 128,
    vcpus: int = 1,
    node: str = "node1.example.com",
    number: int = 1,
) -> FilledInstance:
    """An instance without disks and networks, as a node is told of it."""
    return FilledInstance(
        uuid=InstanceId(f"00000000-0000-4000-8000-{number:012}"),
        name=name,
        hypervisor=hypervisor,
        os="noop",
        hvparams=hvparams,
        beparams=BackendParams(
            maxmem=memory, minmem=memory, vcpus=vcpus, auto_balance=True, always_failover=False, spindle_use=1
        ),
        primary_node=node,
    )


class HypervisorWorld(_TestCase):
    """What the suites need; subclasses of the suites fill it in."""

    patience_s = 60.0
    """Time that a guest may take to start or to shut down."""

    def make_hypervisor(self) -> Any:
        """A new plugin object; two of them stand for two daemons."""
        raise NotImplementedError

    def make_host(self, number: int = 1) -> IHost:
        """A node of its own for each number."""
        raise NotImplementedError

    def make_instance(self, name: str = "inst1.example.com", number: int = 1) -> FilledInstance:
        """An instance that can run there."""
        hypervisor = self.make_hypervisor()
        return filled_instance(name, hypervisor.name, hypervisor.params.fill(), number=number)

    def make_disks(self, instance: FilledInstance) -> list[OpenDisk]:
        """Its disks, reachable on each host."""
        return []

    def await_guest(self, host: IHost, instance: FilledInstance) -> None:
        """Return when the guest can take a shutdown request."""

    def setUp(self) -> None:
        """One node and its hypervisor."""
        super().setUp()
        self.hypervisor = self.make_hypervisor()
        self.host = self.make_host(1)

    def found(self, host: IHost | None = None) -> dict[str, RunningInstance]:
        """What runs on a node, by name, as a daemon sees it that just started."""
        entries = self.make_hypervisor().list_running(host or self.host)
        return {entry.name: entry for entry in entries}

    def started(self, host: IHost | None = None, name: str = "inst1.example.com") -> FilledInstance:
        """A running instance, ended when the test ends."""
        host = host or self.host
        instance = self.make_instance(name)
        self.ended_later(host, instance)
        self.hypervisor.start(host, instance, self.make_disks(instance))
        return instance

    def ended_later(self, host: IHost, instance: FilledInstance) -> None:
        """End it on this node when the test ends."""
        self.addCleanup(self.hypervisor.stop, host, instance.name, force=True, timeout_s=self.patience_s)


class HypervisorBehaviours(HypervisorWorld):
    """Every hypervisor."""

    def test_interface(self) -> None:
        """The plugin has all that `IHypervisor` asks for."""
        verifyObject(IHypervisor, self.hypervisor)
        if IConsole.providedBy(self.hypervisor):
            verifyObject(IConsole, self.hypervisor)

    def test_parameters(self) -> None:
        """Its own defaults are no contradiction, and unknown names are refused."""
        defaults = self.hypervisor.params.fill()
        self.hypervisor.check_params({**defaults, **self.make_instance().hvparams})
        self.assertRaises(ParameterError, self.hypervisor.params.check, {"no_such_parameter": 1})

    def test_nothing_runs(self) -> None:
        """A node on which nothing was started has nothing."""
        self.assertEqual(self.found(), {})

    def test_start(self) -> None:
        """A started instance is listed with its memory and processors."""
        instance = self.started()
        found = self.found()
        self.assertEqual(set(found), {instance.name})
        entry = found[instance.name]
        self.assertEqual((entry.memory, entry.vcpus), (instance.beparams.maxmem, instance.beparams.vcpus))
        self.assertEqual(entry.state, RunState.RUNNING)

    def test_start_again(self) -> None:
        """Starting what runs does nothing."""
        instance = self.started()
        self.hypervisor.start(self.host, instance, self.make_disks(instance))
        self.assertEqual(list(self.found()), [instance.name])

    def test_start_paused(self) -> None:
        """A paused instance is there and does not run."""
        instance = self.make_instance()
        self.ended_later(self.host, instance)
        self.hypervisor.start(self.host, instance, self.make_disks(instance), paused=True)
        self.assertEqual(self.found()[instance.name].state, RunState.PAUSED)

    def test_two_instances(self) -> None:
        """Instances do not disturb each other."""
        first, second = self.make_instance(), self.make_instance("inst2.example.com", number=2)
        for instance in (first, second):
            self.ended_later(self.host, instance)
            self.hypervisor.start(self.host, instance, ())
        self.hypervisor.stop(self.host, first.name, force=True, timeout_s=self.patience_s)
        self.assertEqual(set(self.found()), {second.name})

    def test_nodes_are_apart(self) -> None:
        """What runs on one node is not seen on another of the same machine."""
        self.started()
        self.assertEqual(self.found(self.make_host(2)), {})

    def test_forced_stop(self) -> None:
        """An instance ended by force is gone at once."""
        instance = self.started()
        self.hypervisor.stop(self.host, instance.name, force=True, timeout_s=self.patience_s)
        self.assertEqual(self.found(), {})

    def test_requested_stop(self) -> None:
        """A guest that is asked to shut down does so, and can be started again."""
        instance = self.started()
        self.await_guest(self.host, instance)
        self.hypervisor.stop(self.host, instance.name, force=False, timeout_s=self.patience_s)
        self.assertEqual(self.found(), {})
        self.hypervisor.start(self.host, instance, self.make_disks(instance))
        self.assertEqual(set(self.found()), {instance.name})

    def test_stop_of_nothing(self) -> None:
        """Stopping what does not run is no error, whether asked or forced."""
        for force in (False, True):
            self.hypervisor.stop(self.host, "inst9.example.com", force=force, timeout_s=1)

    def test_cleanup(self) -> None:
        """Cleaning up after a stopped instance may be repeated and leaves nothing."""
        instance = self.started()
        self.hypervisor.stop(self.host, instance.name, force=True, timeout_s=self.patience_s)
        for _ in range(2):
            self.hypervisor.cleanup(self.host, instance.name)
        self.assertEqual(self.found(), {})

    def test_reboot(self) -> None:
        """A rebooted instance runs."""
        instance = self.started()
        self.await_guest(self.host, instance)
        self.hypervisor.reboot(self.host, instance, self.make_disks(instance))
        self.assertEqual(self.found()[instance.name].state, RunState.RUNNING)

    def test_reboot_of_nothing(self) -> None:
        """What does not run cannot be rebooted, and does not run afterwards."""
        instance = self.make_instance()
        self.assertRaises(HypervisorError, self.hypervisor.reboot, self.host, instance, ())
        self.assertEqual(self.found(), {})

    def test_capacity(self) -> None:
        """A node has memory and processors, and no more free than it has at all."""
        capacity = self.hypervisor.capacity(self.host)
        self.assertGreaterEqual(capacity.memory_total, capacity.memory_free)
        self.assertGreater(capacity.memory_free, 0)
        self.assertGreaterEqual(capacity.cpu_total, 1)

    def test_self_test(self) -> None:
        """Nothing is wrong with a hypervisor whose tests run."""
        self.assertEqual(list(self.hypervisor.self_test(self.host)), [])

    def test_console(self) -> None:
        """A console can be asked for without the node."""
        if not IConsole.providedBy(self.hypervisor):
            return
        instance = self.make_instance()
        node = Node(
            uuid=NodeId("n1"),
            name=self.host.name,
            primary_ip=self.host.primary_ip,
            secondary_ip=self.host.secondary_ip,
            group=GroupId("g1"),
        )
        console = self.hypervisor.console(instance, node, self.host.paths)
        self.assertEqual(console.instance, instance.name)
        self.assertIn(console.kind, ("ssh", "vnc", "spice", "msg"))


class MigratableBehaviours(HypervisorWorld):
    """Hypervisors that can move running instances; needs two hosts that reach the same disks."""

    def setUp(self) -> None:
        """A second node."""
        super().setUp()
        self.target = self.make_host(2)

    def moved(self, *, live: bool = True) -> tuple[FilledInstance, str]:
        """An instance whose memory went to the target; nothing is finished yet."""
        instance = self.started()
        self.await_guest(self.host, instance)
        self.ended_later(self.target, instance)
        self.hypervisor.check_migratable(self.host, instance)
        info = self.hypervisor.migration_info(self.host, instance)
        ip = self.target.secondary_ip
        endpoint = self.hypervisor.accept(self.target, instance, self.make_disks(instance), info, ip)
        self.hypervisor.migrate(self.host, instance, ip, live=live, endpoint=endpoint)
        return instance, info

    def awaited(self, instance: FilledInstance) -> str:
        """How the migration ended."""
        give_up = self.host.now() + self.patience_s
        while True:
            progress = self.hypervisor.progress(self.host, instance)
            if progress.is_over or self.host.now() > give_up:
                return str(progress.status)
            self.host.sleep(0.1)

    def test_migratable_interface(self) -> None:
        """The plugin has all that `IMigratable` asks for."""
        verifyObject(IMigratable, self.hypervisor)

    def test_not_running_cannot_migrate(self) -> None:
        """What does not run is refused with a reason."""
        instance = self.make_instance()
        self.assertRaises(HypervisorError, self.hypervisor.check_migratable, self.host, instance)

    def test_migration(self) -> None:
        """A migrated instance runs on the target only."""
        instance, info = self.moved()
        self.assertEqual(self.awaited(instance), "completed")
        self.hypervisor.finish_source(self.host, instance, success=True, live=True)
        self.hypervisor.finish_target(self.target, instance, info, success=True)
        self.assertEqual(self.found(self.host), {})
        self.assertEqual(self.found(self.target)[instance.name].state, RunState.RUNNING)

    def test_non_live_migration(self) -> None:
        """An instance that was stopped for the move runs again on the target."""
        instance, info = self.moved(live=False)
        self.assertEqual(self.awaited(instance), "completed")
        self.hypervisor.finish_source(self.host, instance, success=True, live=False)
        self.hypervisor.finish_target(self.target, instance, info, success=True)
        self.assertEqual(self.found(self.target)[instance.name].state, RunState.RUNNING)

    def test_finishing_twice(self) -> None:
        """Both ends may be told twice."""
        instance, info = self.moved()
        self.awaited(instance)
        for _ in range(2):
            self.hypervisor.finish_source(self.host, instance, success=True, live=True)
            self.hypervisor.finish_target(self.target, instance, info, success=True)
        self.assertEqual((set(self.found(self.host)), set(self.found(self.target))), (set(), {instance.name}))

    def test_giving_up(self) -> None:
        """A migration that is given up before the end leaves the instance where it was."""
        instance = self.started()
        self.await_guest(self.host, instance)
        self.ended_later(self.target, instance)
        info = self.hypervisor.migration_info(self.host, instance)
        disks = self.make_disks(instance)
        self.hypervisor.accept(self.target, instance, disks, info, self.target.secondary_ip)
        self.hypervisor.cancel(self.host, instance)
        self.hypervisor.finish_target(self.target, instance, info, success=False)
        self.hypervisor.finish_source(self.host, instance, success=False, live=True)
        self.assertEqual(self.found(self.target), {})
        self.assertEqual(self.found(self.host)[instance.name].state, RunState.RUNNING)

    def test_start_after_an_abandoned_migration(self) -> None:
        """What waits for a migration that nobody goes on with does not pass for a running instance."""
        instance = self.started()
        self.await_guest(self.host, instance)
        self.ended_later(self.target, instance)
        info = self.hypervisor.migration_info(self.host, instance)
        disks = self.make_disks(instance)
        self.hypervisor.accept(self.target, instance, disks, info, self.target.secondary_ip)
        self.hypervisor.stop(self.host, instance.name, force=True, timeout_s=self.patience_s)
        self.hypervisor.start(self.target, instance, disks)
        self.assertEqual(self.found(self.target)[instance.name].state, RunState.RUNNING)

    def test_accepting_again(self) -> None:
        """A target that is told again starts afresh and can still receive."""
        instance = self.started()
        self.await_guest(self.host, instance)
        self.ended_later(self.target, instance)
        info = self.hypervisor.migration_info(self.host, instance)
        disks, ip = self.make_disks(instance), self.target.secondary_ip
        for _ in range(2):
            endpoint = self.hypervisor.accept(self.target, instance, disks, info, ip)
        self.assertEqual(self.found(self.target)[instance.name].state, RunState.MIGRATING_IN)
        self.hypervisor.migrate(self.host, instance, ip, live=True, endpoint=endpoint)
        self.assertEqual(self.awaited(instance), "completed")

    def test_paused_stays_paused(self) -> None:
        """An instance that was paused before the move is paused after it."""
        instance = self.make_instance()
        for host in (self.host, self.target):
            self.ended_later(host, instance)
        disks, ip = self.make_disks(instance), self.target.secondary_ip
        self.hypervisor.start(self.host, instance, disks, paused=True)
        info = self.hypervisor.migration_info(self.host, instance)
        endpoint = self.hypervisor.accept(self.target, instance, disks, info, ip)
        self.hypervisor.migrate(self.host, instance, ip, live=True, endpoint=endpoint)
        self.awaited(instance)
        self.hypervisor.finish_source(self.host, instance, success=True, live=True)
        self.hypervisor.finish_target(self.target, instance, info, success=True)
        self.assertEqual(self.found(self.target)[instance.name].state, RunState.PAUSED)

    def test_parameters_of_the_start_count(self) -> None:
        """What was changed after the start has no effect on a move: memory must match."""
        instance = self.started()
        changed = msgspec.structs.replace(
            instance, beparams=msgspec.structs.replace(instance.beparams, vcpus=2)
        )
        self.await_guest(self.host, instance)
        self.ended_later(self.target, instance)
        info = self.hypervisor.migration_info(self.host, instance)
        ip = self.target.secondary_ip
        endpoint = self.hypervisor.accept(self.target, changed, self.make_disks(instance), info, ip)
        self.hypervisor.migrate(self.host, changed, ip, live=True, endpoint=endpoint)
        self.assertEqual(self.awaited(instance), "completed")
