"""Tests of copying a disk from node to node: real TLS on loopback, and what is refused (S2.3-033)."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from twisted.internet import reactor as the_reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from ganeti.errors import BlockDeviceError, GanetiError, NodeError
from ganeti.io.x509 import KeyPair, issue, make_authority
from ganeti.model.calls.disks import DiskCreate
from ganeti.model.calls.transfers import Copied, DiskReceive, DiskSend, TransferEndpoint
from ganeti.model.disk import Disk
from ganeti.model.identity import Identity, Role
from ganeti.model.ids import NodeId
from ganeti.model.paths import Paths
from ganeti.node.backend.disk_transfers import disk_transfer_endpoint, receive, send
from ganeti.node.backend.disks import blockdev_create
from ganeti.node.backend.host import Host
from ganeti.node.backend.registry import NodeWorld
from ganeti.node.functions import Functions
from ganeti.node.launcher import Launcher
from ganeti.node.transfer_line import Hello, Line, Patience, Ready, Verdict, connected
from ganeti.node.zygote import ZygoteSetup
from ganeti.testing.node_world import WithNode

reactor: Any = the_reactor

NOW = time.time()
AUTHORITY = make_authority("cluster.example.com", now=NOW)
STRANGER = make_authority("other.example.com", now=NOW)
TRANSFER = "0badcafe-0000-4000-8000-000000000001"
MIB = 1024 * 1024
QUICK = Patience(arrival_s=5.0, silence_s=1.0, handshake_s=1.0, farewell_s=0.5)
SOURCE, TARGET = NodeId("uuid-source"), NodeId("uuid-target")


def certificate(
    node: str, role: Role = Role.NODE, *, authority: KeyPair = AUTHORITY, cluster: str = "c1"
) -> KeyPair:
    """A certificate for a node."""
    identity = Identity(role=role, node_uuid=node, cluster_uuid=cluster)
    return issue(authority, identity, names=[f"{node}.example.com"], now=NOW)


class Outcome:
    """What a function in a thread gave or raised."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._found: list[Any] = []
        self._thread = threading.Thread(target=self._run, args=(function,), daemon=True)
        self._thread.start()

    def get(self) -> Any:
        """The result; raises what the function raised."""
        self._thread.join(20)
        (found,) = self._found
        if isinstance(found, BaseException):
            raise found
        return found

    def _run(self, function: Callable[[], Any]) -> None:
        try:
            self._found.append(function())
        except BaseException as error:
            self._found.append(error)


class Transfers(WithNode):
    """Two nodes, each with its certificate, that may keep images in the same directory."""

    address = "127.0.0.1"

    def setUp(self) -> None:
        """A source with a disk, a target with a new one."""
        super().setUp()
        self.source = self.join("source", SOURCE)
        self.target = self.join("target", TARGET)
        self.old = self.created_disk(size=4)
        self.new = self.made(self.make_disk(size=4))

    def join(self, name: str, uuid: str, pair: KeyPair | None = None) -> NodeWorld:
        """A node with a certificate."""
        paths = Paths(f"{self.directory}/{name}")
        for directory in (paths.conf_dir, paths.data_dir, paths.run_dir):
            os.makedirs(directory, exist_ok=True)
        self.write(paths.file_storage_paths, f"{self.images}\n")
        self.write(paths.node_cert_file, (pair or certificate(uuid)).pem.decode(), mode=0o600)
        self.write(paths.ca_file, AUTHORITY.certificate.decode())
        return replace(self.node, host=Host(paths, f"{name}.example.com"))

    def made(self, disk: Disk) -> Disk:
        """Create a disk at the target."""
        blockdev_create(DiskCreate(disk=disk, owner="inst1.example.com"), self.target)
        return disk

    def fill(self, disk: Disk, *parts: tuple[int, bytes]) -> bytes:
        """Write parts into an image; gives all that is in it."""
        with open(disk.logical_id[1], "r+b") as stream:
            for offset, data in parts:
                stream.seek(offset)
                stream.write(data)
        return self.content(disk)

    def content(self, disk: Disk) -> bytes:
        """All that is in an image."""
        with open(disk.logical_id[1], "rb") as stream:
            return stream.read()

    def listening(self, patience: Patience = QUICK, **changes: Any) -> tuple[Outcome, str]:
        """A receiving function, and where it listens."""
        call = DiskReceive(transfer=TRANSFER, token="t0", disk=self.new, source=SOURCE, address=self.address)
        outcome = Outcome(lambda: receive(replace(call, **changes), self.target, patience))
        return outcome, disk_transfer_endpoint(TransferEndpoint(transfer=TRANSFER), self.target)

    def sending(self, endpoint: str, node: NodeWorld | None = None, **changes: Any) -> Outcome:
        """A sending function."""
        call = DiskSend(token="t0", disk=self.old, target=TARGET, endpoint=endpoint)
        return Outcome(lambda: send(replace(call, **changes), node or self.source, QUICK))

    def copied(self, **changes: Any) -> Copied:
        """A whole copy; both ends say the same."""
        receiving, endpoint = self.listening()
        sending = self.sending(endpoint, **changes)
        received, sent = receiving.get(), sending.get()
        self.assertEqual(received, sent)
        return received  # type: ignore[no-any-return]

    def refused(self, outcome: Outcome, text: str) -> None:
        """A function that fails with this text."""
        with self.assertRaisesRegex(GanetiError, text):
            outcome.get()

    def notes(self) -> list[str]:
        """What functions left behind for others to read."""
        return os.listdir(f"{self.target.host.paths.run_dir}/disk-transfers")


class TransferCase(Transfers, SynchronousTestCase):
    """Functions in threads."""


class CopyTests(TransferCase):
    """What arrives."""

    def test_content(self) -> None:
        """Every byte is there, at the beginning, across blocks and at the very end; nothing else is left."""
        data = self.fill(self.old, (0, b"begin"), (MIB - 3, b"across"), (4 * MIB - 4, b"end."))
        copied = self.copied()
        self.assertEqual(self.content(self.new), data)
        self.assertEqual((copied.size, copied.carried), (4 * MIB, 3 * MIB))
        self.assertEqual(self.notes(), [])

    def test_empty(self) -> None:
        """Of an empty disk nothing is carried, and the copy takes no space."""
        self.assertEqual(self.copied().carried, 0)
        self.assertEqual(self.content(self.new), bytes(4 * MIB))
        self.assertEqual(os.stat(self.new.logical_id[1]).st_blocks, 0)

    def test_zeros_are_written_where_something_was(self) -> None:
        """A target that does not read as zeros gets them."""
        self.fill(self.new, (0, b"\xff" * 4 * MIB))
        data = self.fill(self.old, (2 * MIB, b"data"))
        self.copied()
        self.assertEqual(self.content(self.new), data)

    def test_compressed(self) -> None:
        """Compressed or not, the content is the same; what does not get smaller goes as it is."""
        data = self.fill(self.old, (0, b"text" * 1000), (MIB, os.urandom(MIB)))
        for tool in ("gzip", "gzip-fast", "gzip-slow"):
            self.copied(compress=tool)
            self.assertEqual(self.content(self.new), data)
        self.refused(self.sending("127.0.0.1:1", compress="lzop"), "compressed by 'lzop'; known: none, gzip")

    def test_qcow2(self) -> None:
        """An image is copied as it is; a guest sees the same."""
        self.old = self.created_disk(size=4, driver="qcow2", index=1)
        self.new = self.made(self.make_disk(size=4, driver="qcow2", index=2))
        self.copied()
        self.assertEqual(self.content(self.new), self.content(self.old))

    def test_qcow2_that_stands_on_another_file(self) -> None:
        """A node that was taken over cannot let a guest elsewhere read files of its host."""
        self.old = self.created_disk(size=4, driver="qcow2", index=1)
        self.new = self.made(self.make_disk(size=4, driver="qcow2", index=2))
        self.fill(self.old, (8, b"\0\0\0\0\0\0\2\0\0\0\0\x0b"), (512, b"/etc/shadow"))
        receiving, endpoint = self.listening()
        self.refused(self.sending(endpoint), "gave up: the image .* stands on another file")
        self.refused(receiving, "stands on another file")

    def test_pretended(self) -> None:
        """Of pretended disks nothing is copied."""
        self.old, self.new = (self.make_disk(template="fake", index=index) for index in (1, 2))
        for disk, node in ((self.old, self.source), (self.new, self.target)):
            blockdev_create(DiskCreate(disk=disk, owner="inst1.example.com"), node)
        self.assertEqual(self.copied().size, 0)


class CopyOverIpv6Tests(CopyTests):
    """The same over IPv6."""

    address = "::1"


class RefusalTests(TransferCase):
    """Who may not, and what goes wrong."""

    def assert_still_waits(self, receiving: Outcome, endpoint: str) -> None:
        """Whoever was refused did not keep the right node from coming."""
        data = self.fill(self.old, (0, b"data"))
        self.sending(endpoint).get()
        receiving.get()
        self.assertEqual(self.content(self.new), data)

    def test_wrong_peers(self) -> None:
        """Another node, a node of another cluster or authority, the master and RAPI are refused."""
        pairs = {
            "another node": certificate("uuid-other"),
            "another cluster": certificate(SOURCE, cluster="c2"),
            "another authority": certificate(SOURCE, authority=STRANGER),
            "the master": certificate(SOURCE, Role.MASTER),
            "rapi": certificate(SOURCE, Role.RAPI),
        }
        receiving, endpoint = self.listening()
        for name, pair in pairs.items():
            stranger = self.join("stranger", SOURCE, pair)
            with self.subTest(name):
                self.refused(
                    self.sending(endpoint, stranger), "line to the other node|went away|cannot connect|it "
                )
        self.assert_still_waits(receiving, endpoint)

    def test_wrong_token(self) -> None:
        """The right node without the token is refused."""
        receiving, endpoint = self.listening()
        self.refused(self.sending(endpoint, token="guess"), "went away|broke")
        self.assert_still_waits(receiving, endpoint)

    def test_no_tls(self) -> None:
        """Who speaks something else, or nothing, is refused."""
        receiving, endpoint = self.listening()
        host, _, port = endpoint.rpartition(":")
        for said in (b"GET / HTTP/1.0\r\n\r\n", b""):
            with socket.create_connection((host, int(port))) as stranger:
                stranger.sendall(said)
                stranger.settimeout(5)
                with contextlib.suppress(ConnectionError):
                    stranger.recv(100)
        self.assert_still_waits(receiving, endpoint)

    def test_only_once(self) -> None:
        """When the node is there nobody listens any more."""
        receiving, endpoint = self.listening()
        with connected(self.source.host.paths, endpoint, TARGET, QUICK) as line:
            line.say(Hello(token="t0", size=4 * MIB))
            line.hear(Ready)
            self.refused(self.sending(endpoint), "cannot connect")
        self.refused(receiving, "went away in the middle")

    def test_wrong_target(self) -> None:
        """The sending node tells nothing to a node that it does not mean."""
        receiving, endpoint = self.listening()
        self.refused(
            self.sending(endpoint, target=NodeId("uuid-other")), "not node uuid-other but node uuid-target"
        )
        self.assert_still_waits(receiving, endpoint)

    def test_nobody_comes(self) -> None:
        """The receiving end does not wait for ever."""
        receiving, _ = self.listening(Patience(arrival_s=0.2))
        self.refused(receiving, "did not connect within 0.2 s")
        self.assertEqual(self.notes(), [])

    def test_silence(self) -> None:
        """A source that sends nothing any more ends it."""
        receiving, endpoint = self.listening()
        with connected(self.source.host.paths, endpoint, TARGET, QUICK) as line:
            line.say(Hello(token="t0", size=4 * MIB))
            line.hear(Ready)
            self.refused(receiving, "neither sends nor takes")

    def test_target_is_silent(self) -> None:
        """A target that takes nothing any more ends it, too."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.target.host.paths.node_cert_file)
        with socket.create_server((self.address, 0)) as server:
            outcome = self.sending(f"{self.address}:{server.getsockname()[1]}")
            raw, _ = server.accept()
            with context.wrap_socket(raw, server_side=True):
                self.refused(outcome, "neither sends nor takes")

    def test_digest(self) -> None:
        """Content that is not what the source says is no copy, and both ends know it."""
        self.broken_copy(lambda line: line.send_block(0, b"data", level=0), "is not what was sent")

    def test_bad_blocks(self) -> None:
        """Blocks outside of the disk, out of order, or damaged are refused; nothing beside it is written."""
        beyond = "lie outside of it"
        self.broken_copy(lambda line: line.send_block(4 * MIB - 1, b"xx", level=0), beyond)
        self.broken_copy(lambda line: line.send_block(1 << 60, b"", level=0), beyond)

        def twice(line: Line) -> None:
            for _ in range(2):
                line.send_block(0, b"data", level=0)

        self.broken_copy(twice, beyond)
        self.broken_copy(lambda line: line._send(b"P" + bytes(8) + b"\0\0\0\4oops"), "damaged block")
        self.broken_copy(lambda line: line._send(b"?" + bytes(8) + b"\xff\xff\xff\xff"), "not a block")
        self.assertEqual(os.stat(self.new.logical_id[1]).st_size, 4 * MIB)

    def broken_copy(self, act: Callable[[Line], None], problem: str) -> None:
        """A source that sends something wrong."""
        receiving, endpoint = self.listening()
        with connected(self.source.host.paths, endpoint, TARGET, QUICK) as line:
            line.say(Hello(token="t0", size=4 * MIB))
            line.hear(Ready)
            act(line)
            line.send_end()
            line.say(Verdict(copied=Copied(size=4 * MIB, digest="00")))
            self.assertRegex(line.hear(Verdict).problem, problem)
        self.refused(receiving, problem)

    def test_other_size(self) -> None:
        """A disk of another size is no copy; the sending end says why."""
        self.old = self.created_disk(size=5, index=3)
        receiving, endpoint = self.listening()
        sending = self.sending(endpoint)
        self.refused(receiving, "has 5242880 bytes at the source and 4194304 bytes")
        self.refused(sending, "gave up: the disk has 5242880 bytes")

    def test_no_disk(self) -> None:
        """A disk that is not there is named at once, not after a minute."""
        os.unlink(self.new.logical_id[1])
        began = time.monotonic()
        with self.assertRaisesRegex(BlockDeviceError, "is missing"):
            self.listening()
        self.assertLess(time.monotonic() - began, 5)

    def test_no_transfer(self) -> None:
        """Ids that are none are refused; of one that is not there that is said."""
        for name in ("../../etc/passwd", "", "x" * 36):
            with self.assertRaisesRegex(NodeError, "is no transfer"):
                disk_transfer_endpoint(TransferEndpoint(transfer=name), self.target)
        with self.assertRaisesRegex(NodeError, "no disk is being received on node1"):
            disk_transfer_endpoint(TransferEndpoint(transfer=TRANSFER), self.node)


class AbortTests(Transfers, TestCase):
    """A receiving function as a real process."""

    async def started(self) -> Functions:
        """The functions of the target."""
        setup = ZygoteSetup(root=self.target.host.paths.root, node_name="target.example.com")
        launcher = Launcher(reactor, setup)
        await launcher.startService()
        self.addCleanup(launcher.stopService)
        functions = Functions(reactor, launcher)
        functions.startService()
        self.addCleanup(functions.stopService)
        return functions

    async def test_aborted(self) -> None:
        """When the call of the master is aborted the process ends, and the other end notices at once."""
        functions = await self.started()
        call = DiskReceive(transfer=TRANSFER, token="t0", disk=self.new, source=SOURCE, address=self.address)
        begun = await functions.start("disk_receive", msgspec.json.encode(call), timeout_s=0.01)
        assert begun.call_id is not None
        asked = msgspec.json.encode(TransferEndpoint(transfer=TRANSFER))
        found = await functions.start("disk_transfer_endpoint", asked, timeout_s=20)
        assert found.result is not None
        _, endpoint = msgspec.json.decode(found.result)
        ready = threading.Event()

        def half_a_copy() -> None:
            with connected(self.source.host.paths, endpoint, TARGET, Patience()) as line:
                line.say(Hello(token="t0", size=4 * MIB))
                line.hear(Ready)
                ready.set()
                line.hear(Verdict)

        sending = Outcome(half_a_copy)
        self.assertTrue(await deferToThread(ready.wait, 20))
        functions.abort(begun.call_id)
        over = await functions.wait(begun.call_id, timeout_s=20)
        self.assertIn(b"aborted on request", over.result or b"")
        with self.assertRaisesRegex(NodeError, "went away|broke"):
            await deferToThread(sending.get)
        self.assertEqual(self.notes(), [])
