"""The cluster's authority and its certificates, and what the TLS layer makes of them."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from hypothesis import given, settings
from hypothesis import strategies as st

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import ConfigurationError
from ganeti.io.x509 import KeyPair, digest, expires_at, issue, make_authority
from ganeti.model.identity import Identity, Role
from ganeti.wire.certificates import identity_of
from ganeti.wire.tls import (
    ClientTls,
    Credentials,
    Peer,
    ServerTls,
    Verdict,
    explain,
    only_master,
    only_node,
)

NOW = float(int(time.time()))
NO_PROTOCOL: Any = None
"""The TLS state does not look at the protocol that it is for."""

AUTHORITY = make_authority("cluster.example.com", now=NOW)


def certificate(
    role: Role,
    node: str = "n1",
    cluster: str = "c1",
    *,
    authority: KeyPair = AUTHORITY,
    now: float = NOW,
    days: int = 100,
) -> KeyPair:
    """A certificate of the authority for a node's role."""
    identity = Identity(role=role, node_uuid=node, cluster_uuid=cluster)
    return issue(authority, identity, names=(f"{node}.example.com", "192.0.2.7"), now=now, days=days)


def credentials(own: KeyPair, authority: KeyPair = AUTHORITY) -> Credentials:
    """What an end of TLS works with."""
    return Credentials(own=own.pem, authority=authority.certificate)


class CertificateTests(SynchronousTestCase):
    """What is in a certificate."""

    @settings(max_examples=10, deadline=None)
    @given(st.sampled_from(Role), st.text(max_size=40), st.text(max_size=40))
    def test_identity_survives(self, role: Role, node: str, cluster: str) -> None:
        """The identity written into a certificate is read from it."""
        identity = Identity(role=role, node_uuid=node, cluster_uuid=cluster)
        pair = issue(AUTHORITY, identity, names=["n1.example.com"], now=NOW)
        self.assertEqual(identity_of(x509.load_pem_x509_certificate(pair.certificate)), identity)

    def test_no_identity(self) -> None:
        """A certificate without the extension speaks for nobody."""
        self.assertIsNone(identity_of(x509.load_pem_x509_certificate(AUTHORITY.certificate)))

    def test_expiry(self) -> None:
        """It ends when asked, and begins a little earlier than it was made."""
        pair = certificate(Role.NODE, days=5)
        self.assertEqual(expires_at(pair.pem), NOW + 5 * 86400)
        begins = x509.load_pem_x509_certificate(pair.certificate).not_valid_before_utc.timestamp()
        self.assertEqual(begins, NOW - 3600)

    def test_names(self) -> None:
        """Host names and addresses are alternative names."""
        found = x509.load_pem_x509_certificate(certificate(Role.NODE).certificate)
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(names.get_values_for_type(x509.DNSName), ["n1.example.com"])
        self.assertEqual([str(ip) for ip in names.get_values_for_type(x509.IPAddress)], ["192.0.2.7"])

    def test_digest(self) -> None:
        """Fingerprints are as the openssl program prints them."""
        self.assertRegex(digest(AUTHORITY.certificate), "^([0-9A-F]{2}:){31}[0-9A-F]{2}$")
        self.assertRegex(digest(AUTHORITY.pem, hashes.SHA1()), "^([0-9A-F]{2}:){19}[0-9A-F]{2}$")

    def test_rubbish(self) -> None:
        """Files that are no certificates or keys are refused with a message."""
        with self.assertRaisesRegex(ConfigurationError, "not a certificate"):
            expires_at(b"nothing")
        with self.assertRaisesRegex(ConfigurationError, "cannot be read"):
            certificate(Role.NODE, authority=KeyPair(key=b"x", certificate=AUTHORITY.certificate))
        with self.assertRaisesRegex(ConfigurationError, "renew"):
            ClientTls(Credentials(own=b"x", authority=AUTHORITY.certificate))


def handshake(server: ServerTls, client: ClientTls, expected: Verdict) -> tuple[str, str | None]:
    """Shake hands in memory.

    Returns:
        `ok` or what TLS says, of whichever end fails first, and why the client refused.
    """
    to_server = client.to(expected)
    near = to_server.clientConnectionForTLS(NO_PROTOCOL)
    far = server.serverConnectionForTLS(NO_PROTOCOL)
    near.set_connect_state()
    far.set_accept_state()
    done: set[SSL.Connection] = set()
    for _ in range(10):
        for end, other in ((near, far), (far, near)):
            try:
                end.do_handshake()
                done.add(end)
            except SSL.WantReadError:
                pass
            except SSL.Error as error:
                return explain(error), to_server.refusal
            with contextlib.suppress(SSL.WantReadError):
                other.bio_write(end.bio_read(1 << 16))
        if len(done) == 2:
            break
    # In TLS 1.3 a client learns that its certificate is refused when it reads.
    for end in (far, near):
        try:
            end.recv(1)
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            return explain(error), to_server.refusal
    return "ok", to_server.refusal


class HandshakeTests(SynchronousTestCase):
    """Who may speak with whom."""

    def attempt(
        self, own: KeyPair, *, node: KeyPair | None = None, expected: Verdict | None = None
    ) -> tuple[str, str | None]:
        """Masterd with a certificate calls node n1."""
        server = ServerTls(credentials(node or certificate(Role.NODE)), only_master("c1"))
        return handshake(
            server, ClientTls(credentials(own)), expected or only_node("c1", "n1", "n1.example.com")
        )

    def test_master_is_let_in(self) -> None:
        """The master of the cluster and the node it means come together."""
        self.assertEqual(self.attempt(certificate(Role.MASTER)), ("ok", None))

    def test_tls_version(self) -> None:
        """Nothing older than TLS 1.3 is spoken."""
        old = SSL.Context(SSL.TLS_METHOD)
        old.set_max_proto_version(SSL.TLS1_2_VERSION)
        server = ServerTls(credentials(certificate(Role.NODE)), only_master("c1"))
        near, far = SSL.Connection(old, None), server.serverConnectionForTLS(NO_PROTOCOL)
        near.set_connect_state()
        far.set_accept_state()
        with self.assertRaises(SSL.WantReadError):
            near.do_handshake()
        far.bio_write(near.bio_read(1 << 16))
        with self.assertRaises(SSL.Error):
            far.do_handshake()

    def test_other_roles_are_refused(self) -> None:
        """Certificates of nodes and of RAPI do not open a node."""
        for role in (Role.NODE, Role.RAPI):
            self.assertNotEqual(self.attempt(certificate(role))[0], "ok")

    def test_role_is_checked_beside_the_purpose(self) -> None:
        """The rule itself refuses every role but the master's, and other clusters."""
        found = x509.load_pem_x509_certificate(AUTHORITY.certificate)
        for role, cluster, is_welcome in (
            (Role.MASTER, "c1", True),
            (Role.MASTER, "c2", False),
            (Role.NODE, "c1", False),
            (Role.RAPI, "c1", False),
        ):
            peer = Peer(identity=Identity(role=role, node_uuid="n1", cluster_uuid=cluster), certificate=found)
            self.assertEqual(only_master("c1")(peer) is None, is_welcome)

    def test_other_cluster_is_refused(self) -> None:
        """A certificate that says another cluster is refused, though the authority is ours."""
        self.assertNotEqual(self.attempt(certificate(Role.MASTER, cluster="c2"))[0], "ok")

    def test_other_authority_is_refused(self) -> None:
        """A certificate with all the right words from another authority is refused."""
        foreign = make_authority("cluster.example.com", now=NOW)
        own = certificate(Role.MASTER, authority=foreign)
        self.assertNotEqual(self.attempt(own)[0], "ok")

    def test_expired_is_refused(self) -> None:
        """A certificate that has ended is refused."""
        self.assertNotEqual(self.attempt(certificate(Role.MASTER, now=NOW - 10 * 86400, days=5))[0], "ok")

    def test_master_notices_the_wrong_node(self) -> None:
        """Masterd refuses a node other than the one it means, and knows why."""
        said, why = self.attempt(certificate(Role.MASTER), expected=only_node("c1", "n2", "n1.example.com"))
        self.assertIn("not from this cluster", said)
        self.assertIn("this is not node", why or "")
        why = self.attempt(certificate(Role.MASTER), expected=only_node("c1", "n1", "n2.example.com"))[1]
        self.assertIn("not for the name n2.example.com", why or "")
        why = self.attempt(certificate(Role.MASTER), expected=only_node("c9", "n1", "n1.example.com"))[1]
        self.assertIn("another cluster", why or "")

    def test_master_notices_an_expired_node(self) -> None:
        """What is wrong with the node's certificate is said in words."""
        old = certificate(Role.NODE, now=NOW - 10 * 86400, days=5)
        self.assertIn("expired", self.attempt(certificate(Role.MASTER), node=old)[1] or "")

    def test_explain(self) -> None:
        """Alerts of the TLS library become words."""
        alert = SSL.Error([("SSL routines", "", "tlsv13 alert certificate required")])
        self.assertIn("refused our certificate", explain(alert))
        self.assertIn("TLS failed", explain(SSL.Error()))
        self.assertEqual(explain(OSError("no route")), "no route")
