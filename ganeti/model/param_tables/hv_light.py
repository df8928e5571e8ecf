"""Parameters of the hypervisors that run no machine of their own: lxc, chroot and fake."""

from __future__ import annotations

from ganeti.model.param_tables.rows import absolute_path, choice, cpu_list_or_empty, number, text
from ganeti.model.params import ParamTable

_DEVICES = ",".join(
    f"c {device} rw" for device in ("1:3", "1:5", "1:7", "1:8", "1:9", "1:10", "5:0", "5:1", "5:2", "136:*")
)

LXC = ParamTable(
    "hypervisor lxc",
    (
        text("cpu_mask", "", "processors it may use, such as 0-2,4; empty: all", cpu_list_or_empty),
        text("devices", _DEVICES, "devices it may use, as cgroup rules joined with commas"),
        text(
            "drop_capabilities",
            "mac_override,sys_boot,sys_module,sys_time,sys_admin",
            "capabilities taken from it, joined with commas",
        ),
        text("extra_cgroups", "", "further cgroup controllers that must be mounted, joined with commas"),
        text("extra_config", "", "further lines of its configuration file, joined with commas"),
        number("num_ttys", 6, "number of terminals", at_least=0),
        number("startup_timeout", 30, "seconds until it must have started", at_least=0),
    ),
)

CHROOT = ParamTable(
    "hypervisor chroot",
    (text("init_script", "/ganeti-chroot", "script in the chroot that starts and stops it", absolute_path),),
)

FAKE = ParamTable(
    "hypervisor fake",
    (choice("migration_mode", "live", "how it is migrated", ("live", "non-live"), is_global=True),),
)
