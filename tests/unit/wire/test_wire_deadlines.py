"""Waits on one connection, with one timer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ganeti.wire.deadlines import Deadlines


class DeadlineTests(SynchronousTestCase):
    """Calls come neither too early nor twice."""

    def setUp(self) -> None:
        """No waits."""
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock)
        self.late: list[str] = []

    def add(self, name: str, seconds: float) -> int:
        """A wait."""
        return self.deadlines.add(seconds, lambda: self.late.append(name))

    def test_late(self) -> None:
        """Whoever waits too long is called then, the one with the shorter time first."""
        self.add("slow", 10)
        self.add("quick", 2)
        self.clock.advance(1.9)
        self.assertEqual(self.late, [])
        self.clock.advance(0.2)
        self.assertEqual(self.late, ["quick"])
        self.clock.advance(8)
        self.assertEqual(self.late, ["quick", "slow"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_over(self) -> None:
        """A wait that is over is not called; the timer for it goes off once and is gone."""
        self.deadlines.over(self.add("done", 2))
        self.clock.advance(3)
        self.assertEqual((self.late, self.clock.getDelayedCalls()), ([], []))

    def test_one_timer(self) -> None:
        """A thousand waits have one timer."""
        for number in range(1000):
            self.add(str(number), 15)
            self.clock.advance(0.001)
        self.assertEqual(len([call for call in self.clock.getDelayedCalls() if call.active()]), 1)

    def test_stop(self) -> None:
        """After the end of the connection nobody is called, and no timer is left."""
        self.add("one", 1)
        self.deadlines.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(2)
        self.assertEqual(self.late, [])

    def test_ended_by_another(self) -> None:
        """Who is called may end other waits, and begin new ones."""
        numbers: list[int] = []

        def end_the_others() -> None:
            self.late.append("first")
            self.deadlines.over(numbers[0])
            self.add("new", 1)

        self.deadlines.add(1, end_the_others)
        numbers.append(self.add("second", 1))
        self.clock.advance(1)
        self.assertEqual(self.late, ["first"])
        self.clock.advance(1)
        self.assertEqual(self.late, ["first", "new"])

    @given(
        st.lists(
            st.tuples(st.floats(0, 20), st.floats(0.1, 30), st.none() | st.floats(0, 40)),
            min_size=1,
            max_size=20,
        )
    )
    def test_as_with_a_timer_for_each(self, waits: list[tuple[float, float, float | None]]) -> None:
        """Those are called that are not over in their time, and in a hundredth of a second."""
        clock = Clock()
        deadlines = Deadlines(clock)
        called: dict[int, float] = {}

        def begin(index: int, seconds: float, lasts: float | None) -> None:
            number = deadlines.add(seconds, lambda: called.setdefault(index, clock.seconds()))
            if lasts is not None:
                clock.callLater(lasts, deadlines.over, number)

        expected = {}
        for index, (start, seconds, lasts) in enumerate(waits):
            clock.callLater(start, begin, index, seconds, lasts)
            if lasts is None or lasts > seconds + 0.02:
                expected[index] = start + seconds
        clock.pump([0.01] * 5100)
        for index, at in expected.items():
            self.assertLess(abs(called[index] - at), 0.03)
        early = {
            index
            for index, (_, seconds, lasts) in enumerate(waits)
            if lasts is not None and lasts < seconds - 0.02
        }
        self.assertEqual(early & set(called), set())
