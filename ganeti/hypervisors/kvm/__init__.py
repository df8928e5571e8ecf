"""QEMU: command line, monitor, runtime state and migration."""
