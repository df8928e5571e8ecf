"""The text of `gnt-instance info`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ganeti.cli.info import Pairs, with_defaults
from ganeti.cli.tables import timestamp
from ganeti.model.units import format_size

Data = Mapping[str, Any]

_FAULTY, _UNCERTAIN = 4, 3
_VNC_BASE_PORT = 5900


def describe(data: Data) -> Pairs:
    """Everything about one instance, as the operation OP_INSTANCE_QUERY_DATA gives it."""
    pairs = Pairs(
        [
            ("Instance name", data["name"]),
            ("UUID", data["uuid"]),
            ("Serial number", data["serial_no"]),
            ("Creation time", timestamp(data["ctime"])),
            ("Modification time", timestamp(data["mtime"])),
            ("State", _state(data)),
            ("Nodes", _nodes(data)),
            ("Operating system", data["os"]),
            ("Operating system parameters", with_defaults(data["os_instance"], data["os_actual"])),
            ("Allocated network port", data["network_port"]),
            ("Hypervisor", data["hypervisor"]),
        ]
    )
    console = _console(data)
    if console is not None:
        pairs.append(("console connection", console))
    pairs += [
        ("Hypervisor parameters", with_defaults(data["hv_instance"], data["hv_actual"])),
        ("Back-end parameters", _backend(data)),
        ("NICs", [_nic(index, nic) for index, nic in enumerate(data["nics"])]),
        ("Disk template", data["disk_template"]),
        ("Disks", [_disk(f"disk/{index}", disk) for index, disk in enumerate(data["disks"])]),
    ]
    return pairs


def _state(data: Data) -> str:
    text = f"configured to be {data['config_state']}"
    return text if data["run_state"] is None else f"{text}, actual state is {data['run_state']}"


def _nodes(data: Data) -> list[Pairs]:
    secondaries = [
        f"{node} (group {group}, group UUID {uuid})"
        for node, group, uuid in zip(data["snodes"], data["snodes_group_names"], data["snodes_group_uuids"])
    ]
    group = f"{data['pnode_group_name']} (UUID {data['pnode_group_uuid']})"
    return [
        Pairs([("primary", data["pnode"]), ("group", group)]),
        Pairs([("secondaries", ", ".join(secondaries))]),
    ]


def _console(data: Data) -> str | None:
    address = data["hv_actual"].get("vnc_bind_address")
    port, node = data["network_port"], data["pnode"]
    if not address:
        return None
    if address.startswith("/"):
        return f"vnc to {node}:{address}"
    if port is None:
        return None
    display = f"(display {int(port) - _VNC_BASE_PORT})"
    if address in ("0.0.0.0", "::"):
        return f"vnc to {node}:{port} {display}"
    return f"vnc to {address}:{port} (node {node}) {display}"


def _backend(data: Data) -> dict[str, Any]:
    actual = dict(data["be_actual"])
    actual.setdefault("memory", actual.get("maxmem"))
    own = {name: value for name, value in data["be_instance"].items() if name != "memory"}
    return with_defaults(own, actual)


def _nic(index: int, nic: Sequence[Any]) -> Pairs:
    name, uuid, ip, mac, mode, link, vlan, network, facts = nic
    return Pairs(
        [
            (f"nic/{index}", ""),
            ("MAC", mac),
            ("IP", ip),
            ("mode", mode),
            ("link", link),
            ("vlan", vlan or ""),
            ("network", (facts or {}).get("name", network)),
            ("UUID", uuid),
            ("name", name),
        ]
    )


def _disk(title: str, disk: Data) -> Pairs:
    pairs = Pairs([(title, f"{disk['dev_type']}, size {format_size(disk['size'])}")])
    is_child = title.startswith("child")
    if disk["spindles"] is not None:
        pairs.append(("spindles", disk["spindles"]))
    if not is_child:
        pairs.append(("access mode", disk["mode"]))
    pairs += _place(disk)
    for where, status in (("primary", disk["pstatus"]), ("secondary", disk["sstatus"])):
        if status:
            pairs.append((f"on {where}", _status(disk["dev_type"], status)))
    pairs += [("name", disk["name"]), ("UUID", disk["uuid"])]
    if disk["children"]:
        children = [_disk(f"child {index}", child) for index, child in enumerate(disk["children"])]
        pairs.append(("child devices", children))
    return pairs


def _place(disk: Data) -> list[tuple[str, Any]]:
    drbd = disk["drbd_info"]
    if drbd:
        return [
            ("nodeA", f"{drbd['primary_node']}, minor={drbd['primary_minor']}"),
            ("nodeB", f"{drbd['secondary_node']}, minor={drbd['secondary_minor']}"),
            ("port", drbd["port"]),
        ]
    logical_id = disk["logical_id"]
    text = "/".join(logical_id) if disk["dev_type"] == "plain" else tuple(logical_id)
    return [("logical_id", text)]


def _status(dev_type: str, status: Sequence[Any]) -> str:
    path, major, minor, percent, eta_s, is_degraded, local = status
    numbers = ":".join("N/A" if part is None else str(part) for part in (major, minor))
    text = f"{path} ({numbers})"
    if dev_type != "drbd":
        return f"{text} *FAILED* (failed drive?)" if is_degraded else text
    if percent is None:
        text += " in sync"
    else:
        left = "unknown" if eta_s is None else f"{eta_s:.0f}s"
        text += f" *RECOVERING* {percent:5.2f}%, ETA {left}"
    text += ", status *DEGRADED*" if is_degraded else ", status ok"
    if local == _FAULTY:
        return f"{text} *MISSING DISK*"
    return f"{text} *UNCERTAIN STATE*" if local == _UNCERTAIN else text
