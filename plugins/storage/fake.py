"""Disk template `fake`: disks that are only pretended, for tests and simulated nodes."""

from ganeti.storage.fake import FakeStorage

fake_storage = FakeStorage()
