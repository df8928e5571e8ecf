"""Watches the reactor of a daemon from inside: how long its steps take, and what they do that can block.

    probe = ReactorProbe(directory)
    cluster.start_daemon("ganeti-masterd", wrapped=probe.wrapper())      # the daemon imports this file
    ...
    found = probe.read()

A tick is due every millisecond. The processor time that the thread used between two ticks is what a step
of the reactor computed; unlike the time on the clock it does not grow with what else the machine does. What
a step could have waited for, opening files, renaming them, names, programs, is noted if it happens in
that thread.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

FILE_VARIABLE = "GANETI_TEST_PROBE"
_EVERY_S = 0.001
_SLOW_S = 0.008
_WRITE_S = 0.2
_DEPTH = 12
_BLOCKING = (
    "open",
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.listdir",
    "os.scandir",
    "os.truncate",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "subprocess.Popen",
    "os.system",
)
CHECKOUT = Path(__file__).resolve().parents[2]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What the probe saw since the daemon served."""

    ticks: int
    steps_ms: list[float]
    """Processor time of the longest steps, longest first."""
    late_ms: list[float]
    """How late the latest ticks were, latest first: also because other programs had the processors."""
    slow: list[str]
    """Where the thread was during long steps."""
    blocking: list[str]
    """What the thread did that can block: the call and where."""


class ReactorProbe:
    """The test's side.

    Args:
        directory: for its files.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = directory / "probe.json"
        source = Path(__file__).resolve()
        (directory / "sitecustomize.py").write_text(
            f"import sys\nsys.path.append({str(source.parent)!r})\n"
            "import reactor_probe\nreactor_probe.install()\n"
        )

    def wrapper(self) -> list[str]:
        """Words before the command that starts a daemon."""
        return ["env", f"PYTHONPATH={self._directory}:{CHECKOUT}", f"{FILE_VARIABLE}={self._file}"]

    def begin(self) -> None:
        """Forget what was seen until now."""
        asked = self._directory / "probe.json.begin"
        asked.touch()
        deadline = time.monotonic() + 10
        while asked.exists():
            assert time.monotonic() < deadline, "the daemon has no probe"
            time.sleep(0.01)

    def read(self) -> Found:
        """What was seen until about now."""
        time.sleep(3 * _WRITE_S)
        return msgspec.json.decode(self._file.read_bytes(), type=Found)


class _Watch:
    """The daemon's side."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._main = threading.main_thread().ident or 0
        self._reactor: Any = None
        self._last = self._used = 0.0
        self._is_on = False
        self._clear()
        sys.addaudithook(self._audit)
        threading.Thread(target=self._run, daemon=True).start()

    def _clear(self) -> None:
        self._ticks = 0
        self._steps: list[float] = []
        self._late: list[float] = []
        self._slow: dict[str, int] = {}
        self._blocking: dict[str, int] = {}

    def _run(self) -> None:
        while getattr(sys.modules.get("twisted.internet.reactor"), "running", False) is not True:
            time.sleep(0.02)
        self._reactor = sys.modules["twisted.internet.reactor"]
        self._reactor.callFromThread(self._first)
        written = time.monotonic()
        while True:
            time.sleep(_SLOW_S / 4)
            now = time.monotonic()
            if self._is_on and now - self._last > _SLOW_S:
                self._note(self._slow, self._where())
            if now - written > _WRITE_S:
                self._write()
                written = now

    def _first(self) -> None:
        self._last, self._used = time.monotonic(), time.thread_time()
        self._is_on = True
        self._reactor.callLater(_EVERY_S, self._tick)

    def _tick(self) -> None:
        now, used = time.monotonic(), time.thread_time()
        late, step = now - self._last - _EVERY_S, used - self._used
        self._last, self._used = now, used
        self._ticks += 1
        if step > _EVERY_S:
            self._steps.append(step)
        if late > _EVERY_S:
            self._late.append(late)
        self._reactor.callLater(_EVERY_S, self._tick)

    def _audit(self, event: str, args: tuple[object, ...]) -> None:
        if self._is_on and event in _BLOCKING and threading.get_ident() == self._main:
            self._note(self._blocking, f"{event}{args[:1]} {self._where()}")

    def _where(self) -> str:
        # Not by `traceback`, which opens the sources.
        places: list[str] = []
        frame = sys._current_frames().get(self._main)
        while frame is not None and len(places) < _DEPTH:
            name = os.path.basename(frame.f_code.co_filename)
            if name != os.path.basename(__file__):
                places.append(f"{name}:{frame.f_lineno} {frame.f_code.co_name}")
            frame = frame.f_back
        return " < ".join(places)

    @staticmethod
    def _note(notes: dict[str, int], text: str) -> None:
        if text in notes or len(notes) < 200:
            notes[text] = notes.get(text, 0) + 1

    def _write(self) -> None:
        begin = f"{self._path}.begin"
        if os.path.exists(begin):
            self._clear()
            os.unlink(begin)
        found = {
            "ticks": self._ticks,
            "steps_ms": _longest(self._steps),
            "late_ms": _longest(self._late),
            "slow": _counted(self._slow),
            "blocking": _counted(self._blocking),
        }
        with open(f"{self._path}.new", "w", encoding="utf-8") as file:
            json.dump(found, file)
        os.rename(f"{self._path}.new", self._path)


def _longest(times_s: list[float]) -> list[float]:
    return [round(one * 1000, 2) for one in sorted(times_s, reverse=True)[:2000]]


def _counted(notes: dict[str, int]) -> list[str]:
    ordered = sorted(dict(notes).items(), key=lambda item: -item[1])
    return [f"{count} x {text}" for text, count in ordered]


def install() -> None:
    """Watch the reactor of this process, if it is a daemon that goes into the background."""
    path = os.environ.get(FILE_VARIABLE)
    if path and "ganeti.daemons.launcher" in sys.orig_argv:
        # Threads do not outlive the forks with which a daemon detaches itself.
        os.register_at_fork(after_in_child=lambda: _Watch(path))
