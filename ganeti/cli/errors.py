"""What went wrong, as the operator sees it: established texts and exit codes, and what to do next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_DECLINED = 13
EXIT_UNKNOWN_FIELD = 14


class CommandError(Exception):
    """Ends a command with a text on stderr.

    Args:
        message: lines for the operator; empty: nothing is printed.
        code: exit code.
    """

    def __init__(self, message: str, *, code: int = EXIT_FAILURE) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class UsageError(CommandError):
    """An option that does not exist or a value it cannot have."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code=EXIT_USAGE)


class MisspeltParameter(ValueError):
    """A list of keys and values, or a yes or no, that cannot be read."""


class MisreadFilter(Exception):
    """A filter string that cannot be read.

    Args:
        problem: what is wrong.
        source: the whole filter.
        position: where, counted from 0.
    """

    def __init__(self, problem: str, source: str, position: int) -> None:
        super().__init__(problem)
        self.problem = problem
        self.source = source
        self.position = position


class MasterError(Exception):
    """An error that masterd or a job reported: its established class name and arguments."""

    def __init__(self, name: str, arguments: Sequence[Any]) -> None:
        super().__init__(name, *arguments)
        self.name = name
        self.arguments = tuple(arguments)

    @property
    def text(self) -> str:
        """First argument, which is for the operator."""
        return str(self.arguments[0]) if self.arguments else self.name

    @property
    def code(self) -> str | None:
        """Second argument: why a prerequisite failed."""
        return str(self.arguments[1]) if len(self.arguments) > 1 else None


class NoMaster(CommandError):
    """The master daemon does not listen."""

    def __init__(self, path: str) -> None:
        super().__init__(
            "Cannot communicate with the master daemon.\n"
            "Is the process running and listening for connections?\n"
            f"(nobody listens on {path}; start ganeti-masterd on this node and read its log if it stops)"
        )


class NoPermission(CommandError):
    """The socket is there, but not for this user."""

    def __init__(self) -> None:
        super().__init__(
            "It seems you don't have permissions to connect to the master daemon.\n"
            "Please retry as a different user."
        )


class MasterTimeout(CommandError):
    """No answer in time."""

    def __init__(self) -> None:
        super().__init__(
            "Timeout while talking to the master daemon. Jobs might have been submitted and might be "
            "running even if this command failed; 'gnt-job list' shows them."
        )


class ConnectionLost(CommandError):
    """Masterd went away in the middle of something."""

    def __init__(self) -> None:
        super().__init__(
            "Lost the connection to the master daemon. Jobs that were submitted go on when it is back; "
            "'gnt-job list' shows them."
        )


INTERRUPTED = (
    "Aborted. Note that if the operation created any jobs, they might have been submitted and will "
    "continue to run in the background."
)


def explain(error: MasterError) -> tuple[str, int]:
    """Text for stderr and exit code of an error of masterd."""
    build = _TEXTS.get(error.name, _other)
    text = build(error)
    advice = _advice(error)
    code = EXIT_USAGE if error.name == "ConfigurationError" else EXIT_FAILURE
    return (f"{text}\n{advice}" if advice else text), code


def _prerequisite(error: MasterError) -> str:
    heading = "Failure: prerequisites not met for this operation:"
    if error.code:
        return f"{heading}\nerror type: {error.code}, error details:\n{error.text}"
    return f"{heading}\n{error.text}"


def _hooks_abort(error: MasterError) -> str:
    lines = ["Failure: hooks execution failed:"]
    failures = error.arguments[0] if error.arguments else ()
    if isinstance(failures, str):
        return f"{lines[0]}\n  {failures}"
    for node, script, output in failures:
        what = f", output: {output}" if output else " (no output)"
        lines.append(f"  node: {node}, script: {script}{what}")
    return "\n".join(lines)


def _other(error: MasterError) -> str:
    return f"Unhandled Ganeti error: {error.text}"


_DRAINED = "Failure: the job queue is marked for drain and doesn't accept new requests"
_FULL = "Failure: the job queue is full and doesn't accept new job submissions until old jobs are archived"

_TEXTS: Mapping[str, Callable[[MasterError], str]] = {
    "OpPrereqError": _prerequisite,
    "OpExecError": lambda error: f"Failure: command execution error:\n{error.text}",
    "HooksAbort": _hooks_abort,
    "HooksFailure": lambda error: f"Failure: hooks general failure: {error.text}",
    "ResolverError": lambda error: f"Failure: can't resolve hostname '{error.text}'",
    "TagError": lambda error: f"Failure: invalid tag(s) given:\n{error.text}",
    "JobQueueDrainError": lambda error: _DRAINED,
    "JobQueueFull": lambda error: _FULL,
    "TypeEnforcementError": lambda error: f"Parameter Error: {error.text}",
    "ParameterError": lambda error: f"Failure: unknown/wrong parameter name '{error.text}'",
    "JobLost": lambda error: f"Error checking job status: {error.text}",
    "QueryFilterParseError": lambda error: f"Error while parsing query filter: {error.text}",
    "ConfigurationError": lambda error: f"Corrupt configuration file: {error.text}\nAborting.",
}


def _advice(error: MasterError) -> str | None:
    match error.name, error.code:
        case ("JobQueueDrainError", _):
            return "('gnt-cluster queue undrain' lets new jobs in again)"
        case ("JobQueueFull", _):
            return "('gnt-job autoarchive all' archives what is finished)"
        case ("OpPrereqError", "unknown_entity"):
            return _where_names_are(error.text)
        case ("OpPrereqError", "temp_insufficient_resources"):
            return "(this may work later; nothing was changed)"
        case ("HooksAbort", _):
            return "(nothing was changed; the scripts are in the hooks directory of the nodes named)"
        case ("ProgrammerError", _):
            return "(this is a mistake in the program; the log of ganeti-masterd has the details)"
    return None


def _where_names_are(text: str) -> str | None:
    # A node group is no node.
    tools = {"instance": "instance", "node group": "group", "node": "node", "job": "job", "os": "os"}
    for noun, tool in tools.items():
        if text.lower().startswith(f"{noun} "):
            return f"('gnt-{tool} list' shows what there is)"
    return None


def misread_filter(error: MisreadFilter) -> str:
    """Text for a filter string, with an arrow at the place."""
    return (
        f"Error while parsing query filter: {error.problem}\n"
        f"at column {error.position + 1}:\n  {error.source}\n  {' ' * error.position}^"
    )
