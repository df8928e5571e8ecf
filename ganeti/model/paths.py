"""Where every file of a node lies, below the root directory of the node.

Ordinary hosts have the root `/`. Nodes of a virtual cluster have a directory each and share nothing
but the machine. Pure: only computes names.
"""

from __future__ import annotations

from functools import cached_property


class Paths:
    """File names of one node.

    Args:
        root: the environment variable GANETI_ROOTDIR, or empty for an ordinary host.
    """

    def __init__(self, root: str = "") -> None:
        self.root = root.rstrip("/")

    def __repr__(self) -> str:
        return f"Paths({self.root!r})"

    @cached_property
    def data_dir(self) -> str:
        """Configuration, certificates, queue."""
        return f"{self.root}/var/lib/ganeti"

    @cached_property
    def run_dir(self) -> str:
        """Sockets, pid files and what must not survive a reboot."""
        return f"{self.root}/var/run/ganeti"

    @cached_property
    def log_dir(self) -> str:
        """Logs."""
        return f"{self.root}/var/log/ganeti"

    @cached_property
    def lock_dir(self) -> str:
        """Lock files."""
        return f"{self.root}/var/lock"

    @cached_property
    def conf_dir(self) -> str:
        """What the administrator writes: hooks, scripts, allowed paths."""
        return f"{self.root}/etc/ganeti"

    @property
    def config_file(self) -> str:
        """The configuration, JSON."""
        return f"{self.data_dir}/config.data"

    @property
    def config_journal(self) -> str:
        """Changes of the configuration since the newest snapshot."""
        return f"{self.data_dir}/config.journal"

    @property
    def queue_dir(self) -> str:
        """Job queue."""
        return f"{self.data_dir}/queue"

    @property
    def job_archive_dir(self) -> str:
        """Archived jobs, in sub-directories of 10,000."""
        return f"{self.queue_dir}/archive"

    @property
    def ca_file(self) -> str:
        """Certificate of the cluster's authority (PEM), on every node."""
        return f"{self.data_dir}/ca.pem"

    @property
    def ca_key_file(self) -> str:
        """Private key of the cluster's authority (PEM), on master candidates."""
        return f"{self.data_dir}/ca-key.pem"

    @property
    def node_cert_file(self) -> str:
        """Key and certificate of this node (PEM)."""
        return f"{self.data_dir}/server.pem"

    @property
    def client_cert_file(self) -> str:
        """Key and certificate with which this node, as master, calls others (PEM)."""
        return f"{self.data_dir}/client.pem"

    @property
    def rapi_cert_file(self) -> str:
        """Key and certificate of the remote HTTP interface (PEM)."""
        return f"{self.data_dir}/rapi.pem"

    @property
    def rapi_users_file(self) -> str:
        """Users of the remote HTTP interface."""
        return f"{self.data_dir}/rapi/users"

    @property
    def hmac_key_file(self) -> str:
        """Secret of confd."""
        return f"{self.data_dir}/hmac.key"

    @property
    def domain_secret_file(self) -> str:
        """Secret shared by clusters that exchange instances."""
        return f"{self.data_dir}/cluster-domain-secret"

    @property
    def socket_dir(self) -> str:
        """Unix sockets of daemons."""
        return f"{self.run_dir}/socket"

    @property
    def master_socket(self) -> str:
        """Socket on which masterd serves clients."""
        return f"{self.socket_dir}/ganeti-master"

    @property
    def crypto_dir(self) -> str:
        """Keys and certificates of single transfers, a directory with `key` and `cert` for each."""
        return f"{self.run_dir}/crypto"

    @property
    def hooks_dir(self) -> str:
        """Hook scripts."""
        return f"{self.conf_dir}/hooks"

    @property
    def file_storage_paths(self) -> str:
        """List of directories in which disk files may be created."""
        return f"{self.conf_dir}/file-storage-paths"

    @property
    def os_search_path(self) -> tuple[str, ...]:
        """Directories with OS definitions, first found wins."""
        return (f"{self.root}/srv/ganeti/os", f"{self.root}/usr/share/ganeti/os")

    @property
    def os_log_dir(self) -> str:
        """One log for each run of an OS script."""
        return f"{self.log_dir}/os"

    @property
    def allocator_search_path(self) -> tuple[str, ...]:
        """Directories with external instance allocators."""
        return (f"{self.conf_dir}/iallocators", "/usr/lib/ganeti/iallocators")

    @property
    def file_storage_dir(self) -> str:
        """Default of the cluster parameter of the same name."""
        return f"{self.root}/srv/ganeti/file-storage"

    @property
    def shared_file_storage_dir(self) -> str:
        """Default of the cluster parameter of the same name."""
        return f"{self.root}/srv/ganeti/shared-file-storage"

    @property
    def instance_disks_dir(self) -> str:
        """Links to the open disks of running instances."""
        return f"{self.run_dir}/instance-disks"

    @property
    def hosts_file(self) -> str:
        """Names and addresses that are known besides the resolver of the system."""
        return f"{self.root}/etc/hosts"

    @property
    def hostname_file(self) -> str:
        """Name of this node, for nodes that are not a machine of their own."""
        return f"{self.root}/etc/hostname"

    @property
    def node_setup_script(self) -> str:
        """Delivers credentials to a new node and starts its daemon, instead of the way by SSH."""
        return f"{self.conf_dir}/node-setup"

    @property
    def ssconf_stamp_file(self) -> str:
        """Which set of ssconf files this node has."""
        return f"{self.data_dir}/ssconf.stamp"

    @property
    def watcher_lock_file(self) -> str:
        """Shared by runs of the watcher; whoever must not be disturbed by one holds it alone."""
        return f"{self.lock_dir}/ganeti-watcher.lock"

    @property
    def watcher_pause_file(self) -> str:
        """Until when the watcher is to do nothing, seconds since the epoch."""
        return f"{self.data_dir}/watcher.pause"

    def watcher_state(self, group: str) -> str:
        """What the watcher remembers of a node group (its UUID)."""
        return f"{self.data_dir}/watcher.{group}.data"

    @property
    def instance_status(self) -> str:
        """Name and status of all instances, for other programs."""
        return f"{self.run_dir}/instance-status"

    def group_status(self, group: str) -> str:
        """Name and status of the instances of a node group (its UUID)."""
        return f"{self.run_dir}/instance-status.group-{group}"

    @property
    def daemon_options(self) -> str:
        """Options with which daemons of this node are started: lines such as `NODED_ARGS="-b 10.0.0.1"`."""
        return f"{self.root}/etc/default/ganeti"

    def ssconf(self, name: str) -> str:
        """File with one value of the configuration for scripts."""
        return f"{self.data_dir}/ssconf_{name}"

    def pid_file(self, daemon: str) -> str:
        """Pid file of a daemon: `ganeti-noded`."""
        return f"{self.run_dir}/{daemon}.pid"

    def log_file(self, daemon: str) -> str:
        """Log of a daemon, by its established short name: `node-daemon.log`."""
        short = {
            "ganeti-masterd": "master-daemon",
            "ganeti-noded": "node-daemon",
            "ganeti-confd": "conf-daemon",
            "ganeti-rapi": "rapi-daemon",
            "ganeti-watcher": "watcher",
        }.get(daemon, daemon)
        return f"{self.log_dir}/{short}.log"

    def hypervisor_dir(self, hypervisor: str) -> str:
        """Runtime state of a hypervisor's instances."""
        return f"{self.run_dir}/{hypervisor}-hypervisor"
