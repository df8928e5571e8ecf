"""The gnt-* command line tools; standard library only."""
