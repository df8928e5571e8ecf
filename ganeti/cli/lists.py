"""`list` and `list-fields` of every tool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ganeti.cli.declarations import Argument, Command, Option
from ganeti.cli.errors import EXIT_UNKNOWN_FIELD, CommandError, UsageError
from ganeti.cli.filters import Filter, from_arguments
from ganeti.cli.tables import KIND_NAMES, Format, Style, joined, plain_table, render

if TYPE_CHECKING:
    from ganeti.cli.invocation import Invocation


class ListKind(NamedTuple):
    """What a tool lists."""

    resource: str
    defaults: tuple[str, ...]
    key: str = "name"
    joined: tuple[str, ...] = ()
    """Fields whose lists are printed with commas."""
    formats: Mapping[str, Format] = {}
    integers: bool = False
    """Names are numbers."""
    is_live: bool = False
    """Some fields are what the nodes tell."""

    def all_formats(self) -> dict[str, Format]:
        """How fields are printed that are not printed as their kind says."""
        return {**dict.fromkeys(self.joined, joined), **self.formats}


OUTPUT = Option(
    ("-o", "--output"),
    "output",
    "columns with commas between, +NAME adds one; or the format table or json",
    "comma_list",
    metavar="FIELDS|table|json",
)
NO_HEADERS = Option(("--no-headers",), "no_headers", "print no titles")
SEPARATOR = Option(("--separator",), "separator", "text between the columns", "text", metavar="TEXT")
UNITS = Option(("--units",), "units", "unit of sizes", "text", choices=("h", "m", "g", "t"), metavar="UNIT")
VERBOSE = Option(("-v", "--verbose"), "verbose", "long names of special states")
FILTER = Option(("-F", "--filter"), "filter", "the argument is a filter")
CACHE = Option(
    ("--cache",),
    "cache",
    "on: what the nodes told lately is good enough; off: ask them",
    "text",
    choices=("on", "off"),
    metavar="on|off",
)
TABLE = (NO_HEADERS, SEPARATOR)
LIST = (OUTPUT, *TABLE, UNITS, VERBOSE, FILTER)


def list_commands(
    kind: ListKind, noun: str, *more: Option, names_variable: str | None = None
) -> tuple[Command, Command]:
    """The commands `list` and `list-fields` of a tool."""
    arguments = (Argument(noun.upper(), 0, None, None if kind.integers else kind.resource),)
    return (
        Command(
            "list",
            f"List {noun}s.",
            arguments=arguments,
            options=(*LIST, *((CACHE,) if kind.is_live else ()), *more),
            run=lambda invocation: run_list(invocation, kind),
            names_variable=names_variable,
        ),
        Command(
            "list-fields",
            f"List the fields that 'list' can show of {noun}s.",
            arguments=(Argument("FIELD", 0, None),),
            options=(*TABLE, OUTPUT),
            run=lambda invocation: run_list_fields(invocation, kind),
        ),
    )


def style_of(invocation: Invocation) -> Style:
    """How the options want the table."""
    return Style(
        headers=not invocation.option("no_headers"),
        separator=invocation.option("separator"),
        units=invocation.option("units"),
        verbose=bool(invocation.option("verbose")),
    )


def wants_json(invocation: Invocation) -> bool:
    """Whether the output is to be JSON."""
    formats = [word for word in invocation.option("output", ()) if word in ("table", "json")]
    return formats[-1:] == ["json"]


def fields_of(invocation: Invocation, defaults: Sequence[str]) -> list[str]:
    """The columns wanted; a leading `+` adds to the usual ones.

    Raises:
        UsageError: no column at all.
    """
    words = [word for word in invocation.option("output", ()) if word not in ("table", "json")]
    if words and words[0].startswith("+"):
        words = [*defaults, words[0][1:], *words[1:]]
    fields = [word.removeprefix("+") for word in words] or list(defaults)
    if not all(fields):
        raise UsageError("option --output: a field name is empty; 'list-fields' shows the names")
    return fields


def run_list(invocation: Invocation, kind: ListKind, extra: Filter | None = None) -> int:
    """Ask for the rows and print them; exit code 14 if a field is unknown.

    Args:
        invocation: the command.
        kind: what is listed.
        extra: further condition.
    """
    try:
        wanted = from_arguments(
            invocation.arguments,
            kind.key,
            force=bool(invocation.option("filter")),
            integers=kind.integers,
        )
    except ValueError as error:
        raise CommandError(f"Error: {error}") from None
    fields = fields_of(invocation, kind.defaults)
    request: list[Any] = [kind.resource, fields, both(wanted, extra)]
    if invocation.option("cache") == "off":
        request.append(False)
    answer = invocation.master.call("Query", request)
    show(invocation, answer["fields"], answer["data"], kind.all_formats())
    return warn_unknown(invocation, answer["fields"])


def both(first: Filter | None, second: Filter | None) -> Filter | None:
    """The filter that holds where both do."""
    if first is None or second is None:
        return second if first is None else first
    return ["&", first, second]


def show(
    invocation: Invocation,
    fields: Sequence[Mapping[str, Any]],
    rows: Sequence[Sequence[Any]],
    formats: Mapping[str, Format],
) -> None:
    """Print the rows of a query as the options want them."""
    if wants_json(invocation):
        import json

        names = [field["name"] for field in fields]
        values = [{name: cell[1] for name, cell in zip(names, row)} for row in rows]
        invocation.print(json.dumps(values, indent=1))
        return
    lines = render(fields, rows, style_of(invocation), formats)
    text = "\n".join(lines)
    if text or rows:
        invocation.print(text)


def warn_unknown(invocation: Invocation, fields: Sequence[Mapping[str, Any]]) -> int:
    """Tell of fields that do not exist; gives the exit code."""
    unknown = [field["name"] for field in fields if field["kind"] == "unknown"]
    if not unknown:
        return 0
    invocation.flush()
    invocation.warn(f"Warning: Queried for unknown fields {', '.join(unknown)}")
    return EXIT_UNKNOWN_FIELD


def run_list_fields(invocation: Invocation, kind: ListKind) -> int:
    """Print name, type, title and description of fields."""
    names = list(invocation.arguments) or None
    fields = invocation.master.call("QueryFields", [kind.resource, names])["fields"]
    if wants_json(invocation):
        import json

        invocation.print(json.dumps(fields, indent=1))
    else:
        rows = [
            (field["name"], KIND_NAMES.get(field["kind"], field["kind"]), field["title"], field["doc"])
            for field in fields
        ]
        for line in plain_table(("Name", "Type", "Title", "Description"), rows, style_of(invocation)):
            invocation.print(line)
    return warn_unknown(invocation, fields)
