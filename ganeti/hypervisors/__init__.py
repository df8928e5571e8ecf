"""Engines behind the hypervisor plugins."""
