"""gnt-instance batch-create: several instances out of one file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ganeti.cli.errors import CommandError
from ganeti.cli.follow import Sent, execute, wait_all
from ganeti.cli.generic import base_opcode

if TYPE_CHECKING:
    from ganeti.cli.declarations import Opcode
    from ganeti.cli.invocation import Invocation


def batch_create(invocation: Invocation) -> int:
    """Have places found for all instances of a file, and follow the jobs that make them."""
    (path,) = invocation.arguments
    opcode = {**base_opcode(invocation), "instances": read_instances(path)}
    try:
        result = execute(invocation, opcode)
    except Sent:
        return 0
    if invocation.option("dry_run"):
        return 1 if result["failed"] else 0
    names = result["allocatable"]
    submitted = [(bool(ok), name, value) for (ok, value), name in zip(result["jobs"], names)]
    errors = sum(not ok for ok, _ in wait_all(invocation, submitted)) + len(result["failed"])
    if errors:
        invocation.print(f"There were {errors} errors during the creation of the instances.")
        return 1
    invocation.print("All instances created successfully.")
    return 0


def read_instances(path: str) -> list[Opcode]:
    """Parameters of the creations that a file lists; as with `add`, one interface is the default.

    Raises:
        CommandError: it cannot be read, or is no JSON list of objects.
    """
    try:
        with open(path, encoding="utf-8") as file:
            entries: Any = json.load(file)
    except OSError as error:
        raise CommandError(f"File {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CommandError(f"File {path} is not JSON: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise CommandError(
            f"File {path} must be a JSON list with an object for each instance, such as "
            '[{"instance_name": "web1", "disk_template": "plain", "disks": [{"size": "10g"}]}]'
        )
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict) or not isinstance(entry.get("instance_name"), str):
            raise CommandError(f"File {path}: entry {number} is not an object with the key instance_name")
    return [_complete(entry) for entry in entries]


def _complete(entry: Opcode) -> Opcode:
    defaults: Opcode = {"mode": "create", "nics": [{}]}
    if entry.get("disk_template") == "diskless":
        defaults["disks"] = []
    return {**defaults, **entry}
