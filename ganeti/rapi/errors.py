"""Errors of the remote interface in the established form: code, message, explanation."""

from __future__ import annotations

import html
from http.server import BaseHTTPRequestHandler
from typing import Any

REALM = "Ganeti Remote API"


class HttpError(Exception):
    """An answer that is an error.

    Args:
        code: HTTP status.
        message: for the operator; None: the standard words for the status.
        headers: further headers.
    """

    def __init__(self, code: int, message: str | None = None, headers: dict[str, str] | None = None) -> None:
        short, self.explain = BaseHTTPRequestHandler.responses.get(code, ("Error", "Error"))
        self.code = code
        self.message = message or short
        self.headers = headers or {}
        super().__init__(f"{code} {self.message}")

    def body(self) -> dict[str, Any]:
        """What is sent; the message is escaped, as clients may show it in a page."""
        return {"code": self.code, "message": html.escape(self.message), "explain": self.explain}


def unauthorized() -> HttpError:
    """Who are you? Browsers and clients then send name and password."""
    return HttpError(401, headers={"WWW-Authenticate": f'Basic realm="{REALM}"'})
