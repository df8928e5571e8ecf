"""Tests of all opcodes as clients send them: names, defaults, refusals."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import inspect

from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import PrereqError
from ganeti.ops.base import OpCode, parameters
from ganeti.ops.registry import load
from tests.unit.ops.wire_names import COMMON, OPCODES, REQUIRED


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


NOT_YET: dict[str, frozenset[str]] = {
    "OP_CLUSTER_SET_PARAMS": words(
        """hv_state disk_state vg_name uid_pool add_uids remove_uids drbd_helper master_netdev
        master_netmask use_external_mip_script instance_communication_network enabled_data_collectors
        data_collector_interval"""
    ),
    "OP_INSTANCE_CREATE": words(
        """identify_defaults source_handshake source_instance_name source_shutdown_timeout source_x509_ca
        src_node src_node_uuid src_path compress forthcoming commit instance_communication
        helper_startup_timeout helper_shutdown_timeout"""
    ),
    "OP_INSTANCE_SET_PARAMS": words(
        """nics disks runtime_mem disk_template ext_params file_driver file_storage_dir pnode pnode_uuid
        remote_node remote_node_uuid iallocator wait_for_sync conflicts_check hotplug
        instance_communication"""
    ),
}
"""Established parameters that these opcodes do not have yet. Whoever adds one takes it out here."""

OPCODES_NOT_YET = words(
    """BACKUP_EXPORT BACKUP_PREPARE BACKUP_REMOVE CLUSTER_ACTIVATE_MASTER_IP CLUSTER_CONFIG_QUERY
    CLUSTER_DEACTIVATE_MASTER_IP CLUSTER_RENAME CLUSTER_RENEW_CRYPTO CLUSTER_REPAIR_DISK_SIZES
    CLUSTER_VERIFY_DISKS EXT_STORAGE_DIAGNOSE GROUP_ASSIGN_NODES GROUP_EVACUATE GROUP_REMOVE
    GROUP_RENAME GROUP_SET_PARAMS GROUP_VERIFY_DISKS INSTANCE_ACTIVATE_DISKS INSTANCE_CHANGE_GROUP
    INSTANCE_DEACTIVATE_DISKS INSTANCE_GROW_DISK INSTANCE_MULTI_ALLOC
    INSTANCE_RECREATE_DISKS INSTANCE_REINSTALL INSTANCE_RENAME INSTANCE_REPLACE_DISKS NETWORK_ADD
    NETWORK_CONNECT NETWORK_DISCONNECT NETWORK_REMOVE NETWORK_RENAME NETWORK_SET_PARAMS NODE_EVACUATE
    NODE_MIGRATE NODE_MODIFY_STORAGE NODE_QUERYVOLS NODE_QUERY_STORAGE OOB_COMMAND REPAIR_NODE_STORAGE
    RESTRICTED_COMMAND TEST_ALLOCATOR TEST_DUMMY TEST_JQUEUE TEST_OS_PARAMS"""
)
"""Established opcodes without the prefix OP_ that may still be missing."""

OUR_OPCODES = words("UPDATE_NODE_GROUP_CACHE COMPUTE_CAPACITY CLUSTER_BALANCE")
"""Opcodes that only we have, without the prefix OP_."""

CAPACITY = frozenset({"max_inst_spec", "default_template", "max_cpu_ratio", "max_disk_usage"})

OUR_OWN = {
    "OP_NODE_ADD": frozenset({"node_uuid"}),
    "OP_QUERY": frozenset({"cached"}),
    "OP_INSTANCE_CREATE": frozenset({"target_groups"}),
    "OP_OS_DIAGNOSE": frozenset({"group_name"}),
    "OP_INSTANCE_REPLACE_DISKS": frozenset({"between_groups"}),
    "OP_CLUSTER_SET_PARAMS": frozenset({"diffusion_min_nodes", "enforce_max_inst_spec"}) | CAPACITY,
    "OP_GROUP_ADD": CAPACITY,
    "OP_GROUP_SET_PARAMS": CAPACITY,
    "OP_INSTANCE_CHANGE_GROUP": frozenset({"target_nodes", "cleanup", "allow_downtime"}),
    "OP_GROUP_EVACUATE": frozenset({"partial", "allow_downtime"}),
}
"""Parameters that only we have; all are optional, so that older clients still work (SX-001)."""

REGISTRY = load()


def opcodes() -> list[type[OpCode]]:
    """Every opcode there is."""
    return [operation.opcode for operation in REGISTRY]


def default(field: msgspec.structs.FieldInfo) -> object:
    """The default as JSON, or REQUIRED."""
    if field.default_factory is not msgspec.NODEFAULT:
        return msgspec.to_builtins(field.default_factory())
    if field.default is msgspec.NODEFAULT:
        return REQUIRED
    value = msgspec.to_builtins(field.default)
    return list(value) if isinstance(value, tuple) else value


def own_fields(opcode: type[OpCode]) -> dict[str, object]:
    """Own parameters of an opcode with their defaults."""
    fields = {field.encode_name: default(field) for field in msgspec.structs.fields(opcode)}
    return {name: value for name, value in fields.items() if name not in COMMON}


def sample(kind: inspect.Type) -> Any:
    """Some JSON value of a type."""
    match kind:
        case inspect.Metadata(type=inner):
            return sample(inner)
        case inspect.UnionType(types=types):
            return sample(types[0])
        case inspect.LiteralType(values=values):
            return values[0]
        case inspect.EnumType(cls=cls):
            return next(iter(cls)).value
        case inspect.StrType():
            return "sample"
        case inspect.BoolType():
            return True
        case inspect.IntType() | inspect.FloatType():
            return 1
        case inspect.DictType():
            return {}
    return []


def smallest(opcode: type[OpCode]) -> dict[str, Any]:
    """The shortest JSON object that is accepted."""
    described = inspect.type_info(opcode)
    assert isinstance(described, inspect.StructType)
    required = {field.encode_name: sample(field.type) for field in described.fields if field.required}
    return {"OP_ID": opcode.op_id(), **required}


class WireNamesTests(SynchronousTestCase):
    """Names and defaults are the established ones."""

    def test_every_opcode_is_established(self) -> None:
        """We have no opcodes that clients do not know, and miss only those, that are listed."""
        ours = {opcode.op_id() for opcode in opcodes()}
        invented = {f"OP_{name}" for name in OUR_OPCODES}
        self.assertLessEqual(ours - set(OPCODES), invented)
        self.assertLessEqual({op_id.removeprefix("OP_") for op_id in set(OPCODES) - ours}, OPCODES_NOT_YET)

    def test_parameters(self) -> None:
        """Each has the established parameters, but for those listed as not yet there."""
        for opcode in opcodes():
            op_id = opcode.op_id()
            if op_id not in OPCODES:
                continue
            ours = set(own_fields(opcode)) - OUR_OWN.get(op_id, frozenset())
            self.assertEqual(set(OPCODES[op_id]) - NOT_YET.get(op_id, frozenset()), ours, op_id)

    def test_defaults(self) -> None:
        """Each default is the established one; what is required there is required here."""
        for opcode in opcodes():
            if opcode.op_id() not in OPCODES:
                continue
            for name, value in own_fields(opcode).items():
                if name not in OUR_OWN.get(opcode.op_id(), ()):
                    self.assertEqual(value, OPCODES[opcode.op_id()][name], f"{opcode.op_id()}.{name}")

    def test_common_parameters(self) -> None:
        """The parameters of all opcodes are the established ones."""
        found = {field.encode_name: default(field) for field in msgspec.structs.fields(OpCode)}
        self.assertEqual(found, COMMON)

    def test_own_inventions_are_optional(self) -> None:
        """Parameters that only we have may be left out (SX-001)."""
        for op_id, names in OUR_OWN.items():
            fields = own_fields(REGISTRY.operation_class(op_id).opcode)
            for name in names:
                self.assertIsNot(fields[name], REQUIRED, f"{op_id}.{name}")


class DecodeTests(SynchronousTestCase):
    """JSON becomes an opcode, or is refused with a reason."""

    def test_smallest(self) -> None:
        """Only what is required has to be given."""
        for opcode in opcodes():
            self.assertIsInstance(REGISTRY.decode(smallest(opcode)), opcode)

    def test_round_trip(self) -> None:
        """What is decoded is encoded to JSON that decodes to the same."""
        for opcode in opcodes():
            op = REGISTRY.decode(smallest(opcode))
            text = msgspec.json.encode(op)
            self.assertEqual(REGISTRY.decode(msgspec.json.decode(text)), op)

    def test_required_is_required(self) -> None:
        """Without one of them it is refused, and the message names it."""
        for opcode in opcodes():
            for name in [key for key in smallest(opcode) if key != "OP_ID"]:
                value = {key: item for key, item in smallest(opcode).items() if key != name}
                with self.assertRaisesRegex(PrereqError, name):
                    REGISTRY.decode(value)

    def test_unknown_parameter(self) -> None:
        """An unknown parameter is refused; for a slip the right name is told."""
        for opcode in opcodes():
            with self.assertRaisesRegex(PrereqError, "unknown parameter 'comand'"):
                REGISTRY.decode({**smallest(opcode), "comand": 1})
        with self.assertRaisesRegex(PrereqError, "did you mean 'force'"):
            REGISTRY.decode({"OP_ID": "OP_INSTANCE_STARTUP", "instance_name": "a", "forse": True})

    def test_wrong_type(self) -> None:
        """A value of the wrong type is refused with the name of the parameter."""
        with self.assertRaisesRegex(PrereqError, "OP_INSTANCE_STARTUP.*parameter 'force'"):
            REGISTRY.decode({"OP_ID": "OP_INSTANCE_STARTUP", "instance_name": "a", "force": "yes"})

    def test_unknown_opcode(self) -> None:
        """An unknown OP_ID is refused with the nearest one."""
        with self.assertRaisesRegex(PrereqError, "did you mean OP_INSTANCE_STARTUP"):
            REGISTRY.decode({"OP_ID": "OP_INSTANCE_STARTUPP"})

    def test_no_object(self) -> None:
        """What is no JSON object with an OP_ID is refused."""
        broken: tuple[object, ...] = (None, [], "OP_TAGS_GET", {}, {"OP_ID": 3})
        for value in broken:
            self.assertRaises(PrereqError, REGISTRY.decode, value)

    def test_other_names(self) -> None:
        """Opcodes are also taken under the names that the seeds use (SX-007)."""
        for alias, op_id in (
            ("OP_CREATE_INSTANCE", "OP_INSTANCE_CREATE"),
            ("OP_QUERY_INSTANCE_DATA", "OP_INSTANCE_QUERY_DATA"),
        ):
            value = {**smallest(REGISTRY.operation_class(op_id).opcode), "OP_ID": alias}
            self.assertEqual(REGISTRY.decode(value).op_id(), op_id)

    def test_priorities(self) -> None:
        """Only the three priorities of submission are taken."""
        for priority in (-10, 0, 10):
            REGISTRY.decode({"OP_ID": "OP_CLUSTER_VERIFY", "priority": priority})
        self.assertRaises(PrereqError, REGISTRY.decode, {"OP_ID": "OP_CLUSTER_VERIFY", "priority": 5})

    def test_frozen(self) -> None:
        """An opcode cannot be changed."""
        op = REGISTRY.decode({"OP_ID": "OP_CLUSTER_VERIFY"})
        with self.assertRaises(AttributeError):
            op.priority = 10  # type: ignore[misc]


class DeclarationTests(SynchronousTestCase):
    """What is declared of parameters."""

    def test_all_are_explained(self) -> None:
        """Every own parameter has a text, without a full stop, that begins in lower case or a name."""
        for opcode in opcodes():
            for field, param in parameters(opcode):
                if field.name in COMMON:
                    continue
                self.assertIsNotNone(param, f"{opcode.op_id()}.{field.name}")
                assert param is not None
                self.assertNotRegex(param.doc, r"(^|[^.])\.$")

    def test_flags_are_unique(self) -> None:
        """No two parameters of an opcode have the same option."""
        for opcode in opcodes():
            flags = [param.flag for _, param in parameters(opcode) if param is not None and param.flag]
            letters = [param.short for _, param in parameters(opcode) if param is not None and param.short]
            self.assertEqual(len(flags), len(set(flags)), opcode.op_id())
            self.assertEqual(len(letters), len(set(letters)), opcode.op_id())

    def test_summaries(self) -> None:
        """Lists show the established text."""
        for value, summary in (
            ({"OP_ID": "OP_INSTANCE_STARTUP", "instance_name": "web1"}, "INSTANCE_STARTUP(web1)"),
            ({"OP_ID": "OP_CLUSTER_VERIFY"}, "CLUSTER_VERIFY"),
            ({"OP_ID": "OP_CLUSTER_VERIFY_GROUP", "group_name": "blue"}, "CLUSTER_VERIFY_GROUP(blue)"),
            ({"OP_ID": "OP_TEST_DELAY", "duration": 2.5}, "TEST_DELAY(2500000000 ns)"),
            ({"OP_ID": "OP_TAGS_SET", "kind": "cluster", "tags": ["a"]}, "TAGS_SET"),
            ({"OP_ID": "OP_TAGS_SEARCH", "pattern": "a.*"}, "TAGS_SEARCH(a.*)"),
        ):
            self.assertEqual(REGISTRY.decode(value).summary(), summary)

    def test_secrets(self) -> None:
        """Private parameters of an OS are declared as secret."""
        secret = {
            f"{opcode.op_id()}.{field.name}"
            for opcode in opcodes()
            for field, param in parameters(opcode)
            if param is not None and param.secret
        }
        self.assertLessEqual(
            {"OP_INSTANCE_CREATE.osparams_secret", "OP_INSTANCE_CREATE.osparams_private"}, secret
        )
