"""What a check of the cluster found: a code, an object, a text. Pure.

The codes are the established ones (opcodes.md section 9); which kind of object each is about is part
of what scripts rely on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from enum import StrEnum

import msgspec


class Level(StrEnum):
    """How bad it is; only errors make a verification fail."""

    ERROR = "ERROR"
    WARNING = "WARNING"


class Subject(StrEnum):
    """Kind of object that a finding is about."""

    CLUSTER = "cluster"
    NODE = "node"
    INSTANCE = "instance"
    GROUP = "group"


class VerifyCode(StrEnum):
    """Established name of what is wrong."""

    ECLUSTERCFG = "ECLUSTERCFG"
    ECLUSTERCERT = "ECLUSTERCERT"
    ECLUSTERCLIENTCERT = "ECLUSTERCLIENTCERT"
    ECLUSTERFILECHECK = "ECLUSTERFILECHECK"
    ECLUSTERDANGLINGNODES = "ECLUSTERDANGLINGNODES"
    ECLUSTERDANGLINGINST = "ECLUSTERDANGLINGINST"
    ENODEDRBD = "ENODEDRBD"
    ENODEDRBDHELPER = "ENODEDRBDHELPER"
    ENODEDRBDVERSION = "ENODEDRBDVERSION"
    ENODEFILECHECK = "ENODEFILECHECK"
    ENODEFILESTORAGEPATHS = "ENODEFILESTORAGEPATHS"
    ENODEFILESTORAGEPATHUNUSABLE = "ENODEFILESTORAGEPATHUNUSABLE"
    ENODESHAREDFILESTORAGEPATHUNUSABLE = "ENODESHAREDFILESTORAGEPATHUNUSABLE"
    ENODEGLUSTERSTORAGEPATHUNUSABLE = "ENODEGLUSTERSTORAGEPATHUNUSABLE"
    ENODEHOOKS = "ENODEHOOKS"
    ENODEHV = "ENODEHV"
    ENODELVM = "ENODELVM"
    ENODEN1 = "ENODEN1"
    ENODENET = "ENODENET"
    ENODEOS = "ENODEOS"
    ENODEORPHANINSTANCE = "ENODEORPHANINSTANCE"
    ENODEORPHANLV = "ENODEORPHANLV"
    ENODERPC = "ENODERPC"
    ENODESETUP = "ENODESETUP"
    ENODESSH = "ENODESSH"
    ENODETIME = "ENODETIME"
    ENODEUSERSCRIPTS = "ENODEUSERSCRIPTS"
    ENODEVERSION = "ENODEVERSION"
    ENODEOOBPATH = "ENODEOOBPATH"
    EEXTAGS = "EEXTAGS"
    EINSTANCEBADNODE = "EINSTANCEBADNODE"
    EINSTANCEDOWN = "EINSTANCEDOWN"
    EINSTANCELAYOUT = "EINSTANCELAYOUT"
    EINSTANCEMISSINGDISK = "EINSTANCEMISSINGDISK"
    EINSTANCEFAULTYDISK = "EINSTANCEFAULTYDISK"
    EINSTANCEWRONGNODE = "EINSTANCEWRONGNODE"
    EINSTANCESPLITGROUPS = "EINSTANCESPLITGROUPS"
    EINSTANCEPOLICY = "EINSTANCEPOLICY"
    EINSTANCEUNSUITABLENODE = "EINSTANCEUNSUITABLENODE"
    EINSTANCEMISSINGCFGPARAMETER = "EINSTANCEMISSINGCFGPARAMETER"
    EGROUPDIFFERENTPVSIZE = "EGROUPDIFFERENTPVSIZE"

    @property
    def subject(self) -> Subject:
        """Kind of object that findings of this code are about."""
        if self in _ABOUT_NODES or self.value.startswith("ENODE"):
            return Subject.NODE
        if self.value.startswith("EINSTANCE"):
            return Subject.INSTANCE
        return Subject.GROUP if self.value.startswith("EGROUP") else Subject.CLUSTER


_ABOUT_NODES = frozenset(
    (VerifyCode.ECLUSTERDANGLINGNODES, VerifyCode.ECLUSTERDANGLINGINST, VerifyCode.EEXTAGS)
)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is wrong, and with what."""

    code: VerifyCode
    name: str
    """Name of the object."""
    text: str
    level: Level = Level.ERROR

    def line(self, *, with_code: bool) -> str:
        """The line of output; with the code it is meant for programs."""
        subject = self.code.subject.value
        if with_code:
            return f"  - {self.level}:{self.code.value}:{subject}:{self.name}:{self.text}"
        return f"  - {self.level}: {subject} {self.name}: {self.text}"


Findings = Iterator[Finding]


def error(code: VerifyCode, name: str, text: str) -> Finding:
    """A finding that makes the verification fail."""
    return Finding(code=code, name=name, text=text)


def warning(code: VerifyCode, name: str, text: str) -> Finding:
    """A finding that the operator should know of."""
    return Finding(code=code, name=name, text=text, level=Level.WARNING)


def demoted(findings: Iterable[Finding], ignored: Collection[VerifyCode]) -> Findings:
    """The findings, those of ignored codes as warnings."""
    for finding in findings:
        if finding.code in ignored:
            yield msgspec.structs.replace(finding, level=Level.WARNING)
        else:
            yield finding


def simulated(codes: Iterable[VerifyCode], names: dict[Subject, str]) -> Findings:
    """One finding for each code, as if its check had failed.

    Args:
        codes: which.
        names: an object of each kind; codes about kinds without one are left out.
    """
    for code in codes:
        if code.subject in names:
            yield error(code, names[code.subject], "simulated error")
