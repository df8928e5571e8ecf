"""Tests of finding and running OS definitions, the shipped ones among them, with real scripts."""

from __future__ import annotations

import glob
import os
import shutil
from typing import Any
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

import ganeti
from ganeti.errors import CommandFailed, InvalidOperatingSystem
from ganeti.model.calls.os import InstanceOsAdd, InstanceRunRename, OsDiagnose, OsStatus, OsValidate
from ganeti.model.filled import FilledInstance
from ganeti.node.backend.os_runs import new_log, run_script
from ganeti.node.backend.os_scripts import (
    instance_os_add,
    instance_run_rename,
    os_diagnose,
    os_validate,
)
from ganeti.node.backend.os_search import SEARCH_PATH_VARIABLE, find_definition, search_path
from ganeti.node.backend.os_transfer import run_export_script, run_import_script
from ganeti.testing.node_world import WithNode
from ganeti.vcluster.tiny_heartbeats import FIRST_SECTOR, SECTOR, label

EXAMPLES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(ganeti.__file__))), "examples", "os")


class WithOs(WithNode):
    """A node whose first directory with definitions is empty, and whose second has the examples."""

    def setUp(self) -> None:
        """Set the search path."""
        super().setUp()
        self.first = f"{self.directory}/os"
        os.mkdir(self.first)
        before = os.environ.get(SEARCH_PATH_VARIABLE)
        os.environ[SEARCH_PATH_VARIABLE] = f"{self.first}:{EXAMPLES}"
        self.addCleanup(self._restore, before)

    def _restore(self, before: str | None) -> None:
        os.environ.pop(SEARCH_PATH_VARIABLE, None)
        if before is not None:
            os.environ[SEARCH_PATH_VARIABLE] = before

    def define(self, name: str, *, versions: str = "20\n", **scripts: str) -> str:
        """Write a definition whose scripts do nothing, but those given; gives its directory."""
        path = f"{self.first}/{name}"
        self.write(f"{path}/ganeti_api_version", versions)
        self.write(f"{path}/parameters.list", "ns1 name server\n")
        for script in ("create", "import", "export", "rename", "verify"):
            text = scripts.get(script, "exit 0")
            self.write(f"{path}/{script}", f"#!/bin/sh\n{text}\n", mode=0o755)
        return path

    def logs(self) -> list[str]:
        """Logs of OS scripts so far."""
        return sorted(glob.glob(f"{self.host.paths.os_log_dir}/*"))

    def found(self) -> dict[str, OsStatus]:
        """What is diagnosed, by path."""
        return {status.path: status for status in os_diagnose(OsDiagnose(), self.node)}


class SearchTests(WithOs, SynchronousTestCase):
    """Where definitions are, and which of them counts."""

    def test_built_in_path(self) -> None:
        """Without the variable the node's own directories are searched."""
        del os.environ[SEARCH_PATH_VARIABLE]
        self.assertEqual(search_path(self.host), self.host.paths.os_search_path)

    def test_examples(self) -> None:
        """The shipped definitions are found and valid, in all versions that are known."""
        found = self.found()
        noop, tiny = found[f"{EXAMPLES}/noop"], found[f"{EXAMPLES}/tiny"]
        self.assertEqual((noop.valid, noop.message, tiny.valid, tiny.message), (True, "", True, ""))
        self.assertEqual(set(noop.api_versions), {10, 15, 20})
        self.assertEqual(tiny.variants, ("default", "quiet"))
        self.assertEqual([name for name, _ in tiny.parameters], ["greeting", "interval"])
        self.assertEqual(tiny.os_version, "1")

    def test_first_counts(self) -> None:
        """Of two with one name the first is used, the second told as a duplicate."""
        path = self.define("noop")
        self.assertEqual(find_definition(self.host, "noop").path, path)
        found = self.found()
        self.assertTrue(found[path].valid)
        self.assertIn(path, found[f"{EXAMPLES}/noop"].message)
        self.assertFalse(found[f"{EXAMPLES}/noop"].valid)

    def test_broken_first_counts_too(self) -> None:
        """A broken definition is not passed over for a later one of that name."""
        os.unlink(f"{self.define('noop')}/rename")
        error = self.assertRaises(InvalidOperatingSystem, find_definition, self.host, "noop")
        self.assertIn("rename: file is missing", str(error))

    def test_hidden_and_files(self) -> None:
        """Hidden directories and plain files are no definitions."""
        self.define(".hidden")
        self.write(f"{self.first}/README", "text")
        self.assertFalse([path for path in self.found() if path.startswith(self.first)])

    def test_impossible_names(self) -> None:
        """No name leads out of the search path."""
        for name in ("../os/noop", "", ".", "a/b", "noop/", "+x"):
            error = self.assertRaises(InvalidOperatingSystem, find_definition, self.host, name)
            self.assertIn("searched", str(error))

    def test_link_to_nowhere(self) -> None:
        """A script that is a link to nowhere is missing."""
        path = self.define("linked")
        os.unlink(f"{path}/create")
        os.symlink("/nonexistent/create", f"{path}/create")
        self.assertIn("create: file is missing", self.found()[path].message)


class ValidateTests(WithOs, SynchronousTestCase):
    """Checks before anything is installed."""

    def validate(self, name: str, **arguments: Any) -> bool:
        """Call the function."""
        return os_validate(OsValidate(name=name, **arguments), self.node)

    def test_missing(self) -> None:
        """A missing OS is an error only where it is required (S2.2-100)."""
        self.assertFalse(self.validate("nope", required=False, parameters={"x": "1"}))
        self.assertRaises(InvalidOperatingSystem, self.validate, "nope")

    def test_variant(self) -> None:
        """A variant that is not declared is refused unless forced."""
        self.assertTrue(self.validate("tiny+quiet"))
        self.assertRaises(InvalidOperatingSystem, self.validate, "tiny+loud")
        self.assertTrue(self.validate("tiny+loud", force_variant=True))

    def test_unknown_parameter(self) -> None:
        """A parameter that is not declared is refused by name."""
        error = self.assertRaises(InvalidOperatingSystem, self.validate, "tiny", parameters={"colour": "red"})
        self.assertIn("colour", str(error))

    def test_verify_refuses(self) -> None:
        """What verify writes is in the error (S2.2-096)."""
        error = self.assertRaises(InvalidOperatingSystem, self.validate, "tiny", parameters={"interval": "0"})
        self.assertIn("interval must lie between 1 and 3600 seconds, not 0", str(error))

    def test_tiny_parameters(self) -> None:
        """The shipped definition's own checks."""
        for fine in ({}, {"interval": "3600"}, {"interval": ""}, {"greeting": "good morning"}):
            self.assertTrue(self.validate("tiny", parameters=fine))
        for wrong in (
            {"interval": "x"},
            {"interval": "99999"},
            {"greeting": "a\nb"},
            {"greeting": "x" * 101},
        ):
            self.assertRaises(InvalidOperatingSystem, self.validate, "tiny", parameters=wrong)

    def test_call(self) -> None:
        """It gets one argument and nothing of an instance (S2.2-095, S2.2-097)."""
        self.define("spy", verify='echo "arguments: $*"; env | sort; pwd; exit 1')
        error = str(
            self.assertRaises(InvalidOperatingSystem, self.validate, "spy", parameters={"NS1": "a b"})
        )
        self.assertIn("arguments: parameters\n", error)
        self.assertIn("OSP_NS1=a b\n", error)
        self.assertIn(f"{self.first}/spy", error)
        self.assertNotIn("INSTANCE_NAME", error)
        self.assertNotIn(SEARCH_PATH_VARIABLE, error)

    def test_older_version(self) -> None:
        """Before version 20 nothing is asked, whatever the parameters (S2.2-086)."""
        self.define("old", versions="15\n", verify="exit 1")
        self.assertTrue(self.validate("old", parameters={"anything": "1"}))


class CreateTests(WithOs, SynchronousTestCase):
    """Installation and renaming."""

    def install(self, instance: FilledInstance, *, reinstall: bool = False) -> None:
        """Call the function."""
        instance_os_add(InstanceOsAdd(instance=instance, reinstall=reinstall, debug_level=3), self.node)

    def rename(self, instance: FilledInstance, old_name: str) -> None:
        """Call the function."""
        instance_run_rename(InstanceRunRename(instance=instance, old_name=old_name), self.node)

    def first_sector(self, instance: FilledInstance) -> bytes:
        """Label of the first disk."""
        with open(instance.disks[0].logical_id[1], "rb") as disk:
            return disk.read(SECTOR)

    def test_environment(self) -> None:
        """The script gets the established variables and nothing of the daemon's (S2.2-098)."""
        self.define("spy", create='env | sort >env.txt; [ "$#" = 0 ]')
        instance = self.instance(
            self.created_disk(), os="spy", osparams={"ns1": "x"}, osparams_private={"key": "secret"}
        )
        self.install(instance)
        with open(f"{self.first}/spy/env.txt", encoding="utf-8") as stream:
            env = dict(line.rstrip("\n").partition("=")[::2] for line in stream)
        self.assertEqual(env["DISK_0_PATH"], instance.disks[0].logical_id[1])
        self.assertEqual(env["DISK_0_BACKEND_TYPE"], "file:loop")
        self.assertEqual((env["OSP_NS1"], env["OSP_KEY"], env["DEBUG_LEVEL"]), ("x", "secret", "3"))
        self.assertNotIn("INSTANCE_REINSTALL", env)
        extra = set(env) - {"PWD", "OLDPWD", "SHLVL", "_"}
        prefixes = ("DISK_", "NIC_", "OS", "INSTANCE_", "DEBUG_LEVEL", "HYPERVISOR", "PATH")
        self.assertFalse([name for name in extra if not name.startswith(prefixes)])
        self.install(instance, reinstall=True)
        with open(f"{self.first}/spy/env.txt", encoding="utf-8") as stream:
            self.assertIn("INSTANCE_REINSTALL=1\n", stream.read())

    def test_log(self) -> None:
        """Each run has its own log, both outputs in it."""
        self.define("chatty", create="echo to output; echo to error >&2")
        instance = self.instance(os="chatty")
        self.install(instance)
        self.install(instance)
        logs = self.logs()
        self.assertEqual(len(logs), 2)
        self.assertTrue(os.path.basename(logs[0]).startswith("add-chatty-inst1.example.com-2001-09-"))
        with open(logs[0], encoding="utf-8") as stream:
            self.assertEqual(stream.read(), "to output\nto error\n")

    def test_failure(self) -> None:
        """A failure names the log and has its last 20 lines."""
        self.define("broken", create="seq 30; exit 3")
        error = str(self.assertRaises(CommandFailed, self.install, self.instance(os="broken")))
        self.assertIn("exit code 3", error)
        self.assertIn(self.logs()[0], error)
        self.assertEqual(error.splitlines()[1:], [str(number) for number in range(11, 31)])

    def test_too_long(self) -> None:
        """A script that does not end in time is ended, and the error says so."""
        self.define("slow", create="echo before; sleep 30")
        definition = find_definition(self.host, "slow")
        log = new_log(self.host, "add", "slow", "inst1")
        error = self.assertRaises(
            CommandFailed,
            run_script,
            self.host,
            definition,
            definition.scripts[0],
            {"PATH": "/bin"},
            log=log,
            timeout_s=0.3,
        )
        self.assertIn("did not end within 0.3 s", str(error))
        self.assertIn("before", str(error))

    def test_untrusted_only(self) -> None:
        """A definition that wants a helper machine cannot install here."""
        path = self.define("untrusted")
        os.rename(f"{path}/create", f"{path}/create_untrusted")
        self.assertFalse(self.found()[path].trusted)
        self.assertRaises(InvalidOperatingSystem, self.install, self.instance(os="untrusted"))

    def test_noop(self) -> None:
        """The definition that does nothing leaves the disk as it was."""
        instance = self.instance(self.created_disk(), os="noop")
        self.install(instance)
        self.rename(instance, "old.example.com")
        self.assertEqual(self.first_sector(instance), bytes(SECTOR))

    def test_tiny(self) -> None:
        """The demo's guest finds its label where it looks for it."""
        instance = self.instance(self.created_disk(), os="tiny")
        self.install(instance)
        sector = self.first_sector(instance)
        expected = label("inst1.example.com").rstrip(b"\0")
        self.assertTrue(sector.startswith(expected), sector)
        self.assertIn(b"\nvariant=default\ninterval=1\ngreeting=hello\n\0", sector)

    def test_tiny_again(self) -> None:
        """Reinstallation empties the ring of heartbeats; size and the rest stay."""
        instance = self.instance(self.created_disk(), os="tiny+quiet", osparams={"greeting": "hi there"})
        path = instance.disks[0].logical_id[1]
        with open(path, "r+b") as disk:
            disk.seek(FIRST_SECTOR * SECTOR)
            disk.write(b"HB 7 boot 1.0\n")
            disk.seek(-4, os.SEEK_END)
            disk.write(b"tail")
        self.install(instance, reinstall=True)
        with open(path, "rb") as disk:
            data = disk.read()
        self.assertEqual((len(data), data[-4:]), (4 * 1024 * 1024, b"tail"))
        self.assertNotIn(b"HB 7", data)
        self.assertIn(b"variant=quiet\ninterval=1\ngreeting=hi there\n", data)

    def test_tiny_rename(self) -> None:
        """Renaming puts the new name into the label and keeps the rest."""
        instance = self.instance(self.created_disk(), os="tiny", osparams={"greeting": "hi"})
        self.install(instance)
        renamed = self.instance(*instance.disks, os="tiny")
        self.rename(renamed, "inst1.example.com")
        self.assertIn(
            b"name=inst1.example.com\nvariant=default\ninterval=1\ngreeting=hi\n", self.first_sector(renamed)
        )

    def test_tiny_without_label(self) -> None:
        """A disk that was never installed cannot be renamed."""
        instance = self.instance(self.created_disk(), os="tiny")
        error = self.assertRaises(CommandFailed, self.rename, instance, "old.example.com")
        self.assertIn("reinstall old.example.com", str(error))

    def test_tiny_small_disk(self) -> None:
        """A disk without room for the ring is refused."""
        instance = self.instance(self.created_disk(size=1), os="tiny")
        error = self.assertRaises(CommandFailed, self.install, instance)
        self.assertIn("at least 2 MiB", str(error))

    @skipUnless(shutil.which("qemu-img"), "qemu-img is not installed")
    def test_qcow2(self) -> None:
        """On an image of that format the script sees a raw disk, and the format survives."""
        instance = self.instance(self.created_disk(driver="qcow2"), os="tiny")
        self.install(instance)
        self.assertTrue(self.first_sector(instance).startswith(b"QFI\xfb"))
        raw = f"{self.directory}/raw"
        path = instance.disks[0].logical_id[1]
        self.host.processes.run(["qemu-img", "convert", "-O", "raw", path, raw], timeout_s=60)
        with open(raw, "rb") as disk:
            self.assertIn(b"name=inst1.example.com\n", disk.read(SECTOR))

    def test_usage(self) -> None:
        """Every script of the shipped definitions prints its usage, and refuses other arguments."""
        for name in ("noop", "tiny"):
            for script in find_definition(self.host, name).scripts:
                command = [f"{EXAMPLES}/{name}/{script}"]
                done = self.host.processes.run([*command, "--help"], timeout_s=10, cwd=f"{EXAMPLES}/{name}")
                self.assertIn(f"usage: {script}", done.stdout)
                done = self.host.processes.run(
                    [*command, "surprise"], timeout_s=10, cwd=f"{EXAMPLES}/{name}", check=False
                )
                self.assertNotEqual(done.code, 0)


class TransferTests(WithOs, SynchronousTestCase):
    """Export and import of a disk's content."""

    def test_there_and_back(self) -> None:
        """What export writes, import reads; the size is announced before."""
        source = self.instance(self.created_disk(), os="tiny")
        instance_os_add(InstanceOsAdd(instance=source), self.node)
        dump = f"{self.directory}/dump"
        size = run_export_script(self.node, source, 0, dump_path=dump, timeout_s=60)
        self.assertEqual((size, os.path.getsize(dump)), (4 * 1024 * 1024, 4 * 1024 * 1024))
        target = self.instance(self.created_disk(index=0), os="tiny")
        run_import_script(self.node, target, 0, dump_path=dump, timeout_s=60)
        contents = []
        for instance in (source, target):
            with open(instance.disks[0].logical_id[1], "rb") as disk:
                contents.append(disk.read())
        self.assertEqual(contents[0], contents[1])
        self.assertEqual(os.listdir(self.directory).count("dump.size"), 0)

    def test_noop(self) -> None:
        """The definition that does nothing exports nothing, and says so."""
        instance = self.instance(self.created_disk(), os="noop")
        dump = f"{self.directory}/dump"
        self.assertEqual(run_export_script(self.node, instance, 0, dump_path=dump, timeout_s=60), 0)
        run_import_script(self.node, instance, 0, dump_path=dump, timeout_s=60)

    def test_environment(self) -> None:
        """The disk's number and path are told; the log is not mixed with the dump (S2.2-098)."""
        self.define(
            "spy", export="echo log >&2; env | grep '^EXP' | sort", **{"import": "env | grep '^IMP' | sort"}
        )
        disks = [self.created_disk(index=index) for index in (0, 1)]
        instance = self.instance(*disks, os="spy")
        dump = f"{self.directory}/dump"
        self.assertIsNone(run_export_script(self.node, instance, 1, dump_path=dump, timeout_s=60))
        path = disks[1].logical_id[1]
        with open(dump, encoding="utf-8") as stream:
            expected = f"EXPORT_DEVICE={path}\nEXPORT_DISK_PATH={path}\nEXPORT_INDEX=1\nEXP_SIZE_FD=3\n"
            self.assertEqual(stream.read(), expected)
        run_import_script(self.node, instance, 1, dump_path=dump, timeout_s=60)
        export_log, import_log = self.logs()
        self.assertIn("export-spy-inst1.example.com-disk1-", export_log)
        with open(import_log, encoding="utf-8") as stream:
            self.assertEqual(
                stream.read(), f"IMPORT_DEVICE={path}\nIMPORT_DISK_PATH={path}\nIMPORT_INDEX=1\n"
            )

    def test_failure(self) -> None:
        """A script that fails leaves no announcement, and its log is told."""
        self.define("broken", export="echo why >&2; exit 4")
        instance = self.instance(self.created_disk(), os="broken")
        error = self.assertRaises(
            CommandFailed,
            run_export_script,
            self.node,
            instance,
            0,
            dump_path=f"{self.directory}/dump",
            timeout_s=60,
        )
        self.assertIn("why", str(error))
        self.assertFalse(os.path.exists(f"{self.directory}/dump.size"))
