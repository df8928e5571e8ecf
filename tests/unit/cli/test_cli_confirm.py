"""Questions on the terminal."""

from __future__ import annotations

import io

from twisted.trial.unittest import SynchronousTestCase

from ganeti.cli.confirm import converse, wrapped

CHOICES = (("y", "Yes, do it"), ("n", "No, do not"))


def talk(answers: str) -> tuple[str, str]:
    """What was chosen and what was shown."""
    shown = io.StringIO()
    return converse("Really?", CHOICES, io.StringIO(answers), shown), shown.getvalue()


class ConverseTests(SynchronousTestCase):
    """One character and Enter."""

    def test_yes(self) -> None:
        """Upper case counts, too."""
        self.assertEqual(talk("Y\n"), ("y", "Really?\ny/[n]/?: "))

    def test_words_are_not_understood(self) -> None:
        """`yes` and an empty answer ask again."""
        chosen, shown = talk("yes\n\nn\n")
        self.assertEqual((chosen, shown.count("Really?")), ("n", 3))

    def test_help(self) -> None:
        """A question mark explains the letters."""
        _, shown = talk("?\ny\n")
        self.assertIn(" y - Yes, do it\n n - No, do not\n", shown)

    def test_end_of_input(self) -> None:
        """Who hangs up said no."""
        self.assertEqual(talk("")[0], "n")

    def test_wrapped(self) -> None:
        """Long texts are wrapped at 70 columns, line breaks stay."""
        lines = wrapped("word " * 20 + "\nsecond").split("\n")
        self.assertLessEqual(max(map(len, lines)), 70)
        self.assertEqual(lines[-1], "second")
