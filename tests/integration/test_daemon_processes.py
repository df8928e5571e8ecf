"""Daemons as processes: going to the background, signals, logs, exit codes, what they answer."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import psutil
import pytest

from twisted.trial.unittest import SynchronousTestCase

import ganeti
from ganeti.daemons import control
from ganeti.daemons.cluster_files import create_secrets, node_files, write_master_files, write_node_files
from ganeti.errors import GanetiError
from ganeti.io.files import Ownership, write_file
from ganeti.model.codec import encode_cluster
from ganeti.model.paths import Paths
from ganeti.testing.clusters import cluster
from ganeti.version import CONFIG_VERSION
from ganeti.wire.confd_messages import Request, read_reply, write_request

CHECKOUT = Path(ganeti.__file__).parent.parent
NODE, OTHER = "node1.example.com", "node2.example.com"
PATIENCE_S = 20.0


def wait_for(is_so: Callable[[], object]) -> None:
    """Look until it is so."""
    control.wait_until(lambda: bool(is_so()), "it never came about", timeout_s=PATIENCE_S)


class NodeTestCase(SynchronousTestCase):
    """A node in a directory, with credentials and an address of its own."""

    def setUp(self) -> None:
        directory = tempfile.mkdtemp(prefix="dp-", dir="/tmp")
        self.addCleanup(shutil.rmtree, directory)
        self.paths = Paths(directory)
        mark = zlib.crc32(directory.encode())
        self.address = f"127.{1 + mark % 15}.{mark >> 8 & 255}.{1 + (mark >> 16) % 254}"
        self.addCleanup(self.stop_all)

    def join(self, *, master: str = NODE) -> None:
        """Give it the files of a member of a cluster."""
        now = time.time()
        authority = create_secrets(self.paths, "cluster.example.com", now=now)
        identity = {"cluster_uuid": "cluster-uuid", "node_uuid": "node-uuid"}
        names = (NODE, self.address)
        files = node_files(self.paths, authority, names=names, now=now, **identity)
        write_node_files(self.paths.data_dir, files)
        write_master_files(self.paths, authority, names=names, now=now, **identity)
        Path(self.paths.ssconf("master_node")).write_text(f"{master}\n")

    def stop_all(self) -> None:
        """End what is still running."""
        for daemon in ("ganeti-rapi", "ganeti-confd", "ganeti-noded"):
            control.stop(self.paths, daemon, timeout_s=10)

    def environment(self, **more: str) -> dict[str, str]:
        """Environment of its programs."""
        return {**os.environ, "GANETI_ROOTDIR": self.paths.root, **more}

    def run_script(
        self, daemon: str, *options: str, bind: bool = True, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the script that people run; with pipes, which a daemon must not keep open."""
        where = ["-b", self.address] if bind else []
        return subprocess.run(
            [sys.executable, str(CHECKOUT / "bin" / daemon), *where, *options],
            env=self.environment(**more),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def pid(self, daemon: str) -> int:
        """Process id of a running daemon."""
        pid = control.running_pid(self.paths, daemon)
        assert pid is not None
        return pid

    def log(self, daemon: str) -> str:
        """What its log has."""
        return Path(self.paths.log_file(daemon)).read_text()


class NodedTests(NodeTestCase):
    """The node daemon, which stands for all of them."""

    def setUp(self) -> None:
        super().setUp()
        self.join()

    def test_background(self) -> None:
        """The script returns when the daemon serves; TERM ends it and leaves no process, no pid file."""
        self.assertEqual(self.run_script("ganeti-noded").returncode, 0)
        pid = self.pid("ganeti-noded")
        with socket.create_connection((self.address, 1811), timeout=5):
            pass
        children = psutil.Process(pid).children(recursive=True)
        self.assertEqual(len(children), 1)
        os.kill(pid, signal.SIGTERM)
        _, alive = psutil.wait_procs([psutil.Process(pid), *children], timeout=PATIENCE_S)
        self.assertEqual(alive, [])
        self.assertEqual([name for name in os.listdir(self.paths.run_dir) if name.endswith(".pid")], [])
        self.assertIn("ready", self.log("ganeti-noded"))
        self.assertNotIn("raceback", self.log("ganeti-noded"))

    def test_again(self) -> None:
        """A second one is refused and does not disturb the first; after kill -9 a new one starts."""
        self.run_script("ganeti-noded")
        first = self.pid("ganeti-noded")
        second = self.run_script("ganeti-noded", "-p", "1899")
        self.assertEqual(second.returncode, 1)
        self.assertIn(f"running already (process {first}", second.stderr)
        self.assertEqual(self.pid("ganeti-noded"), first)
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: not psutil.pid_exists(first))
        self.assertEqual(self.run_script("ganeti-noded").returncode, 0)
        self.assertNotEqual(self.pid("ganeti-noded"), first)

    def test_taken_port(self) -> None:
        """A port that is taken is told to whoever starts the daemon, with exit code 1, either way."""
        with socket.create_server((self.address, 1811)):
            for options in ((), ("-f",)):
                done = self.run_script("ganeti-noded", *options)
                self.assertEqual(done.returncode, 1)
                self.assertIn(
                    f"cannot listen on {self.address} port 1811: Address already in use", done.stderr
                )
                self.assertNotIn("Traceback", done.stderr)
        self.assertIsNone(control.running_pid(self.paths, "ganeti-noded"))

    def test_rotation(self) -> None:
        """After SIGHUP the log is in a new file."""
        self.run_script("ganeti-noded")
        log = self.paths.log_file("ganeti-noded")
        os.rename(log, log + ".1")
        control.reload(self.paths, "ganeti-noded")
        wait_for(lambda: os.path.exists(log) and "reloading" in Path(log).read_text())

    def test_foreground(self) -> None:
        """With -f it stays, logs to the terminal as well, tells systemd, and ends at TERM."""
        notify = f"{self.paths.root}/notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(notify)
            systemd.settimeout(PATIENCE_S)
            process = subprocess.Popen(
                [sys.executable, str(CHECKOUT / "bin/ganeti-noded"), "-f", "-d", "-b", self.address],
                env=self.environment(NOTIFY_SOCKET=notify),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            self.assertEqual(systemd.recv(100), b"READY=1")
            self.assertEqual(self.pid("ganeti-noded"), process.pid)
            process.send_signal(signal.SIGHUP)
            self.assertTrue(systemd.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC="))
            self.assertEqual(systemd.recv(100), b"READY=1")
            process.terminate()
            output, _ = process.communicate(timeout=PATIENCE_S)
            self.assertEqual(systemd.recv(100), b"STOPPING=1")
        self.assertIn("ready", output)
        self.assertIn("ready", self.log("ganeti-noded"))

    def test_twistd(self) -> None:
        """`twistd -n` runs the same daemon, and its exit code says that it could not."""
        with socket.create_server((self.address, 1811)):
            command = [str(Path(sys.executable).parent / "twistd"), "-n", "--pidfile=", "ganeti-noded"]
            done = subprocess.run(
                [*command, "-b", self.address],
                env=self.environment(PYTHONPATH=str(CHECKOUT)),
                cwd=self.paths.root,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot listen on", done.stderr)

    def test_syslog_only(self) -> None:
        """With --syslog=only there is no log file, and a missing syslog is no obstacle."""
        self.assertEqual(self.run_script("ganeti-noded", "--syslog=only").returncode, 0)
        self.assertFalse(os.path.exists(self.paths.log_file("ganeti-noded")))

    def test_control(self) -> None:
        """What starts daemons for others gets the process id, or the reason."""
        pid = control.start(self.paths, "ganeti-noded", ["-b", self.address])
        self.assertEqual(control.start(self.paths, "ganeti-noded"), pid)
        control.stop(self.paths, "ganeti-noded")
        wait_for(lambda: not psutil.pid_exists(pid))
        with socket.create_server((self.address, 1811)):
            error = self.assertRaises(
                GanetiError, control.start, self.paths, "ganeti-noded", ["-b", self.address]
            )
        self.assertIn("Address already in use", str(error))


class RefusalTests(NodeTestCase):
    """Daemons that must not run here."""

    def test_no_cluster(self) -> None:
        """Without credentials every daemon ends with 12 and says what to do."""
        for daemon in ("ganeti-noded", "ganeti-confd", "ganeti-rapi", "ganeti-masterd"):
            done = self.run_script(daemon, bind=daemon != "ganeti-masterd")
            self.assertEqual(done.returncode, 12, daemon)
            self.assertIn("not part of a cluster yet", done.stderr)

    def test_not_master(self) -> None:
        """Elsewhere than on the master, masterd and rapi end with 11 and name the master."""
        self.join(master=OTHER)
        for daemon in ("ganeti-masterd", "ganeti-rapi"):
            done = self.run_script(daemon, bind=daemon != "ganeti-masterd")
            self.assertEqual(done.returncode, 11, daemon)
            self.assertIn(f"the master is {OTHER}", done.stderr)

    def test_options(self) -> None:
        """Wrong options are explained, and nothing is started."""
        self.join()
        for options in (["--bogus"], ["-p", "99999"], ["-b", "nowhere"], ["--syslog=perhaps"]):
            done = self.run_script("ganeti-noded", *options)
            self.assertEqual(done.returncode, 1)
            self.assertIsNone(control.running_pid(self.paths, "ganeti-noded"))

    def test_help(self) -> None:
        """Every daemon explains its options."""
        for daemon in ("ganeti-noded", "ganeti-confd", "ganeti-rapi", "ganeti-masterd"):
            done = self.run_script(daemon, "--help", bind=False)
            self.assertEqual(done.returncode, 0)
            self.assertIn("--foreground", done.stdout)


class ConfdTests(NodeTestCase):
    """The configuration daemon."""

    def ask(self, key: bytes) -> bytes:
        """What comes back on a ping, signed with a key."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(0.5)
            request = Request(protocol=1, type=0, rsalt="r1")
            client.sendto(write_request(request, key, now=time.time()), (self.address, 1814))
            try:
                return client.recv(65536)
            except TimeoutError:
                return b""

    def test_ping(self) -> None:
        """A signed ping is answered once there is a configuration; an unsigned one never is."""
        self.join()
        key = Path(self.paths.hmac_key_file).read_bytes()
        self.assertEqual(self.run_script("ganeti-confd").returncode, 0)
        self.assertEqual(read_reply(self.ask(key), key)[1].status, 1)
        write_file(self.paths.config_file, encode_cluster(cluster(nodes=1)), Ownership(mode=0o640))
        control.reload(self.paths, "ganeti-confd")
        wait_for(lambda: read_reply(self.ask(key), key)[1].status == 0)
        self.assertEqual(read_reply(self.ask(key), key)[1].answer, CONFIG_VERSION)
        self.assertEqual(self.ask(b"guessed"), b"")


class RapiTests(NodeTestCase):
    """The remote interface over TLS."""

    USERS: ClassVar[str] = "jill secret write\n"

    def setUp(self) -> None:
        super().setUp()
        self.join()
        os.makedirs(os.path.dirname(self.paths.rapi_users_file))
        Path(self.paths.rapi_users_file).write_text(self.USERS)
        self.started = self.run_script("ganeti-rapi")

    def get(self, path: str, **headers: str) -> tuple[int, object]:
        """Status and body, from a client that trusts the cluster's authority only."""
        context = ssl.create_default_context(cafile=self.paths.ca_file)
        connection = http.client.HTTPSConnection(self.address, 5080, timeout=10, context=context)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def test_answers(self) -> None:
        """The version, and 502 for what only masterd knows."""
        self.assertEqual((self.started.returncode, self.get("/version")), (0, (200, 2)))
        status, body = self.get("/2/info")
        self.assertEqual(status, 502)
        self.assertIn("No such file or directory", str(body))

    def test_users_reread(self) -> None:
        """After SIGHUP the users file is in force as it is then."""
        login = {"Authorization": "Basic amFjazpzZWNyZXQ="}
        self.assertEqual(self.get("/version", **login)[0], 401)
        Path(self.paths.rapi_users_file).write_text(self.USERS + "jack {cleartext}secret\n")
        control.reload(self.paths, "ganeti-rapi")
        wait_for(lambda: self.get("/version", **login)[0] == 200)

    @pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
    def test_old_tls(self) -> None:
        """TLS before 1.2 is refused."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        with socket.create_connection((self.address, 5080), timeout=10) as connection:
            self.assertRaises(ssl.SSLError, context.wrap_socket, connection)
