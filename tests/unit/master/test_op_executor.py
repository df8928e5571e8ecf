"""One opcode through its phases: locks, facts, checks, hooks, work."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ganeti.errors import CommandFailed, ErrorCode, NodeUnreachable, PrereqError
from ganeti.interfaces import IConfig, IFeedback, IHooks, IJobs, IJobStore
from ganeti.master.hooks import NodeHooks
from ganeti.master.job_feedback import JobFeedback
from ganeti.master.op_executor import _CountingConfig
from ganeti.model.calls.outcome import Answer, NodeFailed
from ganeti.model.calls.system import HookResult, HooksRunner
from ganeti.model.cluster import Cluster
from ganeti.model.job import JobStatus
from ganeti.model.locks import LockLevel, LockPlan, exclusive
from ganeti.ops.base import Context
from ganeti.testing.clusters import changed_instance, node_id, with_instance, with_node
from ganeti.testing.config import MemoryConfig
from ganeti.testing.jobs import JobWorld, MemoryHooks, MemoryJobStore, Probe
from ganeti.testing.nodes import FakeNodes

INST = "inst1.example.com"


async def touch(ctx: Context) -> None:
    """Change the configuration."""
    await ctx.config.update(lambda cluster: changed_instance(cluster, INST, os="other"), reason="test")


def plan(*names: str) -> LockPlan:
    """These instances, exclusively."""
    return LockPlan(requests={LockLevel.INSTANCE: exclusive(names)})


class InterfaceTests(SynchronousTestCase):
    """Parts are what they say."""

    def test_provide(self) -> None:
        """Services and fakes provide their interfaces."""
        world = JobWorld()
        job = world.engine.table.get(world.submit(Probe()))
        for interface, thing in (
            (IJobs, world.queue),
            (IJobStore, world.store),
            (IHooks, world.hooks),
            (IHooks, NodeHooks(world.nodes)),
            (IFeedback, JobFeedback(world.engine.table, job, 0, world.clock)),
            (IConfig, _CountingConfig(world.config)),
        ):
            with self.subTest(interface=interface):
                self.assertTrue(verifyObject(interface, thing))


class PhaseTests(SynchronousTestCase):
    """The order of phases."""

    def test_order(self) -> None:
        """Locks on a snapshot and again after the grant, then facts, check, work."""
        world = JobWorld()
        world.submit(Probe())
        world.turn()
        self.assertEqual(world.script().calls, ["locks", "locks", "gather", "check", "run"])

    def test_refused_before_anything_changes(self) -> None:
        """A failing check ends it; nothing ran, the code is kept."""
        world = JobWorld(hooks=True)

        def check(cluster: Cluster) -> None:
            raise PrereqError("stop it first", code=ErrorCode.STATE)

        world.script().check = check
        job = world.submit(Probe())
        world.turn()
        self.assertEqual(world.error(job), ["OpPrereqError", ["stop it first", "wrong_state"]])
        self.assertEqual((world.script().calls[-1], world.hooks.runs), ("check", []))

    def test_no_such_object(self) -> None:
        """What `locks` refuses fails the job before it runs."""
        world = JobWorld()

        def locks(cluster: Cluster) -> LockPlan:
            raise PrereqError("no such instance", code=ErrorCode.UNKNOWN)

        world.script().locks = locks
        job = world.submit(Probe())
        world.turn()
        self.assertEqual(world.error(job)[1], ["no such instance", "unknown_entity"])
        self.assertNotIn("running", world.store.statuses(job))

    def test_dry_run(self) -> None:
        """Checks and pre hooks only; the result is that of the dry run."""
        world = JobWorld(hooks=True)
        world.script().dry_run_result = ["would do it"]
        job = world.submit(Probe(dry_run=True))
        world.turn()
        self.assertEqual(world.job(job).ops[0].result_value(), ["would do it"])
        self.assertEqual(world.script().calls[-1], "check")
        self.assertEqual([run[1] for run in world.hooks.runs], ["pre"])

    def test_results(self) -> None:
        """Values, tuples and structs are stored as JSON; what is none fails the job."""
        world = JobWorld()
        outcome = HookResult(script="x", code=2, output="")
        for result, stored in (
            (None, None),
            ((1, "x"), [1, "x"]),
            (outcome, {"script": "x", "code": 2, "output": ""}),
        ):
            world.script().gives(result)
            job = world.submit(Probe())
            world.turn()
            self.assertEqual(world.job(job).ops[0].result_value(), stored)
        world.script().gives(object())
        job = world.submit(Probe())
        world.turn()
        self.assertEqual(world.error(job)[0], "OpResultError")

    def test_locks_are_released(self) -> None:
        """However it ends, nothing stays locked."""
        world = JobWorld()
        for error in (None, CommandFailed("x"), PrereqError("y")):
            if error is not None:
                world.script().fails(error)
            world.submit(Probe(instance=INST))
            world.turn()
        self.assertEqual([row for row in world.locks.pending() if row["mode"]], [])


class ReplanTests(SynchronousTestCase):
    """The configuration changes while locks are waited for."""

    def waiting(self, second_plan: Any) -> tuple[JobWorld, Any, int]:
        """A job whose plan changes while it waits for the first lock."""
        world = JobWorld()
        held = world.script("a").hold()
        world.submit(Probe(name="a", instance=INST))
        world.turn()
        plans = [plan(INST)]
        world.script("b").locks = lambda cluster: plans[-1]
        job = world.submit(Probe(name="b"))
        world.turn()
        plans.append(second_plan)
        return world, held, job

    def test_more_is_locked(self) -> None:
        """It lets go, and takes the plan that covers both."""
        world, held, _ = self.waiting(plan("inst2.example.com"))
        seen: list[frozenset[str]] = []

        async def run(ctx: Context) -> None:
            seen.append(ctx.held.names(LockLevel.INSTANCE))

        world.script("b").run = run
        held.callback(None)
        world.turn()
        self.assertEqual(seen, [frozenset({INST, "inst2.example.com"})])
        self.assertEqual(world.script("b").calls.count("locks"), 3)

    def test_bounded(self) -> None:
        """A plan that never comes to rest is an error, not an endless loop."""
        world = JobWorld()
        names = iter(f"inst{n}.example.com" for n in (1, 2, 3, 4, 1, 2, 3, 4, 1, 2))

        def locks(cluster: Cluster) -> LockPlan:
            return LockPlan(add={LockLevel.INSTANCE: frozenset({f"new{next(counter)}"})})

        counter = iter(range(100))
        world.script().locks = locks
        job = world.submit(Probe())
        world.turn()
        self.assertIn("again and again", world.error(job)[1][0])
        self.assertEqual([row for row in world.locks.pending() if row["mode"]], [])
        del names

    def test_object_is_gone(self) -> None:
        """A lock that vanished leads to the reason that `locks` gives then."""
        world = JobWorld()

        def locks(cluster: Cluster) -> LockPlan:
            if world.script().calls.count("locks") > 1:
                raise PrereqError("it was removed", code=ErrorCode.UNKNOWN)
            return plan("gone.example.com")

        world.script().locks = locks
        job = world.submit(Probe())
        world.turn()
        self.assertEqual(world.error(job)[1][0], "it was removed")

    def test_name_is_being_taken(self) -> None:
        """Two jobs that create the same object: the second one fails as if it existed."""
        world = JobWorld()
        adding = LockPlan(add={LockLevel.INSTANCE: frozenset({"new.example.com"})})
        for name in "ab":
            world.script(name).locks = lambda cluster: adding
        world.script("a").hold()
        world.submit(Probe(name="a"))
        world.turn()
        job = world.submit(Probe(name="b"))
        world.turn()
        self.assertEqual(world.error(job)[1][1], "already_exists")


class HookTests(SynchronousTestCase):
    """Scripts before and after (plugins.md section 3)."""

    def test_environment(self) -> None:
        """Both phases get the established variables, the second one also those of afterwards."""
        world = JobWorld(hooks=True)

        async def run(ctx: Context) -> None:
            await ctx.config.update(lambda cluster: with_instance(cluster, "new"), reason="test")

        world.script("x").run = run
        world.submit(Probe(name="x"))
        world.turn()
        (path, phase, nodes, env), post, update = world.hooks.runs
        self.assertEqual((path, phase, nodes), ("probe", "pre", ("node1.example.com",)))
        expected = {
            "PATH": "/sbin:/bin:/usr/sbin:/usr/bin",
            "GANETI_HOOKS_VERSION": "2",
            "GANETI_OP_CODE": "OP_TEST_PROBE",
            "GANETI_DATA_DIR": "/data",
            "GANETI_HOOKS_PHASE": "pre",
            "GANETI_HOOKS_PATH": "probe",
            "GANETI_OBJECT_TYPE": "CLUSTER",
            "GANETI_CLUSTER": "cluster.example.com",
            "GANETI_MASTER": "node1.example.com",
            "GANETI_OP_TARGET": "x",
            "GANETI_COUNT": "4",
        }
        self.assertEqual(env, expected)
        after = {"GANETI_POST_OP_TARGET": "x", "GANETI_POST_COUNT": "5", "GANETI_HOOKS_PHASE": "post"}
        self.assertEqual(post[3], {**expected, **after})
        told = {**expected, "GANETI_HOOKS_PHASE": "post", "GANETI_HOOKS_PATH": "config-update"}
        self.assertEqual((update[:3], update[3]), (("config-update", "post", nodes), told))

    def test_pre_hook_refuses(self) -> None:
        """A failing script aborts, with node, script and output; nothing is done."""
        world = JobWorld(hooks=True)
        failed = HookResult(script="probe-pre.d/check", code=1, output="no way")
        world.hooks.answers["probe", "pre"] = {node_id(1): Answer((failed,))}
        job = world.submit(Probe())
        world.turn()
        failure = ["node1.example.com", "probe-pre.d/check", "no way"]
        self.assertEqual(world.error(job), ["HooksAbort", [[failure]]])
        self.assertNotIn("run", world.script().calls)

    def test_skipped_script(self) -> None:
        """A skipped script is no failure."""
        world = JobWorld(hooks=True)
        skipped = HookResult(script="probe-pre.d/x.bak", code=0, output="")
        world.hooks.answers["probe", "pre"] = {node_id(1): Answer((skipped,))}
        job = world.submit(Probe())
        world.turn()
        self.assertEqual(world.status(job), JobStatus.SUCCESS)

    def test_unreachable_node(self) -> None:
        """A node that cannot be asked is mentioned and stops nothing."""
        world = JobWorld(hooks=True)
        world.hooks.answers["probe", "pre"] = {node_id(1): NodeFailed(NodeUnreachable("no route"))}
        job = world.submit(Probe())
        world.turn()
        self.assertEqual(world.status(job), JobStatus.SUCCESS)
        self.assertIn("no route", world.job(job).log_after(0)[0].message)

    def test_no_answer_at_all(self) -> None:
        """Nothing at all where nodes were to be asked is an error."""
        world = JobWorld(hooks=True)
        world.hooks.answers["probe", "pre"] = {}
        job = world.submit(Probe())
        world.turn()
        self.assertEqual(world.error(job)[0], "HooksFailure")

    def test_post_hook_complains(self) -> None:
        """A failing script afterwards is a warning in the log of the job."""
        world = JobWorld(hooks=True)
        failed = HookResult(script="probe-post.d/mail", code=1, output="no mail")
        world.hooks.answers["probe", "post"] = {node_id(1): Answer((failed,))}
        job = world.submit(Probe())
        world.turn()
        self.assertEqual(world.status(job), JobStatus.SUCCESS)
        self.assertIn("probe-post.d/mail", world.job(job).log_after(0)[0].message)

    def test_hooks_are_judged(self) -> None:
        """An operation may change its result in view of what the post hooks said."""
        world = JobWorld(hooks=True)
        world.script().gives(True)
        world.script().judge = lambda result, outcomes: [result, sorted(outcomes)]
        job = world.submit(Probe())
        world.turn()
        self.assertEqual(world.job(job).ops[0].result_value(), [True, [node_id(1)]])

    def test_config_update(self) -> None:
        """It runs for every opcode that changed the configuration, also one that failed then."""
        world = JobWorld()

        async def run(ctx: Context) -> None:
            await touch(ctx)
            raise CommandFailed("after the change")

        world.script("a").run = run
        world.submit(Probe(name="a"))
        world.submit(Probe(name="b"))
        world.turn()
        self.assertEqual([run[:2] for run in world.hooks.runs], [("config-update", "post")])
        self.assertNotIn("GANETI_OBJECT_TYPE", world.hooks.runs[0][3])

    def test_offline_nodes_are_left_out(self) -> None:
        """They are not asked and not mentioned."""
        nodes = FakeNodes()
        nodes.answer(HooksRunner, ())
        config = MemoryConfig(with_node(JobWorld().config.current(), "node2", offline=True))
        wanted = list(config.current().nodes.values())
        world = JobWorld()
        outcomes = world.result(NodeHooks(nodes).run("x", "pre", wanted, {}))
        self.assertEqual(set(outcomes), {node_id(1), node_id(3)})

    def test_fakes(self) -> None:
        """The fakes are there for others, too."""
        self.assertTrue(verifyObject(IHooks, MemoryHooks()))
        self.assertTrue(verifyObject(IJobStore, MemoryJobStore()))
