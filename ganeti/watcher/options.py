"""Options of one run of the watcher (cli.md)."""

from __future__ import annotations

import argparse
import ipaddress
from collections.abc import Sequence

import msgspec

from ganeti.model.units import parse_duration_s
from ganeti.version import RELEASE, VCS_VERSION

JOB_AGE_S = 6 * 3600


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is to do."""

    debug: bool = False
    node_group: str | None = None
    """Only look after this one, in this process."""
    job_age_s: int = JOB_AGE_S
    ignore_pause: bool = False
    wait_children: bool = True
    verify_disks: bool = True
    strict: bool = True
    rapi_ip: str | None = None


def read(words: Sequence[str]) -> RunOptions:
    """The options of a command line.

    Raises:
        SystemExit: 2 for wrong ones, 0 after help or version was printed.
    """
    given = parser().parse_args(list(words))
    return RunOptions(
        debug=given.debug,
        node_group=given.node_group,
        job_age_s=given.job_age,
        ignore_pause=given.ignore_pause,
        wait_children=given.wait_children,
        verify_disks=not given.no_verify_disks,
        strict=not given.no_strict,
        rapi_ip=given.rapi_ip,
    )


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="ganeti-watcher",
        description="Keeps the cluster as it should be: starts daemons and instances that do not run, brings "
        "disks in order after nodes have booted, archives old jobs. Without --once: a service, with a run "
        "every five minutes.",
        allow_abbrev=False,
    )
    add = made.add_argument
    add("--once", action="store_true", help="one run, for cron")
    add("-d", "--debug", action="store_true", help="log more, and to the terminal")
    add("-f", "--foreground", action="store_true", help="as a service: stay in the foreground")
    add(
        "--interval",
        metavar="SECONDS",
        help="as a service: from the begin of a run to that of the next (300)",
    )
    add("--syslog", metavar="WHETHER", help="as a service: log to syslog: no, yes, only")
    add("-g", "--node-group", metavar="UUID", help="look after this node group only (UUID or name)")
    add(
        "-A",
        "--job-age",
        metavar="AGE",
        type=_age,
        default=JOB_AGE_S,
        help="archive jobs that ended so long ago: 90, 5m, 2h, 7d (6h)",
    )
    add("--ignore-pause", action="store_true", help="also while the watcher is paused")
    add("--wait-children", action="store_true", default=True, help="end when all groups are done (default)")
    add("--no-wait-children", dest="wait_children", action="store_false", help="end when all are begun")
    add("--no-verify-disks", action="store_true", help="do not look for disks that are not active")
    add("--no-strict", action="store_true", help="verification of disks leaves out what is locked")
    add("--rapi-ip", metavar="IP", type=_address, help="where the remote interface listens (127.0.0.1)")
    add("--version", action="version", version=f"ganeti-watcher (ganeti {VCS_VERSION}) {RELEASE}")
    return made


def _age(text: str) -> int:
    try:
        return parse_duration_s(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no IP address") from None
