"""Instance policies: what contradicts itself, and which instances fit."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import PrereqError
from ganeti.model.ipolicy import (
    DEFAULT_MAX,
    DEFAULT_MIN,
    DEFAULT_POLICY,
    FIGURES,
    InstancePolicy,
    SpecRange,
    check_policy,
    merge_policy,
    policy_from,
    policy_problems,
    violations,
)

SMALL = SpecRange(min=DEFAULT_MIN, max=replace(DEFAULT_MAX, memory_size=512, disk_count=2))
LARGE = SpecRange(min=replace(DEFAULT_MIN, memory_size=4096), max=DEFAULT_MAX)
FITTING: dict[str, Any] = {
    "memory": 256,
    "vcpus": 1,
    "disk_sizes": (1024,),
    "nic_count": 1,
    "spindle_use": 1,
    "template": "plain",
}


def why(policy: InstancePolicy = DEFAULT_POLICY, **changes: Any) -> tuple[str, ...]:
    """Why an instance, fitting but for these figures, does not fit."""
    return violations(policy, **{**FITTING, **changes})


class ViolationTests(SynchronousTestCase):
    """Instances against policies."""

    def test_fits(self) -> None:
        """An ordinary instance fits the built-in policy."""
        self.assertEqual(why(), ())

    def test_each_figure(self) -> None:
        """Each figure that is out of range is told, with its value and the range."""
        cases: tuple[tuple[dict[str, Any], str, str], ...] = (
            ({"memory": 64}, "memory (MiB) is 64", "128 to 32768"),
            ({"vcpus": 9}, "processors is 9", "1 to 8"),
            ({"disk_sizes": ()}, "number of disks is 0", "1 to 16"),
            ({"disk_sizes": (1024, 10)}, "size of disk (MiB) 1 is 10", "1024 to 1048576"),
            ({"nic_count": 0}, "network interfaces is 0", "1 to 8"),
            ({"spindle_use": 13}, "spindle use is 13", "1 to 12"),
        )
        for changes, text, bounds in cases:
            (problem,) = why(**changes)
            self.assertIn(text, problem)
            self.assertIn(bounds, problem)

    def test_several(self) -> None:
        """All that is wrong is told."""
        self.assertEqual(len(why(memory=1, vcpus=0, nic_count=99)), 3)

    def test_template(self) -> None:
        """A template that is not allowed is told with those that are."""
        policy = replace(DEFAULT_POLICY, disk_templates=("drbd",))
        (problem,) = why(policy)
        self.assertIn("plain is not allowed; allowed: drbd", problem)

    def test_diskless(self) -> None:
        """A diskless instance need not have disks."""
        self.assertEqual(why(template="diskless", disk_sizes=()), ())

    def test_one_range_is_enough(self) -> None:
        """An instance that fits one of several ranges fits; otherwise the nearest one is told."""
        policy = replace(DEFAULT_POLICY, minmax=(SMALL, LARGE))
        self.assertEqual(why(policy, memory=512), ())
        self.assertEqual(why(policy, memory=8192, disk_sizes=(1024,) * 5), ())
        (problem,) = why(policy, memory=8192, vcpus=99)
        self.assertIn("processors is 99", problem)

    def test_not_looked_at(self) -> None:
        """Figures that are None are not looked at."""
        self.assertEqual(why(memory=None, vcpus=None, spindle_use=None), ())

    @given(st.integers(0, 40000), st.integers(0, 10))
    def test_range(self, memory: int, vcpus: int) -> None:
        """An instance fits exactly if every figure lies in its range."""
        self.assertEqual(why(memory=memory, vcpus=vcpus) == (), 128 <= memory <= 32768 and 1 <= vcpus <= 8)


class PolicyTests(SynchronousTestCase):
    """Policies themselves."""

    def test_default(self) -> None:
        """The built-in policy is in order."""
        check_policy(DEFAULT_POLICY)

    def test_contradictions(self) -> None:
        """Ranges that run backwards, a standard outside, no range, no template, small ratios."""
        backwards = SpecRange(min=DEFAULT_MAX, max=DEFAULT_MIN)
        cases = (
            (replace(DEFAULT_POLICY, minmax=(backwards,)), "at least 32768 but at most 128"),
            (replace(DEFAULT_POLICY, minmax=(LARGE,)), "memory-size 128 (4096 to 32768)"),
            (replace(DEFAULT_POLICY, minmax=()), "no range"),
            (replace(DEFAULT_POLICY, disk_templates=()), "no disk template"),
            (replace(DEFAULT_POLICY, vcpu_ratio=0.5), "vcpu-ratio is 0.5"),
            (replace(DEFAULT_POLICY, spindle_ratio=0.0), "spindle-ratio"),
        )
        for policy, text in cases:
            error = self.assertRaises(PrereqError, check_policy, policy)
            self.assertIn(text, str(error))

    def test_standard_in_one_range(self) -> None:
        """The standard size has to lie in one range only."""
        self.assertEqual(policy_problems(replace(DEFAULT_POLICY, minmax=(LARGE, SMALL))), ())

    def test_partial(self) -> None:
        """`std` is merged figure by figure, other keys are replaced."""
        merged = merge_policy(DEFAULT_POLICY, {"std": {"cpu-count": 4}, "disk-templates": ["drbd"]})
        self.assertEqual((merged.std.cpu_count, merged.std.memory_size), (4, 128))
        self.assertEqual((merged.disk_templates, merged.minmax), (("drbd",), DEFAULT_POLICY.minmax))

    def test_from_user(self) -> None:
        """Unknown keys and wrong types are refused for the operator."""
        bad: tuple[dict[str, Any], ...] = (
            {"stdd": {}},
            {"vcpu-ratio": "x"},
            {"std": {"colour": 1}},
            {"std": 5},
            {"minmax": [{}]},
        )
        for partial in bad:
            self.assertRaises(PrereqError, policy_from, DEFAULT_POLICY, partial)
        self.assertEqual(policy_from(DEFAULT_POLICY, {"vcpu-ratio": 2}).vcpu_ratio, 2.0)

    def test_figures(self) -> None:
        """Every figure of a spec has a name for messages."""
        self.assertEqual({name.replace("-", "_") for name in FIGURES}, set(DEFAULT_MIN.__struct_fields__))
