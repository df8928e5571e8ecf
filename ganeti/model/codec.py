"""The configuration as bytes: the established config.data, and the changes that a journal carries.

Reading is strict. An absent key, null and the default mean the same; what the cluster computes
itself (`members` of groups) is passed over; anything else that is not known, or of the wrong type,
is refused with its place in the file. Files of our own writing are decoded straight into values;
only where that fails does a slower way look for what is missing, null or wrong. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any

import msgspec

from ganeti.errors import ConfigurationError
from ganeti.model.cluster import Cluster, ClusterSettings, empty_cluster
from ganeti.model.delta import Delta, apply
from ganeti.model.disk import Disk
from ganeti.model.filters import FilterRule
from ganeti.model.ids import DiskId, GroupId, InstanceId, NetworkId, NodeId
from ganeti.model.instance import Instance
from ganeti.model.network import Network
from ganeti.model.node import Node, NodeGroup
from ganeti.model.reading import UNREADABLE
from ganeti.model.records import Record
from ganeti.model.upgrade import check_version, upgraded
from ganeti.version import CONFIG_VERSION


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """config.data as it stands in the file."""

    version: int
    cluster: ClusterSettings
    nodes: dict[NodeId, Node] = {}
    nodegroups: dict[GroupId, NodeGroup] = {}
    instances: dict[InstanceId, Instance] = {}
    networks: dict[NetworkId, Network] = {}
    disks: dict[DiskId, Disk] = {}
    filters: dict[str, FilterRule] = {}
    serial_no: int = 1
    ctime: float = 0.0
    mtime: float = 0.0


KINDS: Mapping[str, type[msgspec.Struct]] = {
    "cluster": ClusterSettings,
    "nodes": Node,
    "nodegroups": NodeGroup,
    "instances": Instance,
    "networks": Network,
    "disks": Disk,
    "filters": FilterRule,
}
"""Sections of config.data and what is in them."""

_TABLES = ("nodes", "nodegroups", "instances", "networks", "disks", "filters")
_COMPUTED: Mapping[type, frozenset[str]] = {NodeGroup: frozenset({"members"})}
_OBJECTS_PER_PIECE = 250
_REMEDY = "correct it there, or copy the file from another master candidate"

_document_decoder = msgspec.json.Decoder(_Document)
_delta_decoder = msgspec.json.Decoder(Delta)
_encoder = msgspec.json.Encoder()


def decode_cluster(data: bytes, *, source: str = "config.data") -> Cluster:
    """The cluster in the bytes of a config.data.

    Args:
        data: JSON.
        source: name of the file, for messages.

    Raises:
        ConfigurationError: with the place, what is wrong there, and what to do.
        ConfigurationVersionMismatch: written by a version that is not understood.
    """
    try:
        document = _document_decoder.decode(data)
    except msgspec.ValidationError:
        document = _decode_slowly(data, source)
    except UNREADABLE as error:
        raise _not_json(data, source, error) from error
    if document.version != CONFIG_VERSION:
        check_version(document.version, source)
        document = _decode_slowly(data, source)
    return _cluster_of(document, source)


def encode_cluster(cluster: Cluster) -> bytes:
    """The bytes of a config.data."""
    return b"".join(encode_pieces(cluster))


def encode_pieces(cluster: Cluster) -> Iterator[bytes]:
    """The bytes of a config.data, in pieces that each take about a millisecond to make.

    A thread that encodes a large cluster thus lets others run in between.
    """
    yield b'{"version":%d,"serial_no":%d,' % (cluster.version, cluster.serial_no)
    yield b'"ctime":%s,"mtime":%s,' % (_encoder.encode(cluster.ctime), _encoder.encode(cluster.mtime))
    yield b'"cluster":' + _encoder.encode(cluster.settings)
    for section in _TABLES:
        yield b',\n"%s":{' % section.encode()
        yield from _encode_table(getattr(cluster, "groups" if section == "nodegroups" else section))
        yield b"}"
    yield b"}\n"


def encode_object(value: msgspec.Struct) -> bytes:
    """One object as it stands in config.data."""
    return _encoder.encode(value)


def decode_object(kind: str, data: bytes) -> Any:
    """One object of a section of `KINDS`.

    Raises:
        ConfigurationError: with what is wrong.
    """
    try:
        return _converted(msgspec.json.decode(data), KINDS[kind], kind, "an object")
    except UNREADABLE as error:
        raise _not_json(data, "an object", error) from error


def encode_delta(delta: Delta) -> bytes:
    """A change as the journal carries it."""
    return _encoder.encode(delta)


def decode_delta(data: bytes, *, source: str = "the journal") -> Delta:
    """A change that `encode_delta` wrote.

    Raises:
        ConfigurationError: it is not one.
    """
    try:
        return _delta_decoder.decode(data)
    except UNREADABLE as error:
        raise ConfigurationError(
            f"{source}: a change of the configuration cannot be read: {error}"
        ) from error


def replayed(cluster: Cluster, records: Iterable[Record], *, source: str = "config.data") -> Cluster:
    """The cluster after the changes in a journal; those that it contains already are passed over.

    Args:
        cluster: as it was saved.
        records: from the journal, in order.
        source: name of the file that the cluster was saved in, for messages.

    Raises:
        ConfigurationError: changes between the saved state and the journal are missing, or cannot
            be read.
    """
    for record in records:
        if record.seq <= cluster.serial_no:
            continue
        if record.seq != cluster.serial_no + 1:
            raise ConfigurationError(
                f"{source} has serial number {cluster.serial_no}, but the next change in the journal has "
                f"{record.seq}: those between them are missing. Copy {source} and its journal, both of them, "
                "from another master candidate"
            )
        delta = decode_delta(record.payload, source=f"the journal of {source}, change {record.seq}")
        cluster = apply(cluster, delta)
    return cluster


def delta_record(delta: Delta) -> Record:
    """The record of a change in the journal."""
    return Record(kind="config", id="cluster", seq=delta.serial_no, payload=encode_delta(delta))


def _encode_table(table: Mapping[str, Any]) -> Iterator[bytes]:
    items = iter(table.items())
    first = True
    while piece := dict(islice(items, _OBJECTS_PER_PIECE)):
        yield (b"" if first else b",\n") + _encoder.encode(piece)[1:-1]
        first = False


def _cluster_of(document: _Document, source: str) -> Cluster:
    for section in _TABLES:
        for key, value in getattr(document, section).items():
            if value.uuid != key:
                raise _wrong(source, f"{section}/{key}", f"its uuid is {value.uuid}, unlike its key")
    empty = empty_cluster(document.cluster, now=document.mtime)
    return msgspec.structs.replace(
        empty,
        nodes=empty.nodes.holding(document.nodes),
        groups=empty.groups.holding(document.nodegroups),
        instances=empty.instances.holding(document.instances),
        disks=empty.disks.holding(document.disks),
        networks=empty.networks.holding(document.networks),
        filters=empty.filters.holding(document.filters),
        version=document.version,
        serial_no=document.serial_no,
        ctime=document.ctime,
        mtime=document.mtime,
    )


def _decode_slowly(data: bytes, source: str) -> _Document:
    try:
        raw = msgspec.json.decode(data)
    except UNREADABLE as error:
        raise _not_json(data, source, error) from error
    if not isinstance(raw, dict):
        raise ConfigurationError(f"{source} does not hold a configuration; {_REMEDY}")
    check_version(raw.get("version"), source)
    raw = upgraded(raw)
    values: dict[str, Any] = {
        key: value for key, value in raw.items() if key not in KINDS and value is not None
    }
    values["cluster"] = _converted(raw.get("cluster"), ClusterSettings, "cluster", source)
    for section in _TABLES:
        objects = {} if raw.get(section) is None else raw[section]
        if not isinstance(objects, dict):
            raise _wrong(source, section, "it must be a JSON object")
        values[section] = {
            key: _converted(_placeheld(section, value), KINDS[section], f"{section}/{key}", source)
            for key, value in objects.items()
        }
    try:
        return msgspec.convert(values, _Document)
    except msgspec.ValidationError as error:
        raise _wrong(source, "", str(error)) from error


def _placeheld(section: str, value: Any) -> Any:
    """A reserved instance may lack what others must have."""
    if section == "instances" and isinstance(value, dict) and value.get("forthcoming"):
        return {"name": value.get("uuid"), "primary_node": "", "hypervisor": "", **_present(value)}
    return value


def _present(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: content for key, content in value.items() if content is not None}


def _converted(value: Any, kind: type[msgspec.Struct], place: str, source: str) -> Any:
    try:
        return msgspec.convert(_without_nulls(value, _type_info(kind)), kind)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        raise _wrong(source, place + where.rstrip("`"), what) from error


@cache
def _type_info(kind: type) -> msgspec.inspect.Type:
    return msgspec.inspect.type_info(kind)


@cache
def _fields(kind: type) -> Mapping[str, msgspec.inspect.Type]:
    """Types of those fields that hold further objects."""
    holders = (msgspec.inspect.StructType, msgspec.inspect.VarTupleType, msgspec.inspect.DictType)
    info = _type_info(kind)
    assert isinstance(info, msgspec.inspect.StructType)
    return {field.encode_name: field.type for field in info.fields if isinstance(field.type, holders)}


def _without_nulls(value: Any, kind: msgspec.inspect.Type) -> Any:
    """JSON values without null keys of objects and without what is computed."""
    match kind, value:
        case msgspec.inspect.StructType(cls=cls), dict():
            types, computed = _fields(cls), _COMPUTED.get(cls, frozenset())
            return {
                key: _without_nulls(content, types[key]) if key in types else content
                for key, content in value.items()
                if content is not None and key not in computed
            }
        case msgspec.inspect.VarTupleType(item_type=item), list():
            return [_without_nulls(content, item) for content in value]
        case msgspec.inspect.DictType(value_type=item), dict():
            return {key: _without_nulls(content, item) for key, content in value.items()}
    return value


def _wrong(source: str, place: str, what: str) -> ConfigurationError:
    where = f"{source}, {place}" if place else source
    return ConfigurationError(f"{where}: {what[:1].lower()}{what[1:]}; {_REMEDY}")


def _not_json(data: bytes, source: str, error: Exception) -> ConfigurationError:
    text = str(error)
    position = text.rpartition("(byte ")[2].rstrip(")")
    if position.isdecimal():
        before = data[: int(position)]
        line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
        text = f"line {line}, column {column}: {text}"
    return ConfigurationError(f"{source} is not valid JSON: {text}; {_REMEDY}")
