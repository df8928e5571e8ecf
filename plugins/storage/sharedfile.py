"""Disk template `sharedfile`: a disk is a file in a directory that all nodes of a group share."""

from ganeti.storage.file_template import FileTemplate

shared_file_storage = FileTemplate("sharedfile")
