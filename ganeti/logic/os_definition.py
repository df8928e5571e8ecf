"""OS definitions: what the files of one mean, whether it can be used, and what may be asked of it. Pure.

A definition is a directory with scripts that install, copy and rename instances. Whoever reads the
directory hands its files over as `FoundFile` values; everything that can be wrong is decided here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

from ganeti.errors import InvalidOperatingSystem
from ganeti.model.ids import PLUGIN_NAME
from ganeti.model.params import ParamValues
from ganeti.version import OS_API_VERSIONS

API_FILE = "ganeti_api_version"
VARIANTS_FILE = "variants.list"
PARAMETERS_FILE = "parameters.list"
VERSION_FILE = "os_version"

API_VARIANTS = 15
"""From this version on there are variants."""
API_PARAMETERS = 20
"""From this version on there are parameters and the script `verify`."""

PARAMETER_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_-]*\Z")
"""Names that can become part of an environment variable (S2.2-105)."""


class OsScript(StrEnum):
    """Programs of a definition."""

    CREATE = "create"
    CREATE_UNTRUSTED = "create_untrusted"
    IMPORT = "import"
    EXPORT = "export"
    RENAME = "rename"
    VERIFY = "verify"


class FoundFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a definition's directory."""

    is_regular: bool = True
    is_executable: bool = False
    text: str | None = None
    """Content of the files that are read; None: it cannot be read."""


TEXT_FILES = (API_FILE, VARIANTS_FILE, PARAMETERS_FILE, VERSION_FILE)


class OsDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """A definition that can be used."""

    name: str
    path: str
    api_versions: tuple[int, ...]
    """As its file has them, also those that are not known here."""
    scripts: tuple[OsScript, ...]
    variants: tuple[str, ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()
    """Name in lower case, and explanation."""
    os_version: str | None = None

    @property
    def effective_version(self) -> int:
        """The newest version that both sides know; the scripts are called in its way."""
        return effective_version(self.api_versions)

    @property
    def is_trusted(self) -> bool:
        """Whether its `create` is meant to run on the node itself."""
        return OsScript.CREATE_UNTRUSTED not in self.scripts

    @property
    def has_parameters(self) -> bool:
        """Whether parameters are declared and `verify` checks them."""
        return max(self.api_versions) >= API_PARAMETERS

    def variant(self, wanted: str | None) -> str:
        """Value of OS_VARIANT: the one asked for, else the first declared; empty if there are none."""
        if self.effective_version < API_VARIANTS or not self.variants:
            return ""
        return wanted or self.variants[0]


def split_os_name(os: str) -> tuple[str, str | None]:
    """Name and variant of `name+variant`."""
    name, plus, variant = os.partition("+")
    return name, variant if plus else None


def effective_version(versions: Sequence[int]) -> int:
    """The newest of a definition's versions that is known here.

    Raises:
        InvalidOperatingSystem: none is known.
    """
    common = set(versions) & set(OS_API_VERSIONS)
    if not common:
        ours = ", ".join(map(str, OS_API_VERSIONS))
        theirs = ", ".join(map(str, versions)) or "none"
        raise InvalidOperatingSystem(
            f"version mismatch: {API_FILE} names {theirs}, of which none is known here ({ours})"
        )
    return max(common)


def parse_api_versions(text: str) -> tuple[int, ...]:
    """Versions in the file that has them, one whole number a line.

    Raises:
        InvalidOperatingSystem: a line that is no number, or no line at all.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines or not all(line.isascii() and line.isdigit() for line in lines):
        raise InvalidOperatingSystem(f"{API_FILE} must have a whole number on each line")
    return tuple(int(line) for line in lines)


def parse_variants(text: str) -> tuple[str, ...]:
    """Variants, one a line.

    Raises:
        InvalidOperatingSystem: a name that cannot stand behind the `+`.
    """
    variants = tuple(_lines(text))
    for variant in variants:
        if re.search(r"[\s+/\0]", variant):
            raise InvalidOperatingSystem(f"{VARIANTS_FILE}: {variant!r} cannot be the name of a variant")
    return variants


def parse_parameters(text: str) -> tuple[tuple[str, str], ...]:
    """Names, in lower case, and explanations of parameters, one a line.

    Raises:
        InvalidOperatingSystem: a name that cannot become an environment variable, or two that
            would become the same one.
    """
    found: dict[str, tuple[str, str]] = {}
    for line in _lines(text):
        name, _, explanation = line.replace("\t", " ").partition(" ")
        if not PARAMETER_NAME.match(name):
            raise InvalidOperatingSystem(
                f"{PARAMETERS_FILE}: {name!r} is not a name for a parameter; use letters, digits, _ and -"
            )
        variable = variable_of(name)
        if variable in found:
            raise InvalidOperatingSystem(
                f"{PARAMETERS_FILE}: {found[variable][0]} and {name} would be the same variable {variable}"
            )
        found[variable] = (name, explanation.strip())
    return tuple((name.lower(), explanation) for name, explanation in found.values())


def parse_os_version(text: str) -> str | None:
    """Version of the definition itself: the first line, None if that is empty."""
    lines = text.splitlines()
    return (lines[0].strip() or None) if lines else None


def variable_of(parameter: str) -> str:
    """Environment variable in which scripts find a parameter."""
    return "OSP_" + parameter.upper().replace("-", "_")


def judge(name: str, path: str, files: Mapping[str, FoundFile]) -> OsDefinition:
    """The definition that the files of a directory make.

    Raises:
        InvalidOperatingSystem: with the first thing that is wrong, and with which file.
    """
    if not PLUGIN_NAME.match(name):
        raise InvalidOperatingSystem(f"the name {name!r} is not possible; use letters, digits, _ and -")
    versions = parse_api_versions(_text(files, API_FILE, required=True))
    effective = effective_version(versions)
    has_parameters = max(versions) >= API_PARAMETERS
    scripts = _check_scripts(files, has_parameters=has_parameters)
    variants = _text(files, VARIANTS_FILE, required=False) if effective >= API_VARIANTS else ""
    parameters = _text(files, PARAMETERS_FILE, required=True) if has_parameters else ""
    return OsDefinition(
        name=name,
        path=path,
        api_versions=versions,
        scripts=scripts,
        variants=parse_variants(variants),
        parameters=parse_parameters(parameters),
        os_version=parse_os_version(_text(files, VERSION_FILE, required=False)),
    )


def check_variant(definition: OsDefinition, variant: str | None) -> None:
    """Refuse a variant that the definition does not have; none given means the first.

    Raises:
        InvalidOperatingSystem: with the variants there are.
    """
    if variant is None:
        return
    if not definition.variants or definition.effective_version < API_VARIANTS:
        raise InvalidOperatingSystem(f"OS {definition.name} has no variants, so not {variant!r} either")
    if variant not in definition.variants:
        known = ", ".join(definition.variants)
        raise InvalidOperatingSystem(f"OS {definition.name} has no variant {variant!r}; it has {known}")


def check_parameter_names(definition: OsDefinition, values: ParamValues) -> None:
    """Refuse parameters that the definition does not declare; upper and lower case are the same.

    Raises:
        InvalidOperatingSystem: with the parameters there are.
    """
    known = {name for name, _ in definition.parameters}
    unknown = sorted(name for name in values if name.lower() not in known)
    if unknown:
        raise InvalidOperatingSystem(
            f"OS {definition.name} has no parameter {', '.join(unknown)}; "
            f"it has {', '.join(sorted(known)) or 'none'}"
        )


def _check_scripts(files: Mapping[str, FoundFile], *, has_parameters: bool) -> tuple[OsScript, ...]:
    required = [OsScript.IMPORT, OsScript.EXPORT, OsScript.RENAME]
    if OsScript.CREATE_UNTRUSTED not in files:
        required.append(OsScript.CREATE)
    if has_parameters:
        required.append(OsScript.VERIFY)
    for script in required:
        if script not in files:
            raise InvalidOperatingSystem(f"{script}: file is missing")
    counts = [script for script in OsScript if script in files]
    if not has_parameters and OsScript.VERIFY in counts:
        counts.remove(OsScript.VERIFY)
    for script in counts:
        if not files[script].is_regular:
            raise InvalidOperatingSystem(f"{script}: not a regular file")
        if not files[script].is_executable:
            raise InvalidOperatingSystem(f"{script}: not executable; make it so with chmod +x")
    return tuple(counts)


def _text(files: Mapping[str, FoundFile], name: str, *, required: bool) -> str:
    file = files.get(name)
    if file is None:
        if required:
            raise InvalidOperatingSystem(f"{name}: file is missing")
        return ""
    if not file.is_regular:
        raise InvalidOperatingSystem(f"{name}: not a regular file")
    if file.text is None:
        raise InvalidOperatingSystem(f"{name}: cannot be read")
    return file.text


def _lines(text: str) -> list[str]:
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]
