"""This machine as daemons see it: processes, files, journal, certificates."""
