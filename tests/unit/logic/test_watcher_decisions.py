"""Decisions of the watcher: limits, records, boots, disks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import GanetiError
from ganeti.logic.watcher import (
    EXPIRES_S,
    MAX_CLEANUPS,
    MAX_RESTARTS,
    InstanceRecord,
    NodeRecord,
    Plan,
    WatcherState,
    attempted,
    decide,
    decode_state,
    encode_state,
    has_disks_to_verify,
    rebooted,
    reconnections,
    remembered,
    reported,
    restored,
    settled,
    spacing_s,
    with_boot_ids,
)
from ganeti.model.findings import Findings, InstanceFinding, NodeFinding
from ganeti.model.ids import GroupId

HOUR = 3600.0
WORDS = (
    "running",
    "ERROR_nodeoffline",
    "ERROR_nodedown",
    "ERROR_wrongnode",
    "ERROR_up",
    "USER_down",
    "ERROR_down",
    "ADMIN_down",
    "ADMIN_offline",
    None,
)


def instance(status: str | None = "running", **more: Any) -> InstanceFinding:
    """An instance on nodes a and b."""
    usual: dict[str, Any] = {
        "admin_state": "down" if status == "ADMIN_down" else "up",
        "disks_active": True,
        "disk_template": "drbd",
        "primary": "a",
        "secondaries": ("b",),
        "is_split": False,
    }
    return InstanceFinding(status=status, **{**usual, **more})


def findings(nodes: Mapping[str, NodeFinding] | None = None, **instances: InstanceFinding) -> Findings:
    """A group of two nodes that answered."""
    known = {name: NodeFinding(state="answered", boot_id=f"boot-{name}") for name in ("a", "b")}
    return Findings(group=GroupId("g"), nodes=known if nodes is None else nodes, instances=instances)


def state(**records: InstanceRecord) -> WatcherState:
    """Records of instances."""
    return WatcherState(instance=records)


def run(found: Findings, known: WatcherState, now: float) -> tuple[Plan, WatcherState]:
    """One run of the watcher whose attempts change nothing."""
    plan = decide(found, remembered(found, known, now))
    return plan, attempted(plan.state, plan.restarts, plan.shutdowns, now)


class DecisionTests(SynchronousTestCase):
    """What is done about the states that instances have."""

    def test_states(self) -> None:
        """Only what should run and does not is started, only what its user ended is recorded so."""
        for word in WORDS:
            plan = decide(findings(i=instance(word)), state())
            self.assertEqual(plan.restarts, ("i",) if word == "ERROR_down" else (), word)
            self.assertEqual(plan.shutdowns, ("i",) if word == "USER_down" else (), word)
            self.assertEqual((plan.errors, plan.warnings), ((), ()), word)

    def test_recorded_already(self) -> None:
        """An instance that its user shut down and that is recorded as stopped is well."""
        plan = decide(findings(i=instance("USER_down", admin_state="down")), state(i=InstanceRecord()))
        self.assertEqual((plan.shutdowns, dict(plan.state.instance)), ((), {}))

    def test_recovered(self) -> None:
        """The record of an instance that is well, or not ours to start, is dropped; of a busy one not."""
        record = InstanceRecord(restart_count=3, restart_when=1.0)
        for word in WORDS:
            plan = decide(findings(i=instance(word)), state(i=record))
            kept = word in ("ERROR_down", "USER_down", None)
            self.assertEqual(plan.state.instance, {"i": record} if kept else {}, word)

    def test_restart_limit(self) -> None:
        """Five attempts, then an error once, then warnings."""
        known, now = state(), 1000.0
        seen = []
        for _ in range(8):
            plan, known = run(findings(i=instance("ERROR_down")), known, now)
            seen.append((len(plan.restarts), len(plan.errors), len(plan.warnings)))
            now += 300.0
        self.assertEqual(seen, [(1, 0, 0)] * 5 + [(0, 1, 0)] + [(0, 0, 1)] * 2)

    def test_cleanup_limit(self) -> None:
        """Six attempts to record it as stopped, then warnings."""
        known, now = state(), 1000.0
        seen = []
        for _ in range(8):
            plan, known = run(findings(i=instance("USER_down")), known, now)
            seen.append((len(plan.shutdowns), len(plan.errors), len(plan.warnings)))
            now += 300.0
        self.assertEqual(seen, [(1, 0, 0)] * 6 + [(0, 0, 1)] * 2)

    def test_expiry(self) -> None:
        """Eight hours after the last attempt, of whichever kind, the record is forgotten."""
        now = 100 * HOUR
        for record, kept in (
            (InstanceRecord(restart_count=5, restart_when=now - 8 * HOUR), True),
            (InstanceRecord(restart_count=5, restart_when=now - 8 * HOUR - 1), False),
            (InstanceRecord(cleanup_count=6, cleanup_when=now - 8 * HOUR), True),
            (InstanceRecord(cleanup_count=6, cleanup_when=now - 8 * HOUR - 1), False),
            (InstanceRecord(restart_count=2, restart_when=1.0, cleanup_count=1, cleanup_when=now), True),
            (InstanceRecord(restart_count=2, restart_when=now, cleanup_count=1, cleanup_when=1.0), True),
            (InstanceRecord(restart_count=5, restart_when=now + 8 * HOUR + 1), False),
        ):
            found = remembered(findings(i=instance("ERROR_down")), state(i=record), now)
            self.assertEqual(dict(found.instance), {"i": record} if kept else {}, record)

    def test_starts_anew(self) -> None:
        """An instance that was given up is tried again when its record has expired."""
        given_up = state(i=InstanceRecord(restart_count=6, restart_when=0.0))
        plan, after = run(findings(i=instance("ERROR_down")), given_up, EXPIRES_S + 1)
        self.assertEqual((plan.restarts, after.instance["i"].restart_count), (("i",), 1))

    def test_vanished(self) -> None:
        """Nothing is remembered of instances and nodes that are gone."""
        known = WatcherState(
            instance={"gone": InstanceRecord(restart_count=1, restart_when=0.0)},
            node={"gone": NodeRecord(bootid="x"), "a": NodeRecord(bootid="y")},
        )
        found = remembered(findings(), known, 1.0)
        self.assertEqual(found, WatcherState(node={"a": NodeRecord(bootid="y")}))

    def test_split(self) -> None:
        """An instance whose nodes are in several groups is told of and left alone."""
        record = InstanceRecord(restart_count=1, restart_when=0.0)
        plan = decide(findings(i=instance("ERROR_down", is_split=True)), state(i=record))
        self.assertEqual((plan.restarts, plan.state.instance), ((), {"i": record}))
        self.assertIn("instance i is split", plan.errors[0])

    def test_pending(self) -> None:
        """What a job is to start or stop already is not started or stopped by a second one."""
        found = findings(i=instance("ERROR_down"), j=instance("USER_down"), k=instance("ERROR_down"))
        plan = decide(found, state(), pending={"i", "j"})
        self.assertEqual((plan.restarts, plan.shutdowns), (("k",), ()))

    def test_not_tried(self) -> None:
        """An attempt that could not even be submitted does not count."""
        before = state(i=InstanceRecord(restart_count=1, restart_when=1.0))
        after = attempted(before, ["i", "j", "k"], (), 5.0)
        self.assertEqual(
            restored(after, before, ["i", "j"]),
            state(
                i=InstanceRecord(restart_count=1, restart_when=1.0),
                k=InstanceRecord(restart_count=1, restart_when=5.0),
            ),
        )

    def test_settled(self) -> None:
        """What was recorded as stopped has no record any more."""
        self.assertEqual(
            settled(state(i=InstanceRecord(), j=InstanceRecord()), ["i"]), state(j=InstanceRecord())
        )

    @given(
        words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=120),
        gaps=st.lists(st.floats(1.0, 9 * HOUR), min_size=120, max_size=120),
    )
    def test_any_life(self, words: list[str | None], gaps: list[float]) -> None:
        """Whatever happens to an instance that is never well in between: five starts in any eight hours."""
        known, now = state(), 0.0
        starts: list[float] = []
        stops: list[float] = []
        for word, gap in zip(words, gaps):
            now += gap
            plan, known = run(findings(i=instance(word)), known, now)
            self.assertFalse(set(plan.restarts) & set(plan.shutdowns))
            starts += [now] * len(plan.restarts)
            stops += [now] * len(plan.shutdowns)
            if "i" not in known.instance:
                starts, stops = [], []
            recent = [when for when in starts if now - when < EXPIRES_S]
            self.assertLessEqual(len(recent), MAX_RESTARTS)
            self.assertLessEqual(len([when for when in stops if now - when < EXPIRES_S]), MAX_CLEANUPS)
            self.assertEqual((plan.restarts, plan.shutdowns) != ((), ()), self._is_tried(word, plan))

    def _is_tried(self, word: str | None, plan: Plan) -> bool:
        """Whether an instance in this state and not given up has to be in the plan."""
        return word in ("ERROR_down", "USER_down") and not (plan.errors or plan.warnings)


class DiskTests(SynchronousTestCase):
    """Which disks are activated."""

    def test_boots(self) -> None:
        """A node has booted if its boot is another one than was seen before; unknown is not changed."""
        nodes = {
            "same": NodeFinding(state="answered", boot_id="1"),
            "other": NodeFinding(state="answered", boot_id="2"),
            "new": NodeFinding(state="answered", boot_id="1"),
            "silent": NodeFinding(state="silent"),
            "busy": NodeFinding(state="busy"),
        }
        known = WatcherState(
            node={name: NodeRecord(bootid="1") for name in ("same", "other", "silent", "busy")}
        )
        found = findings(nodes)
        self.assertEqual(rebooted(found, known), ("other",))
        after = {name: record.bootid for name, record in with_boot_ids(found, known).node.items()}
        self.assertEqual(after, {"same": "1", "other": "2", "new": "1", "silent": "1", "busy": "1"})

    def test_reconnections(self) -> None:
        """Instances with that secondary and active disks, unless they were just started or cannot be."""
        found = findings(
            well=instance(),
            stopped=instance("ADMIN_down", disks_active=False),
            maintained=instance("ADMIN_down"),
            elsewhere=instance(secondaries=("c",)),
            started=instance("ERROR_down"),
            busy=instance(None),
            dead=instance("ERROR_nodedown"),
            away=instance("ERROR_nodeoffline"),
            split=instance(is_split=True),
        )
        self.assertEqual(reconnections(found, ["b"], ["started"]), ("maintained", "well"))
        self.assertEqual(reconnections(found, []), ())

    def test_reported(self) -> None:
        """What verification found, without nodes that are down, offline secondaries, strangers."""
        nodes = {"a": NodeFinding(state="answered"), "off": NodeFinding(state="offline")}
        found = findings(
            nodes,
            well=instance(),
            dead=instance("ERROR_nodedown"),
            away=instance("ERROR_nodeoffline"),
            half=instance(secondaries=("off",)),
            busy=instance(None),
            other=instance(),
        )
        names = ["well", "dead", "away", "half", "busy", "stranger", "well"]
        self.assertEqual(reported(found, names), ("well",))

    def test_worth_verifying(self) -> None:
        """Only external storage, or no disks, is not verified."""
        for templates, wanted in (
            ((), False),
            (("ext",), False),
            (("ext", "diskless"), False),
            (("ext", "plain"), True),
            (("drbd",), True),
        ):
            rows = {f"i{number}": instance(disk_template=name) for number, name in enumerate(templates)}
            self.assertEqual(has_disks_to_verify(replace(findings(), instances=rows)), wanted, templates)


class StateTests(SynchronousTestCase):
    """The file of records."""

    def test_shape(self) -> None:
        """The established keys."""
        known = WatcherState(
            instance={
                "i": InstanceRecord(restart_count=2, restart_when=5.5, cleanup_count=1, cleanup_when=6.0)
            },
            node={"a": NodeRecord(bootid="x")},
        )
        self.assertEqual(
            msgspec.json.decode(encode_state(known)),
            {
                "instance": {
                    "i": {"restart_count": 2, "restart_when": 5.5, "cleanup_count": 1, "cleanup_when": 6.0}
                },
                "node": {"a": {"bootid": "x"}},
            },
        )

    def test_empty(self) -> None:
        """A new file has no content."""
        self.assertEqual(decode_state(b""), WatcherState())
        self.assertEqual(decode_state(b"{}"), WatcherState())

    def test_damaged(self) -> None:
        """What is torn, of another shape or no text is an error, never a guess."""
        whole = encode_state(WatcherState(instance={"i": InstanceRecord(restart_count=1, restart_when=1.0)}))
        for data in (
            whole[:-4],
            b"[]",
            b"\0" * 100,
            b"\xff\xfe",
            b'{"instance": {"i": {"restart_count": -1}}}',
            b'{"instance": {"i": {"restart_count": "many"}}}',
            b'{"node": {"a": {}}}',
            b"[" * 5000,
        ):
            self.assertRaises(GanetiError, decode_state, data)

    @given(
        st.dictionaries(
            st.text(max_size=8),
            st.builds(
                InstanceRecord,
                restart_count=st.integers(0, 10),
                restart_when=st.floats(0, 1e10),
                cleanup_count=st.integers(0, 10),
                cleanup_when=st.floats(0, 1e10),
            ),
            max_size=4,
        )
    )
    def test_there_and_back(self, records: dict[str, InstanceRecord]) -> None:
        """What is written is read."""
        known = WatcherState(instance=records)
        self.assertEqual(decode_state(encode_state(known)), known)
        self.assertEqual(encode_state(decode_state(encode_state(known))), encode_state(known))

    def test_records_are_kept(self) -> None:
        """Boots and instances do not push each other out."""
        known = replace(state(i=InstanceRecord(restart_count=1, restart_when=1.0)), node={})
        after = with_boot_ids(findings(i=instance("ERROR_down")), known)
        self.assertEqual((set(after.instance), set(after.node)), ({"i"}, {"a", "b"}))


class SpacingTests(SynchronousTestCase):
    """Children start one after the other."""

    def test_bounded(self) -> None:
        """A second apart while they are few, and all within a minute."""
        self.assertEqual([spacing_s(count) for count in (0, 1, 10, 60, 120)], [1.0, 1.0, 1.0, 1.0, 0.5])
