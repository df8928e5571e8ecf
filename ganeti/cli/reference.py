"""Pages about the commands, and shell completion, made of the same declarations as the tools.

`python -m ganeti.cli.reference --write` brings `docs/reference/commands.md` and the manual pages in
`docs/man` up to date; `--completions DIRECTORY` writes completions for bash and zsh (needs shtab).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from ganeti.cli.checkout import CHECKOUT
from ganeti.cli.declarations import COMMON, JOB, TOOLS, Command, Option, load
from ganeti.cli.parser import build, usage

ABOUT = {
    "cluster": "the cluster as a whole",
    "node": "the machines of the cluster",
    "group": "node groups: nodes that share a network and storage",
    "instance": "virtual machines",
    "job": "jobs, which is what other tools submit",
    "os": "definitions of operating systems",
    "debug": "tests and looks inside",
}
"""What each tool is for."""

_EVERYWHERE = frozenset(flag for option in (*COMMON, *JOB) for flag in option.flags) | {"--dry-run"}

_NAMES = {
    "instance": "gnt-instance list --no-headers -o name",
    "node": "gnt-node list --no-headers -o name",
    "group": "gnt-group list --no-headers -o name",
    "job": "gnt-job list --no-headers -o id",
    "os": "gnt-os list --no-headers",
}
"""Programs that print what a value can be."""


def pages() -> dict[Path, str]:
    """Every page by its place below the checkout."""
    found = {Path("docs/reference/commands.md"): commands_markdown()}
    found.update({Path(f"docs/man/gnt-{tool}.8"): man_page(tool) for tool in TOOLS})
    return found


def commands_markdown() -> str:
    """The reference of all commands."""
    lines = [
        "# Commands",
        "",
        "Made of the declarations by `bin/generate-docs`; do not edit.",
        "",
        "Options stand before arguments. Every command knows `-h/--help`, `-d/--debug` and `--reason TEXT`;",
        "commands that submit jobs also `--submit`, `--print-jobid`, `--priority low|normal|high` and",
        "`--dry-run`.",
    ]
    for tool in TOOLS:
        lines += ["", f"## gnt-{tool}: {ABOUT[tool]}"]
        for command in load(f"gnt-{tool}").values():
            lines += ["", *_markdown(f"gnt-{tool}", command)]
    return "\n".join(lines) + "\n"


def _markdown(tool: str, command: Command) -> Iterator[str]:
    yield f"### {tool} {command.name}"
    yield ""
    also = f" Also called: {', '.join(command.aliases)}." if command.aliases else ""
    job = f" Submits `{command.declared.op_id}`." if command.declared is not None else ""
    yield f"{command.doc}{also}{job}"
    yield ""
    yield f"    {usage(tool, command)}"
    own = _own_options(command)
    if own:
        yield ""
        yield "| option | meaning |"
        yield "|---|---|"
        for option in own:
            yield f"| {_cell(_spelling(option))} | {_cell_text(_meaning(option))} |"


def _own_options(command: Command) -> list[Option]:
    return [option for option in command.options if not _EVERYWHERE.issuperset(option.flags)]


def _spelling(option: Option) -> str:
    value = "" if option.takes == "nothing" else f" {option.metavar or 'VALUE'}"
    return ", ".join(option.flags) + value


def _meaning(option: Option) -> str:
    text = option.doc
    if option.choices:
        text += f" ({', '.join(option.choices)})"
    if option.default not in (None, "", ()):
        text += f"; default {option.default}"
    return text


def _cell(text: str) -> str:
    return "`" + text.replace("|", r"\|") + "`"


def _cell_text(text: str) -> str:
    return text.replace("|", r"\|")


def man_page(tool: str) -> str:
    """The manual page of one tool."""
    name = f"gnt-{tool}"
    lines = [
        f'.TH {name.upper()} 8 "" "ganeti" "Cluster management"',
        ".SH NAME",
        f"{name} \\- {_roff(ABOUT[tool])}",
        ".SH SYNOPSIS",
        f".B {_roff(name)}",
        "COMMAND [options] [arguments]",
        ".SH DESCRIPTION",
        "Options stand before arguments. Commands that submit jobs wait for them and show what they say;",
        "with \\-\\-submit they do not.",
        ".SH COMMANDS",
    ]
    for command in load(name).values():
        lines += [f".SS {_roff(usage(name, command))}", _roff(command.doc)]
        if command.aliases:
            lines += [".PP", _roff(f"Also called: {', '.join(command.aliases)}.")]
        for option in _own_options(command):
            lines += [".TP", f".B {_roff(_spelling(option))}", _roff(_meaning(option))]
    lines += [".SH OPTIONS OF MANY COMMANDS"]
    shared: dict[str, Option] = {
        option.flags[-1]: option
        for command in load(name).values()
        for option in command.options
        if _EVERYWHERE.issuperset(option.flags)
    }
    for option in shared.values():
        lines += [".TP", f".B {_roff(_spelling(option))}", _roff(_meaning(option))]
    lines += [
        ".SH EXIT STATUS",
        "0: success. 1: failure. 2: an option that cannot be read. 13: a question was answered with no",
        "(some commands: 1 or 2). 14: a field asked for does not exist.",
        ".SH ENVIRONMENT",
        "GANETI_ROOTDIR: directory below which all files of this node lie.",
    ]
    return "\n".join(lines) + "\n"


def _roff(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def completions() -> dict[str, str]:
    """Completion scripts by file name, for bash and zsh; needs shtab."""
    import shtab

    found = {}
    for tool in TOOLS:
        for shell, name in (("bash", f"gnt-{tool}"), ("zsh", f"_gnt-{tool}")):
            parser = whole_parser(f"gnt-{tool}")
            text: str = shtab.complete(parser, shell, preamble=cast("Any", _preamble(shell)))
            found[f"{shell}/{name}"] = text
    return found


def whole_parser(tool: str) -> argparse.ArgumentParser:
    """One parser with all commands of a tool, as completion needs it."""
    parser = argparse.ArgumentParser(prog=tool, add_help=False)
    commands = parser.add_subparsers()
    for command in load(tool).values():
        one = build(tool, command)
        sub = commands.add_parser(
            command.name, aliases=list(command.aliases), help=command.doc, parents=[one], add_help=False
        )
        by_dest = {option.dest: option for option in command.options}
        for action in sub._actions:
            names = by_dest[action.dest].names if action.dest in by_dest else None
            _complete(action, names)
        for argument in command.arguments or ():
            action = sub.add_argument(argument.metavar, nargs="*", choices=argument.choices or None)
            _complete(action, argument.names)
    return parser


def _complete(action: Any, names: str | None) -> None:
    if names in _NAMES:
        action.complete = {"bash": f"_gnt_{names}_names", "zsh": f"_gnt_{names}_names"}


def _preamble(shell: str) -> Mapping[str, str]:
    body = 'compgen -W "$({} 2>/dev/null)" -- "$1"' if shell == "bash" else "compadd - $({} 2>/dev/null)"
    functions = [f"_gnt_{name}_names() {{ {body.format(command)}; }}" for name, command in _NAMES.items()]
    return {shell: "\n".join(functions)}


def main(arguments: list[str]) -> int:
    """Write pages or completions, or tell which pages are out of date (exit code 1)."""
    if arguments[:1] == ["--completions"] and len(arguments) == 2:
        for name, text in completions().items():
            _write(Path(arguments[1]) / name, text)
        return 0
    outdated = stale()
    for path, text in outdated.items():
        if "--write" in arguments:
            _write(path, text)
        print(f"{'written' if '--write' in arguments else 'out of date'}: {path}")
    return 1 if outdated and "--write" not in arguments else 0


def stale() -> dict[Path, str]:
    """Pages that are not as they should be, with what they should be."""
    wanted = {Path(CHECKOUT) / path: text for path, text in pages().items()}
    return {
        path: text for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text
    }


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
