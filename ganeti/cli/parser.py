"""Reads a command line by the declarations: options first, then arguments.

Parsing stops at the first argument, option values may start with a dash (`-O -dns`), and long options
may be shortened as long as they stay unique. argparse does the rest and writes the help texts.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, NoReturn

from ganeti.cli.declarations import Command, Option
from ganeti.cli.errors import CommandError, MasterError, MisspeltParameter, UsageError
from ganeti.cli.values import REPEATABLE, combine, readers


class Parsed(NamedTuple):
    """A command line that could be read."""

    options: Mapping[str, Any]
    """By destination; only those that were given."""
    arguments: tuple[str, ...]


class HelpWanted(Exception):
    """`--help` was given; the text is the help."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.format_usage()}\n{self.prog}: error: {message}")


def build(tool: str, command: Command) -> argparse.ArgumentParser:
    """The argparse parser of one command."""
    parser = _Parser(
        prog=f"{tool} {command.name}",
        description=command.doc,
        usage=usage(tool, command),
        add_help=False,
        allow_abbrev=False,
        # Without a width argparse would import a good deal to find it out.
        formatter_class=partial(argparse.HelpFormatter, width=_width()),
    )
    group = parser.add_argument_group("options")
    group.add_argument("-h", "--help", action="store_true", default=argparse.SUPPRESS, help="show this help")
    for option in command.options:
        _add(group, option)
    return parser


def _width() -> int:
    columns = os.environ.get("COLUMNS", "")
    return max(int(columns) - 2, 40) if columns.isdigit() else 98


def _add(group: Any, option: Option) -> None:
    text = option.doc.replace("%", "%%")
    if option.choices:
        text += f" ({', '.join(option.choices)})"
    if option.default not in (None, "", ()):
        text += f" [{option.default}]"
    shared: dict[str, Any] = {"dest": option.dest, "default": argparse.SUPPRESS, "help": text}
    if option.takes == "nothing":
        group.add_argument(*option.flags, action="append_const", const=option.value, **shared)
    else:
        group.add_argument(*option.flags, action="append", metavar=option.metavar or "VALUE", **shared)


def usage(tool: str, command: Command) -> str:
    """`gnt-node add-tags [options] NODE TAG...`"""
    words = [tool, command.name, "[options]"]
    for argument in command.arguments or ():
        word = "|".join(argument.choices) or argument.metavar
        word += "..." if argument.most is None else ""
        words.append(f"[{word}]" if argument.least == 0 else word)
    return " ".join(words)


def parse(tool: str, command: Command, argv: Sequence[str]) -> Parsed:
    """Read the words after the sub-command.

    Raises:
        HelpWanted: `--help` is among them.
        UsageError: an option that does not exist, lacks its value or cannot have it (exit code 2).
        MasterError: a list of keys and values that cannot be read.
        CommandError: the wrong number of arguments.
    """
    parser = build(tool, command)
    optional, arguments = arrange(tool, command, argv)
    given = vars(parser.parse_args(optional))
    if "help" in given:
        raise HelpWanted(parser.format_help())
    options = read_values(tool, command, given)
    _check_count(command, arguments)
    return Parsed(options, tuple(arguments))


def arrange(tool: str, command: Command, argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Options, each with its value joined, and arguments.

    Raises:
        UsageError: an option that does not exist or lacks its value.
    """
    by_flag: dict[str, Option | None] = {flag: option for option in command.options for flag in option.flags}
    by_flag.update({"-h": None, "--help": None})
    words = list(argv)
    arranged: list[str] = []
    while words and words[0].startswith("-") and words[0] != "-" and not words[0][1:2].isdigit():
        word = words.pop(0)
        if word == "--":
            break
        if word.startswith("--"):
            arranged.append(_long(tool, command, by_flag, word, words))
        else:
            arranged += _short(tool, command, by_flag, word, words)
    return arranged, words


def _long(
    tool: str, command: Command, by_flag: Mapping[str, Option | None], word: str, rest: list[str]
) -> str:
    name, equals, value = word.partition("=")
    name = _full_name(tool, command, by_flag, name)
    option = by_flag[name]
    takes_value = option is not None and option.takes != "nothing"
    if equals and not takes_value:
        raise _misuse(tool, command, f"option {name} takes no value")
    if equals or not takes_value:
        return name + equals + value
    if not rest:
        raise _misuse(tool, command, f"option {name} needs a value")
    return f"{name}={rest.pop(0)}"


def _short(
    tool: str, command: Command, by_flag: Mapping[str, Option | None], word: str, rest: list[str]
) -> list[str]:
    found = []
    letters = word[1:]
    while letters:
        name, letters = f"-{letters[0]}", letters[1:]
        if name not in by_flag:
            raise _misuse(tool, command, f"no such option: {name}")
        option = by_flag[name]
        if option is None or option.takes == "nothing":
            found.append(name)
            continue
        if not letters and not rest:
            raise _misuse(tool, command, f"option {name} needs a value")
        # The long or another unambiguous spelling: argparse would cut `-O=x` at the sign.
        value = letters or rest.pop(0)
        long = next((flag for flag in option.flags if flag.startswith("--")), None)
        found.append(f"{long}={value}" if long else f"{name}{value}")
        letters = ""
    return found


def _full_name(tool: str, command: Command, by_flag: Mapping[str, Option | None], name: str) -> str:
    if name in by_flag:
        return name
    longer = [flag for flag in by_flag if flag.startswith(name)]
    if len({id(by_flag[flag]) for flag in longer}) == 1:
        return longer[0]
    if longer:
        raise _misuse(tool, command, f"option {name} could be {' or '.join(sorted(longer))}")
    raise _misuse(tool, command, f"no such option: {name}{did_you_mean(name, by_flag)}")


def _misuse(tool: str, command: Command, problem: str) -> UsageError:
    return UsageError(
        f"Usage: {usage(tool, command)}\n\n{tool} {command.name}: error: {problem}\n"
        f"('{tool} {command.name} --help' lists the options)"
    )


def did_you_mean(word: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """`; did you mean X?`, or nothing if no known word is near."""
    from difflib import get_close_matches

    # Without the dashes, by which all options are a little alike.
    plain = {one.lstrip("-"): one for one in known}
    close = get_close_matches(word.lstrip("-"), list(plain), n=1)
    return f"; did you mean {plain[close[0]]}?" if close else ""


def read_values(tool: str, command: Command, given: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Values of the options, read and put together.

    Raises:
        UsageError: a value that an option cannot have.
        MasterError: a list of keys and values that cannot be read (ParameterError).
    """
    options = {option.dest: option for option in command.options}
    found: dict[str, Any] = {}
    for dest, values in given.items():
        option = options[dest]
        if option.takes == "nothing":
            found[dest] = len(values) if dest == "debug" else values[-1]
            continue
        found[dest] = _read(tool, command, option, values)
    return found


def _read(tool: str, command: Command, option: Option, values: Sequence[Any]) -> Any:
    name = option.flags[-1]
    texts = [value for value in values if isinstance(value, str)]
    for value in texts:
        if option.choices and option.takes == "text" and value not in option.choices:
            near = did_you_mean(value, option.choices)
            allowed = ", ".join(option.choices)
            raise _misuse(tool, command, f"option {name} cannot be {value!r} (choose from {allowed}){near}")
    reader = readers()[option.takes]
    try:
        read = [reader(value) for value in (texts if option.takes in REPEATABLE else texts[-1:])]
        return combine(option.takes, read)
    except MisspeltParameter as error:
        raise MasterError("ParameterError", [f"option {name}: {error}"]) from None
    except ValueError as error:
        raise _misuse(tool, command, f"option {name}: {error}") from None


def _check_count(command: Command, arguments: Sequence[str]) -> None:
    wanted = command.arguments or ()
    least = sum(argument.least for argument in wanted)
    most = None if any(a.most is None for a in wanted) else sum(a.most or 0 for a in wanted)
    problem = None
    if most == 0 and arguments:
        problem = "expects no arguments"
    elif least == most and len(arguments) != least:
        problem = f"expects {least} argument(s)"
    elif most is not None and len(arguments) > most:
        problem = f"expects only {most} argument(s)"
    elif len(arguments) < least:
        problem = f"expects at least {least} argument(s)"
    if problem is not None:
        raise CommandError(f"Error: Command {command.name} {problem}")
