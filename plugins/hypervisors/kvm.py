"""Hypervisor `kvm`: instances in QEMU."""

from ganeti.hypervisors.kvm.hypervisor import KvmHypervisor

kvm = KvmHypervisor()
