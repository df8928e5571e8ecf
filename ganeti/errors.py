"""Every error of the project: a message for the operator, and a class name and arguments for the wire.

The classes and codes are the established ones (`[class name, [arguments]]` in job files and
answers), so that existing clients raise the right thing. A message says what is wrong, which
object it is about and what to do; whatever only a developer wants goes into `detail`, which is
logged and never sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import ClassVar


class ErrorCode(StrEnum):
    """Why a prerequisite failed; second argument of `OpPrereqError` on the wire."""

    RESOLVER = "resolver_error"
    NO_RESOURCES = "insufficient_resources"
    NO_RESOURCES_NOW = "temp_insufficient_resources"
    INPUT = "wrong_input"
    STATE = "wrong_state"
    UNKNOWN = "unknown_entity"
    EXISTS = "already_exists"
    NOT_UNIQUE = "resource_not_unique"
    FAULT = "internal_error"
    ENVIRONMENT = "environment_error"


class GanetiError(Exception):
    """Something went wrong that has an explanation for the operator.

    Args:
        message: one or more lines for the operator.
        detail: text for the log only.
    """

    wire_name: ClassVar[str] = "GenericError"

    def __init__(self, message: str, *, detail: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail

    def __str__(self) -> str:
        return self.message

    def wire_args(self) -> list[object]:
        """Arguments of the error as they are sent and stored; JSON values."""
        return [self.message]


class PrereqError(GanetiError):
    """Refused before anything was changed."""

    wire_name = "OpPrereqError"

    def __init__(
        self, message: str, *, code: ErrorCode | str = ErrorCode.INPUT, detail: str | None = None
    ) -> None:
        super().__init__(message, detail=detail)
        self.code = ErrorCode(code)

    def wire_args(self) -> list[object]:
        """Message and code."""
        return [self.message, self.code.value]


class OperationFailed(GanetiError):
    """Failed while it was being done; the message says in which state things were left."""

    wire_name = "OpExecError"


class OperationResultError(GanetiError):
    """An operation returned something that its declaration does not allow."""

    wire_name = "OpResultError"


class ParameterError(GanetiError):
    """An unknown parameter name."""

    wire_name = "ParameterError"


class TypeEnforcementError(GanetiError):
    """A parameter value of the wrong type."""

    wire_name = "TypeEnforcementError"


class TagError(GanetiError):
    """A tag that is not allowed, or too many of them."""

    wire_name = "TagError"


class LockError(GanetiError):
    """A lock that does not exist (any more)."""

    wire_name = "LockError"


class LocksNotGranted(GanetiError):
    """The locks were not all free in the time given; the job is to be deferred."""

    wire_name = "LockError"


class ConfigurationError(GanetiError):
    """The configuration on disk is damaged or of a version that is not understood."""

    wire_name = "ConfigurationError"


class ConfigurationVersionMismatch(ConfigurationError):
    """The configuration was written by another version."""

    wire_name = "ConfigVersionMismatch"


class ResolverError(GanetiError):
    """A name does not resolve to an address."""

    wire_name = "ResolverError"


class PluginError(GanetiError):
    """A plugin is missing, broken or claims a name that is taken."""

    wire_name = "PluginError"


class JobLost(GanetiError):
    """There is no such job."""

    wire_name = "JobLost"


class JobQueueError(GanetiError):
    """The queue refuses, because it stops or cannot write."""

    wire_name = "JobQueueError"


class JobQueueFull(JobQueueError):
    """Too many jobs that are not archived."""

    wire_name = "JobQueueFull"


class JobQueueDrained(JobQueueError):
    """The drain flag is set: no new jobs."""

    wire_name = "JobQueueDrainError"


class HooksAbort(GanetiError):
    """A pre hook refused the operation."""

    wire_name = "HooksAbort"

    def __init__(self, failures: Sequence[tuple[str, str, str]]) -> None:
        lines = [f"node {node}, script {script}: {output}" for node, script, output in failures]
        super().__init__("hooks refused the operation: " + "; ".join(lines))
        self.failures = tuple(failures)

    def wire_args(self) -> list[object]:
        """One list of node, script and output for each script."""
        return [[list(failure) for failure in self.failures]]


class HooksFailure(GanetiError):
    """Hooks could not be run at all."""

    wire_name = "HooksFailure"


class FilterError(GanetiError):
    """A query filter that cannot be read, with the place of the mistake."""

    wire_name = "QueryFilterParseError"


class BlockDeviceError(GanetiError):
    """A disk could not be created, opened, changed or removed."""

    wire_name = "BlockDeviceError"


class HypervisorError(GanetiError):
    """The hypervisor refused or failed."""

    wire_name = "HypervisorError"


class StorageError(GanetiError):
    """A storage unit (volume group, directory, pool) cannot be used."""

    wire_name = "StorageError"


class FileStoragePathError(GanetiError):
    """A path that file storage may not touch."""

    wire_name = "FileStoragePathError"


class CommandFailed(GanetiError):
    """A program ended with an error or did not end in time."""

    wire_name = "CommandError"


class InvalidOperatingSystem(GanetiError):
    """An OS definition that is missing or not usable."""

    wire_name = "InvalidOS"


class AllocatorError(GanetiError):
    """An instance allocator crashed, hung or answered nonsense."""

    wire_name = "AllocatorError"


class NotMaster(PrereqError):
    """This node is not the master."""


class PermissionDenied(GanetiError):
    """The caller may not do this."""

    wire_name = "PermissionError"


class ProgrammerError(GanetiError):
    """A mistake in the code; the reference id finds it in the log."""

    wire_name = "ProgrammerError"


class NodeError(GanetiError):
    """A call to a node gave no result; subclasses say why.

    On the wire all are `RPCError`; the second argument tells the subclasses apart.
    """

    wire_name = "RPCError"
    reason_code: ClassVar[str] = ""

    def wire_args(self) -> list[object]:
        """Message, and what tells the subclass."""
        return [self.message, self.reason_code] if self.reason_code else [self.message]


class NodeOffline(NodeError):
    """The node is marked offline and was not contacted."""

    reason_code = "offline"


class NodeUnreachable(NodeError):
    """No connection, or the connection broke and the call is lost."""

    reason_code = "unreachable"


class NodeTimeout(NodeError):
    """The node did not answer in time."""

    reason_code = "timeout"


class UnknownCall(NodeError):
    """The node knows no function call with this id (any more)."""

    reason_code = "unknown_call"


class CopyBehind(NodeError):
    """What was sent continues something that the node does not have; it must get everything."""

    reason_code = "behind"


class FunctionDied(NodeError):
    """The function process ended without a result."""

    reason_code = "died"


class FunctionAborted(NodeError):
    """The function process was ended on request or after its time limit."""

    reason_code = "aborted"


class NonsenseReported(NodeError):
    """What the node says of itself cannot be true; nothing of it counts."""

    reason_code = "nonsense"


class FunctionFailed(NodeError):
    """A mistake in a node function; the reference id finds it in the node's log."""

    reason_code = "failed"


def _all_classes() -> dict[str, type[GanetiError]]:
    found: dict[str, type[GanetiError]] = {}
    todo: list[type[GanetiError]] = [GanetiError]
    while todo:
        cls = todo.pop()
        # The most general class of a wire name stands for it.
        if cls.__dict__.get("wire_name") is not None:
            found.setdefault(cls.wire_name, cls)
        todo[:0] = cls.__subclasses__()
    return found


def to_wire(error: BaseException) -> tuple[str, list[object]]:
    """Class name and arguments of an error as job files and answers carry them.

    Errors that are not ours become `ProgrammerError` with the text only; the caller logs them.
    """
    if isinstance(error, GanetiError):
        return error.wire_name, error.wire_args()
    return ProgrammerError.wire_name, [f"{type(error).__name__}: {error}"]


def from_wire(name: str, args: Sequence[object]) -> GanetiError:
    """The error of a wire name and its arguments; unknown names become a plain `GanetiError`."""
    cls = _all_classes().get(name, GanetiError)
    texts = [str(arg) for arg in args]
    message = texts[0] if texts else name
    if cls is PrereqError:
        known = len(texts) > 1 and texts[1] in set(ErrorCode)
        return PrereqError(message, code=texts[1] if known else ErrorCode.FAULT)
    if cls is HooksAbort and args and isinstance(args[0], list):
        return HooksAbort([(str(node), str(script), str(output)) for node, script, output in args[0]])
    if cls is NodeError and len(texts) > 1:
        subclasses = {sub.reason_code: sub for sub in NodeError.__subclasses__()}
        return subclasses.get(texts[1], NodeError)(message)
    return cls(message)
