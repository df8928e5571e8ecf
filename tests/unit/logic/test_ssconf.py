"""The text of every ssconf file."""

from __future__ import annotations

import msgspec

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import ConfigurationError, CopyBehind, NodeError
from ganeti.logic import ssconf
from ganeti.logic.ssconf import changed, is_due, ssconf_files
from ganeti.model.calls.system import Stamp, WriteSsconf
from ganeti.model.cluster import Cluster
from ganeti.model.ids import NetworkId
from ganeti.model.network import Network
from ganeti.testing.clusters import (
    cluster,
    group_id,
    instance_id,
    node,
    node_id,
    with_instance,
    with_node,
    with_settings,
)

NAMES = """
cluster_name cluster_tags diffusion_min_nodes enabled_user_shutdown file_storage_dir gluster_storage_dir
hvparams_chroot hvparams_fake hvparams_kvm hvparams_lxc hvparams_xen-hvm hvparams_xen-pvm hypervisor_list
instance_list maintain_node_health master_candidates master_candidates_certs master_candidates_ips
master_ip master_netdev master_netmask master_node networks node_list node_primary_ips
node_secondary_ips node_vm_capable nodegroups offline_nodes online_nodes primary_ip_family
release_version shared_file_storage_dir ssh_ports uid_pool
"""


def example() -> Cluster:
    """A cluster that has something of everything."""
    value = cluster(nodes=3, instances=("inst10", "inst2"))
    value = with_node(value, "node2", offline=True, master_candidate=False, vm_capable=False)
    value = with_node(value, "node3", ndparams={"ssh_port": 2222})
    value = msgspec.structs.replace(
        value,
        nodes=value.nodes.with_item(node_id(10), node(10, master_candidate=False)),
        networks=value.networks.with_item(
            NetworkId("net-uuid"), Network(uuid=NetworkId("net-uuid"), name="net", network="10.0.0.0/24")
        ),
    )
    return with_settings(
        value,
        tags=("b10", "b2"),
        uid_pool=((100, 100), (200, 299)),
        candidate_certs={node_id(1): "aa", node_id(3): "bb"},
        maintain_node_health=True,
    )


class ContentTests(SynchronousTestCase):
    """objects.md section 16."""

    def setUp(self) -> None:
        self.files = ssconf_files(example())

    def lines(self, name: str) -> list[str]:
        """Lines of a file."""
        text = self.files[name]
        self.assertTrue(text == "" or text.endswith("\n"))
        return text.splitlines()

    def test_names(self) -> None:
        """All established files are there, and one of our own."""
        self.assertEqual(sorted(self.files), sorted(NAMES.split()))

    def test_values(self) -> None:
        """Single values."""
        expected = {
            "cluster_name": "cluster.example.com",
            "master_node": "node1.example.com",
            "master_netmask": "32",
            "primary_ip_family": "2",
            "maintain_node_health": "True",
            "enabled_user_shutdown": "False",
        }
        self.assertEqual({name: self.files[name].strip() for name in expected}, expected)

    def test_nodes(self) -> None:
        """Lists of nodes are in the order that people expect."""
        names = [f"node{number}.example.com" for number in (1, 2, 3, 10)]
        self.assertEqual(self.lines("node_list"), names)
        self.assertEqual(self.lines("offline_nodes"), names[1:2])
        self.assertEqual(self.lines("online_nodes"), [names[0], *names[2:]])
        self.assertEqual(self.lines("node_primary_ips")[3], f"{names[3]} 10.0.0.11")
        self.assertEqual(self.lines("node_secondary_ips")[0], f"{names[0]} 10.1.0.2")
        self.assertEqual(self.lines("node_vm_capable")[:2], [f"{names[0]}=True", f"{names[1]}=False"])
        self.assertEqual(self.lines("ssh_ports")[2:], [f"{names[2]}=2222", f"{names[3]}=22"])

    def test_candidates(self) -> None:
        """The master is among the candidates."""
        expected = {"node1.example.com", "node3.example.com"}
        self.assertEqual(set(self.lines("master_candidates")), expected)
        self.assertEqual(set(self.lines("master_candidates_ips")), {"10.0.0.2", "10.0.0.4"})
        self.assertEqual(self.lines("master_candidates_certs"), [f"{node_id(1)}=aa", f"{node_id(3)}=bb"])

    def test_master_without_flag(self) -> None:
        """It is even when its flag is not set."""
        value = with_node(cluster(), "node1", master_candidate=False)
        self.assertIn("node1.example.com\n", ssconf_files(value)["master_candidates"])

    def test_others(self) -> None:
        """Instances, tags, groups, networks, hypervisors, user ids."""
        self.assertEqual(self.lines("instance_list"), ["inst2.example.com", "inst10.example.com"])
        self.assertEqual(self.lines("cluster_tags"), ["b2", "b10"])
        self.assertEqual(self.lines("nodegroups"), [f"{group_id(1)} default"])
        self.assertEqual(self.lines("networks"), ["net-uuid net"])
        self.assertEqual(self.lines("hypervisor_list"), ["fake", "kvm"])
        self.assertEqual(self.lines("uid_pool"), ["100", "200-299"])

    def test_hypervisor_parameters(self) -> None:
        """Parameters stand one to a line, booleans as True and False."""
        self.assertEqual(self.lines("hvparams_fake"), ["migration_mode=live"])
        self.assertIn("acpi=True", self.lines("hvparams_kvm"))
        self.assertIn("vnc_bind_address=", self.lines("hvparams_kvm"))

    def test_hypervisor_of_a_plugin(self) -> None:
        """A hypervisor that a plugin brought has a file, too."""
        value = cluster()
        value = with_settings(value, hvparams={**value.settings.hvparams, "bhyve": {"a": 1}})
        self.assertEqual(ssconf_files(value)["hvparams_bhyve"], "a=1\n")


class ChangedTests(SynchronousTestCase):
    """What differs."""

    def test_changed(self) -> None:
        """Only files whose text is another are told."""
        old = ssconf_files(example())
        new = ssconf_files(with_instance(example(), "new"))
        self.assertEqual(list(changed(old, new)), ["instance_list"])
        self.assertEqual(changed(old, old), {})
        self.assertEqual(changed({}, old), old)
        self.assertNotIn(instance_id(3), new["instance_list"])

    def test_too_long(self) -> None:
        """A file that nodes would not take is refused here, by name."""
        self.patch(ssconf, "MAX_BYTES", 20)
        error = self.assertRaises(
            ConfigurationError, ssconf_files, with_settings(cluster(), tags=("x" * 30,))
        )
        self.assertIn("ssconf_cluster_tags", str(error))


class DueTests(SynchronousTestCase):
    """What a node does with a set of files, by the one that it has."""

    def test_table(self) -> None:
        """Newer sets are written, the same one is not written again, older ones are refused (S2.3-032)."""
        old, middle, new = (Stamp(generation=g, number=n) for g, n in ((1, 9), (2, 1), (2, 2)))
        for have, stamp, base, expected in (
            (None, None, None, True),
            (new, None, None, True),
            (None, middle, None, True),
            (old, middle, None, True),
            (middle, middle, None, False),
            (middle, middle, old, False),
            (new, middle, None, NodeError),
            (new, middle, old, NodeError),
            (middle, new, middle, True),
            (old, new, middle, CopyBehind),
            (None, new, middle, CopyBehind),
            (middle, old, None, NodeError),
        ):
            call = WriteSsconf(values={"node_list": ""}, stamp=stamp, base=base)
            with self.subTest(have=have, stamp=stamp, base=base):
                if isinstance(expected, bool):
                    self.assertIs(is_due(have, call), expected)
                else:
                    self.assertIs(type(self.assertRaises(NodeError, is_due, have, call)), expected)
