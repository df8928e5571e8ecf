"""Disk template `file`: a disk is a file in a directory of its node."""

from ganeti.storage.file_template import FileTemplate

file_storage = FileTemplate("file")
