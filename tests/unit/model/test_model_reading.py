"""Tests of reading texts that are damaged in ways msgspec reports with errors of its own and others'."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import ConfigurationError
from ganeti.model.codec import decode_cluster, encode_cluster
from ganeti.testing.clusters import cluster


class DamagedTextTests(SynchronousTestCase):
    """Whatever is wrong with config.data, the operator is told so."""

    def refused(self, data: bytes) -> None:
        """Reading ends with the error that names the file."""
        error = self.assertRaises(ConfigurationError, decode_cluster, data)
        self.assertIn("config.data", str(error))

    def test_no_utf8(self) -> None:
        """Bytes that are no text."""
        self.refused(encode_cluster(cluster()).replace(b"node1", b"nod\xff1", 1))

    def test_too_deep(self) -> None:
        """A text nested deeper than anything sensible."""
        self.refused(b'{"cluster": ' + b"[" * 100_000)

    def test_cut_off(self) -> None:
        """A text that ends in the middle."""
        data = encode_cluster(cluster())
        self.refused(data[: len(data) // 2])
