"""Talks QMP, the control protocol of QEMU: a parser without I/O and a blocking client.

QEMU serves one client of a socket at a time, so that a client is kept as briefly as possible: never
across a wait for the guest.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import msgspec

from ganeti.errors import HypervisorError
from ganeti.model.reading import UNREADABLE

MAX_LINE = 16 * 1024 * 1024
"""No answer of QEMU is near this; a peer that sends more is not QEMU."""
_CHUNK = 65536


class Greeting(msgspec.Struct, frozen=True):
    """First message of QEMU, with its version."""

    version: tuple[int, int, int]


class Reply(msgspec.Struct, frozen=True):
    """A command worked."""

    value: Any


class Failure(msgspec.Struct, frozen=True):
    """A command did not work."""

    kind: str
    text: str


class Event(msgspec.Struct, frozen=True):
    """Something happened."""

    name: str
    data: Mapping[str, Any]


Message = Greeting | Reply | Failure | Event


class QmpError(HypervisorError):
    """QEMU refused a command.

    Args:
        message: for the operator.
        kind: error class of QMP, such as `GenericError`.
    """

    def __init__(self, message: str, *, kind: str = "GenericError") -> None:
        super().__init__(message)
        self.kind = kind


class QmpParser:
    """Bytes to messages; one JSON object a line."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Messages that are complete now.

        Raises:
            HypervisorError: this is not QMP.
        """
        self._buffer += data
        if b"\n" not in data:
            if len(self._buffer) > MAX_LINE:
                raise HypervisorError("QEMU sent a line without an end")
            return []
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = bytearray(rest)
        return [_message(bytes(line)) for line in lines if line.strip()]


def _message(line: bytes) -> Message:
    try:
        match msgspec.json.decode(line):
            case {
                "QMP": {"version": {"qemu": {"major": int(major), "minor": int(minor), "micro": int(micro)}}}
            }:
                return Greeting((major, minor, micro))
            case {"event": str(name), **rest}:
                data = rest.get("data")
                return Event(name, data if isinstance(data, dict) else {})
            case {"error": {"class": str(kind), "desc": str(text)}}:
                return Failure(kind, text)
            case {"return": value}:
                return Reply(value)
    except UNREADABLE:
        pass
    raise HypervisorError(f"QEMU sent something that is not QMP: {line[:100].decode(errors='replace')}")


def command_line(command: str, arguments: Mapping[str, Any] | None = None) -> bytes:
    """A command as it is sent."""
    message: dict[str, Any] = {"execute": command}
    if arguments:
        message["arguments"] = dict(arguments)
    return msgspec.json.encode(message) + b"\n"


class QmpClient:
    """One connection to the QEMU of an instance, as a context manager.

    Args:
        path: its socket; may be longer than socket addresses can be.
        timeout_s: for connecting and for each command.

    Raises:
        HypervisorError: nobody listens, or no greeting came in time.
    """

    def __init__(self, path: str, *, timeout_s: float = 10.0) -> None:
        self.events: list[Event] = []
        self._name = os.path.basename(path).removesuffix(".qmp")
        self._timeout_s = timeout_s
        self._parser = QmpParser()
        self._waiting: list[Message] = []
        self._socket = self._connected(path)
        try:
            greeting = self._next(time.monotonic() + timeout_s)
            if not isinstance(greeting, Greeting):
                raise HypervisorError(f"QEMU of {self._name} did not greet")
            self.version = greeting.version
            self.execute("qmp_capabilities")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the next client in."""
        self._socket.close()

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run a command; underscores in argument names become dashes.

        Raises:
            QmpError: QEMU refused.
            HypervisorError: no answer in time, or QEMU is gone.
        """
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        deadline = time.monotonic() + self._timeout_s
        try:
            self._socket.settimeout(self._timeout_s)
            self._socket.sendall(command_line(command, named))
        except OSError as error:
            raise HypervisorError(f"QEMU of {self._name} does not take {command}: {error}") from error
        while True:
            match self._next(deadline):
                case Reply(value):
                    return value
                case Failure(kind, text):
                    raise QmpError(f"QEMU of {self._name} refused {command}: {text}", kind=kind)
                case Event() as event:
                    self.events.append(event)
                case Greeting():
                    raise HypervisorError(f"QEMU of {self._name} greeted twice")

    def wait_event(self, name: str, *, timeout_s: float) -> Event:
        """The next event of this name, also one that came during a command.

        Raises:
            HypervisorError: not in time, or QEMU is gone.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            for number, event in enumerate(self.events):
                if event.name == name:
                    del self.events[: number + 1]
                    return event
            message = self._next(deadline)
            if isinstance(message, Event):
                self.events.append(message)

    def _next(self, deadline: float) -> Message:
        while not self._waiting:
            left = deadline - time.monotonic()
            try:
                if left <= 0:
                    raise TimeoutError
                self._socket.settimeout(left)
                data = self._socket.recv(_CHUNK)
            except TimeoutError:
                raise HypervisorError(f"QEMU of {self._name} does not answer in time") from None
            except OSError as error:
                raise HypervisorError(f"the connection to QEMU of {self._name} broke: {error}") from error
            if not data:
                raise HypervisorError(f"QEMU of {self._name} closed the connection")
            self._waiting += self._parser.feed(data)
        return self._waiting.pop(0)

    def _connected(self, path: str) -> socket.socket:
        # Socket addresses have 107 bytes; through the directory's descriptor any path will do.
        try:
            directory = os.open(os.path.dirname(path), os.O_PATH)
        except OSError as error:
            raise HypervisorError(f"QEMU of {self._name} does not run here: {error.strerror}") from error
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(self._timeout_s)
            connection.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
        except OSError as error:
            connection.close()
            raise HypervisorError(f"cannot reach QEMU of {self._name}: {error}") from error
        finally:
            os.close(directory)
        return connection
