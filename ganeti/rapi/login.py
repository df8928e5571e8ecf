"""Who a request is from: checks names and passwords against the users file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from twisted.logger import Logger

from ganeti.rapi.errors import HttpError, unauthorized
from ganeti.rapi.users import Access, User, basic_login, is_right, parse_users

InThread = Callable[[Callable[[], bool]], Awaitable[bool]]

_NOBODY = "{BCRYPT}$2b$10$xzFjLSDTirNuC5YyzV.aauvY5Bz3HI/TO4xxnJfwaeDtX0lngghVG"
"""Compared with for unknown names, so that they take as long as known ones."""


class Gate:
    """Lets requests through or not.

    Args:
        users_file: path; if missing there are no users.
        in_thread: runs what blocks.
        is_closed: nobody gets in without a name, wherever (`--require-authentication`).
    """

    log = Logger()

    def __init__(self, users_file: str, in_thread: InThread, *, is_closed: bool = False) -> None:
        self._users_file = users_file
        self._in_thread = in_thread
        self._is_closed = is_closed
        self._users: Mapping[str, User] = {}

    def reload(self) -> None:
        """Read the users file again.

        Raises:
            OSError: it is there but cannot be read.
        """
        try:
            with open(self._users_file, encoding="utf-8") as stream:
                self._users = parse_users(stream.read())
        except FileNotFoundError:
            self._users = {}
        self.log.info("{count} user(s) of the remote interface", count=len(self._users))

    async def admit(self, authorization: str | None, access: Access) -> User | None:
        """The user who may do this; None: somebody without a name, who may, too.

        Credentials that are sent are checked even where none are needed.

        Raises:
            HttpError: 401 without or with wrong credentials, 403 with right ones that do not suffice.
        """
        if authorization is None:
            if access is Access.OPEN and not self._is_closed:
                return None
            raise unauthorized()
        login = basic_login(authorization)
        if login is None:
            raise unauthorized()
        user = self._users.get(login.name)
        stored = user.password if user is not None else _NOBODY
        is_correct = await self._in_thread(lambda: is_right(login, stored))
        if user is None or not is_correct:
            self.log.warn("wrong name or password for user {name}", name=login.name)
            raise unauthorized()
        if not user.may(access):
            raise HttpError(403)
        return user
