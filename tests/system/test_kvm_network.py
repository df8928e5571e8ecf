"""A guest on a bridge: tap, wiring and packets, in a network namespace that ends with the test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import msgspec
import pytest

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import CommandFailed
from ganeti.hypervisors.kvm.hypervisor import KvmHypervisor
from ganeti.model.filled import FilledNic
from ganeti.model.paths import Paths
from ganeti.node.backend.host import Host
from ganeti.testing.hypervisor_behaviours import filled_instance
from ganeti.vcluster.tiny_guest import KERNEL_ARGS, build

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

_GUEST, _NODE = "192.0.2.2", "192.0.2.1"


def _reached(times: int) -> bool:
    for _ in range(times):
        ping = ["ping", "-q", "-c", "1", "-W", "1", _GUEST]
        if subprocess.run(ping, stdout=subprocess.DEVNULL, check=False).returncode == 0:
            return True
    return False


def main(root: str) -> None:
    """Run inside the namespace: start the guest on a bridge and wait until it answers."""
    for command in (
        "link add br0 type bridge", f"addr add {_NODE}/24 dev br0", "link set br0 up", "link set lo up",
    ):  # fmt: skip
        subprocess.run(["ip", *command.split()], check=True)
    guest = build()
    hvparams = {
        "kernel_path": guest.kernel,
        "initrd_path": guest.initrd,
        "kernel_args": f"{KERNEL_ARGS} tiny.ip={_GUEST}/24",
        "kvm_flag": "disabled",
    }
    nic = FilledNic(uuid="n0", mac="aa:00:00:00:00:01", mode="bridged", link="br0")
    instance = msgspec.structs.replace(filled_instance("inst1", "kvm", hvparams, memory=96), nics=(nic,))
    hypervisor, host = KvmHypervisor(), Host(Paths(root), "node1")
    hypervisor.start(host, instance, ())
    try:
        print("answers" if _reached(60) else "silent")
    finally:
        hypervisor.stop(host, instance.name, force=True, timeout_s=10)
    left = os.listdir("/sys/class/net/br0/brif")
    print("clean" if left == [] else f"left: {left}")


class BridgeTests(SynchronousTestCase):
    """Bridged mode."""

    def test_guest_answers(self) -> None:
        """A guest on a bridge answers ping, and its tap is gone when it is stopped."""
        if os.geteuid() != 0 or shutil.which("unshare") is None or not os.path.exists("/dev/net/tun"):
            raise unittest.SkipTest("needs root, unshare and /dev/net/tun")
        if shutil.which("ping") is None or shutil.which("qemu-system-x86_64") is None:
            raise unittest.SkipTest("needs ping and QEMU: apt-get install iputils-ping qemu-system-x86")
        try:
            build()
        except CommandFailed as error:
            raise unittest.SkipTest(str(error)) from error
        root = tempfile.mkdtemp(prefix="kvm-net-")
        self.addCleanup(shutil.rmtree, root)
        # A namespace needs no name and is gone with its last process; /sys has to be that of the namespace.
        inside = 'mount -t sysfs none /sys && exec "$0" "$@"'
        done = subprocess.run(
            ["unshare", "--net", "--mount", "sh", "-c", inside, sys.executable, __file__, root],
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        self.assertEqual(done.stdout.split(), ["answers", "clean"], done.stderr)


if __name__ == "__main__":
    main(sys.argv[1])
