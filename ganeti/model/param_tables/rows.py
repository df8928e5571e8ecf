"""Short ways to write the rows of a parameter table, and the checks that several rows share."""

from __future__ import annotations

import ipaddress
import re

from ganeti.model.params import Check, ParamSpec, ParamType, ParamValue


def flag(name: str, default: bool, doc: str) -> ParamSpec:
    """A parameter that is true or false."""
    return ParamSpec(name=name, type=ParamType.BOOL, default=default, doc=doc)


def number(
    name: str,
    default: int,
    doc: str,
    *,
    at_least: int | None = None,
    at_most: int | None = None,
    is_global: bool = False,
) -> ParamSpec:
    """A whole number, bounded on either side."""
    check = None if at_least is None and at_most is None else between(at_least, at_most)
    return ParamSpec(
        name=name, type=ParamType.INT, default=default, doc=doc, check=check, is_global=is_global
    )


def one_of_numbers(name: str, default: int, doc: str, allowed: tuple[int, ...]) -> ParamSpec:
    """A whole number out of a list."""

    def check(value: ParamValue) -> str | None:
        listed = ", ".join(map(str, allowed))
        return None if value in allowed else f"{value} is not allowed; use one of {listed}"

    return ParamSpec(name=name, type=ParamType.INT, default=default, doc=doc, check=check)


def size(name: str, default: int, doc: str, *, at_least: int = 1) -> ParamSpec:
    """A size in MiB; units are understood on input."""
    return ParamSpec(name=name, type=ParamType.SIZE, default=default, doc=doc, check=between(at_least, None))


def text(name: str, default: str, doc: str, check: Check | None = None) -> ParamSpec:
    """Any text, or what a check allows."""
    return ParamSpec(name=name, type=ParamType.STRING, default=default, doc=doc, check=check)


def maybe_text(name: str, default: str | None, doc: str, check: Check | None = None) -> ParamSpec:
    """A text, or nothing at all."""
    return ParamSpec(name=name, type=ParamType.MAYBE_STRING, default=default, doc=doc, check=check)


def choice(
    name: str, default: str, doc: str, choices: tuple[str, ...], *, is_global: bool = False
) -> ParamSpec:
    """A text out of a list."""
    return ParamSpec(
        name=name, type=ParamType.STRING, default=default, doc=doc, choices=choices, is_global=is_global
    )


def between(least: int | None, most: int | None) -> Check:
    """A check that a number lies between two bounds, both allowed; None: no bound."""

    def check(value: ParamValue) -> str | None:
        assert isinstance(value, int | float)
        if least is not None and value < least:
            return f"{value} is too small; at least {least}"
        if most is not None and value > most:
            return f"{value} is too large; at most {most}"
        return None

    return check


def matches(pattern: str, wanted: str) -> Check:
    """A check against a regular expression that must cover the whole text."""
    compiled = re.compile(pattern)

    def check(value: ParamValue) -> str | None:
        return None if compiled.fullmatch(str(value)) else f"{value!r} is not {wanted}"

    return check


def absolute_path(value: ParamValue) -> str | None:
    """A file name that starts at the root, without `..` or doubled slashes."""
    given = str(value)
    if not given.startswith("/"):
        return f"{given!r} is not an absolute path"
    if "//" in given or ".." in given.split("/"):
        return f"{given!r} is not a plain path; leave out '..' and doubled slashes"
    return None


def absolute_path_or_empty(value: ParamValue) -> str | None:
    """An absolute path, or nothing."""
    return absolute_path(value) if value else None


def image_or_empty(value: ParamValue) -> str | None:
    """An absolute path or the address of an image that the hypervisor fetches, or nothing."""
    if value and re.match(r"(https?|ftps?)://\S+\Z", str(value)):
        return None
    problem = absolute_path_or_empty(value)
    return f"{problem}, nor an http, https or ftp address" if problem else None


def bind_address_or_empty(value: ParamValue) -> str | None:
    """An IP address to listen on, a directory for a Unix socket, or nothing."""
    given = str(value)
    if not given or given.startswith("/"):
        return absolute_path_or_empty(given)
    try:
        ipaddress.ip_address(given)
    except ValueError:
        return f"{given!r} is neither an IP address nor an absolute directory"
    return None


_CPU_LIST = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")


def cpu_list_or_empty(value: ParamValue) -> str | None:
    """One list of processors such as `0-2,4`, or nothing."""
    return _cpu_list(str(value)) if value else None


def cpu_mask(value: ParamValue) -> str | None:
    """`all`, a list of processors, or such a list for each virtual processor joined with `:`."""
    if not value:
        return "empty; write 'all' to pin nothing"
    return next(filter(None, (_cpu_list(part) for part in str(value).split(":") if part != "all")), None)


def _cpu_list(given: str) -> str | None:
    if not _CPU_LIST.fullmatch(given):
        return f"{given!r} is not a list of processors such as 0-2,4"
    for part in given.split(","):
        first, _, last = part.partition("-")
        if last and int(first) > int(last):
            return f"the range {part} runs backwards"
    return None
