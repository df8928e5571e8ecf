"""What a node daemon answers on the node link. Independent of what carries it."""

from __future__ import annotations

from typing import Any

from ganeti.node.functions import Functions, Progress
from ganeti.wire.locator import GuardedLocator
from ganeti.wire.node_commands import AbortFunction, ListFunctions, StartFunction, WaitForFunction


class NodeLocator(GuardedLocator):
    """Function calls; one for all connections.

    Args:
        functions: the calls of this node.
    """

    def __init__(self, functions: Functions) -> None:
        self._functions = functions

    @StartFunction.responder
    async def start_function(
        self,
        name: str,
        args: bytes,
        timeout: float,
        abort_after: float | None,
        request_id: str | None,
        trace: str | None,
    ) -> dict[str, Any]:
        """Start and wait."""
        progress = await self._functions.start(
            name,
            args,
            timeout_s=timeout,
            abort_after_s=abort_after,
            request_id=request_id,
            trace=trace,
        )
        return _answer(progress)

    @WaitForFunction.responder
    async def wait_for_function(self, call_id: str, timeout: float) -> dict[str, Any]:
        """Wait again."""
        return _answer(await self._functions.wait(call_id, timeout_s=timeout))

    @AbortFunction.responder
    def abort_function(self, call_id: str) -> dict[str, Any]:
        """End it."""
        self._functions.abort(call_id)
        return {}

    @ListFunctions.responder
    def list_functions(self) -> dict[str, Any]:
        """What is known."""
        return {"functions": self._functions.rows()}


def _answer(progress: Progress) -> dict[str, Any]:
    return {"call_id": progress.call_id, "finished": progress.finished, "result": progress.result}
