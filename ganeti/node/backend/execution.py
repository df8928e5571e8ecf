"""What happens inside a function process: one call is read, carried out, and answered.

The process is a fork of the zygote and runs one function. Request and answer are frames (four bytes
of length, then JSON) on a socket of the call's own; an answer is `[true, value]` or `[false, [error
class, [arguments]]]`. Standard output and error go to the node daemon's log.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import signal
import socket
import struct
import sys
import traceback
from types import FrameType
from typing import Any, NoReturn

import msgspec

from ganeti.errors import FunctionAborted, FunctionFailed, GanetiError, NodeError, to_wire
from ganeti.model.reading import UNREADABLE
from ganeti.node.backend.registry import NodeWorld, functions

FRAME = struct.Struct("!I")
"""Length before each frame."""

MAX_FRAME_BYTES = 64 * 2**20

_LIBC = ctypes.CDLL(None)
"""Loaded before the fork: each child would spend a third of a millisecond on it."""

_PR_SET_PDEATHSIG = 1
_CLEANUP_S = 30
"""A function that was told to end is ended by the kernel after this."""


class FunctionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A call as the function process gets it."""

    name: str
    args: msgspec.Raw
    """JSON of the call."""
    trace: str | None = None


class _Terminated(BaseException):
    """The process was told to end; not an Exception, so that no function catches it by accident."""


def serve(channel: socket.socket, world: NodeWorld, zygote_pid: int) -> NoReturn:
    """Carry out the one call that comes over a channel, and exit.

    Exit status: 0 the function succeeded, 1 it failed and the answer says why, else no answer.
    """
    status = 2
    try:
        _become_function_process(zygote_pid)
        request = _read_frame(channel)
        answer, succeeded = answer_to(request, world)
        channel.sendall(FRAME.pack(len(answer)) + answer)
        status = 0 if succeeded else 1
    except (_Terminated, BrokenPipeError, ConnectionError, EOFError):
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def answer_to(data: bytes, world: NodeWorld) -> tuple[bytes, bool]:
    """The answer frame for a request frame, and whether the function succeeded."""
    name = "?"
    try:
        request = msgspec.json.decode(data, type=FunctionRequest)
        name = request.name
        value = _carry_out(request, world)
        answer = msgspec.json.encode((True, value))
        if len(answer) > MAX_FRAME_BYTES:
            raise FunctionFailed(f"the result of function {name} has {len(answer)} bytes, which is too much")
    except GanetiError as error:
        return _refusal(error), False
    except _Terminated:
        return _refusal(FunctionAborted(f"function {name} was told to end")), False
    except Exception as error:
        reference = secrets.token_hex(4)
        print(f"function {name} failed unexpectedly, reference {reference}", file=sys.stderr)
        traceback.print_exc()
        problem = f"internal error in function {name} ({type(error).__name__})"
        return _refusal(
            FunctionFailed(f"{problem}; the log of the node daemon has the details under {reference}")
        ), False
    return answer, True


def _carry_out(request: FunctionRequest, world: NodeWorld) -> Any:
    found = functions().get(request.name)
    if found is None:
        raise NodeError(f"this node has no function {request.name}; it runs another version than the master")
    try:
        call = msgspec.json.decode(request.args, type=found.call)
    except UNREADABLE as error:
        raise NodeError(
            f"arguments of function {request.name} are not understood ({error});"
            " the node runs another version than the master"
        ) from error
    return found.function(call, world)


def _refusal(error: GanetiError) -> bytes:
    return msgspec.json.encode((False, to_wire(error)))


def _become_function_process(zygote_pid: int) -> None:
    os.setsid()
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, _on_terminate)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    if os.getppid() != zygote_pid:
        raise EOFError("the zygote died before this process was ready")


def _on_terminate(number: int, frame: FrameType | None) -> None:
    # Once is enough; not SIG_IGN, which programs started while cleaning up would inherit.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    signal.alarm(_CLEANUP_S)
    raise _Terminated


def _read_frame(channel: socket.socket) -> bytes:
    (length,) = FRAME.unpack(_read_exactly(channel, FRAME.size))
    return _read_exactly(channel, length)


def _read_exactly(channel: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = channel.recv(min(count - len(data), 1 << 20))
        if not piece:
            raise EOFError("the node daemon closed the channel")
        data += piece
    return bytes(data)
