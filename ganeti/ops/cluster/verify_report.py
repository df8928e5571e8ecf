"""How the parts of a verification are told: headings, a line for each finding, and the verdict."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ganeti.interfaces import IFeedback
from ganeti.logic.verify.findings import Finding, Level, VerifyCode, demoted


class VerifyReport:
    """Tells findings as they come, and remembers whether there was an error.

    Args:
        feedback: of the operation.
        ignored: codes whose findings are only warnings.
        with_codes: lines for programs.
        is_verbose: also tell what is looked at.
    """

    def __init__(
        self,
        feedback: IFeedback,
        *,
        ignored: Collection[VerifyCode],
        with_codes: bool,
        is_verbose: bool,
    ) -> None:
        self._feedback = feedback
        self._ignored = ignored
        self._with_codes = with_codes
        self._is_verbose = is_verbose
        self.is_clean = True
        """No error so far."""

    def section(self, title: str) -> None:
        """A heading."""
        self._feedback.info(f"* {title}")

    def detail(self, text: str) -> None:
        """What is looked at now, for those who want to know."""
        if self._is_verbose:
            self._feedback.info(f"* {text}")

    def notice(self, text: str) -> None:
        """Something that is not wrong."""
        self._feedback.info(f"  - NOTICE: {text}")

    def add(self, findings: Iterable[Finding]) -> None:
        """Tell findings."""
        for finding in demoted(findings, self._ignored):
            self._feedback.info(finding.line(with_code=self._with_codes))
            if finding.level is Level.ERROR:
                self.is_clean = False
