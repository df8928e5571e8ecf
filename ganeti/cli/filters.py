"""Filter strings of lists (`status == "running" and not be/vcpus > 2`) and list arguments.

The result is the JSON filter language of queries. Mistakes are told with their place.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ganeti.cli.errors import MisreadFilter

Filter = list[Any]

_WORD = r"[A-Za-z][A-Za-z0-9_/.]*"
_TOKEN = re.compile(
    rf"""(?:
      (?P<number>[+-]?\d+(?![\w.]))
    | (?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
    | (?P<operator>==|!=|<=|>=|=~|!~|=\*|!\*|=|<|>)
    | (?P<bracket>[()])
    | (?P<word>{_WORD})
    )""",
    re.VERBOSE,
)
_REGEX = re.compile(r"m?([/#^|])((?:\\.|(?!\1).)*)\1([a-z]*)")
_SPACE = re.compile(r"\s*")
_KEYWORDS = ("and", "or", "not", "in")
_COMPARE = {"=": "=="}
_SPECIAL = re.compile(r"[\s!\"'()/<=>\\~]")
_GLOB = re.compile(r"[*?]")

Token = tuple[str, str, int]
"""Kind, text, position."""


def from_arguments(
    arguments: Sequence[str], key: str, *, force: bool, integers: bool = False
) -> Filter | None:
    """The filter that the arguments of a list command mean; None: everything.

    Args:
        arguments: names, globs, or one filter string.
        key: field that names are compared with.
        force: the one argument is a filter string whatever it looks like.
        integers: names are numbers (jobs).

    Raises:
        MisreadFilter: a filter string that cannot be read.
        ValueError: with `force`, not exactly one argument; with `integers`, no number.
    """
    if force and len(arguments) != 1:
        raise ValueError("with -F exactly one argument is needed, the filter")
    if not arguments:
        return None
    if force or (len(arguments) == 1 and _SPECIAL.search(arguments[0])):
        return parse(arguments[0])
    tests = [_name_test(argument, key, integers=integers) for argument in arguments]
    return tests[0] if len(tests) == 1 else ["|", *tests]


def _name_test(argument: str, key: str, *, integers: bool) -> Filter:
    if integers:
        try:
            return ["==", key, int(argument)]
        except ValueError:
            raise ValueError(f"{argument!r} is not a job ID; job IDs are numbers") from None
    if _GLOB.search(argument):
        return ["=~", key, glob_regex(argument)]
    return ["==", key, argument]


def glob_regex(glob: str) -> str:
    """The regular expression of a host name glob: `*` and `?` stay within one label.

    >>> glob_regex("web*")
    '^web[^.]*(\\\\..*)?$'
    """
    parts = {"*": "[^.]*", "?": "[^.]"}
    return "^" + "".join(parts.get(char) or re.escape(char) for char in glob) + r"(\..*)?$"


def parse(source: str) -> Filter:
    """The filter of a filter string.

    Raises:
        MisreadFilter: with the position.
    """
    return _Parser(source).whole()


class _Parser:
    """Recursive descent; `or` binds less than `and`, `and` less than `not`."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._position = 0
        self._skip_space()

    def whole(self) -> Filter:
        """The filter, which must be all there is."""
        found = self._either()
        kind, _, position = self._peek()
        if kind != "end":
            raise self._error("expected 'and', 'or' or the end", position)
        return found

    def _skip_space(self) -> None:
        space = _SPACE.match(self._source, self._position)
        self._position = space.end() if space else self._position

    def _peek(self) -> Token:
        if self._position == len(self._source):
            return "end", "", self._position
        match = _TOKEN.match(self._source, self._position)
        if match is None:
            char = self._source[self._position]
            problem = f"cannot read {char!r}"
            if char in "\"'":
                problem = "the quotation has no end"
            elif char.isdigit():
                problem = "only whole numbers and quoted texts can be compared"
            raise self._error(problem, self._position)
        return str(match.lastgroup), match.group(), self._position

    def _take(self) -> Token:
        token = self._peek()
        self._position += len(token[1])
        self._skip_space()
        return token

    def _accept(self, word: str) -> bool:
        kind, text, _ = self._peek()
        if text != word or kind not in ("word", "bracket"):
            return False
        self._take()
        return True

    def _either(self) -> Filter:
        return self._joined("or", "|", self._both)

    def _both(self) -> Filter:
        return self._joined("and", "&", self._maybe_not)

    def _joined(self, word: str, operator: str, part: Any) -> Filter:
        parts = [part()]
        while self._accept(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else [operator, *parts]

    def _maybe_not(self) -> Filter:
        if self._accept("not"):
            return ["!", self._maybe_not()]
        if self._accept("("):
            inner = self._either()
            if not self._accept(")"):
                raise self._error("expected ')'", self._peek()[2])
            return inner
        return self._test()

    def _test(self) -> Filter:
        kind, text, position = self._take()
        if kind in ("number", "text"):
            return self._contained(_value(kind, text))
        if kind != "word" or text in _KEYWORDS:
            raise self._error("expected a field name or a value", position)
        if self._peek()[0] != "operator":
            return ["?", text]
        operator = self._take()[1]
        if operator in ("=~", "!~"):
            return _negated(operator, ["=~", text, self._regex()])
        value = self._value()
        if operator in ("=*", "!*"):
            return _negated(operator, ["=~", text, glob_regex(str(value))])
        return [_COMPARE.get(operator, operator), text, value]

    def _contained(self, value: int | str) -> Filter:
        negative = self._accept("not")
        if not self._accept("in"):
            raise self._error("expected 'in' or 'not in'", self._peek()[2])
        kind, text, position = self._take()
        if kind != "word" or text in _KEYWORDS:
            raise self._error("expected a field name", position)
        test: Filter = ["=[]", text, value]
        return ["!", test] if negative else test

    def _value(self) -> int | str:
        kind, text, position = self._take()
        if kind not in ("number", "text"):
            raise self._error("expected a number or a quoted text", position)
        return _value(kind, text)

    def _regex(self) -> str:
        match = _REGEX.match(self._source, self._position)
        if match is None:
            raise self._error("expected a regular expression such as m/^web/", self._position)
        delimiter, expression, flags = match.groups()
        if set(flags) - {"s", "i"}:
            raise self._error("only the flags s and i are known", match.start(3))
        self._position = match.end()
        self._skip_space()
        expression = expression.replace("\\" + delimiter, delimiter)
        return f"(?{flags}){expression}" if flags else expression

    def _error(self, problem: str, position: int) -> MisreadFilter:
        return MisreadFilter(problem, self._source, position)


def _value(kind: str, text: str) -> int | str:
    return int(text) if kind == "number" else re.sub(r"\\(.)", r"\1", text[1:-1])


def _negated(operator: str, test: Filter) -> Filter:
    return ["!", test] if operator.startswith("!") else test
