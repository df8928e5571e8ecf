"""Commands between clients and masterd: a list of arguments there, one result back, all JSON.

The names of these classes are the names on the wire. Clients are also written without this module
(the command line uses the standard library only), so the format is in docs/architecture/wire.md and
does not change. Masterd sends `JobChanged` and `KeepWaiting` by itself to those who watch a job.
"""

from __future__ import annotations

from ganeti.wire.arguments import Chunked, Json, Text, Trace
from ganeti.wire.errors import GanetiCommand

MAX_REQUEST_BYTES = 16 * 2**20
"""Most bytes of the arguments of one request."""


class MasterCommand(GanetiCommand):
    """Base: positional arguments `args`, answer `result`.

    `request_id` makes a repeated submission harmless: masterd answers a request it knows with what
    it answered before.
    """

    arguments = [
        (b"args", Chunked(Json(), at_most=MAX_REQUEST_BYTES)),
        (b"request_id", Text(optional=True)),
        (b"trace", Trace()),
    ]
    response = [(b"result", Chunked(Json()))]


class PushedCommand(GanetiCommand):
    """Base of what masterd sends by itself; wants no answer."""

    arguments = [(b"args", Chunked(Json()))]
    requiresAnswer = False


class SubmitJob(MasterCommand):
    """`[opcodes, drained_ok]` -> job id. `drained_ok`: also while the queue is drained."""


class SubmitManyJobs(MasterCommand):
    """`[jobs]` -> `[[true, id] or [false, message], ...]`."""


class Query(MasterCommand):
    """`[what, fields, filter or null]` -> `{"fields": [...], "data": [...]}`."""


class QueryFields(MasterCommand):
    """`[what, fields or null]` -> `{"fields": [...]}`."""


class QueryClusterInfo(MasterCommand):
    """`[]` -> object with the settings of the cluster."""


class QueryConfigValues(MasterCommand):
    """`[names]` -> values."""


class QueryTags(MasterCommand):
    """`[kind, name or null]` -> tags."""


class WaitForJobChange(MasterCommand):
    """`[job, fields, previous values, previous log serial, timeout]` -> change, or `"nochange"`."""


class WatchJob(MasterCommand):
    """`[job, fields, previous log serial]` -> subscription; `JobChanged` follows on this connection."""


class UnwatchJob(MasterCommand):
    """`[subscription]` -> null."""


class CancelJob(MasterCommand):
    """`[job]` -> `[done, message]`."""


class ArchiveJob(MasterCommand):
    """`[job]` -> whether it was archived."""


class AutoArchiveJobs(MasterCommand):
    """`[age, timeout]` -> `[archived, left]`."""


class ChangeJobPriority(MasterCommand):
    """`[job, priority]` -> `[done, message]`."""


class SetDrainFlag(MasterCommand):
    """`[flag]` -> null."""


class SetWatcherPause(MasterCommand):
    """`[until or null]` -> what is set now."""


class Version(MasterCommand):
    """`[]` -> object with `release` and `protocol`."""


class JobChanged(PushedCommand):
    """`[subscription, change]`: newest state of a watched job and log entries not sent before."""


class KeepWaiting(PushedCommand):
    """`[subscription]`: nothing happened, but masterd is there."""
