"""Arguments of QEMU for network interfaces. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ganeti.hypervisors.kvm.facts import KvmFacts
from ganeti.hypervisors.kvm.params import KvmParams
from ganeti.model.filled import FilledNic


def nic_arguments(
    params: KvmParams, nics: Sequence[FilledNic], taps: Sequence[str], facts: KvmFacts, slots: Iterator[str]
) -> Iterator[str]:
    """Arguments for interfaces, each on a tap that exists already.

    Args:
        params: of the instance.
        nics: of the instance.
        taps: their taps, in the same order; empty for mode `user`.
        facts: of the node.
        slots: PCI places, as options of the device.
    """
    for index, (nic, tap) in enumerate(zip(nics, taps, strict=True)):
        netdev = _netdev(params, index, tap, facts) if tap else f"user,id=net{index}"
        yield from ("-netdev", netdev)
        boot = ",bootindex=1" if params.boot_order == "network" and index == 0 else ""
        yield from (
            "-device",
            f"{_device(params, slots)},mac={nic.mac},netdev=net{index},id=nic{index}{boot}",
        )


def _netdev(params: KvmParams, index: int, tap: str, facts: KvmFacts) -> str:
    value = f"tap,id=net{index},ifname={tap},script=no,downscript=no"
    if params.nic_type != "paravirtual":
        return value
    if params.virtio_net_queues > 1:
        value += f",queues={params.virtio_net_queues}"
    if not params.vnet_hdr:
        value += ",vnet_hdr=off"
    # Without the device QEMU would refuse; packets go through QEMU itself then, only slower.
    return f"{value},vhost={'on' if params.vhost_net and facts.has_vhost_net else 'off'}"


def _device(params: KvmParams, slots: Iterator[str]) -> str:
    if params.nic_type == "ne2k_isa":
        return params.nic_type
    if params.nic_type != "paravirtual":
        return f"{params.nic_type}{next(slots, '')}"
    queues = params.virtio_net_queues
    # Two interrupts for each queue, one for changes of the link, one for the control queue.
    multi = f",mq=on,vectors={2 * queues + 2}" if queues > 1 else ""
    return f"virtio-net-pci{next(slots, '')}{multi}"
