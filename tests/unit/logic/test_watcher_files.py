"""Names and texts of the watcher's files."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import GanetiError
from ganeti.logic.watcher_files import extra_files, group_of_file, merged_status, read_status, status_text
from ganeti.model.ids import GroupId
from tests.unit.logic.test_watcher_decisions import findings, instance

HERE = GroupId("0c7c1f3e-8a4b-4d5e-9f60-718293a4b5c6")
GONE = "ffffffff-8a4b-4d5e-9f60-718293a4b5c6"

STATUS = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9.-]{0,8}", fullmatch=True),
    st.sampled_from(["running", "ERROR_down"]),
    max_size=6,
)


def text(status: dict[str, str]) -> str:
    """A file as it was written."""
    return "".join(f"{name} {word}\n" for name, word in sorted(status.items()))


class StatusTests(SynchronousTestCase):
    """Files for other programs."""

    def test_lines(self) -> None:
        """Sorted lines, each with its end, also the last (S2.3-070)."""
        found = findings(b=instance(), a=instance("ERROR_down"))
        self.assertEqual(status_text(found, {}), "a ERROR_down\nb running\n")
        self.assertEqual(status_text(findings(), {}), "")

    def test_busy(self) -> None:
        """Of an instance that is busy the last known word stays; one never known is left out."""
        found = findings(a=instance(None), b=instance(None), c=instance())
        self.assertEqual(status_text(found, {"a": "running", "gone": "running"}), "a running\nc running\n")

    def test_merge(self) -> None:
        """The newest file decides, in whatever order they are found."""
        files = [(5.0, "a running\nb running\n"), (7.0, "a ERROR_down\n"), (1.0, "b ERROR_up\nc x\n")]
        wanted = "a ERROR_down\nb running\nc x\n"
        self.assertEqual(merged_status(files), wanted)
        self.assertEqual(merged_status(files[::-1]), wanted)

    def test_rubbish(self) -> None:
        """Lines that are none do no harm, also in a file without a last line end."""
        self.assertEqual(
            read_status("a running\n\nx\nb y z\n\0\nc running"), {"a": "running", "c": "running"}
        )

    @given(STATUS, STATUS)
    def test_concatenation(self, one: dict[str, str], other: dict[str, str]) -> None:
        """`cat instance-status.group-*` has every line of every file whole (S2.3-070)."""
        only = {name: word for name, word in other.items() if name not in one}
        both = read_status(text(one) + text(only))
        self.assertEqual(both, {**one, **only})
        self.assertEqual(read_status(merged_status([(1.0, text(one)), (2.0, text(only))])), both)


class NameTests(SynchronousTestCase):
    """Which files belong to which group."""

    def test_groups(self) -> None:
        """Only exact names count."""
        for name, wanted in (
            (f"instance-status.group-{GONE}", GONE),
            (f"watcher.{GONE}.data", GONE),
            (f"watcher.{GONE}.data.damaged", GONE),
            (f"watcher.{GONE}.data.new-12", None),
            (f"watcher.{GONE}", None),
            ("watcher.pause", None),
            ("watcher..data", None),
            ("instance-status", None),
            ("instance-status.group-", None),
            ("instance-status.group-../../x", None),
            (f"x-instance-status.group-{GONE}", None),
            ("watcher." + "-" * 36 + ".data", None),
        ):
            self.assertEqual(group_of_file(name), wanted, name)

    def test_extra(self) -> None:
        """Files of groups that are gone, nothing else (S2.3-071)."""
        names = [f"watcher.{HERE}.data", f"watcher.{GONE}.data", "watcher.pause", "config.data"]
        self.assertEqual(extra_files(names, [HERE]), (f"watcher.{GONE}.data",))

    def test_no_groups(self) -> None:
        """A list of groups that cannot be right removes nothing."""
        self.assertRaises(GanetiError, extra_files, [f"watcher.{GONE}.data"], [])
