"""gnt-cluster command and copyfile: on which nodes, by which program, and what is printed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ganeti.cli.on_nodes import _COPY
from ganeti.cli.programs import capture
from tests.unit.cli.cli_fakes import FakeMaster, FakeWorld, failure

NODES: tuple[Mapping[str, Any], ...] = (
    {"name": "n1.x", "offline": False, "role": "M", "sip": "10.1.0.1", "ndp/ssh_port": 22},
    {"name": "n2.x", "offline": False, "role": "C", "sip": "10.1.0.2", "ndp/ssh_port": 2222},
    {"name": "n3.x", "offline": True, "role": "O", "sip": "10.1.0.3", "ndp/ssh_port": 22},
)
LINE = "-" * 48


class NodesCase(SynchronousTestCase):
    """A masterd that knows three nodes, whatever is asked."""

    def setUp(self) -> None:
        """Remember the filters."""
        self.filters: list[Any] = []
        self.rows = list(NODES)
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)

    def world(self, *, codes: tuple[int, ...] = (), output: str = "") -> FakeWorld:
        """A world whose root directory is temporary."""

        def query(what: str, fields: list[str], wanted: Any) -> Any:
            self.filters.append(wanted)
            return {"data": [[[0, row[field]] for field in fields] for row in self.rows]}

        self.master = FakeMaster({"Query": query})
        world = FakeWorld(self.master, environ={"GANETI_ROOTDIR": self.directory.name}, codes=codes)
        world.output = output
        return world

    def shell(self) -> str:
        """Install a local script in place of ssh."""
        path = Path(self.directory.name) / "etc/ganeti/node-shell"
        path.parent.mkdir(parents=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
        return str(path)


class CommandTests(NodesCase):
    """gnt-cluster command."""

    def test_output(self) -> None:
        """The established block for each node, the master last; offline ones are skipped and told."""
        world = self.world(codes=(0, 3), output=" up 5 days\n")
        self.assertEqual(world.run("gnt-cluster command uptime -p"), 0)
        self.assertEqual(
            world.out_text,
            f"{LINE}\nnode: n2.x\n up 5 days\n\nreturn code = 0\n"
            f"{LINE}\nnode: n1.x\n up 5 days\n\nreturn code = 3\n",
        )
        self.assertEqual(world.err_text, "Note: skipping offline node(s): n3.x\n")
        self.assertTrue(self.master.is_closed)

    def test_ssh(self) -> None:
        """It runs over ssh as root, at the port of the node, through its shell."""
        world = self.world()
        world.run("gnt-cluster command", "echo", "$HOME", "|", "wc")
        argv, stdin = world.programs[0]
        self.assertEqual((argv[:2], stdin), (["ssh", "-q"], None))
        self.assertIn("-oBatchMode=yes", argv)
        self.assertEqual(argv[-4:], ["-p", "2222", "root@n2.x", "echo $HOME | wc"])

    def test_local_script(self) -> None:
        """Where there is a script for that, it is used instead."""
        script, world = self.shell(), self.world()
        world.run("gnt-cluster command uptime -p")
        self.assertEqual(world.programs[0][0], [script, "n2.x", "/bin/sh", "-c", "uptime -p"])

    def test_machine_names(self) -> None:
        """With -M every line has the node's name before it."""
        world = self.world(output="a\nb\n")
        world.run("gnt-cluster command -M -- ls")
        self.assertTrue(world.out_text.startswith(f"{LINE}\nn2.x: a\nn2.x: b\nreturn code = 0\n"))

    def test_failure_only(self) -> None:
        """Nodes on which it works are left out."""
        world = self.world(codes=(0, 1))
        world.run("gnt-cluster command --failure-only true")
        self.assertEqual(world.out_text, f"{LINE}\nnode: n1.x\n\nreturn code = 1\n")

    def test_selection(self) -> None:
        """All nodes, some, or those of a group (S2.3-029)."""
        of_group = ["|", ["==", "group", "g1"], ["==", "group.uuid", "g1"]]
        for options, wanted in (
            ("", None),
            ("-n n2", ["==", "name", "n2"]),
            ("-n n2 -n n3", ["|", ["==", "name", "n2"], ["==", "name", "n3"]]),
            ("-g g1", of_group),
            ("--node-group=g1 --node=n2", ["&", ["==", "name", "n2"], of_group]),
        ):
            self.world().run(f"gnt-cluster command {options} true")
            self.assertEqual(self.filters[-1], wanted)

    def test_nobody(self) -> None:
        """A group without nodes, or that does not exist, is named."""
        self.rows = []
        world = self.world()
        self.assertEqual(world.run("gnt-cluster command -g g9 true"), 1)
        self.assertIn("Node group 'g9' does not exist or has none of these nodes", world.err_text)

    def test_unknown_node(self) -> None:
        """An unknown node is refused."""
        world = self.world()
        self.master.answers["Query"] = failure("node n9 is not known", "unknown_entity")
        self.assertEqual(world.run("gnt-cluster command -n n9 true"), 1)
        self.assertIn("n9 is not known", world.err_text)
        self.assertEqual(world.programs, [])

    def test_without_command(self) -> None:
        """Something has to be run."""
        self.assertEqual(self.world().run("gnt-cluster command"), 1)


class CopyTests(NodesCase):
    """gnt-cluster copyfile."""

    def file(self, content: bytes = b"text\n") -> Path:
        """A file below the root directory."""
        path = Path(self.directory.name) / "etc/motd"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o640)
        os.utime(path, (1_600_000_000, 1_600_000_000))
        return path

    def test_other_nodes(self) -> None:
        """It goes to all but the master, to the same place; nothing is printed."""
        world, path = self.world(), self.file()
        self.assertEqual(world.run(f"gnt-cluster copyfile {path}"), 0)
        ((argv, stdin),) = world.programs
        self.assertEqual(stdin, str(path))
        self.assertEqual(argv[-2], "root@n2.x")
        self.assertTrue(argv[-1].endswith("copyfile /etc/motd 640 5 1600000000"), argv[-1])
        self.assertEqual(world.out_text, "")

    def test_replication_network(self) -> None:
        """It can go over the secondary addresses."""
        world = self.world()
        world.run(f"gnt-cluster copyfile --use-replication-network {self.file()}")
        self.assertIn("root@10.1.0.2", world.programs[0][0])

    def test_failure(self) -> None:
        """A failure is told with what the node says; the exit code stays 0."""
        world, path = self.world(codes=(1,), output="disk full\n"), self.file()
        self.assertEqual(world.run(f"gnt-cluster copyfile {path}"), 0)
        self.assertIn(f"Copy of file {path} to node n2.x:2222 failed\ndisk full\n", world.err_text)

    def test_refusals(self) -> None:
        """What is no file of this node is refused before anything is asked."""
        for path, text in (
            ("/nowhere/at/all", "cannot be copied: No such file"),
            (self.directory.name, "is not a file"),
            ("/etc/hostname", f"is not below {self.directory.name}"),
        ):
            world = self.world()
            self.assertEqual(world.run(f"gnt-cluster copyfile {path}"), 1)
            self.assertIn(text, world.err_text)
            self.assertEqual(world.programs, [])

    def take(self, path: Path, root: str, *details: str) -> tuple[int, str]:
        """Run the receiving script itself."""
        argv = ["env", f"GANETI_ROOTDIR={root}", "/bin/sh", "-c", _COPY, "copyfile", "/etc/motd", *details]
        return capture(argv, stdin_path=str(path))

    def test_script(self) -> None:
        """The file arrives with content, mode and time; the old one is replaced as a whole."""
        path = self.file(bytes(range(256)) * 100)
        target = Path(self.directory.name) / "other/etc"
        target.mkdir(parents=True)
        (target / "motd").write_text("old")
        code, said = self.take(path, str(target.parent), "640", "25600", "1600000000")
        self.assertEqual((code, said), (0, ""))
        found = (target / "motd").stat()
        self.assertEqual((found.st_mode & 0o7777, int(found.st_mtime)), (0o640, 1_600_000_000))
        self.assertEqual((target / "motd").read_bytes(), path.read_bytes())
        self.assertEqual(os.listdir(target), ["motd"])

    def test_half_a_file(self) -> None:
        """A part of a file changes nothing, nor does a directory in its place."""
        path = self.file()
        target = Path(self.directory.name) / "other/etc"
        target.mkdir(parents=True)
        (target / "motd").write_text("old")
        code, said = self.take(path, str(target.parent), "640", "999", "1600000000")
        self.assertEqual(code, 1)
        self.assertIn("only a part", said)
        self.assertEqual(((target / "motd").read_text(), os.listdir(target)), ("old", ["motd"]))
        (target / "motd").unlink()
        (target / "motd").mkdir()
        self.assertIn("is a directory", self.take(path, str(target.parent), "640", "5", "1600000000")[1])

    def test_capture(self) -> None:
        """Output and errors come together; a signal is told as by a shell."""
        self.assertEqual(capture(["/bin/sh", "-c", "echo a; echo b >&2; exit 7"]), (7, "a\nb\n"))
        self.assertEqual(capture(["/bin/sh", "-c", "kill -9 $$"])[0], 137)
        self.assertRaises(OSError, capture, ["/nowhere/at/all"])
