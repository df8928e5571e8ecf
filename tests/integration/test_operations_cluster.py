"""Settings, tags, OS definitions, verification and hooks, through the real tools and daemons."""

from __future__ import annotations

import json
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from tests.integration.cluster import until
from tests.integration.operations_case import SMALL, OperationsCase, begin, end

setUpModule, tearDownModule = begin, end


class ModifyTests(OperationsCase):
    """gnt-cluster modify and info."""

    def info(self) -> Any:
        """Settings as JSON."""
        return json.loads(self.gnt("gnt-cluster info --output json"))

    def change(self, options: str, undo: str) -> Any:
        """Settings after a change that is taken back in the end."""
        self.addCleanup(self.gnt, f"gnt-cluster modify {undo}")
        self.gnt(f"gnt-cluster modify {options}")
        return self.info()

    def test_backend(self) -> None:
        """Backend parameters: instances without their own have the new ones."""
        found = self.change("-B memory=256,vcpus=2", "-B memory=128,vcpus=1")
        self.assertEqual(found["beparams"]["default"]["maxmem"], 256)
        self.assertEqual(found["beparams"]["default"]["minmem"], 256)
        self.gnt("gnt-instance add --no-start -o noop -t diskless --no-nics inherits.virtual")
        self.addCleanup(self.gnt, "gnt-instance remove -f inherits")
        self.assertEqual(self.of("instance", "inherits", "be/maxmem", "be/vcpus"), [256, 2])

    def test_other_parameters(self) -> None:
        """Parameters of hypervisors, interfaces, nodes and disks."""
        found = self.change("-H fake:migration_mode=non-live", "-H fake:migration_mode=live")
        self.assertEqual(found["hvparams"]["fake"]["migration_mode"], "non-live")
        found = self.change("-N mode=routed,link=7", "-N mode=bridged,link=xen-br0")
        self.assertEqual(found["nicparams"]["default"]["mode"], "routed")
        found = self.change("--node-parameters ssh_port=2222", "--node-parameters ssh_port=22")
        self.assertIn("ssh_port: default (2222)", self.gnt("gnt-node info node2"))
        self.assertEqual(found["ndparams"]["ssh_port"], 2222)
        found = self.change("-D drbd:resync-rate=1000", "-D drbd:resync-rate=61440")
        self.assertEqual(found["diskparams"]["drbd"]["resync-rate"], 1000)

    def test_policy(self) -> None:
        """The instance policy; a contradiction is refused."""
        found = self.change("--ipolicy-vcpu-ratio 2.5", "--ipolicy-vcpu-ratio 4")
        self.assertEqual(found["ipolicy"]["vcpu-ratio"], 2.5)
        found = self.change("--ipolicy-std-specs memory-size=64", "--ipolicy-std-specs memory-size=128")
        self.assertEqual(found["ipolicy"]["std"]["memory-size"], 64)
        self.refused("gnt-cluster modify --ipolicy-std-specs memory-size=1", "memory-size", "standard")
        self.refused("gnt-cluster modify --ipolicy-disk-templates nonsense", "nonsense")

    def test_plain_settings(self) -> None:
        """Settings that are only replaced."""
        for option, value, key, expected, before in (
            ("--max-running-jobs", "7", "max_running_jobs", 7, "20"),
            ("--max-tracked-jobs", "9", "max_tracked_jobs", 9, "25"),
            ("--enforce-max-inst-spec", "yes", "enforce_max_inst_spec", True, "no"),
            ("--diffusion-min-nodes", "50", "diffusion_min_nodes", 50, "0"),
            ("--maintain-node-health", "yes", "maintain_node_health", True, "no"),
            ("--prealloc-wipe-disks", "yes", "prealloc_wipe_disks", True, "no"),
            ("--mac-prefix", "AA:BB:01", "mac_prefix", "aa:bb:01", "aa:00:00"),
            ("--reserved-lvs", "a.*,b", "reserved_lvs", ["a.*", "b"], ""),
            ("--user-shutdown", "yes", "enabled_user_shutdown", True, "no"),
            ("--compression-tools", "gzip,lzop", "compression_tools", ["gzip", "lzop"], "gzip"),
            ("--default-iallocator-params", "a=b", "default_iallocator_params", {"a": "b"}, "a=b"),
        ):
            found = self.change(f"{option} {value}", f"{option}={before}")
            self.assertEqual(found[key], expected, option)

    def test_enabled(self) -> None:
        """Hypervisors and disk templates can be enabled, and disabled while nothing uses them."""
        self.add("user")
        all_three = "sharedfile,file,diskless"
        found = self.change(
            "--enabled-disk-templates sharedfile,diskless",
            f"--enabled-disk-templates {all_three} --ipolicy-disk-templates {all_three}",
        )
        self.assertEqual(found["enabled_disk_templates"], ["sharedfile", "diskless"])
        self.refused("gnt-cluster modify --enabled-disk-templates diskless", "sharedfile")
        self.refused("gnt-cluster modify --enabled-disk-templates plane", "plane")
        self.refused("gnt-cluster modify --enabled-hypervisors hyper", "hyper")
        self.refused("gnt-cluster modify --enabled-hypervisors kvm", "user.virtual")

    def test_refused(self) -> None:
        """Unknown names, wrong values, nothing at all."""
        self.refused("gnt-cluster modify", "at least one")
        self.refused("gnt-cluster modify -B memmory=1", "memmory")
        self.refused("gnt-cluster modify -H fake:colour=1", "colour")
        self.refused("gnt-cluster modify -C 0", "candidate_pool_size")
        self.refused("gnt-cluster modify -m zz:00:00", "zz:00:00")
        self.refused("gnt-cluster modify -I nobody", "nobody", "builtin")
        self.refused("gnt-cluster modify --colour blue", "--colour", code=2)

    def test_info(self) -> None:
        """The established headings."""
        text = self.gnt("gnt-cluster info")
        for heading in (
            "Cluster name: cluster.virtual",
            "Master node: node1.virtual",
            "Default hypervisor: fake",
        ):
            self.assertIn(heading, text)
        self.assertEqual(self.gnt("gnt-cluster getmaster").strip(), "node1.virtual")
        self.assertEqual(self.cluster.gnt("gnt-cluster master-ping", node=2, check=False).returncode, 1)
        self.gnt("gnt-cluster master-ping")

    def test_elsewhere(self) -> None:
        """On another node the tools name the master."""
        done = self.cluster.gnt("gnt-instance list", node=2, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("node1.virtual", done.stderr)
        master = self.cluster.gnt("gnt-cluster getmaster", node=3)
        self.assertEqual(master.stdout.strip(), "node1.virtual")

    def test_ssconf(self) -> None:
        """All nodes learn what has changed."""
        self.gnt("gnt-cluster add-tags spread")
        self.addCleanup(self.gnt, "gnt-cluster remove-tags spread")
        for number in (1, 2, 3):
            path = Path(self.cluster.paths(number).ssconf("cluster_tags"))
            until(partial(self._has, path, "spread"), f"{path} does not have the tag")
        Path(self.cluster.paths(3).ssconf("cluster_name")).unlink()
        self.gnt("gnt-cluster redist-conf --yes-do-it")
        self.assertTrue(Path(self.cluster.paths(3).ssconf("cluster_name")).exists())

    def _has(self, path: Path, text: str) -> bool:
        return text in path.read_text()

    def test_destroy_refused(self) -> None:
        """A cluster with nodes and instances is not destroyed by accident, nor on purpose."""
        self.refused("gnt-cluster destroy", "yes-do-it")
        self.refused("gnt-cluster destroy --yes-do-it", "node")

    def test_init_refused(self) -> None:
        """A node of a cluster does not become another one."""
        self.refused("gnt-cluster init other.virtual", "already")


class TagsTests(OperationsCase):
    """Tags of all kinds of objects."""

    def test_life(self) -> None:
        """Add, list, search, remove; on cluster, node and instance."""
        name = self.add("labelled")
        for tool, target, path in (
            ("gnt-cluster", "", "/cluster"),
            ("gnt-node", "node2", "/nodes/node2.virtual"),
            ("gnt-instance", name, f"/instances/{name}"),
        ):
            self.gnt(f"{tool} add-tags {target} zone:north zone:east")
            self.assertEqual(self.gnt(f"{tool} list-tags {target}").split(), ["zone:east", "zone:north"])
            self.assertIn(f"{path} zone:north\n", self.gnt("gnt-cluster search-tags ^zone:n"))
            self.gnt(f"{tool} remove-tags {target} zone:north zone:east")
            self.assertEqual(self.gnt(f"{tool} list-tags {target}"), "")
        self.assertEqual(self.cluster.gnt("gnt-cluster search-tags zone", check=False).returncode, 1)

    def test_from_file(self) -> None:
        """Tags from a file, one on each line."""
        path = Path(self.cluster.directory, "tags")
        path.write_text("one\n\ntwo\n")
        self.gnt(f"gnt-node add-tags --from {path} node3")
        self.addCleanup(self.gnt, f"gnt-node remove-tags --from {path} node3")
        self.assertEqual(self.of("node", "node3", "tags"), [["one", "two"]])

    def test_refused(self) -> None:
        """What is no tag, what is not there, and nothing."""
        self.refused("gnt-cluster add-tags bad,tag", "bad,tag")
        self.refused("gnt-cluster remove-tags absent", "absent")
        self.refused("gnt-cluster add-tags", "No tags")
        self.refused("gnt-node add-tags node9 tag", "node9")
        self.refused("gnt-cluster search-tags (", "(")


class OsTests(OperationsCase):
    """gnt-os."""

    def test_list(self) -> None:
        """What can be installed, with variants; what is hidden is not listed but can be installed."""
        self.assertIn("tiny+default", self.gnt("gnt-os list").split())
        self.gnt("gnt-os modify --hidden=yes tiny")
        self.addCleanup(self.gnt, "gnt-os modify --hidden=no tiny")
        self.assertNotIn("tiny+default", self.gnt("gnt-os list").split())
        self.assertIn("hidden: True", self.gnt("gnt-os info tiny"))

    def test_blacklisted(self) -> None:
        """What is blacklisted cannot be installed."""
        self.gnt("gnt-os modify --blacklisted=yes noop")
        self.addCleanup(self.gnt, "gnt-os modify --blacklisted=no noop")
        self.refused(f"gnt-instance add {' '.join(SMALL)} forbidden.virtual", "noop", "blacklisted")

    def test_diagnose(self) -> None:
        """An OS that one node lacks is not valid, and the report says where; exit code 1 then."""
        self.assertIn("OS: noop [global status: valid]", self.gnt("gnt-os diagnose"))
        there = Path(self.cluster.paths(3).root, "srv/ganeti/os/noop")
        there.rename(there.with_name("moved"))
        self.addCleanup(there.with_name("moved").rename, there)
        done = self.cluster.gnt("gnt-os diagnose", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout, "OS: noop .*(partial|invalid|incomplete)")
        self.refused(f"gnt-instance add -n node3 {' '.join(SMALL)} missing.virtual", "noop", "node3")

    def test_scripts_run(self) -> None:
        """The create script runs with the established environment, and its output is kept."""
        root = Path(self.cluster.paths(2).root, "srv/ganeti/os")
        (root / "probe").mkdir()
        self.addCleanup(shutil.rmtree, root / "probe")
        (root / "probe" / "ganeti_api_version").write_text("20\n")
        (root / "probe" / "variants.list").write_text("blue\n")
        (root / "probe" / "parameters.list").write_text("dhcp use DHCP\n")
        for script in ("create", "import", "export", "rename", "verify"):
            path = root / "probe" / script
            path.write_text("#!/bin/sh\nenv | sort\n")
            path.chmod(0o755)
        options = "-o probe+blue -O dhcp=yes -t file --disk 0:size=4m --no-nics -n node2 -B memory=64"
        self.addCleanup(self.cluster.gnt, "gnt-instance remove -f probed", check=False)
        self.gnt(f"gnt-instance add {options} probed.virtual")
        logs = list(Path(self.cluster.paths(2).log_dir, "os").glob("*probed*"))
        self.assertEqual(len(logs), 1)
        text = logs[0].read_text()
        for line in (
            "INSTANCE_NAME=probed.virtual",
            "OS_NAME=probe",
            "OS_VARIANT=blue",
            "OSP_DHCP=yes",
            "DISK_COUNT=1",
            "OS_API_VERSION=20",
            "HYPERVISOR=fake",
        ):
            self.assertIn(line, text.splitlines())


class VerifyTests(OperationsCase):
    """gnt-cluster verify."""

    def verify(self, *options: str) -> tuple[int, str]:
        """Exit code and report."""
        done = self.cluster.gnt("gnt-cluster verify --error-codes", *options, check=False)
        return done.returncode, done.stdout

    def test_well(self) -> None:
        """A cluster on which everything is well."""
        self.add("healthy")
        code, text = self.verify()
        self.assertEqual((code, "ERROR" in text), (0, False), text)

    def test_down(self) -> None:
        """An instance that should run and does not; ignored codes are warnings only."""
        name = self.add("fallen")
        self.gnt(f"gnt-instance shutdown --no-remember {name}")
        code, text = self.verify()
        self.assertEqual(code, 1)
        self.assertIn(f"ERROR:EINSTANCEDOWN:instance:{name}:", text)
        code, text = self.verify("--ignore-errors", "EINSTANCEDOWN")
        self.assertEqual(code, 0)
        self.assertIn(f"WARNING:EINSTANCEDOWN:instance:{name}:", text)

    def test_wrong_node(self) -> None:
        """An instance that runs where it should not, and one that nobody knows."""
        name = self.add("strayed", "-n", "node1")
        here, there = (Path(self.cluster.paths(node).hypervisor_dir("fake")) for node in (1, 2))
        there.mkdir(parents=True, exist_ok=True)
        (there / "unknown.virtual").write_bytes((here / name).read_bytes().replace(b"strayed", b"unknown"))
        (here / name).rename(there / name)
        self.addCleanup((there / "unknown.virtual").unlink)
        code, text = self.verify()
        self.assertEqual(code, 1)
        self.assertIn(f"EINSTANCEWRONGNODE:instance:{name}:", text)
        self.assertIn("ENODEORPHANINSTANCE:node:node2.virtual:", text)
        (there / name).rename(here / name)

    def test_disk_missing(self) -> None:
        """A disk that is gone."""
        name = self.add("diskless")
        (disk,) = Path(self.cluster.layout.shared_dir, name).iterdir()
        disk.unlink()
        code, text = self.verify()
        self.assertEqual(code, 1)
        self.assertRegex(text, f"EINSTANCE(MISSING|FAULTY)DISK:instance:{name}:")

    def test_files(self) -> None:
        """A file that differs on one node."""
        path = Path(self.cluster.paths(3).hmac_key_file)
        before = path.read_bytes()
        path.chmod(0o600)
        path.write_bytes(b"another\n")
        self.addCleanup(path.write_bytes, before)
        code, text = self.verify()
        self.assertEqual(code, 1)
        self.assertIn("ECLUSTERFILECHECK:cluster", text)

    def test_options(self) -> None:
        """One group alone, simulated errors, and an unknown group."""
        self.assertEqual(self.verify("-g", "default")[0], 0)
        code, text = self.verify("--debug-simulate-errors")
        self.assertEqual((code, "ERROR" in text), (1, True))
        self.refused("gnt-cluster verify -g nowhere", "nowhere")


HOOK = """#!/bin/sh
out={directory}/seen-$(basename $(dirname $0))-{node}
env | sort > $out.new && mv $out.new $out
exit {code}
"""


class HooksTests(OperationsCase):
    """Scripts of the administrator really run, where and with what they should."""

    def hook(self, hpath: str, phase: str, *nodes: int, code: int = 0) -> None:
        """Put a script on nodes."""
        for number in nodes:
            directory = Path(self.cluster.paths(number).hooks_dir, f"{hpath}-{phase}.d")
            directory.mkdir(parents=True, exist_ok=True)
            script = directory / "10probe"
            script.write_text(HOOK.format(directory=self.cluster.directory, node=number, code=code))
            script.chmod(0o755)
            self.addCleanup(script.unlink)
            seen = self._seen(hpath, phase, number)
            self.addCleanup(seen.unlink, missing_ok=True)

    def _seen(self, hpath: str, phase: str, node: int) -> Path:
        return Path(self.cluster.directory, f"seen-{hpath}-{phase}.d-{node}")

    def env(self, hpath: str, phase: str, node: int) -> dict[str, str]:
        """What the script on a node was told."""
        lines = self._seen(hpath, phase, node).read_text().splitlines()
        return {key: value for key, _, value in (line.partition("=") for line in lines)}

    def test_environment(self) -> None:
        """Both phases of an instance's start, on the master and its node, with the established variables."""
        name = self.add("hooked", "-n", "node2", "--no-start", "--tags", "blue")
        for phase in ("pre", "post"):
            self.hook("instance-start", phase, 1, 2, 3)
        self.gnt(f"gnt-instance startup {name}")
        for phase, node in (("pre", 1), ("pre", 2), ("post", 1), ("post", 2)):
            env = self.env("instance-start", phase, node)
            expected = {
                "GANETI_HOOKS_VERSION": "2",
                "GANETI_HOOKS_PHASE": phase,
                "GANETI_HOOKS_PATH": "instance-start",
                "GANETI_OP_CODE": "OP_INSTANCE_STARTUP",
                "GANETI_OP_TARGET": name,
                "GANETI_OBJECT_TYPE": "INSTANCE",
                "GANETI_CLUSTER": "cluster.virtual",
                "GANETI_MASTER": "node1.virtual",
                "GANETI_DATA_DIR": self.cluster.paths(node).data_dir,
                "GANETI_INSTANCE_NAME": name,
                "GANETI_INSTANCE_PRIMARY": "node2.virtual",
                "GANETI_INSTANCE_DISK_TEMPLATE": "sharedfile",
                "GANETI_INSTANCE_MEMORY": "64",
                "GANETI_INSTANCE_TAGS": "blue",
            }
            self.assertEqual({key: env.get(key) for key in expected}, expected)
            self.assertNotIn("PYTHONPATH", env)
        self.assertEqual(env["GANETI_POST_INSTANCE_STATUS"], "up")
        # The third node has nothing to do with it.
        self.assertFalse(self._seen("instance-start", "pre", 3).exists())

    def test_refusal(self) -> None:
        """A script that fails before keeps the operation from happening; the message has node and script."""
        name = self.add("vetoed", "-n", "node2")
        self.hook("instance-stop", "pre", 2, code=1)
        self.refused(f"gnt-instance shutdown {name}", "node2.virtual", "10probe", "hooks")
        self.assertEqual(self.of("instance", name, "status"), ["running"])

    def test_complaint(self) -> None:
        """One that fails afterwards only complains."""
        name = self.add("complains", "-n", "node2")
        self.hook("instance-stop", "post", 2, code=1)
        done = self.cluster.gnt(f"gnt-instance shutdown {name}")
        self.assertIn("10probe", done.stdout + done.stderr)
        self.assertEqual(self.of("instance", name, "status"), ["ADMIN_down"])

    def test_verify(self) -> None:
        """Hooks of verify are part of what is verified."""
        self.hook("cluster-verify", "post", 3, code=1)
        done = self.cluster.gnt("gnt-cluster verify --error-codes", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("ENODEHOOKS:node:node3.virtual:", done.stdout)

    def test_config_update(self) -> None:
        """After every change of the configuration the master's scripts for it run."""
        self.hook("config-update", "post", 1)
        self.gnt("gnt-cluster modify -B vcpus=1")
        self.gnt("gnt-cluster modify --max-running-jobs 21")
        self.addCleanup(self.gnt, "gnt-cluster modify --max-running-jobs 20")
        self.assertEqual(self.env("config-update", "post", 1)["GANETI_OP_CODE"], "OP_CLUSTER_SET_PARAMS")

    def test_not_run(self) -> None:
        """A dry run asks before and does nothing after; files that are no scripts are passed over."""
        name = self.add("dryhook", "-n", "node2")
        for phase in ("pre", "post"):
            self.hook("instance-stop", phase, 2)
        os.chmod(Path(self.cluster.paths(2).hooks_dir, "instance-stop-post.d", "10probe"), 0o644)
        self.gnt(f"gnt-instance shutdown --dry-run {name}")
        self.assertTrue(self._seen("instance-stop", "pre", 2).exists())
        self.gnt(f"gnt-instance shutdown {name}")
        self.assertFalse(self._seen("instance-stop", "post", 2).exists())
