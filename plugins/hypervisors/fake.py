"""Hypervisor `fake`: instances that are only pretended, for tests and simulated nodes."""

from ganeti.hypervisors.fake import FakeHypervisor

fake = FakeHypervisor()
