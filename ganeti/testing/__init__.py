"""Shipped fakes, behaviour suites and hypothesis strategies."""
