"""`bin/bench [NAME...] [--json]`: runs benchmarks and prints what they measured, with this machine's speed.

A benchmark is a module of this package with a function `run()` that gives rows: objects with `name`,
`value`, `unit`, `target` (text such as `<= 20 ms`, or null) and `met` (or null). Each runs in a process of
its own, so that none disturbs the next.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pkgutil
import platform
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]

HERE = Path(__file__).parent
TIMEOUT_S = 600.0
_KEYS = ("name", "value", "unit", "target", "met")


def names() -> list[str]:
    """Modules that have a `run()`."""
    modules = (module.name for module in pkgutil.iter_modules([str(HERE)]))
    return sorted(name for name in modules if name != "report" and "\ndef run(" in _text(name))


def _text(name: str) -> str:
    return (HERE / f"{name}.py").read_text("utf-8")


# --- the machine -------------------------------------------------------------------------------


def machine() -> list[Row]:
    """How fast this machine is, to compare numbers of different machines by; nothing here has a target."""
    cores = len(os.sched_getaffinity(0))
    return [
        _plain("machine: cores", cores, "cores"),
        _plain("machine: load when this began", round(os.getloadavg()[0], 2), "runnable"),
        _plain("machine: loop of pure Python", round(_rate(_loop, 200_000) / 1e6, 2), "million steps/s"),
        _plain("machine: SHA-256", round(_rate(_hash, 16) * 1.048576, 1), "MB/s"),
        _plain("machine: start of an interpreter", round(1000 / _rate(_interpreter, 1), 1), "ms"),
        _plain("machine: message to another socket and back", round(1e6 / _rate(_echo, 2000), 1), "us"),
        _plain("machine: write and fdatasync of 4 KiB", round(1000 / _rate(_sync, 50), 3), "ms"),
    ]


def _plain(name: str, value: float, unit: str) -> Row:
    return {"name": name, "value": value, "unit": unit, "target": None, "met": None}


def _rate(work: Callable[[int], None], count: int) -> float:
    """Best of three, per second."""
    best = 0.0
    for _ in range(3):
        began = time.perf_counter()
        work(count)
        best = max(best, count / (time.perf_counter() - began))
    return best


def _loop(count: int) -> None:
    total = 0
    for number in range(count):
        total += number & 3


def _hash(count: int) -> None:
    block = bytes(1 << 20)
    for _ in range(count):
        hashlib.sha256(block).digest()


def _interpreter(count: int) -> None:
    for _ in range(count):
        subprocess.run([sys.executable, "-I", "-S", "-c", ""], check=True)


def _echo(count: int) -> None:
    left, right = socket.socketpair()
    with left, right:
        for _ in range(count):
            left.send(b"x")
            right.recv(1)
            right.send(b"x")
            left.recv(1)


def _sync(count: int) -> None:
    with tempfile.NamedTemporaryFile(dir=os.environ.get("TMPDIR")) as file:
        for _ in range(count):
            os.write(file.fileno(), bytes(4096))
            os.fdatasync(file.fileno())


# --- running -----------------------------------------------------------------------------------


def measured(name: str) -> list[Row]:
    """Rows of one benchmark; one row that is not met if it fails."""
    with tempfile.TemporaryFile() as answer:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "bench.report", "--child", name, str(answer.fileno())],
                cwd=HERE.parent,
                stdout=sys.stderr,
                pass_fds=[answer.fileno()],
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return [_failed(name, f"not done after {TIMEOUT_S:g} s")]
        if done.returncode != 0:
            return [_failed(name, f"exit code {done.returncode}, see above")]
        answer.seek(0)
        rows = json.loads(answer.read())
    return [{key: row.get(key) for key in _KEYS} for row in rows]


def _failed(name: str, why: str) -> Row:
    return {"name": f"{name}: FAILED ({why})", "value": None, "unit": "", "target": "to run", "met": False}


def _child(name: str, descriptor: int) -> None:
    import importlib

    rows = importlib.import_module(f"bench.{name}").run()
    with open(descriptor, "wb") as answer:
        answer.write(json.dumps(rows).encode())


# --- showing -----------------------------------------------------------------------------------


def verdict(row: Row) -> str:
    """`ok`, or by how much a target is missed; nothing without a target."""
    if row["met"] is None:
        return ""
    if row["met"]:
        return "ok"
    wanted = re.search(r"([<>])=\s*([\d.,]+)", row["target"] or "")
    if wanted is None or row["value"] is None:
        return "MISSED"
    goal = float(wanted[2].replace(",", ""))
    worse, better = (row["value"], goal) if wanted[1] == "<" else (goal, row["value"])
    return f"MISSED, {worse / better:.2f} times off" if better else "MISSED"


def line(row: Row) -> str:
    """One row for people."""
    value = "-" if row["value"] is None else f"{row['value']:,.10g}"
    return (
        f"{row['name']:<72} {value:>12} {row['unit']:<16} {row['target'] or '':<16} {verdict(row)}".rstrip()
    )


def main(arguments: Sequence[str]) -> int:
    """Run; exit code 1 if a benchmark could not be run."""
    if list(arguments[:1]) == ["--child"]:
        _child(arguments[1], int(arguments[2]))
        return 0
    parser = argparse.ArgumentParser(prog="bin/bench", description="Measures, and compares with the targets.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(names())}; default: all")
    parser.add_argument("--json", action="store_true", help="print a list of objects")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(names()))
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(names())}")
    if not options.json:
        print(f"Python {platform.python_version()}, {platform.machine()}, Linux {platform.release()}")
    rows: list[Row] = []
    for part in (machine, *((lambda name=name: measured(name)) for name in options.names or names())):
        found = part()
        rows += found
        if not options.json:
            print("\n".join(line(row) for row in found), flush=True)
    if options.json:
        print(json.dumps(rows, indent=1))
    return 1 if any(row["value"] is None for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
