"""Parameters of network interfaces, and of connections of a network to a node group."""

from __future__ import annotations

from ganeti.model.param_tables.rows import choice, matches, text
from ganeti.model.params import ParamTable

NIC_MODES = ("bridged", "routed", "openvswitch", "ext", "user")
"""`user` is the network that the hypervisor itself makes, without anything on the node (KVM only)."""
CONNECTION_MODES = ("bridged", "routed", "openvswitch", "ext", "pool")

_vlan = matches(
    r"|\d{1,4}|\.\d{1,4}|(:\d{1,4})+|\.\d{1,4}(:\d{1,4})+",
    "a VLAN; write N or .N (untagged), :N:N (trunk) or .N:N (both)",
)
_LINK = text("link", "xen-br0", "bridge, routing table or switch that it is attached to")
_VLAN = text("vlan", "", "VLANs on an Open vSwitch", _vlan)

NIC = ParamTable(
    "a network interface",
    (choice("mode", "bridged", "how it is attached on the node", NIC_MODES), _LINK, _VLAN),
)

CONNECTION = ParamTable(
    "a network connection",
    (
        choice("mode", "bridged", "how interfaces in this network are attached", CONNECTION_MODES),
        _LINK,
        _VLAN,
    ),
)
