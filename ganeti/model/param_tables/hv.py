"""Parameters of every established hypervisor; other plugins bring their own table."""

from __future__ import annotations

from collections.abc import Mapping

from ganeti.model.param_tables.hv_kvm import KVM
from ganeti.model.param_tables.hv_light import CHROOT, FAKE, LXC
from ganeti.model.param_tables.hv_xen import XEN_HVM, XEN_PVM
from ganeti.model.params import ParamTable

HYPERVISORS: Mapping[str, ParamTable] = {
    "kvm": KVM,
    "xen-hvm": XEN_HVM,
    "xen-pvm": XEN_PVM,
    "lxc": LXC,
    "chroot": CHROOT,
    "fake": FAKE,
}
"""By established name (objects.md section 12)."""
