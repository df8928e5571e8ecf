"""Bad input through the real tools: refused before anything changes, with the object and what to do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from ganeti.cli.errors import MasterError
from tests.integration.cluster import RunningCluster

ADD = "gnt-instance add -o noop --no-nics "
ON1 = ADD + "-t diskless --no-install -n node1.virtual "
NET = "gnt-instance add -o noop -t diskless -n node1.virtual --net "
FILE1 = ADD + "-t file -n node1.virtual "

NEW_INSTANCES = (
    # unknown parameter, wrong type, out of range
    (ON1 + "-B nonsense=1 new", "wrong_input.*no parameter 'nonsense'; known: .*maxmem"),
    (ON1 + "-B vcpus=many new", "wrong_input.*vcpus.*must be a number.*not 'many'"),
    (ON1 + "-B vcpus=0 new", "wrong_input.*vcpus.*too small; at least 1"),
    (ON1 + "-B memory=-5 new", "wrong_input.*'-5'; write a number"),
    (ON1 + "-B minmem=256,maxmem=128 new", r"wrong_input.*minmem \(256 MiB\).*maxmem \(128 MiB\)"),
    (ON1 + "-H fake:nonsense=1 new", "wrong_input.*fake has no parameter 'nonsense'; known: migration_mode"),
    (FILE1 + "--disk 0:size=lots new", "'lots'; write a number"),
    (FILE1 + "--disk 0:size=1g,nonsense=1 new", "wrong_input.*disk 0: unknown key 'nonsense'; known: size"),
    (FILE1 + "--disk 0:size=1g,mode=sideways new", "wrong_input.*disk 0.*mode.*sideways"),
    (FILE1 + "new", "wrong_input.*No disk was given; write --disk"),
    (ADD + "-t diskless -n node1.virtual --disk 0:size=1g new", "wrong_input.*diskless.*disks; leave"),
    (NET + "0:mac=zz new", "wrong_input.*interface 0: 'zz' is no MAC address; write"),
    (NET + "0:ip=here new", "wrong_input.*interface 0: 'here' is no IP address"),
    (NET + "0:ip=pool new", "wrong_input.*interface 0: ip=pool.*name the network"),
    (NET + "0:mode=routed new", "wrong_input.*interface 0 is routed and needs an IP address"),
    (NET + "0:ip=auto,mode=routed,link=lo new", "wrong_input.*--name-check"),
    (NET + "0:nonsense=1 new", "wrong_input.*interface 0: unknown key 'nonsense'; known: mac"),
    (NET + "0:mode=sideways new", "wrong_input.*sideways"),
    # unknown objects, and names
    (ADD + "-t diskless -n nosuch.virtual new", "unknown_entity.*node 'nosuch.virtual'.*gnt-node list"),
    (
        ADD + "-t diskless -o nosuch -n node1.virtual new",
        "OS 'nosuch' is not there on node node1.*searched: /",
    ),
    (ON1 + "-H nosuch new", "hypervisor 'nosuch' is not enabled.*enabled: fake"),
    (ON1 + "-H xen-hvm new", "hypervisor 'xen-hvm' is not enabled.*enabled: fake"),
    (
        ADD + "-t nosuch -n node1.virtual --disk 0:size=1g new",
        "template 'nosuch' is not enabled.*enabled: diskless",
    ),
    (ADD + "-t diskless -I nosuch new", "nosuch"),
    (ADD + "-t diskless -I builtin -n node1.virtual new", "either a node or an allocator"),
    (ADD + "-t diskless -g nosuch new", "unknown_entity.*group 'nosuch'"),
    (ON1 + "there.virtual", "already_exists.*instance there.virtual exists already; choose another name"),
    (ON1 + "THERE.virtual.", "already_exists.*instance there.virtual exists already"),
    (ON1 + "bad_name!", "wrong_input.*'bad_name!' cannot name an instance; use letters"),
    # no room, and policy
    (FILE1 + "--disk 0:size=1000g new", "insufficient_resources.*node1.virtual has [0-9]+ MiB.*1024000 MiB"),
    (
        ADD + "-t sharedfile -n node2.virtual --disk 0:size=1000g new",
        "insufficient_resources.*node2.virtual has",
    ),
    (
        ADD + "-t file --disk 0:size=1000g new",
        "insufficient_resources.*node1.virtual: [0-9]+ MiB of disk space",
    ),
    (
        ADD + "-t diskless -n node1.virtual -B memory=4g new",
        "insufficient_resources.*node1.virtual has .*4096 MiB",
    ),
    (
        ADD + "-t diskless -B memory=4g new",
        "insufficient_resources.*node2.virtual: [0-9]+ MiB of memory missing",
    ),
    (ON1 + "-B memory=8 new", r"violates the instance policy of group default: memory.* is 8; allowed: 32"),
    (FILE1 + "--disk 0:size=2t new", "violates the instance policy.*disk.*2097152; allowed: .* to 1048576"),
    (ON1 + "-B vcpus=64 new", "violates the instance policy.*64; allowed: 1 to 8.*--ignore-ipolicy"),
)

CHANGES = (
    ("gnt-instance modify -B nonsense=1 there.virtual", "no parameter 'nonsense'; known:"),
    ("gnt-instance modify -H nonsense=1 there.virtual", "fake has no parameter 'nonsense'"),
    ("gnt-instance modify -B memory=900g there.virtual", "there.virtual would violate the instance policy"),
    ("gnt-instance modify there.virtual", "at least one of the parameters"),
    ("gnt-instance modify -B vcpus=2 nosuch.virtual", "unknown_entity.*'nosuch.virtual'.*gnt-instance list"),
    ("gnt-instance start nosuch.virtual", "unknown_entity.*'nosuch.virtual'.*gnt-instance list"),
    ("gnt-instance remove -f nosuch.virtual", "unknown_entity.*'nosuch.virtual'"),
    (
        "gnt-instance migrate -f big.virtual",
        "insufficient_resources.*no other node.*node1.virtual: .* missing",
    ),
    ("gnt-instance list nosuch.virtual", "unknown_entity.*'nosuch.virtual'"),
    ("gnt-instance list -F nonsense==", "column 11"),
    ("gnt-node modify --offline=maybe node2.virtual", "--offline.*'maybe' is neither yes nor no"),
    ("gnt-node modify --offline=yes node1.virtual", "node1.virtual is the master"),
    ("gnt-node modify --offline=yes nosuch", "unknown_entity.*node 'nosuch'"),
    ("gnt-node remove node1.virtual", "node1.virtual is the master; fail the master over"),
    ("gnt-node remove node2.virtual", "node2.virtual.*big.virtual"),
    ("gnt-node add --no-ssh-key-check nosuch.virtual", "resolve.*nosuch.virtual"),
    ("gnt-node add --no-ssh-key-check node2.virtual", "node2.virtual"),
    ("gnt-cluster modify --enabled-hypervisors nosuch", "unknown hypervisor 'nosuch'; found: .*fake"),
    ("gnt-cluster modify --enabled-hypervisors kvm", "fake"),
    ("gnt-cluster modify --enabled-disk-templates file", "diskless is used by instance big.virtual"),
    ("gnt-cluster modify --candidate-pool-size=0", "candidate_pool_size"),
    ("gnt-cluster modify -B nonsense=1", "no parameter 'nonsense'; known:"),
    ("gnt-cluster modify -H fake:nonsense=1", "fake has no parameter 'nonsense'"),
    ("gnt-cluster modify", "at least one of the parameters"),
    ("gnt-cluster add-tags bad!tag", "bad!tag"),
    ("gnt-cluster add-tags " + "x" * 129, "longer than 128"),
    ("gnt-cluster remove-tags nosuch", "tags not found: nosuch"),
    ("gnt-cluster frobnicate", "Usage: gnt-cluster COMMAND"),
    ("gnt-job cancel 99999", "Job 99999 not found"),
    ("gnt-job archive none", "'none' is not a job ID"),
    ("gnt-debug delay -n nosuch 1", "unknown_entity.*node 'nosuch'"),
    ("gnt-debug delay soon", "'soon' is not a number"),
)

USAGE = (
    ("gnt-cluster modify --nonsense", "no such option: --nonsense"),
    ("gnt-cluster modify --candidate-pool-size=many", "'many' is not a whole number"),
    ("gnt-instance shutdown --timeout=soon there.virtual", "'soon' is not a whole number"),
)

RAW: tuple[tuple[dict[str, Any], str], ...] = (
    ({"OP_ID": "OP_NO_SUCH"}, "OP_NO_SUCH"),
    ({"OP_ID": "OP_TEST_DELAY"}, "duration"),
    ({"OP_ID": "OP_TEST_DELAY", "duration": "long"}, "duration"),
    ({"OP_ID": "OP_TEST_DELAY", "duration": 1, "nonsense": 2}, "nonsense"),
    ({"OP_ID": "OP_TEST_DELAY", "duration": 1, "priority": 77}, "priority"),
    ({"duration": 1}, "OP_ID"),
    ({}, "OP_ID"),
)


def setUpModule() -> None:
    """Two small nodes and two instances."""
    cluster = InputTests.cluster = RunningCluster(nodes=2)
    for number in (1, 2):
        directory = Path(cluster.paths(number).hypervisor_dir("fake"))
        directory.mkdir(parents=True, exist_ok=True)
        size = {"memory_total": 2048, "memory_dom0": 512, "cpu_total": 4}
        (directory / ".size").write_text(json.dumps(size))
    cluster.gnt(ADD + "-t diskless -n node2.virtual -B memory=1g big.virtual")
    cluster.gnt(ADD + "-t diskless -n node1.virtual -B memory=1g there.virtual")


def tearDownModule() -> None:
    """End all of it."""
    InputTests.cluster.destroy()


class InputTests(SynchronousTestCase):
    """A line for each mistake: the command, and what the answer must say."""

    cluster: RunningCluster
    last_new: ClassVar[str] = ""

    def check_all(self, rows: Sequence[tuple[str, str]], *, code: int = 1) -> None:
        """Run all commands, tell of all that were not refused as they should."""
        problems = [line for command, words in rows for line in self.check(command, words, code=code)]
        if problems:
            self.fail("\n".join(problems))

    def check(self, command: str, words: str, *, code: int = 1) -> list[str]:
        """Run a command that must be refused; gives what is wrong with how it was."""
        before = self.cluster.serial()
        done = self.cluster.gnt(command, check=False)
        told = " ".join((done.stdout + done.stderr).split())
        problems = []
        if done.returncode != code:
            problems.append(f"exit code {done.returncode}")
        if self.cluster.serial() != before:
            problems.append("something was changed")
        if "Traceback" in told or "reference" in told:
            problems.append("it broke")
        try:
            self.assertRegex(told, words)
        except AssertionError:
            problems.append(f"it does not say {words!r}")
        return [f"{command}: {', '.join(problems)}: {told}"] if problems else []

    def test_new_instances(self) -> None:
        """Instances that cannot be."""
        self.check_all(NEW_INSTANCES)
        self.assertEqual(self.names(), {"there.virtual", "big.virtual"})

    def test_changes(self) -> None:
        """Changes that cannot be."""
        self.check_all(CHANGES)
        self.assertEqual(self.names(), {"there.virtual", "big.virtual"})

    def test_usage(self) -> None:
        """What is wrong before masterd is asked ends with 2, as is usual, and leads to the help."""
        self.check_all(USAGE, code=2)

    def names(self) -> set[str]:
        """All instances."""
        return set(self.cluster.gnt("gnt-instance list --no-headers -o name").stdout.split())

    def test_raw_opcodes(self) -> None:
        """Opcodes that no tool would send are refused at submission, by the name of what is wrong."""
        client = self.cluster.client()
        jobs = set(self.cluster.jobs())
        for opcode, word in RAW:
            with self.assertRaises(MasterError) as caught:
                client.submit([opcode])
            self.assertIn(word, str(caught.exception))
        with self.assertRaises(MasterError):
            client.submit([])
        self.assertEqual(set(self.cluster.jobs()), jobs)
