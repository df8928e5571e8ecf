"""gnt-job: look at jobs, wait for them, change and archive them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ganeti.cli.declarations import FORCE, PRIORITY, Argument, Command, Option
from ganeti.cli.errors import EXIT_DECLINED, CommandError, MasterError, explain
from ganeti.cli.lists import OUTPUT, ListKind, list_commands, run_list
from ganeti.cli.tables import joined, timestamp_us

if TYPE_CHECKING:
    from ganeti.cli.filters import Filter
    from ganeti.cli.invocation import Invocation


def _times(value: Sequence[Sequence[int] | None]) -> str:
    return str([None if when is None else timestamp_us(when) for when in value]).replace("None", "'?'")


LIST = ListKind(
    resource="job",
    defaults=("id", "status", "summary"),
    key="id",
    formats={"summary": joined, "opstart": _times, "opexec": _times, "opend": _times},
    integers=True,
)

_STATES: dict[str, tuple[str, ...]] = {
    "pending": ("queued", "waiting", "canceling"),
    "queued": ("queued",),
    "waiting": ("waiting",),
    "running": ("running",),
    "error": ("error",),
    "finished": ("canceled", "success", "error"),
}
_PRIORITIES = {"low": 10, "normal": 0, "high": -10}
_ARCHIVE_AT_ONCE_S = 60
_JOBS = (Argument("JOB", 0, None, "job"),)


def _state_option(name: str, doc: str) -> Option:
    return Option((f"--{name}",), "_state", doc, value=name)


def _with_state(invocation: Invocation) -> Filter | None:
    state = invocation.option("_state")
    if state is None:
        return None
    tests: list[Any] = [["==", "status", status] for status in _STATES[state]]
    return tests[0] if len(tests) == 1 else ["|", *tests]


def _list(invocation: Invocation) -> int:
    kind = LIST
    if invocation.option("_archived"):
        kind = LIST._replace(defaults=(*LIST.defaults, "archived"))
        words = [word for word in invocation.option("output", ()) if word not in ("table", "json")]
        if words and not words[0].startswith("+") and "archived" not in words:
            invocation.options["output"] = [*invocation.options["output"], "archived"]
    return run_list(invocation, kind, _with_state(invocation))


def _info(invocation: Invocation) -> int:
    from ganeti.cli.follow import require_job_id
    from ganeti.cli.info import text_of
    from ganeti.cli.job_info import FIELDS, describe
    from ganeti.cli.lists import wants_json

    jobs = [require_job_id(text) for text in invocation.arguments]
    wanted: Filter = ["|", *(["==", "id", job] for job in jobs)]
    rows = invocation.master.call("Query", ["job", list(FIELDS), wanted])["data"]
    found = {row[0][1]: dict(zip(FIELDS, (value for _, value in row))) for row in rows if row[1][0] == 0}
    if wants_json(invocation):
        import json

        invocation.print(json.dumps([found.get(job) for job in jobs], indent=1))
        return 0
    items = [describe(found[job]) if job in found else f"Job ID {job} not found" for job in jobs]
    invocation.world.out.write(text_of(items))
    return 0


def _wait(invocation: Invocation) -> int:
    return _until_end(invocation, is_quiet=True)


def _watch(invocation: Invocation) -> int:
    title = f"Output from job {invocation.arguments[0]} follows"
    invocation.print(f"{title}\n{'-' * len(title)}")
    return _until_end(invocation, is_quiet=False)


def _until_end(invocation: Invocation, *, is_quiet: bool) -> int:
    from ganeti.cli.follow import require_job_id, wait

    job = require_job_id(invocation.arguments[0])
    try:
        wait(invocation, job, is_quiet=is_quiet)
    except MasterError as error:
        if error.name == "JobLost":
            raise
        invocation.warn(f"Job {job} failed: {explain(error)[0]}")
        return 1
    return 0


def _chosen(invocation: Invocation, question: str) -> list[int]:
    """Jobs named, or those of a status after a question.

    Raises:
        CommandError: both or neither given; or, with exit code 13, the operator says no.
    """
    from ganeti.cli.follow import require_job_id
    from ganeti.cli.tables import Style, render

    state, names = invocation.option("_state"), invocation.arguments
    if bool(names) == (state is not None):
        raise CommandError(
            "Either job IDs or one of --pending, --queued and --waiting must be given, not both"
        )
    if names:
        return [require_job_id(name) for name in names]
    answer = invocation.master.call("Query", ["job", list(LIST.defaults), _with_state(invocation)])
    if not answer["data"]:
        invocation.print("No such jobs.")
        return []
    if not invocation.option("force"):
        for line in render(answer["fields"], answer["data"], Style(), LIST.all_formats()):
            invocation.print(line)
        invocation.flush()
        invocation.require_yes(question, code=EXIT_DECLINED)
    return [row[0][1] for row in answer["data"]]


def _each(invocation: Invocation, jobs: Sequence[int], change: Callable[[int], Sequence[Any]]) -> int:
    code = 0
    for job in jobs:
        done, message = change(job)
        invocation.print(str(message))
        code = code if done else 1
    return code


def _cancel(invocation: Invocation) -> int:
    jobs = _chosen(invocation, "Cancel job(s) listed above?")
    return _each(invocation, jobs, lambda job: invocation.master.call("CancelJob", [job]))


def _change_priority(invocation: Invocation) -> int:
    if "priority" not in invocation.options:
        raise CommandError("The new priority is missing; give --priority low, normal or high")
    priority = _PRIORITIES[invocation.options["priority"]]
    jobs = _chosen(invocation, "Change priority of job(s) listed above?")
    return _each(invocation, jobs, lambda job: invocation.master.call("ChangeJobPriority", [job, priority]))


def _archive(invocation: Invocation) -> int:
    from ganeti.cli.follow import require_job_id

    code = 0
    for job in [require_job_id(text) for text in invocation.arguments]:
        if not invocation.master.call("ArchiveJob", [job]):
            invocation.warn(f"Failed to archive job with ID '{job}'")
            code = 1
    return code


def _autoarchive(invocation: Invocation) -> int:
    from ganeti.cli.values import duration

    text = invocation.arguments[0]
    try:
        age = -1 if text == "all" else duration(text)
    except ValueError as error:
        raise CommandError(f"{error}, or 'all'") from None
    archived, left = invocation.master.call("AutoArchiveJobs", [age, _ARCHIVE_AT_ONCE_S])
    invocation.print(f"Archived {archived} jobs, {left} unchecked left")
    return 0


_CHOICE = (
    _state_option("pending", "all jobs that do not run yet"),
    _state_option("queued", "all jobs that are queued"),
    _state_option("waiting", "all jobs that wait for locks"),
    FORCE,
)
_LIST_STATES = (
    _state_option("pending", "only jobs that do not run yet"),
    _state_option("running", "only jobs that run"),
    _state_option("error", "only jobs that failed"),
    _state_option("finished", "only jobs that ended"),
    Option(("--archived",), "_archived", "archived jobs too"),
)

COMMANDS = (
    *(
        command._replace(run=_list) if command.name == "list" else command
        for command in list_commands(LIST, "job", *_LIST_STATES)
    ),
    Command(
        "info",
        "Show everything about jobs.",
        aliases=("show",),
        arguments=(Argument("JOB", 1, None, "job"),),
        options=(OUTPUT,),
        run=_info,
    ),
    Command("wait", "Wait until a job has ended.", arguments=(Argument("JOB", names="job"),), run=_wait),
    Command(
        "watch",
        "Show what a job says until it has ended.",
        arguments=(Argument("JOB", names="job"),),
        run=_watch,
    ),
    Command("cancel", "Cancel jobs that do not run yet.", arguments=_JOBS, options=_CHOICE, run=_cancel),
    Command(
        "change-priority",
        "Change the priority of jobs that do not run yet.",
        arguments=_JOBS,
        options=(PRIORITY, *_CHOICE),
        run=_change_priority,
    ),
    Command(
        "archive", "Archive jobs that ended.", arguments=(Argument("JOB", 1, None, "job"),), run=_archive
    ),
    Command(
        "autoarchive",
        "Archive jobs that ended long ago.",
        arguments=(Argument("AGE|all"),),
        run=_autoarchive,
    ),
)
