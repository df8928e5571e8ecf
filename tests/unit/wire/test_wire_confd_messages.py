"""Confd's datagrams: the established bytes, and nothing else."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from twisted.trial.unittest import SynchronousTestCase

from ganeti.wire.confd_messages import (
    Reply,
    Request,
    Unacceptable,
    read_reply,
    read_request,
    write_reply,
    write_request,
)

KEY = b"0123456789abcdef\n"
NOW = 1_700_000_000.5


def by_hand(message: str, salt: str, key: bytes = KEY, selector: str = "", **more: Any) -> bytes:
    """A datagram written without our code."""
    digest = hmac.new(key, (salt + selector + message).encode(), hashlib.sha1).hexdigest()
    return b"plj0" + json.dumps({"msg": message, "salt": salt, "hmac": digest, **more}).encode()


PING = '{"protocol": 1, "type": 0, "query": null, "rsalt": "r1"}'


class ConfdMessageTests(SynchronousTestCase):
    """Reading and writing."""

    def refused(self, datagram: bytes, now: float = NOW) -> str:
        """Why a datagram is not accepted."""
        return str(self.assertRaises(Unacceptable, read_request, datagram, KEY, now=now))

    def test_request_of_others(self) -> None:
        """A question written by another implementation is understood."""
        request = read_request(by_hand(PING, "1700000000"), KEY, now=NOW)
        self.assertEqual(request, Request(protocol=1, type=0, rsalt="r1"))

    def test_key_selector(self) -> None:
        """A key selector is part of what is signed."""
        datagram = by_hand(PING, "1700000000", selector="old", key_selector="old")
        self.assertEqual(read_request(datagram, KEY, now=NOW).rsalt, "r1")
        self.refused(by_hand(PING, "1700000000", key_selector="old"))

    def test_our_bytes(self) -> None:
        """An answer has the established shape, signed over salt and message."""
        datagram = write_reply(Reply(status=0, answer=3010000), "r1", KEY)
        self.assertTrue(datagram.startswith(b"plj0"))
        envelope = json.loads(datagram[4:])
        self.assertEqual(set(envelope), {"msg", "salt", "hmac"})
        wanted = hmac.new(KEY, b"r1" + envelope["msg"].encode(), hashlib.sha1).hexdigest()
        self.assertEqual((envelope["salt"], envelope["hmac"]), ("r1", wanted))
        self.assertEqual(
            json.loads(envelope["msg"]), {"protocol": 1, "status": 0, "answer": 3010000, "serial": 0}
        )

    @given(
        st.integers(-100, 100),
        st.text(min_size=1),
        st.none() | st.text() | st.dictionaries(st.text(), st.text()),
    )
    def test_there_and_back(self, kind: int, rsalt: str, query: Any) -> None:
        """What is written can be read."""
        request = Request(protocol=1, type=kind, rsalt=rsalt, query=query)
        self.assertEqual(read_request(write_request(request, KEY, now=NOW), KEY, now=NOW), request)
        reply = Reply(status=0, answer=query, serial=7)
        self.assertEqual(read_reply(write_reply(reply, rsalt, KEY), KEY), (rsalt, reply))

    def test_clock(self) -> None:
        """Up to 300 s of difference are accepted, either way."""
        datagram = by_hand(PING, "1700000000")
        for difference in (-300, 0, 300):
            read_request(datagram, KEY, now=1_700_000_000 + difference)
        for difference in (-301, 301):
            self.assertIn("compare the clocks", self.refused(datagram, 1_700_000_000 + difference))

    def test_refused(self) -> None:
        """Wrong magic, key, salt or message: no answer."""
        good = by_hand(PING, "1700000000")
        for bad in (
            b"",
            b"plj",
            b"plj1" + good[4:],
            b"plj0",
            b"plj0[]",
            b"plj0{",
            good[:-2],
            good.replace(b'"r1', b'"r2'),
            by_hand(PING, "1700000000", key=b"another"),
            by_hand(PING, "yesterday"),
            by_hand(PING, "-1700000000"),
            by_hand(PING, "\u0661"),
            by_hand("[]", "1700000000"),
            by_hand('{"protocol": "one"}', "1700000000"),
            by_hand("nonsense", "1700000000"),
        ):
            self.refused(bad)

    @given(st.binary(max_size=200))
    def test_rubbish(self, data: bytes) -> None:
        """Whatever arrives, there is no other error."""
        for datagram in (data, b"plj0" + data, b'plj0{"msg":"' + data + b'","salt":"1","hmac":"\\ud800"}'):
            self.refused(datagram)

    def test_reply_of_others(self) -> None:
        """An answer that is not signed is none."""
        self.assertRaises(Unacceptable, read_reply, b"plj0{}", KEY)
        self.assertRaises(Unacceptable, read_reply, by_hand("[]", "r1"), KEY)
