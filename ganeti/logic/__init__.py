"""Decisions: pure functions and state machines over values."""
