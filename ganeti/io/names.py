"""Names of hosts and their addresses: the hosts file of the node first, then the system's resolver.

Only `getaddrinfo` is used (S2.3-137). The functions block; daemons call them in a thread.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator

from ganeti.errors import ResolverError
from ganeti.model.paths import Paths


def own_name(paths: Paths) -> str:
    """Name of this node: its hostname file where it has a root directory of its own, else the machine's.

    Raises:
        ResolverError: the machine has no usable name.
    """
    if paths.root:
        try:
            with open(paths.hostname_file, encoding="ascii") as stream:
                return stream.read().strip().lower()
        except OSError as error:
            raise ResolverError(f"cannot read the name of this node: {error}") from error
    name = socket.getfqdn().lower()
    if name in ("", "localhost"):
        raise ResolverError("this machine has no host name; set one with hostnamectl")
    return name


def resolve(paths: Paths, name: str, *, family: int) -> str:
    """First address of a name.

    Args:
        paths: of the node, for its hosts file.
        name: a host name, or an address, which is its own.
        family: 4 or 6.

    Raises:
        ResolverError: it has no address in this family.
    """
    try:
        literal = ipaddress.ip_address(name)
    except ValueError:
        literal = None
    if literal is not None and literal.version == family:
        return str(literal)
    if paths.root:
        found = _from_hosts(paths.hosts_file, name, family)
        if found is not None:
            return found
    wanted = socket.AF_INET6 if family == 6 else socket.AF_INET
    try:
        answers = socket.getaddrinfo(name, None, wanted, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ResolverError(f"can't resolve hostname '{name}' to an IPv{family} address") from error
    return str(answers[0][4][0])


def full_name(paths: Paths, name: str, *, family: int) -> str:
    """The full name that a possibly short one stands for.

    Raises:
        ResolverError: it has no address in this family.
    """
    if paths.root:
        for _address, names in _host_lines(paths.hosts_file):
            if name.lower() in names:
                return names[0]
    wanted = socket.AF_INET6 if family == 6 else socket.AF_INET
    try:
        answers = socket.getaddrinfo(name, None, wanted, socket.SOCK_STREAM, flags=socket.AI_CANONNAME)
    except (OSError, UnicodeError) as error:
        raise ResolverError(f"can't resolve hostname '{name}' to an IPv{family} address") from error
    return (answers[0][3] or name).lower()


def has_address(address: str) -> bool:
    """Whether an address belongs to this machine."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def _from_hosts(path: str, name: str, family: int) -> str | None:
    for address, names in _host_lines(path):
        if name.lower() in names:
            try:
                if ipaddress.ip_address(address).version == family:
                    return address
            except ValueError:
                continue
    return None


def _host_lines(path: str) -> Iterator[tuple[str, list[str]]]:
    """Address and lower case names of each line; nothing if there is no such file."""
    try:
        with open(path, encoding="utf-8") as stream:
            lines = stream.readlines()
    except OSError:
        return
    for line in lines:
        address, *names = line.partition("#")[0].lower().split() or [""]
        if names:
            yield address, names
