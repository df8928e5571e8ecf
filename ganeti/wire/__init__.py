"""Bytes between daemons: AMP commands, arguments, TLS. Acts on nothing."""
