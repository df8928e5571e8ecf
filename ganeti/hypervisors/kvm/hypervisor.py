"""The hypervisor `kvm`: starts, stops, finds and moves QEMU processes.

Each instance is one QEMU in the background. It outlives the daemon that started it; whoever comes
later finds it by its pid file and talks to it through its control socket.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from zope.interface import implementer

from ganeti.errors import CommandFailed, HypervisorError
from ganeti.hypervisors.kvm import affinity, facts, files, migration, network, node_size, process
from ganeti.hypervisors.kvm.command_line import command_line
from ganeti.hypervisors.kvm.console import console_of
from ganeti.hypervisors.kvm.files import InstanceFiles, Runtime, files_of
from ganeti.hypervisors.kvm.network import Phase
from ganeti.hypervisors.kvm.node_checks import missing_on_node
from ganeti.hypervisors.kvm.params import TABLE, check, kvm_params, params_of
from ganeti.hypervisors.kvm.qmp import QmpClient
from ganeti.interfaces import IConsole, IHost, IHypervisor, IMigratable, IResizable
from ganeti.model.calls.disks import OpenDisk
from ganeti.model.calls.instances import ConsoleInfo, MigrationProgress, RunningInstance, RunState
from ganeti.model.calls.system import NodeCapacity
from ganeti.model.filled import FilledInstance
from ganeti.model.node import Node
from ganeti.model.params import ParamValues
from ganeti.model.paths import Paths

_START_S = 120.0
_REBOOT_GRACE_S = 30.0
_POWER_BUTTON_EVERY_S = 5.0
_MIB = 1024 * 1024


@implementer(IHypervisor, IConsole, IMigratable, IResizable)
class KvmHypervisor:
    """Runs instances in QEMU, with KVM where it works."""

    name = "kvm"
    params = TABLE

    # --- parameters and node -------------------------------------------------------------------

    def check_params(self, hvparams: ParamValues) -> None:
        """Refuse what contradicts itself or is not supported yet."""
        check(kvm_params(hvparams))

    def validate_on_node(self, host: IHost, hvparams: ParamValues) -> None:
        """Refuse files, machine types and programs that this node does not have."""
        params = kvm_params(hvparams)
        qemu = facts.qemu_facts(host, facts.qemu_path(params.kvm_path))
        for problem in missing_on_node(params, qemu):
            raise HypervisorError(f"node {host.name}: {problem}")

    def capacity(self, host: IHost) -> NodeCapacity:
        """Memory and processors of the machine."""
        version = None
        with suppress(HypervisorError):
            qemu = facts.qemu_facts(host, facts.qemu_path(str(TABLE.defaults["kvm_path"])))
            version = ".".join(map(str, qemu.version))
        return node_size.measured(
            used_mib=sum(instance.memory for instance in self.list_running(host)), version=version
        )

    def self_test(self, host: IHost) -> Sequence[str]:
        """Whether QEMU runs and its directories can be written."""
        try:
            facts.qemu_facts(host, facts.qemu_path(str(TABLE.defaults["kvm_path"])))
            files.prepare(files_of(host.paths, ".self-test"))
        except HypervisorError as error:
            return [str(error)]
        except OSError as error:
            return [f"cannot use {error.filename}: {error.strerror}"]
        return []

    # --- life of an instance -------------------------------------------------------------------

    def start(
        self, host: IHost, instance: FilledInstance, disks: Sequence[OpenDisk], *, paused: bool = False
    ) -> None:
        """Start QEMU, set it up, and let the guest go; undone as a whole if any of it fails."""
        where = files_of(host.paths, instance.name)
        if _runs(where):
            return
        runtime = self._launch(host, instance, disks)
        try:
            with QmpClient(where.qmp) as qmp:
                _set_up(qmp, instance)
                if not paused:
                    qmp.execute("cont")
            files.save(where, msgspec.structs.replace(runtime, is_set_up=True))
        except BaseException:
            self._remove(host, where)
            raise

    def stop(self, host: IHost, name: str, *, force: bool, timeout_s: float) -> None:
        """Press the power button and wait, or end QEMU."""
        where = files_of(host.paths, name)
        if not force and process.find(where) is not None and not _powered_down(host, where, timeout_s):
            return
        self._remove(host, where)

    def reboot(self, host: IHost, instance: FilledInstance, disks: Sequence[OpenDisk]) -> None:
        """Shut down, by force if the guest does not obey, and start with what counts now."""
        where = files_of(host.paths, instance.name)
        if process.find(where) is None:
            raise HypervisorError(f"instance {instance.name} does not run on {host.name}")
        self.stop(host, instance.name, force=False, timeout_s=_REBOOT_GRACE_S)
        self.stop(host, instance.name, force=True, timeout_s=_REBOOT_GRACE_S)
        self.start(host, instance, disks)

    def cleanup(self, host: IHost, name: str) -> None:
        """Remove the state of an instance that does not run; one that does is left alone."""
        where = files_of(host.paths, name)
        if process.find(where) is None:
            _forget(host, where)

    def list_running(self, host: IHost) -> Sequence[RunningInstance]:
        """Every QEMU of this node, whichever daemon started it."""
        found = []
        for name in files.known_names(host.paths):
            where = files_of(host.paths, name)
            running = process.find(where)
            if running is not None:
                found.append(
                    RunningInstance(
                        name=name,
                        memory=running.memory,
                        vcpus=running.vcpus,
                        state=process.state(where),
                        time=running.cpu_seconds(),
                    )
                )
        return found

    def console(self, instance: FilledInstance, node: Node, paths: Paths) -> ConsoleInfo:
        """Serial console, else VNC, else why there is none."""
        return console_of(instance, params_of(instance), node, files_of(paths, instance.name))

    # --- migration -----------------------------------------------------------------------------

    def check_migratable(self, host: IHost, instance: FilledInstance) -> None:
        """It has to run, and nothing of it may be bound to this node."""
        with self._qmp(host, instance.name) as qmp:
            reasons = migration.blocked_reasons(qmp.execute("query-migrate"))
        if reasons:
            raise HypervisorError(f"instance {instance.name} cannot be migrated: {'; '.join(reasons)}")

    def migration_info(self, host: IHost, instance: FilledInstance) -> str:
        """What was started, as JSON."""
        runtime = self._runtime(host, instance.name)
        with self._qmp(host, instance.name) as qmp:
            status = qmp.execute("query-status")["status"]
        info = migration.SourceState(
            instance=msgspec.structs.replace(runtime.instance, osparams={}, osparams_private={}),
            disks=runtime.disks,
            machine=runtime.machine,
            accelerator=runtime.accelerator,
            was_running=status == "running",
        )
        return msgspec.json.encode(info).decode()

    def accept(
        self, host: IHost, instance: FilledInstance, disks: Sequence[OpenDisk], info: str, target_ip: str
    ) -> str:
        """Start a QEMU that waits; gives its address and port."""
        source = migration.decode_info(info, instance.name)
        if len(disks) != len(source.disks):
            raise HypervisorError(
                f"instance {instance.name} runs with {len(source.disks)} disks and has {len(disks)} now;"
                " restart it before it is migrated"
            )
        where = files_of(host.paths, instance.name)
        running = process.find(where)
        if running is not None and process.state(where) is not RunState.MIGRATING_IN:
            raise HypervisorError(f"instance {instance.name} runs on {host.name} already")
        self._remove(host, where)
        runtime = self._launch(host, source.instance, disks, source=source)
        try:
            with QmpClient(where.qmp) as qmp:
                _set_up(qmp, runtime.instance)
                endpoint = migration.listen(qmp, params_of(instance), target_ip)
            files.save(where, msgspec.structs.replace(runtime, is_set_up=True))
            return endpoint
        except BaseException:
            self._remove(host, where)
            raise

    def migrate(
        self, host: IHost, instance: FilledInstance, target_ip: str, *, live: bool, endpoint: str = ""
    ) -> None:
        """Begin to send."""
        runtime = self._runtime(host, instance.name)
        with self._qmp(host, instance.name) as qmp:
            is_running = qmp.execute("query-status")["status"] == "running"
            # Saved first: if the guest is stopped for the move, somebody must let it go on later.
            files.save(
                files_of(host.paths, instance.name), msgspec.structs.replace(runtime, resumes=is_running)
            )
            migration.send(qmp, params_of(instance), target_ip, endpoint, live=live)

    def progress(self, host: IHost, instance: FilledInstance) -> MigrationProgress:
        """How far it is; begins the post-copy phase when that is allowed and due."""
        with self._qmp(host, instance.name) as qmp:
            answer = qmp.execute("query-migrate")
            if migration.wants_postcopy(answer, params_of(instance)):
                qmp.execute("migrate-start-postcopy")
        return migration.progress_of(answer)

    def cancel(self, host: IHost, instance: FilledInstance) -> None:
        """Stop sending and let the guest go on; one that has left already stays away."""
        where = files_of(host.paths, instance.name)
        if process.find(where) is None:
            return
        migration.cancel(host, lambda: self._qmp(host, instance.name))
        if process.state(where) is not RunState.MIGRATED_AWAY:
            self._resume(host, instance.name)

    def finish_source(self, host: IHost, instance: FilledInstance, *, success: bool, live: bool) -> None:
        """End the QEMU that was left behind, or let the guest go on in it."""
        if success:
            self._remove(host, files_of(host.paths, instance.name))
            return
        self.cancel(host, instance)
        if process.find(files_of(host.paths, instance.name)) is not None:
            self._resume(host, instance.name)

    def finish_target(self, host: IHost, instance: FilledInstance, info: str, *, success: bool) -> None:
        """Wait for the guest and let it go on, or end the QEMU that waits for it."""
        where = files_of(host.paths, instance.name)
        if not success:
            self._remove(host, where)
            return
        runtime = self._runtime(host, instance.name)
        if not runtime.is_incoming:
            return
        status = migration.await_arrival(host, lambda: self._qmp(host, instance.name))
        if status != "running" and migration.decode_info(info, instance.name).was_running:
            with self._qmp(host, instance.name) as qmp:
                migration.go_on(qmp)
        network.connect_rest(host, runtime.instance, runtime.taps)
        files.save(where, msgspec.structs.replace(runtime, is_incoming=False))

    # --- size ----------------------------------------------------------------------------------

    def set_memory(self, host: IHost, instance: FilledInstance, memory: int) -> None:
        """Ask the guest's balloon to leave it this much."""
        with self._qmp(host, instance.name) as qmp:
            qmp.execute("balloon", value=memory * _MIB)

    def disk_grown(self, host: IHost, instance: FilledInstance, index: int, size: int) -> None:
        """Show the guest the new size of a disk."""
        with self._qmp(host, instance.name) as qmp:
            qmp.execute("block_resize", node_name=f"disk{index}", size=size * _MIB)

    # --- parts ---------------------------------------------------------------------------------

    def _launch(
        self,
        host: IHost,
        instance: FilledInstance,
        disks: Sequence[OpenDisk],
        *,
        source: migration.SourceState | None = None,
    ) -> Runtime:
        params = params_of(instance)
        check(params)
        where = files_of(host.paths, instance.name)
        found = facts.gather(host, params, disks, machine=source.machine if source is not None else None)
        if source is not None and source.accelerator != found.accelerator:
            raise HypervisorError(
                f"instance {instance.name} runs with {source.accelerator}, which {host.name} does not use;"
                " set kvm_flag alike, or fail it over"
            )
        self._remove(host, where)
        files.prepare(where)
        phase = Phase.START if source is None else Phase.BEFORE_MIGRATION
        taps = network.connect(host, instance, params, phase)
        try:
            argv = command_line(instance, disks, found, where, taps, is_incoming=source is not None)
            runtime = Runtime(
                instance=instance,
                disks=tuple(disks),
                taps=taps,
                machine=found.machine,
                accelerator=found.accelerator,
                argv=argv,
                is_incoming=source is not None,
            )
            files.save(where, runtime)
            done = host.processes.run(argv, timeout_s=_START_S, cwd=where.control_dir, check=False)
            if done.code != 0:
                raise HypervisorError(
                    f"cannot start instance {instance.name}; QEMU says: {done.stderr.strip()}",
                    detail=shlex.join(argv),
                )
        except BaseException as error:
            self._remove(host, where)
            network.disconnect(host, instance, taps)
            if isinstance(error, CommandFailed):
                raise HypervisorError(f"cannot start instance {instance.name}: {error}") from error
            raise
        return runtime

    def _remove(self, host: IHost, where: InstanceFiles) -> None:
        process.end(host, where)
        _forget(host, where)

    def _qmp(self, host: IHost, name: str) -> QmpClient:
        where = files_of(host.paths, name)
        if process.find(where) is None:
            raise HypervisorError(f"instance {name} does not run on {host.name}")
        return QmpClient(where.qmp)

    def _resume(self, host: IHost, name: str) -> None:
        if self._runtime(host, name).resumes:
            with self._qmp(host, name) as qmp:
                migration.go_on(qmp)

    def _runtime(self, host: IHost, name: str) -> Runtime:
        runtime = files.load(files_of(host.paths, name))
        if runtime is None:
            raise HypervisorError(f"instance {name} does not run on {host.name}")
        return runtime


def _runs(where: InstanceFiles) -> bool:
    """Whether an instance really runs; what a broken start or migration left behind does not count."""
    if process.find(where) is None or process.state(where) not in (RunState.RUNNING, RunState.PAUSED):
        return False
    try:
        runtime = files.load(where)
    except HypervisorError:
        return True
    return runtime is None or runtime.is_set_up


def _set_up(qmp: QmpClient, instance: FilledInstance) -> None:
    params = params_of(instance)
    affinity.pin(qmp, affinity.pinning(params.cpu_mask, instance.beparams.vcpus))
    if params.vnc_password_file:
        try:
            with open(params.vnc_password_file, encoding="utf-8") as stream:
                password = stream.readline().rstrip("\n")
        except OSError as error:
            raise HypervisorError(f"cannot read {params.vnc_password_file}: {error.strerror}") from error
        qmp.execute("set_password", protocol="vnc", password=password)


def _powered_down(host: IHost, where: InstanceFiles, timeout_s: float) -> bool:
    """Press the power button now and then; tells whether the guest switched itself off in time."""
    give_up = host.now() + timeout_s
    while True:
        with suppress(HypervisorError), QmpClient(where.qmp, timeout_s=3.0) as qmp:
            if qmp.execute("query-status")["status"] == "shutdown":
                return True
            qmp.execute("system_powerdown")
        left = give_up - host.now()
        if process.await_end(host, where, max(0.0, min(left, _POWER_BUTTON_EVERY_S))):
            return True
        if left <= _POWER_BUTTON_EVERY_S:
            # With -no-shutdown QEMU stays when the guest has gone.
            return process.state(where) is RunState.SHUTDOWN


def _forget(host: IHost, where: InstanceFiles) -> None:
    # A damaged record must not keep an instance from being started again; its taps have fixed names.
    with suppress(HypervisorError):
        runtime = files.load(where)
        if runtime is not None:
            network.disconnect(host, runtime.instance, runtime.taps)
    files.remove(where)
