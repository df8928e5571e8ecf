"""Base of all responders: no exception, however unexpected, closes the connection."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.protocols import amp
from twisted.python.failure import Failure

from ganeti.errors import GanetiError, ProgrammerError
from ganeti.wire.errors import ERROR_CODE, WireError
from ganeti.wire.node_commands import Ping

Responder = Callable[[amp.AmpBox], Deferred[amp.AmpBox]]


class GuardedLocator(amp.CommandLocator):
    """Responders whose every failure becomes a declared error.

    Errors of `ganeti.errors` are sent as they are. Anything else is a mistake in the code: it is
    logged with a reference id, and the other side gets the id. Nothing is sent for commands that
    want no answer.
    """

    log = Logger()

    def locateResponder(self, name: bytes) -> Responder | None:
        """The responder of a command, guarded; None if there is none (AMP says so to the caller)."""
        responder = amp.CommandLocator.locateResponder(self, name)
        if responder is None:
            return None

        def guarded(box: amp.AmpBox) -> Deferred[amp.AmpBox]:
            answer = cast("Deferred[amp.AmpBox]", maybeDeferred(responder, box))
            return answer.addErrback(partial(self._declared, name=name, is_answered=amp.ASK in box))

        return guarded

    @Ping.responder
    def ping(self) -> dict[str, Any]:
        """Nothing to do: having heard of the other side is all."""
        return {}

    def _declared(self, failure: Failure, *, name: bytes, is_answered: bool) -> Any:
        error = self._explained(failure, name)
        if not is_answered:
            self.log.warn("{command} failed: {error}", command=name.decode("ascii", "replace"), error=error)
            return amp.AmpBox()
        return Failure(amp.RemoteAmpError(ERROR_CODE, str(WireError.pack(error)), fatal=False, local=failure))

    def _explained(self, failure: Failure, name: bytes) -> GanetiError:
        error = failure.value
        if isinstance(error, amp.BadLocalReturn):
            # The responder did its work, but what it gave cannot be sent: the reason is inside.
            failure = error.enclosed
            error = failure.value
        if isinstance(error, GanetiError):
            return error
        if isinstance(error, CancelledError):
            return GanetiError("the call was given up")
        reference = secrets.token_hex(4)
        self.log.failure(
            "{command} failed unexpectedly, reference {reference}",
            failure,
            command=name.decode("ascii", "replace"),
            reference=reference,
        )
        return ProgrammerError(
            f"internal error in {name.decode('ascii', 'replace')}; the log has the details under"
            f" reference {reference}"
        )
