"""Node functions that copy the content of one disk to another node, directly (operations.md section 5.4).

The receiving function says in a file where it listens, and `TransferEndpoint` reads that, because its
own answer comes only at the end. Both ends are plain function processes: they end with their call.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator

import msgspec

from ganeti.errors import BlockDeviceError, GanetiError, NodeError
from ganeti.interfaces import ICopyable, IHost
from ganeti.model.calls.disks import OpenDisk
from ganeti.model.calls.transfers import COPY_LEVELS, Copied, DiskReceive, DiskSend, TransferEndpoint
from ganeti.model.disk import Disk
from ganeti.model.reading import UNREADABLE
from ganeti.node.backend.plugin_choice import storage_named
from ganeti.node.backend.registry import NodeWorld, node_function
from ganeti.node.transfer_line import Hello, Line, Patience, Ready, Verdict, awaited, connected
from ganeti.storage.contents import ContentDigest, Sink, Source
from ganeti.storage.tree import closing_order, opening_order

_ENDPOINT_S = 30.0
"""A receiving function that was asked for begins to listen within this time, also on a busy node."""
_FORGET_S = 86400.0
_NAME = re.compile(r"[0-9a-f-]{36}\Z")


class _Listening(msgspec.Struct, frozen=True, kw_only=True):
    """What the receiving function leaves for `TransferEndpoint`."""

    endpoint: str = ""
    problem: str = ""


@node_function(DiskReceive)
def disk_receive(call: DiskReceive, node: NodeWorld) -> Copied:
    """Write what one other node sends."""
    return receive(call, node, Patience())


@node_function(TransferEndpoint)
def disk_transfer_endpoint(call: TransferEndpoint, node: NodeWorld) -> str:
    """Where the receiving function listens."""
    path = _note_path(node.host, call.transfer)
    give_up = node.host.now() + _ENDPOINT_S
    while True:
        note = _read_note(path)
        if note is not None:
            break
        if node.host.now() >= give_up:
            raise NodeError(f"no disk is being received on {node.host.name} for this transfer")
        node.host.sleep(0.05)
    if note.problem:
        raise BlockDeviceError(note.problem)
    return note.endpoint


@node_function(DiskSend)
def disk_send(call: DiskSend, node: NodeWorld) -> Copied:
    """Send the content of a disk."""
    return send(call, node, Patience())


def receive(call: DiskReceive, node: NodeWorld, patience: Patience) -> Copied:
    """Listen, let the one node in, write its blocks; see `DiskReceive`.

    Raises:
        NodeError: it does not come, goes away, or is silent for too long.
        BlockDeviceError: the content cannot be written, or is not what was sent.
    """
    path = _note_path(node.host, call.transfer)
    _make_room_for_notes(os.path.dirname(path))
    try:
        with _opened(node, call.disk) as content:
            sink = None if content is None else Sink(content, _size(node, call.disk))
            with contextlib.closing(sink) if sink is not None else contextlib.nullcontext():
                copied = _listen(call, node, patience, path, sink)
            if sink is not None and _size(node, call.disk) != call.disk.size * 1024 * 1024:
                # Of an image only this tells how large it is for the guest.
                raise BlockDeviceError(f"what came for {call.disk.iv_name} is not a disk of its size")
            return copied
    except GanetiError as error:
        if not os.path.exists(path):
            # Nobody could connect yet: whoever waits for the endpoint need not wait any longer.
            _write_note(path, _Listening(problem=str(error)))
        raise
    finally:
        note = _read_note(path)
        if note is not None and note.endpoint:
            os.unlink(path)


def send(call: DiskSend, node: NodeWorld, patience: Patience) -> Copied:
    """Connect, and send what is not zero; see `DiskSend`.

    Raises:
        NodeError: the other node cannot be reached, goes away, or is silent for too long.
        BlockDeviceError: the content cannot be read, or did not arrive as it is.
    """
    level = COPY_LEVELS.get(call.compress)
    if level is None:
        raise BlockDeviceError(
            f"a copy cannot be compressed by {call.compress!r}; known: {', '.join(COPY_LEVELS)}"
        )
    with _opened(node, call.disk) as content:
        source = None if content is None else Source(content, _size(node, call.disk))
        with (
            contextlib.closing(source) if source is not None else contextlib.nullcontext(),
            connected(node.host.paths, call.endpoint, call.target, patience) as line,
        ):
            line.say(Hello(token=call.token, size=0 if source is None else source.size))
            _require_ready(line.hear(Ready))
            return _send_all(line, source, level)


def _require_ready(answer: Ready) -> None:
    if not answer.ready:
        raise BlockDeviceError(f"the other node gave up: {answer.problem}")


def _send_all(line: Line, source: Source | None, level: int) -> Copied:
    digest = ContentDigest()
    for offset, data in source.blocks() if source is not None else ():
        if line.has_spoken():
            raise BlockDeviceError(f"the other node gave up: {line.hear(Verdict).problem}")
        if data:
            digest.add(offset, data)
        line.send_block(offset, data, level=level)
    line.send_end()
    size = 0 if source is None else source.size
    copied = Copied(size=size, digest=digest.hex(), carried=digest.carried)
    line.say(Verdict(copied=copied))
    verdict = line.hear(Verdict)
    if verdict.copied is None:
        raise BlockDeviceError(f"the other node gave up: {verdict.problem}")
    _require_same(copied, verdict.copied)
    return copied


def _listen(call: DiskReceive, node: NodeWorld, patience: Patience, path: str, sink: Sink | None) -> Copied:
    def announce(endpoint: str) -> None:
        _write_note(path, _Listening(endpoint=endpoint))

    with awaited(node.host.paths, call.address, call.source, call.token, patience, announce) as (line, hello):
        try:
            copied = _receive_all(line, hello, sink)
        except GanetiError as error:
            with contextlib.suppress(NodeError):
                line.say(Verdict(problem=str(error)[:1000]))
                line.drain(patience.farewell_s)
            raise
        line.say(Verdict(copied=copied))
        return copied


def _receive_all(line: Line, hello: Hello, sink: Sink | None) -> Copied:
    if sink is not None:
        sink.begin(hello.size)
    elif hello.size:
        raise BlockDeviceError("the disk is pretended here and a real one at the source")
    line.say(Ready(ready=True))
    digest = ContentDigest()
    for offset, data in line.blocks():
        if sink is None:
            raise BlockDeviceError("the disk is pretended here and cannot hold anything")
        if data:
            digest.add(offset, data)
        sink.put(offset, data)
    sent = line.hear(Verdict).copied
    if sink is not None:
        sink.finish()
    copied = Copied(size=hello.size, digest=digest.hex(), carried=digest.carried)
    if sent is None:
        raise NodeError("the sending node gave up")
    _require_same(sent, copied)
    return copied


def _require_same(sent: Copied, received: Copied) -> None:
    if not sent.matches(received):
        raise BlockDeviceError(
            f"what arrived ({received.size} bytes, {received.digest}) is not what was sent "
            f"({sent.size} bytes, {sent.digest})"
        )


@contextlib.contextmanager
def _opened(node: NodeWorld, disk: Disk) -> Iterator[OpenDisk | None]:
    """The disk, open inside the block; None if it is a pretended one that holds nothing."""
    plugin = storage_named(node, disk.dev_type)
    if not ICopyable.providedBy(plugin):
        raise BlockDeviceError(f"disks of template {disk.dev_type} cannot be copied to another node")
    copyable: ICopyable = plugin
    opened: OpenDisk | None = None
    try:
        for part in opening_order(disk):
            opened = storage_named(node, part.dev_type).open(node.host, part, on_primary=True)
        yield opened if copyable.holds_content else None
    finally:
        for part in closing_order(disk):
            with contextlib.suppress(GanetiError):
                storage_named(node, part.dev_type).close(node.host, part)


def _size(node: NodeWorld, disk: Disk) -> int:
    found = storage_named(node, disk.dev_type).size_bytes(node.host, disk)
    if found is None:
        raise BlockDeviceError(f"{disk.iv_name} is missing on {node.host.name}, or is not what it should be")
    return found


# --- notes of where it listens -----------------------------------------------------------------


def _note_path(host: IHost, transfer: str) -> str:
    if _NAME.match(transfer) is None:
        raise NodeError(f"{transfer!r} is no transfer")
    return f"{host.paths.run_dir}/disk-transfers/{transfer}"


def _make_room_for_notes(directory: str) -> None:
    """Make the directory, and forget what functions left there that were killed long ago."""
    os.makedirs(directory, 0o700, exist_ok=True)
    for name in os.listdir(directory):
        with contextlib.suppress(FileNotFoundError):
            if os.stat(f"{directory}/{name}").st_mtime < time.time() - _FORGET_S:
                os.unlink(f"{directory}/{name}")


def _write_note(path: str, note: _Listening) -> None:
    unfinished = f"{path}.new"
    with open(unfinished, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as stream:
        stream.write(msgspec.json.encode(note))
    os.replace(unfinished, path)


def _read_note(path: str) -> _Listening | None:
    try:
        with open(path, "rb") as stream:
            return msgspec.json.decode(stream.read(), type=_Listening)
    except FileNotFoundError:
        return None
    except UNREADABLE as error:
        raise NodeError(f"{path} is damaged: {error}") from error
