"""gnt-cluster, gnt-os and gnt-debug."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ganeti.cli.errors import MasterError
from ganeti.model.paths import Paths
from tests.unit.cli.cli_fakes import NOW, FakeMaster, FakeWorld, table

SETTINGS: dict[str, Any] = {
    "name": "cluster.ex.org",
    "uuid": "aaaa",
    "ctime": NOW,
    "mtime": NOW,
    "master": "n1.ex.org",
    "architecture": ["64bits", "x86_64"],
    "tags": [],
    "default_hypervisor": "kvm",
    "enabled_hypervisors": ["kvm"],
    "hvparams": {"kvm": {"acpi": True}, "fake": {}},
    "os_hvp": {},
    "osparams": {},
    "hidden_os": [],
    "blacklisted_os": ["bad"],
    "candidate_pool_size": 10,
    "volume_group_name": None,
    "reserved_lvs": [],
    "uid_pool": [[1000, 1010], [2000, 2000]],
    "enabled_disk_templates": ["drbd", "plain"],
    "compression_tools": ["gzip"],
    "ndparams": {"cpu_speed": 1.0},
    "beparams": {"default": {"vcpus": 1}},
    "nicparams": {"default": {"vlan": ""}},
    "diskparams": {"blockdev": {}},
    "capacity_params": {"max_inst_spec": None, "max_cpu_ratio": 2.0},
    "ipolicy": {
        "minmax": [{"min": {"cpu-count": 1}, "max": {"cpu-count": 8}}],
        "std": {"cpu-count": 1},
        "disk-templates": ["drbd", "plain"],
        "vcpu-ratio": 4.0,
        "spindle-ratio": 32.0,
    },
    "enabled_data_collectors": {"cpu-avg-load": True},
    "data_collector_interval": {"cpu-avg-load": 5000000},
    "software_version": "1.0",
    "protocol_version": 3010000,
    "config_version": 3010000,
    "os_api_version": 20,
    "export_version": 0,
    "vcs_version": "v1.0",
}


class InfoTests(SynchronousTestCase):
    """What the cluster is like."""

    def world(self) -> FakeWorld:
        """A cluster with these settings."""
        return FakeWorld(FakeMaster({"QueryClusterInfo": SETTINGS}))

    def test_info(self) -> None:
        """The established keys in their order."""
        world = self.world()
        self.assertEqual(world.run("gnt-cluster info"), 0)
        self.assertIn(
            "Master node: n1.ex.org\nArchitecture (this node): 64bits (x86_64)\nTags: (none)\n"
            "Default hypervisor: kvm\nEnabled hypervisors: kvm\nHypervisor parameters: \n  kvm: \n"
            "    acpi: True\nOS-specific hypervisor parameters: \nOS parameters: \nHidden OSes: \n"
            "Blacklisted OSes: bad\nCluster parameters: \n  candidate pool size: 10\n",
            world.out_text,
        )
        self.assertIn("  lvm volume group: None\n  lvm reserved volumes: (none)\n", world.out_text)
        self.assertIn("  uid pool: 1000-1010, 2000\n", world.out_text)
        self.assertIn(
            "Default disk parameters: \n  blockdev: \nInstance policy - limits for instances: \n"
            "  bounds specs: \n    - min/0: \n        cpu-count: 1\n      max/0: \n        cpu-count: 8\n"
            "  std: \n    cpu-count: 1\n  allowed disk templates: drbd, plain\n  spindle-ratio: 32.0\n"
            "  vcpu-ratio: 4.0\nCapacity parameters: \n  max_inst_spec: by the policy\n"
            "  max_cpu_ratio: 2.0\nData collectors: \n  cpu-avg-load: \n    active: True\n"
            "    interval: 5.000s\n",
            world.out_text,
        )

    def test_json(self) -> None:
        """Everything as JSON."""
        world = self.world()
        world.run("gnt-cluster show --output json")
        self.assertEqual(json.loads(world.out_text), SETTINGS)

    def test_version(self) -> None:
        """Six lines."""
        world = self.world()
        world.run("gnt-cluster version")
        self.assertEqual(
            world.out_text,
            "Software version: 1.0\nInternode protocol: 3010000\nConfiguration format: 3010000\n"
            "OS api version: 20\nExport interface: 0\nVCS version: v1.0\n",
        )

    def test_getmaster(self) -> None:
        """Works on every node, from a file."""
        root = self.mktemp()
        paths = Paths(root)
        os.makedirs(paths.data_dir)
        world = FakeWorld(connect=self.fail, environ={"GANETI_ROOTDIR": root})
        self.assertEqual(world.run("gnt-cluster getmaster"), 1)
        self.assertIn("gnt-cluster init", world.err_text)
        with open(paths.ssconf("master_node"), "w") as file:
            file.write("n1.ex.org\n")
        self.assertEqual((world.run("gnt-cluster getmaster"), world.out_text), (0, "n1.ex.org\n"))

    def test_ping(self) -> None:
        """Silent; the exit code tells."""
        self.assertEqual(FakeWorld(FakeMaster({"Version": {}})).run("gnt-cluster master-ping"), 0)

        def refuse(paths: object) -> None:
            raise MasterError("GenericError", [])

        world = FakeWorld(connect=refuse)
        self.assertEqual((world.run("gnt-cluster master-ping"), world.err_text), (1, ""))


class SetUpTests(SynchronousTestCase):
    """init and destroy."""

    def test_init(self) -> None:
        """The options go as JSON to the program that makes the cluster; its exit code is ours."""
        world = FakeWorld(connect=self.fail, codes=[1])
        code = world.run(
            "gnt-cluster init --enabled-hypervisors fake,kvm --enabled-disk-templates=sharedfile -s 10.0.0.1 "
            "-B maxmem=256,auto_balance -H kvm:acpi=no -C 3 --no-etc-hosts --maintain-node-health=yes "
            "--ipolicy-vcpu-ratio 8 --specs-mem-size min=128,std=1g,max=2g c.ex.org"
        )
        self.assertEqual(code, 1)
        ((argv, stdin),) = world.programs
        self.assertEqual(argv, [sys.executable, "-m", "ganeti.daemons.bootstrap", "init"])
        self.assertEqual(
            json.loads(stdin or ""),
            {
                "cluster_name": "c.ex.org",
                "enabled_hypervisors": ["fake", "kvm"],
                "enabled_disk_templates": ["sharedfile"],
                "secondary_ip": "10.0.0.1",
                "beparams": {"maxmem": "256", "auto_balance": True},
                "hvparams": {"kvm": {"acpi": "no"}},
                "candidate_pool_size": 3,
                "modify_etc_hosts": False,
                "maintain_node_health": True,
                "ipolicy": {
                    "vcpu-ratio": 8,
                    "std": {"memory-size": 1024},
                    "minmax": [{"min": {"memory-size": 128}, "max": {"memory-size": 2048}}],
                },
            },
        )

    def test_every_option_is_understood(self) -> None:
        """Whatever init can send, the program that makes the cluster knows."""
        from ganeti.cli.cluster_setup import OPTIONS
        from ganeti.daemons.bootstrap import InitRequest

        names = {option.dest.partition("/")[0] for option in OPTIONS} - {"_specs"}
        self.assertLessEqual(names, set(InitRequest.__struct_fields__))

    def test_destroy(self) -> None:
        """Refused without --yes-do-it; else masterd is asked first, then the files go."""
        master = FakeMaster()
        world = FakeWorld(master)
        self.assertEqual((world.run("gnt-cluster destroy"), master.calls), (1, []))
        self.assertIn("--yes-do-it", world.err_text)
        self.assertEqual(world.run("gnt-cluster destroy --yes-do-it"), 0)
        self.assertEqual(master.opcodes, [{"OP_ID": "OP_CLUSTER_DESTROY"}])
        self.assertEqual(world.programs[0][0][-1], "destroy")

    def test_destroy_refused(self) -> None:
        """As long as masterd says no, nothing is touched."""
        refusal = MasterError("OpPrereqError", ["2 instances are left", "wrong_state"])
        world = FakeWorld(FakeMaster(results={"OP_CLUSTER_DESTROY": refusal}))
        self.assertEqual((world.run("gnt-cluster destroy --yes-do-it"), world.programs), (1, []))


class VerifyTests(SynchronousTestCase):
    """gnt-cluster verify."""

    def verify(self, *results: Any) -> tuple[int, str]:
        """Exit code and output when the jobs end like this."""
        jobs = [[True, 21 + number] for number in range(len(results))]
        master = FakeMaster(results={"OP_CLUSTER_VERIFY": {"jobs": jobs}})
        for number, result in enumerate(results):
            master.jobs[21 + number] = [{"OP_ID": f"OP_{number}"}]
            master.results[f"OP_{number}"] = result
        master.answers["SubmitJob"] = lambda opcodes, ok: master.jobs.setdefault(20, opcodes) and 20
        world = FakeWorld(master)
        return world.run("gnt-cluster verify"), world.out_text

    def test_clean(self) -> None:
        """All jobs are followed; all is well."""
        code, text = self.verify(True, True)
        self.assertEqual(code, 0)
        self.assertEqual(text, "Submitted jobs 21, 22\nWaiting for job 21 ...\nWaiting for job 22 ...\n")

    def test_checks_left_out(self) -> None:
        """Switches that leave checks out add up."""
        master = FakeMaster(results={"OP_CLUSTER_VERIFY": {"jobs": []}})
        line = "gnt-cluster verify --no-nplus1-mem --no-hv-param-assessment --error-codes -g g1"
        self.assertEqual(FakeWorld(master).run(line), 0)
        self.assertEqual(
            master.opcodes,
            [
                {
                    "OP_ID": "OP_CLUSTER_VERIFY",
                    "skip_checks": ["nplusone_mem", "hvparam_assessment"],
                    "error_codes": True,
                    "group_name": "g1",
                }
            ],
        )

    def test_problems(self) -> None:
        """A job that found something makes the exit code 1."""
        self.assertEqual(self.verify(True, False)[0], 1)

    def test_failed_jobs(self) -> None:
        """Jobs that failed are counted."""
        code, text = self.verify(MasterError("OpExecError", ["x"]), True)
        self.assertEqual(code, 1)
        self.assertTrue(text.endswith("1 job(s) failed while verifying the cluster.\n"))


class SettingTests(SynchronousTestCase):
    """modify, queue, watcher."""

    def test_modify(self) -> None:
        """Options become parameters; at least one is needed."""
        master = FakeMaster()
        world = FakeWorld(master)
        self.assertEqual(world.run("gnt-cluster modify -C 5 -H kvm:acpi=no -H fake:x=1"), 0)
        self.assertEqual(
            master.opcodes,
            [
                {
                    "OP_ID": "OP_CLUSTER_SET_PARAMS",
                    "candidate_pool_size": 5,
                    "hvparams": {"kvm": {"acpi": "no"}, "fake": {"x": "1"}},
                }
            ],
        )
        self.assertEqual(world.run("gnt-cluster modify -f"), 1)
        self.assertIn("Please give at least one of the parameters.", world.err_text)

    def test_policy(self) -> None:
        """Parts of the policy are put together."""
        master = FakeMaster()
        FakeWorld(master).run("gnt-cluster modify --ipolicy-vcpu-ratio 6 --ipolicy-disk-templates file,plain")
        self.assertEqual(master.opcodes[0]["ipolicy"], {"vcpu-ratio": 6, "disk-templates": ["file", "plain"]})

    def test_follow_up_jobs(self) -> None:
        """Jobs of a modification are waited for, failures are told."""
        master = FakeMaster(results={"OP_CLUSTER_SET_PARAMS": {"jobs": [[False, "refused"]]}})
        world = FakeWorld(master)
        self.assertEqual(world.run("gnt-cluster modify -C 5"), 1)
        self.assertEqual(world.out_text, "Job failed, result is 'refused'.\n")

    def test_queue(self) -> None:
        """drain and undrain are silent; info tells."""
        master = FakeMaster({"SetDrainFlag": None, "QueryConfigValues": [True]})
        world = FakeWorld(master)
        for word in ("drain", "undrain", "info"):
            self.assertEqual(world.run(f"gnt-cluster queue {word}"), 0)
        self.assertEqual(world.out_text, "The drain flag is set\n")
        self.assertEqual(
            master.calls,
            [("SetDrainFlag", [True]), ("SetDrainFlag", [False]), ("QueryConfigValues", [["drain_flag"]])],
        )
        self.assertEqual(world.run("gnt-cluster queue dry"), 1)

    def test_watcher(self) -> None:
        """pause, continue and info."""
        master = FakeMaster({"SetWatcherPause": lambda until: until, "QueryConfigValues": [None]})
        world = FakeWorld(master)
        self.assertEqual(world.run("gnt-cluster watcher pause 1h"), 0)
        self.assertEqual(world.run("gnt-cluster watcher continue"), 0)
        self.assertEqual(world.run("gnt-cluster watcher info"), 0)
        self.assertEqual(
            world.out_text.splitlines(),
            [
                f"The watcher is paused until {time.ctime(NOW + 3600)}.",
                "The watcher is no longer paused.",
                "The watcher is not paused.",
            ],
        )
        for words in ("pause", "pause soon", "rest", "info 1h"):
            self.assertEqual(world.run(f"gnt-cluster watcher {words}"), 1)


def os_row(name: str, node_status: dict[str, Any], **changes: Any) -> list[Any]:
    """A row of OP_OS_DIAGNOSE."""
    row = {
        "name": name,
        "valid": True,
        "hidden": False,
        "blacklisted": False,
        "variants": ["trixie"],
        "api_versions": [20],
        "parameters": [["dns", "name server to use"]],
        "node_status": node_status,
        "trusted": True,
        "os_hvp": {},
        "osparams": {},
    }
    return list({**row, **changes}.values())


GOOD = ["/srv/ganeti/os/debian", True, "", ["trixie"], [["dns", "x"]], [20], True]
OLD = ["/usr/lib/ganeti/os/debian", True, "", [], [], [10], True]
BAD = ["/srv/ganeti/os/debian", False, "no create script", [], [], [], True]


class OsTests(SynchronousTestCase):
    """gnt-os."""

    def world(self, *rows: list[Any], groups: tuple[str, str] = ("g1", "g1")) -> FakeWorld:
        """A cluster of two nodes with these OS definitions."""
        titles = {"uuid": ("UUID", "text"), "name": ("Node", "text"), "group": ("Group", "text")}
        nodes = table(titles, ["u1", "n1", groups[0]], ["u2", "n2", groups[1]])
        master = FakeMaster(results={"OP_OS_DIAGNOSE": list(rows)})
        master.answers["Query"] = lambda what, fields, wanted: (
            nodes if what == "node" else master._Query(what, fields, wanted)
        )
        return FakeWorld(master)

    def test_list(self) -> None:
        """A line for each variant; what cannot be installed is left out."""
        world = self.world(
            os_row("debian", {}),
            os_row("noop", {}, variants=[]),
            os_row("a", {}, hidden=True),
            os_row("b", {}, blacklisted=True),
            os_row("c", {}, valid=False),
        )
        self.assertEqual((world.run("gnt-os list"), world.out_text), (0, "Name\ndebian+trixie\nnoop\n"))

    def test_info(self) -> None:
        """The established block; the settings of a variant; an unknown name."""
        world = self.world(os_row("debian", {}, osparams={"debian+trixie": {"dns": "1.1.1.1"}}))
        self.assertEqual(world.run("gnt-os info debian debian+trixie other"), 0)
        self.assertEqual(
            world.out_text,
            "debian:\n  - valid: True\n  - hidden: False\n  - blacklisted: False\n"
            "  - API versions:\n    - 20\n  - variants:\n    - trixie\n"
            "  - parameters:\n    - dns: name server to use\n  - trusted: True\n\n"
            "debian+trixie: \n  OS parameters: \n    dns: 1.1.1.1\n\nother: \n\n",
        )

    def test_diagnose(self) -> None:
        """Where it is usable and why not; valid nodes first; exit code 1 for partly valid ones."""
        world = self.world(os_row("debian", {"u2": [], "u1": [GOOD, OLD]}, hidden=True))
        self.assertEqual(world.run("gnt-os diagnose"), 1)
        self.assertEqual(
            world.out_text,
            "OS: debian [global status: partial valid] [hidden]\n  Variants: [trixie]\n"
            "  Node: n1, status: valid (path: /srv/ganeti/os/debian) [API versions: 20] [variants: trixie] "
            "[parameters: dns] [trusted]\n"
            "    [hidden] path: /usr/lib/ganeti/os/debian, status: valid\n"
            "  Node: n2, status: OS not found\n\n",
        )

    def test_diagnose_groups(self) -> None:
        """A job for each group, at the same time; each group is shown by itself (S2.3-023)."""
        world = self.world(os_row("debian", {"u1": [GOOD]}), groups=("g2", "g1"))
        self.assertEqual(world.run("gnt-os diagnose"), 0)
        master = world.connect(world.paths)
        assert isinstance(master, FakeMaster)
        asked = [opcode["group_name"] for opcode in master.opcodes]
        self.assertEqual((asked, len(master.jobs)), (["g1", "g2"], 2))
        titles = [line for line in world.out_text.splitlines() if line.startswith("Node group:")]
        self.assertEqual(titles, ["Node group: g1", "Node group: g2"])

    def test_diagnose_others(self) -> None:
        """Old interfaces have no variants; invalid ones tell why."""
        world = self.world(os_row("a", {"u1": [OLD]}, variants=[]), os_row("b", {"u1": [BAD]}))
        self.assertEqual(world.run("gnt-os diagnose"), 1)
        self.assertIn(
            "  Node: n1, status: valid (path: /usr/lib/ganeti/os/debian) [API versions: 10] [trusted]\n",
            world.out_text,
        )
        self.assertIn("OS: b [global status: invalid]\n", world.out_text)
        self.assertIn(
            "  Node: n1, status: invalid - no create script (path: /srv/ganeti/os/debian)\n", world.out_text
        )
        self.assertEqual(self.world(os_row("a", {"u1": [OLD]})).run("gnt-os diagnose"), 0)

    def test_modify(self) -> None:
        """Parameters by OS, and whether it is hidden (S2.2-102)."""
        master = FakeMaster()
        world = FakeWorld(master)
        self.assertEqual(world.run("gnt-os modify -O -dns,x=1 -H kvm:acpi=no --hidden=yes debian"), 0)
        self.assertEqual(
            master.opcodes,
            [
                {
                    "OP_ID": "OP_CLUSTER_SET_PARAMS",
                    "osparams": {"debian": {"dns": None, "x": "1"}},
                    "os_hvp": {"debian": {"kvm": {"acpi": "no"}}},
                    "hidden_os": [["add", "debian"]],
                }
            ],
        )
        self.assertEqual(world.run("gnt-os modify debian"), 1)


class DebugTests(SynchronousTestCase):
    """gnt-debug."""

    def test_locks(self) -> None:
        """Owners and waiters as text, dashes where there are none."""
        kinds = {"name": "Name", "mode": "Mode", "owner": "Owner", "pending": "Pending"}
        answer = table(
            {name: (title, "other") for name, title in kinds.items()},
            ["cluster/BGL", "shared", ["18"], []],
            ["instance/db1", None, None, [["exclusive", ["19", "20"]]]],
        )
        world = FakeWorld(FakeMaster({"Query": answer}))
        self.assertEqual(world.run("gnt-debug locks"), 0)
        self.assertEqual(
            world.out_text,
            "Name         Mode   Owner Pending\ncluster/BGL  shared 18    -\n"
            "instance/db1 -      -     exclusive:19,20\n",
        )

    def test_submit_job(self) -> None:
        """Files of opcodes, as often as asked for."""
        path = self.mktemp()
        with open(path, "w") as file:
            json.dump([{"OP_ID": "OP_TEST_DELAY", "duration": 0}], file)
        for each in ("", "--each"):
            master = FakeMaster()
            world = FakeWorld(master)
            line = f"gnt-debug submit-job --op-repeat 2 --job-repeat 3 --timing-stats {each} {path}"
            self.assertEqual(world.run(line), 0, world.err_text)
            self.assertEqual([len(job) for job in master.jobs.values()], [2, 2, 2])
            self.assertIn("3 jobs in ", world.out_text)

    def test_submit_rubbish(self) -> None:
        """Files that cannot be read or are no list of opcodes."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write('{"OP_ID": "X"}')
        for name, text in ((path, "JSON list of opcodes"), ("/nowhere/x", "cannot read /nowhere/x")):
            world = FakeWorld(FakeMaster())
            self.assertEqual(world.run(f"gnt-debug submit-job {name}"), 1)
            self.assertIn(text, world.err_text)

    def test_allocator(self) -> None:
        """The answer of the allocator is printed."""
        master = FakeMaster(results={"OP_TEST_ALLOCATOR": '{"success": true}'})
        world = FakeWorld(master)
        line = "gnt-debug allocator -m allocate --dir out -I hail --memory 1g --disks 1g,2g web"
        self.assertEqual((world.run(line), world.out_text), (0, '{"success": true}\n'))
        opcode = master.opcodes[0]
        self.assertEqual((opcode["memory"], [disk["size"] for disk in opcode["disks"]]), (1024, [1024, 2048]))
