"""Parameters that the opcodes of a verification have in common."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from ganeti.logic.verify.findings import VerifyCode
from ganeti.ops.base import Param


class OptionalCheck(StrEnum):
    """Checks that can be left out."""

    N1_MEMORY = "nplusone_mem"
    HVPARAM_ADVICE = "hvparam_assessment"
    """Advice on hypervisor parameters. We give none, so there is nothing to leave out."""


Simulate = Annotated[bool, Param("pretend that every check fails", flag="debug-simulate-errors")]
ErrorCodes = Annotated[bool, Param("lines for programs, with codes", flag="error-codes")]
Verbose = Annotated[bool, Param("tell what is looked at", flag="verbose", short="v")]
SkipChecks = Annotated[frozenset[OptionalCheck], Param("checks to leave out")]
IgnoreErrors = Annotated[
    frozenset[VerifyCode],
    Param("codes of findings that are only warnings", flag="ignore-errors", short="I"),
]
Clutter = Annotated[bool, Param("also look for stray SSH keys", flag="verify-ssh-clutter")]
