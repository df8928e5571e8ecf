"""Delivers the credentials of a new node over SSH and starts its daemon; the default delivery script.

Needs that root on the master can log in on the node. Kept apart from everything else, so that a site can
put another way in its place (`/etc/ganeti/node-setup`).
"""

from __future__ import annotations

import base64
import io
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Sequence

import msgspec

from ganeti.daemons.node_setup import Delivery
from ganeti.model.paths import Paths


def archive(files: dict[str, str]) -> bytes:
    """A tar archive of the files, as they are to lie in the data directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            data = base64.b64decode(content)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            member.mode = 0o644 if name == "ca.pem" else 0o600
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def remote_script(delivery: Delivery, paths: Paths) -> str:
    """What the node's shell does: refuse a member of another cluster, unpack, start the daemon."""
    data_dir = shlex.quote(paths.data_dir)
    guard = ""
    if not (delivery.readd or delivery.force_join):
        guard = (
            f"if [ -e {data_dir}/server.pem ]; then "
            "echo 'this node belongs to a cluster already; --force-join takes it over' >&2; exit 3; fi; "
        )
    return (
        f"set -e; umask 077; {guard}mkdir -p {data_dir}; tar -x -C {data_dir} -f -; "
        f"ganeti-noded --bind {shlex.quote(delivery.bind)}"
    )


def main(arguments: Sequence[str]) -> int:
    """Run; gives the exit code."""
    delivery = msgspec.json.decode(sys.stdin.buffer.read(), type=Delivery)
    options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=15"]
    if not delivery.ssh_key_check:
        options += ["-o", "StrictHostKeyChecking=no"]
    command = ["ssh", *options, f"root@{arguments[0]}", remote_script(delivery, Paths())]
    try:
        return subprocess.run(command, input=archive(delivery.files), check=False, timeout=120.0).returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        sys.stderr.write(f"cannot reach {arguments[0]} over SSH: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
