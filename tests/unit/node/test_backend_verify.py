"""Tests of the checks that a node makes of itself."""

from __future__ import annotations

import datetime
import hashlib
import os
import socket
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from twisted.trial.unittest import SynchronousTestCase

from ganeti.model.calls.os import OsStatus
from ganeti.model.calls.system import NodeVerify
from ganeti.node.backend import verify_network
from ganeti.node.backend.os_search import SEARCH_PATH_VARIABLE
from ganeti.node.backend.verify import CHECK_ERRORS, node_verify
from ganeti.node.backend.verify_files import client_certificate
from ganeti.node.backend.verify_network import connection_problem
from ganeti.testing.node_world import WithNode
from ganeti.version import PROTOCOL_VERSION, RELEASE


class VerifyTests(WithNode, SynchronousTestCase):
    """Each check by its name, as the master asks for it."""

    def results(self, **checks: Any) -> dict[str, Any]:
        """Make checks; `_` stands for the `-` in their names."""
        call = NodeVerify(
            checks={name.replace("_", "-"): argument for name, argument in checks.items()},
            cluster_name="cluster.example.com",
        )
        return dict(node_verify(call, self.node))

    def check(self, name: str, argument: Any) -> Any:
        """Result of one check that can be made; it is what JSON would give back."""
        found = self.results(**{name: argument})
        self.assertEqual(found.pop(CHECK_ERRORS), {})
        (result,) = found.values()
        return msgspec.json.decode(msgspec.json.encode(result))

    def error(self, name: str, argument: Any) -> str:
        """Why one check cannot be made."""
        found = self.results(**{name: argument})
        self.assertEqual(list(found), [CHECK_ERRORS])
        return str(found[CHECK_ERRORS][name])

    def test_isolated(self) -> None:
        """Checks that cannot be made have an error each; the others have their results."""
        found = self.results(version=None, instancelist=["vax"], nonsense=1, filelist="x", bridges=[])
        self.assertEqual(set(found), {"version", "bridges", CHECK_ERRORS})
        self.assertEqual(set(found[CHECK_ERRORS]), {"instancelist", "nonsense", "filelist"})

    def test_checksums(self) -> None:
        """Checksums by name without the root directory; what is missing is left out."""
        self.write(self.host.paths.config_file, "content")
        found = self.check("filelist", ["/var/lib/ganeti/config.data", "/var/lib/ganeti/missing"])
        self.assertEqual(found, {"/var/lib/ganeti/config.data": hashlib.sha1(b"content").hexdigest()})

    def test_hypervisor(self) -> None:
        """What is wrong with each; one that is not there is wrong, too."""
        found = self.check("hypervisor", ["fake", "vax"])
        self.assertIsNone(found["fake"])
        self.assertIn("vax", found["vax"])

    def test_hypervisor_parameters(self) -> None:
        """Only those that cannot work, with where they come from."""
        found = self.check("hvparms", [["cluster", "fake", {}], ["instance inst1", "vax", {"a": 1}]])
        self.assertEqual([row[:2] for row in found], [["instance inst1", "vax"]])

    def test_simple_facts(self) -> None:
        """Versions, instances, capacity, kernel file systems, time."""
        self.assertEqual(self.check("version", None), [PROTOCOL_VERSION, RELEASE])
        self.assertEqual(self.check("instancelist", ["fake"]), [])
        self.assertGreater(self.check("hvinfo", "fake")["memory_total"], 0)
        self.assertEqual(self.check("nodesetup", None), [])
        self.assertEqual(self.check("time", None), [1_000_000_000, 0])

    def test_oslist(self) -> None:
        """OS definitions come so that they can be read back."""
        before = os.environ.get(SEARCH_PATH_VARIABLE)
        os.environ[SEARCH_PATH_VARIABLE] = f"{self.directory}/os"
        # Clean-ups run in reverse: the variable goes, and what was there comes back.
        if before is not None:
            self.addCleanup(os.environ.__setitem__, SEARCH_PATH_VARIABLE, before)
        self.addCleanup(os.environ.pop, SEARCH_PATH_VARIABLE, None)
        self.write(f"{self.directory}/os/empty/create", "")
        (status,) = msgspec.convert(self.check("oslist", None), tuple[OsStatus, ...])
        self.assertEqual((status.name, status.valid), ("empty", False))

    def test_bridges(self) -> None:
        """Bridges that are missing."""
        self.assertEqual(self.check("bridges", ["gnt-none-1"]), ["gnt-none-1"])

    def test_programs(self) -> None:
        """Programs that are missing or cannot be run."""
        good = self.write(f"{self.directory}/good", "", mode=0o755)
        plain = self.write(f"{self.directory}/plain", "")
        missing = f"{self.directory}/missing"
        self.assertEqual(self.check("user_scripts", [good, plain, missing]), [plain, missing])
        found = self.check("oob_paths", [good, plain, missing])
        self.assertEqual(found[0], None)
        self.assertIn("not executable", found[1])
        self.assertIn("is missing", found[2])

    def test_storage(self) -> None:
        """Directories that cannot be used, and entries that should not be in the list."""
        self.assertIsNone(self.check("file_storage_path", self.images))
        self.assertIn("missing", self.check("shared_file_storage_path", f"{self.images}/no"))
        self.assertEqual(self.check("allowed_file_storage_paths", "node1.example.com"), [])
        self.write(self.host.paths.file_storage_paths, "/etc\nrelative\n/srv/disks\n")
        self.assertEqual(self.check("allowed_file_storage_paths", "node1.example.com"), ["/etc", "relative"])

    def test_not_a_candidate(self) -> None:
        """Nodes that are no candidates try no connections."""
        peers = [["node2.example.com", "192.0.2.2", "192.0.2.2"]]
        self.assertEqual(self.check("node_net_test", [peers, ["node2.example.com"]]), {})
        self.assertIsNone(self.check("master_ip", ["node2.example.com", "192.0.2.1", ["node2.example.com"]]))

    def test_net(self) -> None:
        """Of the other nodes those are told that cannot be reached, with address and reason."""
        here, candidates = self.host.name, [self.host.name]
        # Nothing listens on these loopback addresses.
        peers = [[here, "127.0.0.1", "127.0.0.1"], ["node2.example.com", "127.250.0.2", "127.250.0.3"]]
        found = self.check("node_net_test", [peers, candidates])
        self.assertEqual(list(found), ["node2.example.com"])
        self.assertIn("127.250.0.2", found["node2.example.com"])
        self.assertIn("127.250.0.3", found["node2.example.com"])
        self.assertIs(self.check("master_ip", ["node2.example.com", "127.250.0.2", candidates]), False)

    def test_connection(self) -> None:
        """An address that answers is no problem, from a source address that is ours."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            self.assertIsNone(connection_problem("127.0.0.1", source="127.0.0.9", port=port))
            self.assertIsNotNone(connection_problem("127.0.0.1", source="192.0.2.77", port=port))

    def test_established_port(self) -> None:
        """The port is the established one of the node daemon."""
        self.assertEqual(verify_network.NODED_PORT, 1811)


class CertificateTests(WithNode, SynchronousTestCase):
    """The certificate with which a node calls others."""

    def write_certificate(self, *, days: int) -> str:
        """A certificate that is valid for some more days by the node's clock; gives its digest."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node1.example.com")])
        now = datetime.datetime.fromtimestamp(self.host.now(), datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now - datetime.timedelta(days=60))
            .not_valid_after(now + datetime.timedelta(days=days))
            .sign(key, hashes.SHA256())
        )
        pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
        secret = "-----BEGIN PRIVATE KEY-----\nnot looked at\n-----END PRIVATE KEY-----\n"
        self.write(self.host.paths.client_cert_file, secret + pem)
        return hashlib.sha1(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()

    def test_valid(self) -> None:
        """A valid one is told by its digest, behind a key in the same file."""
        digest = self.write_certificate(days=100)
        self.assertEqual(client_certificate(self.node, None), (None, digest))

    def test_ends(self) -> None:
        """One that ends soon is a warning, one that ends in a week or has ended an error."""
        for days, level in ((20, "WARNING"), (3, "ERROR"), (-1, "ERROR")):
            self.write_certificate(days=days)
            found, text = client_certificate(self.node, None)
            self.assertEqual(found, level)
            self.assertIn(f"{days} days", text)

    def test_unreadable(self) -> None:
        """A file that is missing or holds no certificate is an error."""
        self.assertEqual(client_certificate(self.node, None)[0], "ERROR")
        self.write(self.host.paths.client_cert_file, "nothing")
        self.assertEqual(client_certificate(self.node, None)[0], "ERROR")
