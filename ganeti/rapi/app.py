"""HTTP to and from the table of routes: reads requests, checks who asks, writes answers and errors."""

from __future__ import annotations

from typing import Any

import msgspec

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request as HttpRequest
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from ganeti.errors import GanetiError, PrereqError
from ganeti.rapi.errors import HttpError
from ganeti.rapi.login import Gate
from ganeti.rapi.master_link import MasterAway, MasterSlow
from ganeti.rapi.routes import Call, Routes

MAX_BODY_BYTES = 10 * 2**20

_JSON = "application/json"


@implementer(IResource)
class App(Resource):
    """The whole remote interface as one resource.

    Args:
        routes: what there is.
        gate: who may ask.
    """

    isLeaf = True
    log = Logger()

    def __init__(self, routes: Routes, gate: Gate) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._routes = routes
        self._gate = gate

    def render(self, request: Request) -> int:
        """Begin to answer."""
        answering: Deferred[None] = Deferred.fromCoroutine(self._answer(request))
        # Whoever hangs up does not want the answer any more.
        request.notifyFinish().addErrback(lambda _: answering.cancel())
        answering.addErrback(self._unexpected)
        return NOT_DONE_YET

    async def _answer(self, request: Request) -> None:
        try:
            value = await self._result(request)
        except CancelledError:
            raise
        except HttpError as error:
            _send(request, error.code, error.body(), error.headers)
        except Exception:
            self.log.failure("{path} failed unexpectedly", path=_path(request))
            _send(request, 500, HttpError(500, "internal error; the log of the daemon has it").body())
        else:
            _send(request, 200, value)

    async def _result(self, request: Request) -> Any:
        # The established order: path and method, then who asks, then the body.
        method = request.method.decode("ascii", "replace")
        route, names = self._routes.find("GET" if method == "HEAD" else method, _path(request))
        await self._gate.admit(request.getHeader("authorization"), route.needs)
        call = Call(names=names, query=_query(request), body=_body(request))
        try:
            return await route.answer(call)
        except MasterAway as error:
            raise HttpError(502, str(error)) from error
        except MasterSlow as error:
            raise HttpError(504, str(error)) from error
        except PrereqError as error:
            raise HttpError(404 if error.code == "unknown_entity" else 500, str(error)) from error
        except GanetiError as error:
            raise HttpError(500, str(error)) from error

    def _unexpected(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self.log.failure("an answer could not be sent", failure=failure)


def _path(request: HttpRequest) -> str:
    return request.path.decode("utf-8", "replace")


def _query(request: HttpRequest) -> dict[str, tuple[str, ...]]:
    given = {
        name.decode("utf-8", "replace"): tuple(value.decode("utf-8", "replace") for value in values if value)
        for name, values in (request.args or {}).items()
    }
    return {name: values for name, values in given.items() if values}


def _body(request: HttpRequest) -> Any:
    """Decoded JSON.

    Raises:
        HttpError: 413 too long, 415 not called JSON, 400 not JSON.
    """
    assert request.content is not None
    data = request.content.read(MAX_BODY_BYTES + 1)
    if not data:
        return None
    if len(data) > MAX_BODY_BYTES:
        raise HttpError(413, f"a request has at most {MAX_BODY_BYTES} bytes")
    kind = request.getHeader("content-type") or "application/octet-stream"
    if kind.partition(";")[0].strip().lower() != _JSON:
        raise HttpError(415, f"the content must be {_JSON}, not {kind}")
    try:
        return msgspec.json.decode(data)
    except (ValueError, RecursionError) as error:
        # Wrong UTF-8 and deep nesting are no DecodeError.
        raise HttpError(400, f"the body is not JSON: {error}") from error


def _send(request: Request, code: int, value: Any, headers: dict[str, str] | None = None) -> None:
    data = msgspec.json.encode(value)
    request.setResponseCode(code)
    request.setHeader("Content-Type", _JSON)
    request.setHeader("Content-Length", str(len(data)))
    for name, text in (headers or {}).items():
        request.setHeader(name, text)
    if request.method != b"HEAD":
        request.write(data)
    request.finish()
