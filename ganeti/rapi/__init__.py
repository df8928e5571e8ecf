"""The remote HTTP interface."""
