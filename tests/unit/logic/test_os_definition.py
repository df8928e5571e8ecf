"""Tests of what the files of an OS definition mean, and of what may be asked of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import InvalidOperatingSystem
from ganeti.logic.os_definition import (
    PARAMETER_NAME,
    FoundFile,
    OsDefinition,
    check_parameter_names,
    check_variant,
    effective_version,
    judge,
    parse_api_versions,
    parse_os_version,
    parse_parameters,
    parse_variants,
    split_os_name,
    variable_of,
)

PROGRAM = FoundFile(is_executable=True)


def os_files(versions: str = "20\n", **texts: str) -> dict[str, FoundFile]:
    """The files of a definition that is well; texts by name with `_` for the last dot."""
    files = dict.fromkeys(("create", "import", "export", "rename", "verify"), PROGRAM)
    files["ganeti_api_version"] = FoundFile(text=versions)
    files["parameters.list"] = FoundFile(text=texts.pop("parameters", ""))
    for name, text in texts.items():
        files[{"variants": "variants.list"}.get(name, name)] = FoundFile(text=text)
    return files


class ParserTests(SynchronousTestCase):
    """The text files of a definition."""

    def test_versions(self) -> None:
        """One whole number a line, blank lines aside."""
        self.assertEqual(parse_api_versions("10\n15\n\n 20 \n"), (10, 15, 20))
        for text in ("", "\n", "ten", "1.5", "-10", "10 15"):
            self.assertRaises(InvalidOperatingSystem, parse_api_versions, text)

    def test_effective_version(self) -> None:
        """The newest version that both sides know counts (S2.2-086)."""
        table: dict[tuple[int, ...], int] = {
            (10,): 10,
            (10, 15): 15,
            (20, 10): 20,
            (15, 25): 15,
            (5, 10): 10,
        }
        for versions, expected in table.items():
            self.assertEqual(effective_version(versions), expected)

    def test_version_mismatch(self) -> None:
        """Only unknown versions: both lists are told."""
        error = self.assertRaises(InvalidOperatingSystem, effective_version, (5, 25))
        self.assertIn("5, 25", str(error))
        self.assertIn("10, 15, 20", str(error))

    def test_variants(self) -> None:
        """Blank lines and comments do not count; names that cannot follow a `+` are refused."""
        self.assertEqual(parse_variants("# comment\n\nbookworm\n  trixie\n"), ("bookworm", "trixie"))
        for text in ("a b", "a+b", "a/b"):
            self.assertRaises(InvalidOperatingSystem, parse_variants, text)

    def test_parameters(self) -> None:
        """Name, any blanks, explanation in one line; names in lower case (S2.2-089, S2.2-090)."""
        text = "# none\nNS1 \t  Name server to write to resolv.conf\nextra_pkgs\tPackages, more\nbare\n"
        self.assertEqual(
            parse_parameters(text),
            (
                ("ns1", "Name server to write to resolv.conf"),
                ("extra_pkgs", "Packages, more"),
                ("bare", ""),
            ),
        )

    def test_clash(self) -> None:
        """Names that would be the same variable make the definition invalid (S2.2-090)."""
        for first, second in (("ns1", "NS1"), ("dns-server", "dns_server"), ("a", "a")):
            error = self.assertRaises(InvalidOperatingSystem, parse_parameters, f"{first} x\n{second} y\n")
            self.assertIn(f"{first} and {second}", str(error))

    def test_unfit_names(self) -> None:
        """Names that no environment variable can have are refused (S2.2-105)."""
        for name in ("1st", "a.b", "a=b", "ä", "-x"):
            self.assertRaises(InvalidOperatingSystem, parse_parameters, f"{name} explanation")

    @given(st.from_regex(PARAMETER_NAME, fullmatch=True))
    def test_variable(self, name: str) -> None:
        """Every allowed name gives a variable that a shell can read (S2.2-094)."""
        self.assertRegex(variable_of(name), r"^OSP_[A-Z0-9_]+$")

    def test_os_version(self) -> None:
        """Only the first line counts; an empty one is as good as none (S2.2-087)."""
        self.assertEqual(parse_os_version("1.2 beta \nmore\n"), "1.2 beta")
        self.assertIsNone(parse_os_version("\n3\n"))
        self.assertIsNone(parse_os_version(""))

    def test_name(self) -> None:
        """A variant stands behind the first plus sign."""
        self.assertEqual(split_os_name("debian"), ("debian", None))
        self.assertEqual(split_os_name("debian+trixie"), ("debian", "trixie"))
        self.assertEqual(split_os_name("debian+"), ("debian", ""))


class JudgeTests(SynchronousTestCase):
    """Whether a definition can be used."""

    def reason(self, files: dict[str, FoundFile]) -> str:
        """Why not."""
        return str(self.assertRaises(InvalidOperatingSystem, judge, "debian", "/srv/os/debian", files))

    def test_well(self) -> None:
        """A definition has what its files say."""
        files = os_files("15\n20\n", variants="a\nb\n", parameters="Ns1 x\n", os_version="7\n")
        found = judge("debian", "/srv/os/debian", files)
        self.assertEqual(
            (found.variants, found.parameters, found.os_version), (("a", "b"), (("ns1", "x"),), "7")
        )
        self.assertEqual((found.effective_version, found.api_versions), (20, (15, 20)))
        self.assertTrue(found.is_trusted)

    def test_missing(self) -> None:
        """Each required file that lacks is named (S2.2-095)."""
        for name in (
            "ganeti_api_version",
            "create",
            "import",
            "export",
            "rename",
            "verify",
            "parameters.list",
        ):
            files = os_files()
            del files[name]
            self.assertIn(f"{name}: file is missing", self.reason(files))

    def test_older_version(self) -> None:
        """Before version 20 neither verify nor parameters are needed, nor looked at."""
        files = os_files("15\n", parameters="a x\nA y\n", variants="v\n")
        files["verify"] = FoundFile(is_executable=False)
        found = judge("debian", "/x", files)
        self.assertEqual((found.parameters, found.has_parameters, found.variants), ((), False, ("v",)))

    def test_oldest_version(self) -> None:
        """Version 10 has no variants."""
        self.assertEqual(judge("debian", "/x", os_files("10\n", variants="v\n")).variants, ())

    def test_newest_of_the_file_decides(self) -> None:
        """Which files are required goes by the newest version of the file, also an unknown one."""
        files = os_files("15\n25\n")
        del files["verify"]
        self.assertIn("verify", self.reason(files))

    def test_kinds_of_files(self) -> None:
        """Scripts have to be regular and executable, lists regular and readable."""
        for name in ("create", "rename", "verify"):
            self.assertIn(
                "not a regular file", self.reason({**os_files(), name: FoundFile(is_regular=False)})
            )
            self.assertIn("chmod", self.reason({**os_files(), name: FoundFile()}))
        for name in ("ganeti_api_version", "variants.list", "parameters.list", "os_version"):
            files = {**os_files(), name: FoundFile(is_regular=False)}
            self.assertIn(f"{name}: not a regular file", self.reason(files))
            self.assertIn(f"{name}: cannot be read", self.reason({**os_files(), name: FoundFile()}))

    def test_untrusted(self) -> None:
        """A definition may have create_untrusted in place of create; it is not trusted then."""
        files = os_files()
        del files["create"]
        files["create_untrusted"] = PROGRAM
        self.assertFalse(judge("debian", "/x", files).is_trusted)

    def test_name(self) -> None:
        """A directory whose name cannot be asked for is invalid."""
        self.assertRaises(InvalidOperatingSystem, judge, "deb.ian", "/x", os_files())


class AskingTests(SynchronousTestCase):
    """Variants and parameters that may be asked for."""

    def definition(self, **texts: str) -> OsDefinition:
        """A definition of version 20."""
        return judge("debian", "/x", os_files(**texts))

    def test_variant(self) -> None:
        """A declared variant and none at all are fine, any other is refused with the list."""
        definition = self.definition(variants="a\nb\n")
        for fine in (None, "a", "b"):
            check_variant(definition, fine)
        for wrong in ("c", ""):
            error = self.assertRaises(InvalidOperatingSystem, check_variant, definition, wrong)
            self.assertIn("a, b", str(error))

    def test_no_variants(self) -> None:
        """Without variants none can be asked for."""
        self.assertRaises(InvalidOperatingSystem, check_variant, self.definition(), "a")

    def test_variant_that_counts(self) -> None:
        """The one asked for counts, else the first; empty where there are none."""
        definition = self.definition(variants="a\nb\n")
        self.assertEqual([definition.variant(wanted) for wanted in (None, "b")], ["a", "b"])
        self.assertEqual(self.definition().variant("b"), "")

    def test_parameters(self) -> None:
        """Declared names are fine in any case, others are refused by name."""
        definition = self.definition(parameters="ns1 x\n")
        check_parameter_names(definition, {"NS1": "192.0.2.1"})
        error = self.assertRaises(InvalidOperatingSystem, check_parameter_names, definition, {"ns2": "x"})
        self.assertIn("ns2", str(error))
