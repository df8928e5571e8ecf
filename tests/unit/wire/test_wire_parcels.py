"""Parcels are believed if a master of the cluster signed them, and only then (S2.3-032)."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from msgspec.structs import replace

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import ConfigurationError, PermissionDenied
from ganeti.io.x509 import KeyPair, issue, make_authority
from ganeti.model.calls.parcels import MAX_PARCEL_BYTES, Parcel, SignedParcel
from ganeti.model.calls.system import Stamp, WriteSsconf
from ganeti.model.identity import Identity, Role
from ganeti.wire.parcels import ParcelSigner, digest, opened, receipt

NOW = float(int(time.time()))
AUTHORITY = make_authority("cluster.example.com", now=NOW)
WRITE = WriteSsconf(values={"node_list": "node1\nnode2\n"}, stamp=Stamp(generation=7, number=1))


def certificate(
    role: Role = Role.MASTER, cluster: str = "c1", authority: KeyPair = AUTHORITY, **more: Any
) -> KeyPair:
    """A certificate of the first node."""
    identity = Identity(role=role, node_uuid="n1", cluster_uuid=cluster)
    return issue(authority, identity, names=["n1.example.com"], **{"now": NOW, **more})


MASTER = certificate()


def signed(own: KeyPair = MASTER, write: WriteSsconf = WRITE, cluster: str = "c1") -> SignedParcel:
    """A parcel, after a way over the wire."""
    parcel = ParcelSigner(own.pem, cluster).sign(write)
    return msgspec.json.decode(msgspec.json.encode(parcel), type=SignedParcel)


def opened_here(parcel: SignedParcel) -> Parcel:
    """What a node of cluster c1 makes of it."""
    return opened(parcel, authority=AUTHORITY.certificate, cluster_uuid="c1", now=NOW)


class ParcelTests(SynchronousTestCase):
    """What nodes take."""

    def test_genuine(self) -> None:
        """What the master signed comes out as it was, also after it was passed on."""
        self.assertEqual(opened_here(signed()).write, WRITE)

    def test_forged(self) -> None:
        """Anything else is refused, with the reason."""
        good = signed()
        other = signed(write=replace(WRITE, values={"master_node": "evil\n"}))
        foreign = make_authority("cluster.example.com", now=NOW)
        long = replace(WRITE, values={"node_list": "x" * MAX_PARCEL_BYTES})
        for what, parcel, reason in (
            ("another text", replace(good, body=other.body), "not what the master signed"),
            ("another signature", replace(good, signature=b"x" * 70), "not what the master signed"),
            (
                "another key",
                replace(good, certificate=certificate().certificate.decode()),
                "not what the master signed",
            ),
            ("a node's certificate", signed(certificate(Role.NODE)), "not signed by a master"),
            ("the remote interface's", signed(certificate(Role.RAPI)), "not signed by a master"),
            (
                "another cluster's",
                signed(certificate(cluster="c2")),
                "not signed by a master of this cluster",
            ),
            ("another authority's", signed(certificate(authority=foreign)), "authority"),
            ("the authority itself", signed(AUTHORITY), "not signed by a master"),
            ("no certificate", replace(good, certificate="nothing"), "authority"),
            ("one that has expired", signed(certificate(now=NOW - 10 * 86400, days=5)), "clocks"),
            ("one for another cluster", signed(cluster="c2"), "for another cluster"),
            ("one without a stamp", signed(write=replace(WRITE, stamp=None)), "how new"),
            ("a long one", signed(write=long), "bytes is refused"),
        ):
            with self.subTest(what), self.assertRaisesRegex(PermissionDenied, reason):
                opened_here(parcel)

    def test_bad_key(self) -> None:
        """A master whose key cannot be read is told so."""
        self.assertRaises(ConfigurationError, ParcelSigner, b"nothing", "c1")


class ReceiptTests(SynchronousTestCase):
    """Proofs of delivery."""

    def test_receipt(self) -> None:
        """One for each secret and parcel; nobody makes it who lacks either."""
        one, other = (
            digest(signed()),
            digest(signed(write=replace(WRITE, stamp=Stamp(generation=7, number=2)))),
        )
        found = {receipt(secret, which) for secret in (b"a" * 32, b"b" * 32) for which in (one, other)}
        self.assertEqual(len(found), 4)
        self.assertEqual(receipt(b"a" * 32, one), receipt(b"a" * 32, digest(signed())))
