"""Disk template `diskless`: instances without disks."""

from ganeti.storage.diskless import Diskless

diskless = Diskless()
