"""Asks the remote interface of this node whether it is alive."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Sequence

import msgspec

TIMEOUT_S = 10.0
PORT = 5080
VERSION = 2
_MAX_BYTES = 4096


class RapiPlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where the remote interface is to be reached."""

    address: str = "127.0.0.1"
    port: int = PORT
    is_tls: bool = True


def place(options: Sequence[str], address: str | None = None) -> RapiPlace:
    """The place that follows from the options of the daemon.

    Args:
        options: `-b`, `-p`, `--no-ssl` of ganeti-rapi.
        address: where to look in any case.
    """
    bind, port = _value(options, "-b", "--bind"), _value(options, "-p", "--port")
    first = (bind or "").split(",")[0]
    if first in ("", "0.0.0.0", "::"):
        first = "127.0.0.1"
    return RapiPlace(
        address=address or first,
        port=int(port) if port is not None and port.isdigit() else PORT,
        is_tls="--no-ssl" not in options,
    )


def _value(options: Sequence[str], *names: str) -> str | None:
    for number, word in enumerate(options):
        name, equals, value = word.partition("=")
        if name in names:
            return value if equals else next(iter(options[number + 1 : number + 2]), None)
    return None


def problem_of(where: RapiPlace, *, timeout_s: float = TIMEOUT_S) -> str | None:
    """What is wrong with the remote interface; None: it answers."""
    connection = _connection(where, timeout_s)
    try:
        connection.request("GET", "/version", headers={"Connection": "close"})
        answer = connection.getresponse()
        body = answer.read(_MAX_BYTES)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f"it does not answer at {where.address} port {where.port}: {error or type(error).__name__}"
    finally:
        connection.close()
    if answer.status == http.client.UNAUTHORIZED:
        return None
    if answer.status != http.client.OK:
        return f"it answers with status {answer.status}"
    try:
        version = json.loads(body)
    except ValueError:
        version = None
    return None if version == VERSION else f"it answers with something else than its version: {body[:60]!r}"


def _connection(where: RapiPlace, timeout_s: float) -> http.client.HTTPConnection:
    if not where.is_tls:
        return http.client.HTTPConnection(where.address, where.port, timeout=timeout_s)
    # Nothing is told and nothing learned but that it is alive, and its certificate may be anybody's.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(where.address, where.port, timeout=timeout_s, context=context)
