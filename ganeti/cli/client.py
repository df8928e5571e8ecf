"""A client of masterd's socket with nothing but the standard library.

The format is AMP (docs/architecture/wire.md): a box is a list of keys and values, each with a length
of two bytes before it, ended by an empty key. Values longer than 65,535 bytes go on in `name.1`,
`name.2`, ... Messages that masterd sends by itself are kept until somebody asks for them.
"""

from __future__ import annotations

import json
import os
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

from ganeti.cli.errors import ConnectionLost, MasterError, MasterTimeout, NoMaster, NoPermission
from ganeti.model.paths import Paths

CONNECT_TIMEOUT_S = 30.0
ANSWER_TIMEOUT_S = 180.0

_CHUNK = 65_535
_ADDRESS_BYTES = 107
_READ = 1 << 20
_GANETI = b"GANETI"

Box = dict[bytes, bytes]


def connect(paths: Paths) -> Client:
    """A connection to the masterd of this node.

    Raises:
        MasterError: this node is not part of a cluster, or not its master.
        NoMaster: masterd does not run.
        NoPermission: this user may not use its socket.
        MasterTimeout: it does not accept connections.
    """
    try:
        return Client(paths.master_socket)
    except NoMaster:
        raise _why_nobody_listens(paths) from None


def _why_nobody_listens(paths: Paths) -> Exception:
    try:
        with open(paths.ssconf("master_node"), encoding="utf-8") as file:
            master = file.read().strip()
    except FileNotFoundError:
        text = "Cluster not initialized or this machine is not part of a cluster"
        return MasterError("OpPrereqError", [text, "wrong_input"])
    except OSError:
        return NoMaster(paths.master_socket)
    own = own_name(paths)
    if own in (master, master.split(".", 1)[0]) or own.split(".", 1)[0] == master:
        return NoMaster(paths.master_socket)
    text = f"This is not the master node, please connect to node '{master}' and rerun the command"
    return MasterError("OpPrereqError", [text, "wrong_input"])


def own_name(paths: Paths) -> str:
    """Name of this node: from the hostname file of its root directory, else of the machine."""
    if paths.root:
        try:
            with open(paths.hostname_file, encoding="utf-8") as file:
                return file.read().strip().lower()
        except OSError:
            pass
    return socket.getfqdn().lower()


class Client:
    """One connection to masterd; a call at a time.

    Args:
        path: of its socket.

    Raises:
        NoMaster: nobody listens there.
        NoPermission: this user may not use it.
        MasterTimeout: the connection is not accepted.
    """

    def __init__(self, path: str) -> None:
        self._connection = _connected(path)
        self._buffer = bytearray()
        self._pushed: deque[tuple[str, list[Any]]] = deque()
        self._asked = 0

    def submit(self, opcodes: Sequence[Mapping[str, Any]]) -> int:
        """Submit one job; gives its ID."""
        return int(self.call("SubmitJob", [list(opcodes), False]))

    def call(self, command: str, arguments: Sequence[Any], request_id: str | None = None) -> Any:
        """Ask for something and wait for the answer.

        Args:
            command: name of the command on the wire.
            arguments: JSON values.
            request_id: of a submission; sent again with the same it makes no second job.

        Raises:
            MasterError: masterd refuses.
            MasterTimeout: no answer in time.
            ConnectionLost: masterd went away.
        """
        self._asked += 1
        ask = b"%x" % self._asked
        box = {b"_ask": ask, b"_command": command.encode(), **chunks(b"args", list(arguments))}
        if request_id is not None:
            box[b"request_id"] = request_id.encode()
        self._send(encode_box(box))
        end = monotonic() + ANSWER_TIMEOUT_S
        while True:
            answer = self._read_box(end - monotonic())
            if answer is None:
                raise MasterTimeout()
            if answer.get(b"_answer") == ask:
                return json.loads(joined(answer, b"result"))
            if answer.get(b"_error") == ask:
                raise remote_error(answer)
            self._keep(answer)

    def pushed(self, timeout_s: float) -> tuple[str, list[Any]] | None:
        """The next message that masterd sent by itself, its name and arguments; None: none in time.

        Raises:
            ConnectionLost: masterd went away.
        """
        end = monotonic() + timeout_s
        while not self._pushed:
            box = self._read_box(end - monotonic())
            if box is None:
                return None
            self._keep(box)
        return self._pushed.popleft()

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _keep(self, box: Box) -> None:
        if b"_command" in box:
            self._pushed.append((box[b"_command"].decode(), json.loads(joined(box, b"args"))))

    def _send(self, data: bytes) -> None:
        try:
            self._connection.settimeout(ANSWER_TIMEOUT_S)
            self._connection.sendall(data)
        except TimeoutError:
            raise MasterTimeout() from None
        except OSError:
            raise ConnectionLost() from None

    def _read_box(self, timeout_s: float) -> Box | None:
        while True:
            found = decode_box(self._buffer)
            if found is not None:
                box, size = found
                del self._buffer[:size]
                return box
            if timeout_s <= 0:
                return None
            start = monotonic()
            if not self._fill(timeout_s):
                return None
            timeout_s -= monotonic() - start

    def _fill(self, timeout_s: float) -> bool:
        try:
            self._connection.settimeout(timeout_s)
            data = self._connection.recv(_READ)
        except TimeoutError:
            return False
        except OSError:
            raise ConnectionLost() from None
        if not data:
            raise ConnectionLost()
        self._buffer += data
        return True


def _connected(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(CONNECT_TIMEOUT_S)
    try:
        _connect(connection, path)
        return connection
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        error: Exception = NoMaster(path)
    except PermissionError:
        error = NoPermission()
    except (TimeoutError, BlockingIOError):
        error = MasterTimeout()
    connection.close()
    raise error


def _connect(connection: socket.socket, path: str) -> None:
    if len(os.fsencode(path)) <= _ADDRESS_BYTES:
        connection.connect(path)
        return
    # Addresses of sockets are short; through the directory's descriptor any path will do.
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
    try:
        connection.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
    finally:
        os.close(directory)


def encode_box(box: Mapping[bytes, bytes]) -> bytes:
    """The bytes of a box."""
    parts = []
    for key, value in box.items():
        parts += [len(key).to_bytes(2, "big"), key, len(value).to_bytes(2, "big"), value]
    return b"".join([*parts, b"\0\0"])


def decode_box(data: bytes | bytearray) -> tuple[Box, int] | None:
    """The first box of some bytes and its length; None: it is not complete yet."""
    view = memoryview(data)
    places: list[tuple[int, int]] = []
    position = 0
    try:
        while True:
            if position + 2 > len(data):
                return None
            length = data[position] << 8 | data[position + 1]
            if not length and len(places) % 2 == 0:
                break
            places.append((position + 2, position + 2 + length))
            position += 2 + length
        parts = [bytes(view[start:end]) for start, end in places]
    finally:
        view.release()
    return dict(zip(parts[::2], parts[1::2])), position + 2


def chunks(name: bytes, value: Any) -> Box:
    """A JSON value under a name, spread over several keys if it is long."""
    data = json.dumps(value, separators=(",", ":")).encode()
    found = {name: data[:_CHUNK]}
    for number, start in enumerate(range(_CHUNK, len(data), _CHUNK), 1):
        found[b"%s.%d" % (name, number)] = data[start : start + _CHUNK]
    return found


def joined(box: Mapping[bytes, bytes], name: bytes) -> bytes:
    """The bytes of a value that may be spread over several keys."""
    parts = [box.get(name, b"null")]
    while (key := b"%s.%d" % (name, len(parts))) in box:
        parts.append(box[key])
    return b"".join(parts)


def remote_error(box: Mapping[bytes, bytes]) -> MasterError:
    """The error that an answer carries."""
    text = box.get(b"_error_description", b"").decode("utf-8", "replace")
    code = box.get(b"_error_code", b"")
    if code == _GANETI:
        try:
            name, arguments = json.loads(text)
            return MasterError(str(name), list(arguments))
        except (ValueError, TypeError):
            pass
    if code == b"UNHANDLED":
        return MasterError("GenericError", [f"masterd does not understand this request ({text})"])
    return MasterError("GenericError", [text or "masterd failed and did not say why"])
