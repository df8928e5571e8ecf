"""Questions to the operator, asked on the terminal and not on stdin."""

from __future__ import annotations

import sys
from typing import IO

Choices = tuple[tuple[str, str], ...]
"""Letter and description; the last one counts where nobody can be asked."""


def ask(question: str, choices: Choices) -> str:
    """The letter that the operator chose.

    Without a terminal it is the last choice, which is the careful one; that is told on stderr.
    """
    try:
        with open("/dev/tty", "r+b", buffering=0) as raw:
            import io

            terminal = io.TextIOWrapper(raw, write_through=True)
            try:
                return converse(question, choices, terminal, terminal)
            finally:
                terminal.detach()
    except OSError:
        sys.stderr.write(
            f"{wrapped(question)}\n(no terminal to ask on, so this is taken as no; see --help)\n"
        )
        return choices[-1][0]


def converse(question: str, choices: Choices, source: IO[str], target: IO[str]) -> str:
    """Ask until the answer is one of the letters; `?` explains them, the end of input is the last."""
    prompt = f"{wrapped(question)}\n{_letters(choices)}: "
    while True:
        target.write(prompt)
        target.flush()
        line = source.readline()
        if not line:
            return choices[-1][0]
        answer = line.strip("\r\n").lower()
        if len(answer) == 1 and answer in {letter for letter, _ in choices}:
            return answer
        if answer == "?":
            target.writelines(f" {letter} - {meaning}\n" for letter, meaning in choices)


def _letters(choices: Choices) -> str:
    *others, last = [letter for letter, _ in choices]
    return "/".join([*others, f"[{last}]", "?"])


def wrapped(text: str, width: int = 70) -> str:
    """The text with lines of at most this many characters; existing line breaks stay."""
    import textwrap

    return "\n".join(
        line for part in text.split("\n") for line in (textwrap.wrap(part, width) if part.strip() else [part])
    )
