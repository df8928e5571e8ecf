"""What a running cluster leaves on its disks: no secrets, and nothing that others may read or write."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import RunningCluster

PRIVATE, SECRET = "private-value-7531", "secret-value-7531"
CONFIGURATION = {"config.data", "config.journal"}
"""Private parameters of instances are part of the configuration, secret ones of nothing."""
PUBLIC = {"ca.pem", "watcher.pause"}
"""Files in the data directory that everybody may read, besides those of ssconf."""
TINY = "minmem=32,maxmem=32"

DUMP = """#!/bin/sh
env >>"$0.env"
"""


class SecurityTests(SynchronousTestCase):
    """Files of three nodes after instances with secrets came and went; daemons log all they can."""

    cluster: RunningCluster

    @classmethod
    def setUpClass(cls) -> None:
        """A cluster with an OS that shows its environment, hooks that do, and talkative daemons."""
        cls.cluster = cluster = RunningCluster(nodes=3)
        cls.addClassCleanup(cluster.destroy)
        for number in (1, 2, 3):
            cls.prepare(cluster, number)
        for number in (3, 2, 1):
            cluster.stop("ganeti-noded", number)
            bind = cluster.layout.bind_address(cluster.node(number), with_cluster=number == 1)
            done = cluster.start_daemon("ganeti-noded", number, "--bind", bind, "--debug")
            assert done.returncode == 0, done.stderr
        cluster.stop("ganeti-masterd")
        done = cluster.start_daemon("ganeti-masterd", 1, "--debug")
        assert done.returncode == 0, done.stderr
        cls.use()

    @classmethod
    def prepare(cls, cluster: RunningCluster, number: int) -> None:
        """What a node needs."""
        root = Path(cluster.paths(number).root)
        os_dir = root / "srv/ganeti/os/shows"
        os_dir.mkdir(parents=True)
        for name in ("create", "import", "export", "rename", "verify"):
            cls.script(os_dir / name)
        (os_dir / "ganeti_api_version").write_text("20\n")
        (os_dir / "parameters.list").write_text("word anything\n")
        for name in ("instance-add", "instance-modify", "instance-remove", "instance-start"):
            for phase in ("pre", "post"):
                directory = root / f"etc/ganeti/hooks/{name}-{phase}.d"
                directory.mkdir(parents=True)
                cls.script(directory / "show")

    @staticmethod
    def script(path: Path) -> None:
        """A script that shows its environment."""
        path.write_text(DUMP)
        path.chmod(0o755)

    @classmethod
    def use(cls) -> None:
        """Instances with secrets, well and badly."""
        gnt = cls.cluster.gnt
        common = f"-t file -s 8M -o shows --no-nics -B {TINY}"
        gnt(f"gnt-instance add {common} --os-parameters-private word={PRIVATE} one.virtual")
        gnt(f"gnt-instance add {common} --os-parameters-secret word={SECRET} two.virtual")
        gnt(f"gnt-instance modify --os-parameters-private word={PRIVATE}2 one.virtual")
        for bad in ("-n nosuchnode", "-B vcpus=77", "-o nosuch", "--disk 1:size=nonsense"):
            done = gnt(
                f"gnt-instance add {common} --os-parameters-secret=word={SECRET} {bad} bad.virtual",
                check=False,
            )
            assert done.returncode != 0
            assert SECRET not in done.stdout + done.stderr
        # A parameter that the definition does not have: the message may name it, not its value.
        done = gnt(f"gnt-instance add {common} --os-parameters-secret odd={SECRET} bad.virtual", check=False)
        assert SECRET not in done.stdout + done.stderr, done.stderr
        for command in ("gnt-instance info --all", "gnt-job list", "gnt-job info 1 2 3 4 5 6 7 8 9 10"):
            shown = gnt(command, check=False).stdout
            assert SECRET not in shown, command
            assert PRIVATE not in shown, command
        gnt("gnt-job archive 4 5")
        gnt("gnt-instance remove --force --shutdown-timeout 0 two.virtual")
        cls.cluster.stop("ganeti-masterd")
        cls.cluster.start()

    def files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """All files of all nodes."""
        for directory, names, files in os.walk(self.cluster.directory):
            for name in (*names, *files):
                path = Path(directory, name)
                yield path, path.lstat()

    def holding(self, text: str) -> set[str]:
        """Names of files that have a text in them, but for those in which the scripts show what they got."""
        found = set()
        for path, status in self.files():
            is_shown = path.name.endswith(".env") and "/os/" in str(path)
            if stat.S_ISREG(status.st_mode) and not is_shown and text.encode() in path.read_bytes():
                found.add(path.name)
        return found

    def test_scripts_get_them(self) -> None:
        """Otherwise the other tests would show nothing: the OS did get both values."""
        shown = "".join(
            path.read_text() for path, _ in self.files() if path.name == "create.env" and "/os/" in str(path)
        )
        self.assertIn(f"OSP_WORD={PRIVATE}\n", shown)
        self.assertIn(f"OSP_WORD={SECRET}\n", shown)
        hooks = [path for path, _ in self.files() if path.name == "show.env"]
        self.assertGreater(len(hooks), 5)

    def test_secret_parameters(self) -> None:
        """They are in no file at all: no log, no job, no journal, no copy, no configuration."""
        self.assertEqual(self.holding(SECRET), set())

    def test_private_parameters(self) -> None:
        """They are in the configuration only, which others cannot read."""
        self.assertLessEqual(self.holding(PRIVATE), CONFIGURATION)

    def test_keys(self) -> None:
        """Keys, certificates with keys, and passwords are for the daemons' user only."""
        for name in (
            "ca-key.pem",
            "server.pem",
            "client.pem",
            "hmac.key",
            "cluster-domain-secret",
            "rapi.pem",
        ):
            for number in (1, 2, 3):
                path = Path(self.cluster.paths(number).data_dir, name)
                if path.exists():
                    self.assertEqual(stat.S_IMODE(path.stat().st_mode) & 0o077, 0, str(path))
        self.assertEqual(stat.S_IMODE(Path(self.cluster.directory, "rapi.json").stat().st_mode), 0o600)

    def test_data_directory(self) -> None:
        """Configuration, queue and users are closed to others; a list says what is not."""
        for path, status in self.files():
            if "/var/lib/ganeti/" not in str(path) or not stat.S_ISREG(status.st_mode):
                continue
            mode = stat.S_IMODE(status.st_mode)
            if path.name.startswith("ssconf_"):
                self.assertEqual(mode, 0o444, str(path))
            elif path.name not in PUBLIC:
                self.assertIn(mode, (0o600, 0o640, 0o400, 0o440), str(path))
        queue = Path(self.cluster.paths().queue_dir)
        self.assertEqual(
            [stat.S_IMODE(each.stat().st_mode) for each in (queue, queue / "archive")], [0o750] * 2
        )
        self.assertEqual(stat.S_IMODE((queue / "job-1").stat().st_mode), 0o640)
        self.assertEqual(stat.S_IMODE(Path(self.cluster.paths().config_file).stat().st_mode), 0o640)

    def test_logs(self) -> None:
        """Logs of daemons, of commands and of installations are closed to others."""
        logs = [
            (path, stat.S_IMODE(status.st_mode))
            for path, status in self.files()
            if "/var/log/" in str(path) and stat.S_ISREG(status.st_mode)
        ]
        self.assertGreater(len(logs), 6)
        for path, mode in logs:
            self.assertEqual(mode & 0o137, 0, f"{path} has mode {mode:o}")

    def test_nothing_to_write(self) -> None:
        """Others, and the group but for the socket, may write nothing."""
        for path, status in self.files():
            if stat.S_ISLNK(status.st_mode):
                continue
            allowed = 0o020 if stat.S_ISSOCK(status.st_mode) else 0
            self.assertEqual(stat.S_IMODE(status.st_mode) & 0o022 & ~allowed, 0, str(path))

    def test_socket(self) -> None:
        """The client socket is for its owner and group; nobody else even gets to it by its mode."""
        path = self.cluster.paths().master_socket
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o660)
        self.assertEqual(stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) & 0o022, 0)

    def test_environment_of_daemons(self) -> None:
        """No daemon has a secret on its command line or in its environment."""
        for number in (1, 2, 3):
            for process in self.cluster.processes(number):
                text = " ".join([*process.cmdline(), *map(str, process.environ().items())])
                for value in (PRIVATE, SECRET):
                    self.assertNotIn(value, text)
