"""Names and texts of users: what could break out of a line, a directory or an environment is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import GanetiError, PrereqError, TypeEnforcementError
from ganeti.logic.os_definition import PARAMETER_NAME
from ganeti.logic.settings_changes import check_directory
from ganeti.logic.tags import check_tag
from ganeti.model.calls.base import NodeCall
from ganeti.model.calls.disks import StorageDirCreate, StorageDirRemove
from ganeti.model.calls.os import OsValidate
from ganeti.model.calls.system import AllocatorRunner, HooksRunner, UploadFile, UploadState, WriteSsconf
from ganeti.model.ids import GROUP_NAME, PLUGIN_NAME, is_host_name
from ganeti.model.param_tables.hv_kvm import KVM
from ganeti.model.paths import Paths
from ganeti.node.backend.registry import functions, load_all
from ganeti.ops.instance.create_checks import normalised_name
from ganeti.testing.node_world import WithNode

ODD = ("", "../x", "a/b", "..", "/etc", "a b", "a\n", "a\nb", "a\0", "a;b", "$(a)", "`a`", "-", "é")
"""No name of anything may be one of these, but for a minus in some places."""


class NameTests(SynchronousTestCase):
    """Patterns of names."""

    def test_host_names(self) -> None:
        """Names of instances and nodes are host names and nothing else."""
        for odd in ODD:
            with self.subTest(odd=odd):
                self.assertFalse(is_host_name(odd))
        self.assertTrue(is_host_name("web-1.example.com"))

    def test_instance_names(self) -> None:
        """An instance cannot be given a name that is a path or has control characters inside."""
        for odd in ("../../x", "a/b", "a\nb.example.com", "a\0b", "-a", "a..b"):
            with self.subTest(odd=odd):
                self.assertRaises(PrereqError, normalised_name, odd)

    def test_patterns(self) -> None:
        """OS definitions, allocators, groups, OS parameters: no slash, no line break, also not at the end."""
        for pattern in (PLUGIN_NAME, GROUP_NAME, PARAMETER_NAME):
            for odd in set(ODD) - {"-", ".."}:
                with self.subTest(pattern=pattern.pattern, odd=odd):
                    self.assertIsNone(pattern.match(odd))

    def test_tags(self) -> None:
        """Tags stand in a file, a line each."""
        for odd in ("", "a b", "a\n", "a\0", "x" * 129):
            with self.subTest(odd=odd):
                self.assertRaises(GanetiError, check_tag, odd)


class TextTests(SynchronousTestCase):
    """Values that may be nearly anything."""

    def test_parameters_are_one_line(self) -> None:
        """A hypervisor parameter cannot bring a second line into ssconf files, or end an environment."""
        for odd in ("ro\nkvm_path=/tmp/evil", "a\0b", "a\rb", "\x1b[2J"):
            with self.subTest(odd=odd):
                error = self.assertRaises(TypeEnforcementError, KVM.check, {"kernel_args": odd})
                self.assertIn("kernel_args", str(error))
        self.assertEqual(KVM.check({"kernel_args": "ro é"}), {"kernel_args": "ro é"})

    def test_directories_of_the_cluster(self) -> None:
        """They are absolute and plain, or empty."""
        for odd in ("relative", "/srv/../etc", "/srv//x", "/srv/a\nb"):
            with self.subTest(odd=odd):
                error = self.assertRaises(PrereqError, check_directory, odd, "file_storage_dir")
                self.assertIn("file_storage_dir", str(error))
        for fine in ("", "/srv/ganeti/file-storage"):
            check_directory(fine, "file_storage_dir")


class NodeFunctionTests(WithNode, SynchronousTestCase):
    """Node functions do not rely on the master: what leads out of their directories is refused."""

    def setUp(self) -> None:
        """All functions of a node."""
        super().setUp()
        load_all()

    def refusal(self, call: NodeCall[Any]) -> GanetiError:
        """The error with which a function ends."""
        function: Callable[..., Any] = functions()[call.function()].function
        error: GanetiError = self.assertRaises(GanetiError, function, call, self.node)
        return error

    def evil(self, path: str) -> str:
        """A program outside of all directories that leaves a mark when it is run."""
        return self.write(f"{self.directory}/{path}", f"#!/bin/sh\ntouch {self.directory}/ran\n", mode=0o755)

    def tearDown(self) -> None:
        """Whatever was tried, nothing was run."""
        self.assertFalse(os.path.exists(f"{self.directory}/ran"))

    def test_os_names(self) -> None:
        """An OS is looked up in the search path only, whatever its name or variant."""
        outside = f"{self.directory}/evil"
        for script in ("create", "import", "export", "rename", "verify"):
            self.evil(f"evil/{script}")
        self.write(f"{outside}/ganeti_api_version", "20\n")
        self.write(f"{outside}/parameters.list", "")
        climb = "../" * 12
        for name in (f"{climb}{outside}", outside, "../evil", "noop/../../evil", "evil\n", ".", "", "+x"):
            for variant in ("", "+default", "+../../x"):
                with self.subTest(name=name, variant=variant):
                    call = OsValidate(name=name + variant, required=True, parameters={})
                    self.assertIn("not there", str(self.refusal(call)))

    def test_allocator_names(self) -> None:
        """An external allocator is looked up in the search path only."""
        self.evil("evil")
        for name in ("../evil", f"{self.directory}/evil", "evil\n", "", ".", "evil;true", "-h"):
            with self.subTest(name=name):
                self.assertIn("not there", str(self.refusal(AllocatorRunner(name=name, request="{}"))))

    def test_hook_paths(self) -> None:
        """Hooks are run from directories of their own only, scripts with odd names never."""
        self.evil("node1/etc/ganeti/hooks/x-pre.d/odd name")
        self.evil("node1/etc/ganeti/hooks/x-pre.d/a.sh")
        self.evil("node1/etc/ganeti/hooks/x-pre.d/a;b")
        for path, phase in (("../x", "pre"), ("a/b", "pre"), ("", "pre"), ("x", "../../x"), ("x\n", "pre")):
            with self.subTest(path=path, phase=phase):
                self.refusal(HooksRunner(hpath=path, phase=phase, env={}))
        world = functions()["hooks_runner"].function(HooksRunner(hpath="x", phase="pre", env={}), self.node)
        self.assertEqual({each.code for each in world}, {0}, "all are skipped")

    def test_storage_directories(self) -> None:
        """Directories outside of the allowed ones are neither made nor removed, also by way of a link."""
        os.mkdir(f"{self.directory}/outside")
        os.symlink(f"{self.directory}/outside", f"{self.images}/link")
        for path in (
            f"{self.directory}/outside/x",
            f"{self.images}/../outside/x",
            f"{self.images}/link/x",
            f"{self.images}x",
            "/etc/x",
            "images/x",
            f"{self.images}/a\0b",
        ):
            for call in (StorageDirCreate(path=path), StorageDirRemove(path=path)):
                with self.subTest(call=call):
                    self.refusal(call)
        self.assertEqual(os.listdir(f"{self.directory}/outside"), [])

    def test_uploads(self) -> None:
        """Only listed files are taken, by their exact names."""
        data = Paths().data_dir
        for path in (
            f"{data}/../../../etc/passwd",
            f"{data}//hmac.key",
            f"{data}/./hmac.key",
            f"{data}/hmac.key\n",
            f"{data}/queue/job-1",
            f"{data}/server.pem",
            Paths().file_storage_paths,
            "/etc/shadow",
            "hmac.key",
        ):
            with self.subTest(path=path):
                self.refusal(UploadFile(path=path, data=b"x", mode=0o644))
        for name in ("../x", "a/b", "a\n", "", "A"):
            with self.subTest(name=name):
                self.refusal(WriteSsconf(values={name: "x\n"}))

    def test_state(self) -> None:
        """A copy of the master's state has its files only."""
        for name in ("../x", "queue/../../x", "queue/job-0", "queue/lock", "server.pem", "queue/job-1\n"):
            with self.subTest(name=name):
                self.refusal(UploadState(generation=1, files={name: b"x"}))

    def test_environment(self) -> None:
        """A text that no environment can carry fails the one run, with words."""
        self.evil("node1/etc/ganeti/hooks/y-pre.d/hook")
        call = HooksRunner(hpath="y", phase="pre", env={"GANETI_X": "a\0b"})
        (result,) = functions()["hooks_runner"].function(call, self.node)
        self.assertIn("NUL", result.output)
