"""Tests of the dictionary that describes the cluster to clients."""

from __future__ import annotations

import msgspec

from twisted.trial.unittest import SynchronousTestCase

from ganeti.logic.cluster_info import cluster_info
from ganeti.testing.clusters import cluster, with_settings
from ganeti.version import PROTOCOL_VERSION

ESTABLISHED = frozenset(
    str.split(
        """software_version protocol_version config_version os_api_version export_version vcs_version
        architecture name master default_hypervisor enabled_hypervisors hvparams os_hvp beparams osparams
        ipolicy nicparams ndparams diskparams candidate_pool_size max_running_jobs max_tracked_jobs
        mac_prefix master_netdev master_netmask use_external_mip_script volume_group_name
        drbd_usermode_helper file_storage_dir shared_file_storage_dir gluster_storage_dir
        maintain_node_health ctime mtime uuid tags uid_pool default_iallocator default_iallocator_params
        reserved_lvs primary_ip_version prealloc_wipe_disks hidden_os blacklisted_os
        enabled_disk_templates install_image instance_communication_network zeroing_image
        compression_tools enabled_user_shutdown enabled_data_collectors data_collector_interval
        modify_ssh_setup ssh_key_type ssh_key_bits"""
    )
)
ARCHITECTURE = ("64bits", "x86_64")


class ClusterInfoTests(SynchronousTestCase):
    """What clients are told."""

    def test_keys(self) -> None:
        """The established keys, and those that tell how the hosts file and large groups are treated."""
        found = set(cluster_info(cluster(), architecture=ARCHITECTURE))
        ours = {"modify_etc_hosts", "diffusion_min_nodes", "capacity_params", "enforce_max_inst_spec"}
        self.assertEqual(found ^ ESTABLISHED, ours)

    def test_values(self) -> None:
        """Names, versions, the first hypervisor as the default."""
        info = cluster_info(cluster(), architecture=ARCHITECTURE)
        self.assertEqual((info["name"], info["master"]), ("cluster.example.com", "node1.example.com"))
        self.assertEqual((info["default_hypervisor"], info["enabled_hypervisors"]), ("fake", ["fake", "kvm"]))
        self.assertEqual(info["protocol_version"], PROTOCOL_VERSION)
        self.assertEqual((info["architecture"], info["primary_ip_version"]), (["64bits", "x86_64"], 4))

    def test_ip_version(self) -> None:
        """The family of addresses as a version of IP."""
        value = with_settings(cluster(), primary_ip_family=10)
        self.assertEqual(cluster_info(value, architecture=ARCHITECTURE)["primary_ip_version"], 6)

    def test_only_enabled_hypervisors(self) -> None:
        """Parameters of hypervisors that are not enabled are not told."""
        value = with_settings(cluster(), enabled_hypervisors=("fake",))
        self.assertEqual(set(cluster_info(value, architecture=ARCHITECTURE)["hvparams"]), {"fake"})

    def test_no_secrets(self) -> None:
        """Private parameters of OS definitions are not told."""
        value = with_settings(cluster(), osparams_private_cluster={"debian": {"password": "hidden!"}})
        text = msgspec.json.encode(cluster_info(value, architecture=ARCHITECTURE)).decode()
        self.assertNotIn("hidden!", text)
