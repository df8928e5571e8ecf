"""gnt-debug: look inside and try things out."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from ganeti.cli.declarations import DRY_RUN, PRIORITY, Argument, Command, Opcode, Option
from ganeti.cli.errors import CommandError
from ganeti.cli.lists import OUTPUT, TABLE, VERBOSE, ListKind, run_list

if TYPE_CHECKING:
    from ganeti.cli.invocation import Invocation


def _or_dash(value: Any) -> str:
    return str(value) if value else "-"


def _age(value: Any) -> str:
    return f"{value:.0f} s"


def _owners(value: Any) -> str:
    return ",".join(map(str, value)) if value else "-"


def _pending(value: Any) -> str:
    return ", ".join(f"{mode}:{','.join(map(str, owners))}" for mode, owners in value or ()) or "-"


LOCKS = ListKind(
    resource="lock",
    defaults=("name", "mode", "owner", "pending"),
    formats={"mode": _or_dash, "owner": _owners, "pending": _pending},
)


CACHE = ListKind(
    resource="cache",
    defaults=("group", "kind", "name", "age"),
    formats={"age": _age},
)


def _locks(invocation: Invocation) -> int:
    interval_s = invocation.option("_interval")
    if interval_s is not None and interval_s <= 0:
        raise CommandError("The interval must be at least one second")
    while True:
        code = run_list(invocation, LOCKS)
        if interval_s is None:
            return code
        invocation.print()
        invocation.flush()
        time.sleep(interval_s)


def _submit_job(invocation: Invocation) -> int:
    """Submit the opcodes of files, as often as asked for, and follow the jobs."""
    from ganeti.cli.follow import execute_many

    jobs = [job for path in invocation.arguments for job in _jobs_of(invocation, path)]
    start = time.monotonic()
    if invocation.option("_each"):
        from ganeti.cli.follow import wait_many

        ids = [_submit_one(invocation, job.opcodes) for job in jobs]
        code = wait_many(invocation, [(True, None, job) for job in ids])
    else:
        code = execute_many(invocation, jobs)
    if invocation.option("_timing_stats"):
        elapsed_s = time.monotonic() - start
        invocation.print(f"{len(jobs)} jobs in {elapsed_s:.3f} s, {len(jobs) / elapsed_s:.1f} jobs/s")
    return code


def _submit_one(invocation: Invocation, opcodes: list[Opcode]) -> int:
    ops = [invocation.complete(opcode) for opcode in opcodes]
    return int(invocation.submit("SubmitJob", [ops, False]))


def _jobs_of(invocation: Invocation, path: str) -> list[Any]:
    from ganeti.cli.follow import Named

    opcodes = _read(path) * invocation.option("_op_repeat", 1)
    return [Named(None, list(opcodes)) for _ in range(invocation.option("_job_repeat", 1))]


def _read(path: str) -> list[Opcode]:
    try:
        if path == "-":
            found = json.load(sys.stdin)
        else:
            with open(path, encoding="utf-8") as file:
                found = json.load(file)
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise CommandError(f"{path} is not JSON: {error}") from None
    if not isinstance(found, list) or not all(isinstance(opcode, dict) for opcode in found):
        raise CommandError(f"{path} must have a JSON list of opcodes, each an object with OP_ID")
    return found


def _allocator(invocation: Invocation) -> int:
    """Show the request for an allocator, or run it and show its answer."""
    from ganeti.cli.follow import quiet

    names = list(invocation.arguments)
    mode = invocation.option("_mode", "relocate")
    opcode: Opcode = {
        "OP_ID": "OP_TEST_ALLOCATOR",
        "direction": invocation.option("_dir", "in"),
        "mode": mode,
        "name": names[0],
        "iallocator": invocation.option("_iallocator"),
        "memory": invocation.option("_memory", 128),
        "vcpus": invocation.option("_vcpus", 1),
        "disk_template": invocation.option("_disk_template"),
        "os": invocation.option("_os"),
        "tags": invocation.option("_tags", []),
        "spindle_use": invocation.option("_spindle_use", 1),
        "count": invocation.option("_count", 2),
        "disks": [{"size": size, "mode": "rw"} for size in _sizes(invocation)],
        "nics": _nics(invocation),
        "evac_mode": invocation.option("_evac_mode"),
        "target_groups": invocation.option("_target_groups", []),
        "instances": names if mode in ("node-evacuate", "change-group") else None,
    }
    given = {key: value for key, value in opcode.items() if value is not None}
    invocation.print(str(quiet(invocation, given)))
    return 0


def _sizes(invocation: Invocation) -> list[int]:
    from ganeti.cli.values import size

    try:
        return [size(text) for text in invocation.option("_disks", ["4096", "4096"])]
    except ValueError as error:
        raise CommandError(f"option --disks: {error}") from None


def _nics(invocation: Invocation) -> list[dict[str, Any]]:
    found = []
    for text in invocation.option("_nics", ()):
        mac, ip, bridge = [*text.split("/"), "", "", ""][:3]
        found.append({"mac": mac or "auto", "ip": ip or None, "bridge": bridge or None})
    return found


_MODES = (
    "relocate",
    "allocate",
    "allocate-secondary",
    "node-evacuate",
    "change-group",
    "multi-allocate",
)

COMMANDS = (
    Command(
        "cache",
        "List what the master knows of nodes without asking them, and how old it is.",
        arguments=(),
        options=(OUTPUT, *TABLE, VERBOSE),
        run=lambda invocation: run_list(invocation, CACHE),
    ),
    Command(
        "locks",
        "List locks with their owners and who waits for them.",
        arguments=(),
        options=(
            OUTPUT,
            *TABLE,
            VERBOSE,
            Option(("--interval",), "_interval", "repeat after this time", "integer", metavar="SECONDS"),
        ),
        run=_locks,
    ),
    Command(
        "submit-job",
        "Submit jobs from files with JSON lists of opcodes.",
        arguments=(Argument("FILE", 1, None),),
        options=(
            Option(("-v", "--verbose"), "_verbose", "accepted; the jobs are always shown"),
            Option(("--op-repeat",), "_op_repeat", "this often in each job", "integer", metavar="N"),
            Option(("--job-repeat",), "_job_repeat", "this many jobs of each file", "integer", metavar="N"),
            Option(("--timing-stats",), "_timing_stats", "print how long it took"),
            Option(("--each",), "_each", "submit each job by a call of its own"),
            PRIORITY,
            DRY_RUN,
        ),
        run=_submit_job,
    ),
    Command(
        "iallocator",
        "Show what an allocator is asked, or ask it.",
        aliases=("allocator",),
        arguments=(Argument("NAME", 1, None),),
        options=(
            Option(("--dir",), "_dir", "in: show the request; out: run it", "text", choices=("in", "out")),
            Option(("-I", "--iallocator"), "_iallocator", "which allocator", "text", metavar="NAME"),
            Option(("-m", "--mode"), "_mode", "kind of request", "text", choices=_MODES, metavar="MODE"),
            Option(("--memory",), "_memory", "memory of the instance", "size", metavar="SIZE"),
            Option(("--disks",), "_disks", "sizes of its disks", "comma_list", metavar="SIZE,..."),
            Option(("-t", "--disk-template"), "_disk_template", "kind of its disks", "text", metavar="NAME"),
            Option(("--nics",), "_nics", "its interfaces", "comma_list", metavar="MAC/IP/BRIDGE,..."),
            Option(("-o", "--os-type"), "_os", "its OS", "text", metavar="OS", names="os"),
            Option(("-p", "--vcpus"), "_vcpus", "its processors", "integer", metavar="N"),
            Option(("--tags",), "_tags", "its tags", "comma_list", metavar="TAG,..."),
            Option(
                ("--evac-mode",),
                "_evac_mode",
                "what leaves the node",
                "text",
                choices=("all", "secondary-only", "primary-only"),
                metavar="MODE",
            ),
            Option(("--target-groups",), "_target_groups", "where to", "comma_list", metavar="GROUP,..."),
            Option(("--spindle-use",), "_spindle_use", "its share of spindles", "integer", metavar="N"),
            Option(("--count",), "_count", "how many instances", "integer", metavar="N"),
            PRIORITY,
            DRY_RUN,
        ),
        run=_allocator,
    ),
)
