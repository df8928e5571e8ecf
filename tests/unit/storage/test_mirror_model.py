"""Properties of the rules of mirrored disks, under any order of calls and deaths."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import BlockDeviceError
from ganeti.storage.mirror_model import Mirror, MirrorModel

ENDS = ("a", "b")
SIZE = 100
ENDS_DRAWN = st.sampled_from(ENDS)


class MirrorMachine(RuleBasedStateMachine):
    """Two ends on which somebody does anything in any order; writes only reach whom they can reach."""

    def __init__(self) -> None:
        super().__init__()
        self.mirror = Mirror(size_mib=SIZE)
        self.now = 0.0
        self.dead: set[str] = set()
        model = self.model()
        model.create("b", has_newest=False)
        model.create("a", has_newest=True)
        self.mirror = model.mirror

    def model(self) -> MirrorModel:
        """The mirror now."""
        return MirrorModel(
            self.mirror, now=self.now, rate_mib_s=10.0, is_alive=lambda node: node not in self.dead
        )

    def attempt(self, method: str, *arguments: object, **more: object) -> None:
        """Do it; a refusal changes nothing."""
        model = self.model()
        try:
            getattr(model, method)(*arguments, **more)
        except BlockDeviceError:
            return
        self.mirror = model.mirror

    @rule(node=ENDS_DRAWN, as_primary=st.booleans())
    def open(self, node: str, as_primary: bool) -> None:
        """Open an end of a node that is up."""
        if node not in self.dead:
            self.attempt("open", node, other(node), as_primary=as_primary)

    @rule(node=ENDS_DRAWN, method=st.sampled_from(("close", "disconnect", "detach", "attach")))
    def change(self, node: str, method: str) -> None:
        """Change an end of a node that is up."""
        if node not in self.dead:
            self.attempt(method, node)

    @rule(node=ENDS_DRAWN, two=st.booleans())
    def connect(self, node: str, two: bool) -> None:
        """Connect an end of a node that is up."""
        if node not in self.dead:
            self.attempt("connect", node, other(node), two_primaries=two)

    @rule(node=ENDS_DRAWN)
    def die_or_return(self, node: str) -> None:
        """A node goes down, or comes back."""
        self.dead ^= {node}
        self.mirror = self.model().mirror

    @rule(seconds=st.floats(0.1, 30))
    def wait(self, seconds: float) -> None:
        """Time goes by."""
        self.now += seconds
        self.mirror = self.model().mirror

    @invariant()
    def two_primaries_only_connected(self) -> None:
        """Both ends are primary only while each allows it; never because they do not see each other."""
        ends = self.mirror.ends.values()
        if sum(end.is_primary for end in ends) == 2:
            assert all(end.is_open for end in ends)

    @invariant()
    def closed_is_nothing(self) -> None:
        """What is closed is neither primary nor connected."""
        for end in self.mirror.ends.values():
            assert end.is_open or (not end.is_primary and end.peer is None)

    @invariant()
    def degraded_is_told(self) -> None:
        """An end says that it is not degraded only if both have the newest data."""
        for node in ENDS:
            state = self.model().status(node)
            if state is not None and not state.is_degraded:
                assert all(not end.behind_mib and end.is_attached for end in self.mirror.ends.values())


def other(node: str) -> str:
    """The other end."""
    return "b" if node == "a" else "a"


class MirrorModelTests(SynchronousTestCase):
    """`MirrorModel`."""

    def test_any_order(self) -> None:
        """The rules hold in whichever order things happen."""
        run_state_machine_as_test(
            MirrorMachine, settings=settings(max_examples=60, stateful_step_count=30, deadline=None)
        )
