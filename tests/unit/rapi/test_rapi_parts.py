"""Parts of the remote interface: table of routes, users, errors, description of the cluster."""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Any

import bcrypt
from hypothesis import given
from hypothesis import strategies as st

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ganeti.errors import ProgrammerError
from ganeti.logic.cluster_info import cluster_info
from ganeti.rapi.errors import HttpError
from ganeti.rapi.info import info_of
from ganeti.rapi.login import Gate
from ganeti.rapi.routes import Call, HttpRoute, Routes
from ganeti.rapi.users import Access, Login, basic_login, is_right, parse_users
from ganeti.testing.clusters import cluster

INFO_FIELDS = frozenset(
    name
    for line in (
        "software_version protocol_version config_version os_api_version export_version vcs_version",
        "architecture name master default_hypervisor enabled_hypervisors hvparams os_hvp beparams osparams",
        "ipolicy nicparams ndparams diskparams candidate_pool_size max_running_jobs max_tracked_jobs",
        "mac_prefix master_netdev master_netmask use_external_mip_script volume_group_name",
        "drbd_usermode_helper file_storage_dir shared_file_storage_dir gluster_storage_dir",
        "maintain_node_health ctime mtime uuid tags uid_pool default_iallocator default_iallocator_params",
        "reserved_lvs primary_ip_version prealloc_wipe_disks hidden_os blacklisted_os",
        "enabled_disk_templates install_image instance_communication_network zeroing_image",
        "compression_tools enabled_user_shutdown enabled_data_collectors data_collector_interval",
        "modify_ssh_setup ssh_key_type ssh_key_bits vg_name drbd_helper",
    )
    for name in line.split()
)


async def nothing(call: Call) -> None:
    """An answer."""


def route(method: Any, path: str, **more: Any) -> HttpRoute:
    """A row."""
    return HttpRoute(method=method, path=path, answer=nothing, doc="", **more)


class RouteTests(SynchronousTestCase):
    """The table."""

    def setUp(self) -> None:
        self.routes = Routes(
            [
                route("GET", "/2/nodes/{node}/role"),
                route("PUT", "/2/nodes/{node}/role"),
                route("GET", "/2/jobs/{id}", access=Access.READ),
            ]
        )

    def code(self, method: str, path: str) -> int:
        """Status of a request that finds nothing."""
        return int(self.assertRaises(HttpError, self.routes.find, method, path).code)

    def test_found(self) -> None:
        """Method and path lead to a row, and names in the path to values."""
        found, names = self.routes.find("PUT", "/2/nodes/n1.example.com/role")
        self.assertEqual((found.method, dict(names)), ("PUT", {"node": "n1.example.com"}))

    def test_not_found(self) -> None:
        """An unknown path is 404, a method that a known path does not have 501."""
        self.assertEqual(self.code("GET", "/2/nodes/n1/role/"), 404)
        self.assertEqual(self.code("GET", "/2/nodes//role"), 404)
        self.assertEqual(self.code("GET", "/2/nodes/a/b/role"), 404)
        self.assertEqual(self.code("DELETE", "/2/nodes/n1/role"), 501)

    def test_access(self) -> None:
        """Reading is open, changing needs the right to write, unless the row says otherwise."""
        self.assertEqual([row.needs for row in self.routes.rows], [Access.OPEN, Access.WRITE, Access.READ])

    def test_twice(self) -> None:
        """A row that is there already is refused."""
        self.assertRaises(ProgrammerError, Routes, [route("GET", "/2"), route("GET", "/2")])

    @given(st.text())
    def test_any_path(self, path: str) -> None:
        """Whatever is asked for, there is an answer or a 404."""
        self.assertEqual(self.code("GET", f"/{path}//"), 404)


class UserTests(SynchronousTestCase):
    """Users and passwords."""

    def test_file(self) -> None:
        """Comments, empty lines and lines with one word are skipped."""
        users = parse_users(
            "# comment\n\njack abc123\nlonely\n  # more\njill {HA1}ff write, read\nread only read\n"
        )
        self.assertEqual(sorted(users), ["jack", "jill", "read"])
        self.assertEqual(users["jill"].options, {"read", "write"})
        self.assertTrue(users["read"].may(Access.READ) and not users["read"].may(Access.WRITE))
        self.assertTrue(users["jill"].may(Access.WRITE))
        self.assertTrue(users["jack"].may(Access.OPEN) and not users["jack"].may(Access.READ))

    def test_schemes(self) -> None:
        """Every form of password lets in the right one only; scheme names in any case."""
        ha1 = hashlib.md5(b"jill:Ganeti Remote API:secret").hexdigest()
        hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
        for stored in (
            "secret",
            "{cleartext}secret",
            "{ClearText}secret",
            f"{{HA1}}{ha1}",
            f"{{ha1}}{ha1.upper()}",
            f"{{BCRYPT}}{hashed}",
        ):
            self.assertTrue(is_right(Login(name="jill", password="secret"), stored), stored)
            self.assertFalse(is_right(Login(name="jill", password="Secret"), stored), stored)

    def test_never(self) -> None:
        """Unknown schemes and damaged hashes match nothing."""
        for stored in ("{NEW}secret", "{secret", "{}secret", "{BCRYPT}rubbish", "{HA1}secret", "{HA1}"):
            for password in ("secret", stored, ""):
                self.assertFalse(is_right(Login(name="jill", password=password), stored), stored)

    @given(st.text(), st.text(), st.text())
    def test_any_password(self, name: str, password: str, stored: str) -> None:
        """No password and no stored text is an error."""
        is_right(Login(name=name, password=password), stored)

    def test_header(self) -> None:
        """Name and password may have any characters; colons only the password."""
        encoded = base64.b64encode("jill:a:b\u00e9".encode()).decode()
        self.assertEqual(basic_login(f"Basic {encoded}"), Login(name="jill", password="a:b\u00e9"))
        for wrong in ("", "Basic", "Basic !", "Bearer x", f"Digest {encoded}", "Basic amlsbA=="):
            self.assertIsNone(basic_login(wrong))


class GateTests(SynchronousTestCase):
    """Who gets in."""

    def gate(self, text: str | None, *, is_closed: bool = False) -> Gate:
        """A gate with this users file."""
        self.path = os.path.abspath(self.mktemp())
        if text is not None:
            self.write(text)

        async def at_once(work: Any) -> Any:
            return work()

        gate = Gate(self.path, at_once, is_closed=is_closed)
        gate.reload()
        return gate

    def write(self, text: str) -> None:
        """Change the users file."""
        with open(self.path, "w", encoding="utf-8") as stream:
            stream.write(text)

    def code(self, gate: Gate, login: str | None, access: Access) -> int:
        """200 or the status of the refusal."""
        header = None if login is None else f"Basic {base64.b64encode(login.encode()).decode()}"
        admitted: Deferred[object] = Deferred.fromCoroutine(gate.admit(header, access))
        result = getattr(admitted, "result", None)
        admitted.addErrback(lambda failure: failure.trap(HttpError))
        if not isinstance(result, Failure):
            return 200
        error = result.value
        assert isinstance(error, HttpError)
        self.assertEqual("WWW-Authenticate" in error.headers, error.code == 401)
        return error.code

    def test_table(self) -> None:
        """Credentials that are sent are always checked; right ones may still not suffice."""
        gate = self.gate("reader a read\nwriter b write\nplain c\n")
        for login, access, code in (
            (None, Access.OPEN, 200),
            (None, Access.READ, 401),
            ("reader:a", Access.OPEN, 200),
            ("reader:x", Access.OPEN, 401),
            ("nobody:a", Access.OPEN, 401),
            ("reader:a", Access.READ, 200),
            ("reader:a", Access.WRITE, 403),
            ("writer:b", Access.READ, 200),
            ("writer:b", Access.WRITE, 200),
            ("plain:c", Access.READ, 403),
        ):
            self.assertEqual(self.code(gate, login, access), code, (login, access))

    def test_closed(self) -> None:
        """With --require-authentication nobody gets in without a name."""
        gate = self.gate("plain c\n", is_closed=True)
        self.assertEqual(self.code(gate, None, Access.OPEN), 401)
        self.assertEqual(self.code(gate, "plain:c", Access.OPEN), 200)

    def test_reload(self) -> None:
        """The file is read again when asked for; none at all means no users."""
        gate = self.gate(None)
        self.assertEqual(self.code(gate, "plain:c", Access.OPEN), 401)
        self.write("plain c\n")
        gate.reload()
        self.assertEqual(self.code(gate, "plain:c", Access.OPEN), 200)


class InfoTests(SynchronousTestCase):
    """`/2/info`."""

    def test_fields(self) -> None:
        """All established fields are there, with their older names and the established word size."""
        info = info_of(cluster_info(cluster(nodes=1), architecture=("64bit", "x86_64")))
        self.assertEqual(INFO_FIELDS - set(info), set())
        self.assertEqual(info["architecture"], ["64bits", "x86_64"])
        self.assertEqual(info["vg_name"], info["volume_group_name"])

    def test_error_body(self) -> None:
        """Errors have code, escaped message and explanation."""
        body = HttpError(404, "no <b>").body()
        self.assertEqual((body["code"], body["message"]), (404, "no &lt;b&gt;"))
        self.assertTrue(body["explain"])
