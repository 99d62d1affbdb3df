"""What the flow tests share: one certificate authority and one Prosody per test process; a fake XMPP
server and a gateway per test or per module. Every gateway is stopped by SIGTERM and must exit 0 without
a sanitizer report; a report also fails the test during which it was written."""
import os
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from fakes.certs import Authority                     # noqa: E402
from fakes.ejabberd import MODES, Ejabberd              # noqa: E402
from fakes.fault_proxy import FaultProxy              # noqa: E402
from fakes.gateway import Gateway                     # noqa: E402
from fakes.nginx import Nginx                         # noqa: E402
from fakes.prosody import Prosody                     # noqa: E402
from fakes.redis_server import RedisServer            # noqa: E402
from fakes.sites import EjabberdSite, FakeSite, ProsodySite  # noqa: E402
from fakes.xmpp_server import FakeServer              # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_running = []            # every gateway that has not been stopped yet


def _binary(variable, folder):
    path = os.environ.get(variable) or os.path.join(ROOT, "build", folder, "rostergate")
    if not os.access(path, os.X_OK):
        pytest.fail(f"no gateway at {path}: build it (tests/run flow) or set {variable}",
                    pytrace=False)
    return path


@pytest.fixture(scope="session")
def binary():
    return _binary("RG_BINARY", "asan")


@pytest.fixture(scope="session")
def release_binary():
    return _binary("RG_RELEASE_BINARY", "release")


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def certificate(authority):
    return authority.issue("example.com")


@pytest.fixture(scope="session")
def prosody(tmp_path_factory, certificate):
    server = Prosody(tmp_path_factory.mktemp("prosody"), certificate)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def ejabberd(tmp_path_factory, authority):
    server = Ejabberd(tmp_path_factory.mktemp("ejabberd"), authority)
    yield server
    server.stop()


@pytest.fixture
def fake(certificate):
    """A well-behaved XMPP server for example.com, for one test."""
    server = FakeServer(certificate)
    yield server
    server.close()


@pytest.fixture
def proxy(fake):
    """The XMPP link of the fake server, to be cut, stalled, slowed, truncated."""
    link = FaultProxy("127.0.0.1", fake.port)
    yield link
    link.close()


@pytest.fixture
def redis(tmp_path):
    """A real redis-server, empty, for one test."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder)
    yield server
    server.close()


class _Makers:
    """Makes gateways and stops them, each once; the first failure is raised when all are down."""

    def __init__(self, folder, binary, authority):
        self.folder, self.binary, self.authority, self.made = folder, binary, authority, []

    def __call__(self, domains, binary=None, **how):
        if not isinstance(domains, dict):
            domains = {"example.com": getattr(domains, "address", domains)}
        how.setdefault("ca_file", self.authority.cert)
        gateway = Gateway(binary or self.binary, self.folder / f"gateway{len(self.made)}", domains,
                          start=False, **{k: v for k, v in how.items() if k != "start"})
        self.made.append(gateway)
        _running.append(gateway)
        if how.get("start", True):
            gateway.start()
        return gateway

    def finish(self):
        failure = None
        for gateway in self.made:
            _running.remove(gateway)
            try:
                gateway.stop()
            except AssertionError as error:
                failure = failure or error
        if failure is not None:
            raise failure


@pytest.fixture
def make_gateway(tmp_path, binary, authority):
    """make_gateway(server, xmpp={...}, ...): a gateway of this test for that server (or address, or
    {domain: address})."""
    makers = _Makers(tmp_path, binary, authority)
    yield makers
    makers.finish()


@pytest.fixture(scope="module")
def module_gateway(tmp_path_factory, binary, authority):
    """As make_gateway, for gateways that a whole module uses."""
    makers = _Makers(tmp_path_factory.mktemp("module"), binary, authority)
    yield makers
    makers.finish()


@pytest.fixture
def gateway(make_gateway, fake):
    """A gateway of this test in front of the fake server."""
    return make_gateway(fake)


@pytest.fixture(scope="module", params=["prosody", *MODES, "fake"])
def site(request, module_gateway, certificate, authority):
    """A gateway in front of real Prosody, then the same tests in front of real ejabberd, with both ways of
    roster versioning and without, then in front of the fake server."""
    if request.param == "prosody":
        server = request.getfixturevalue("prosody")
        yield ProsodySite(server, module_gateway(server), authority)
    elif request.param in MODES:
        server = request.getfixturevalue("ejabberd")
        gateway = module_gateway({domain: server.address for domain, _ in MODES.values()})
        yield EjabberdSite(request.param, server, gateway, authority)
    else:
        server = FakeServer(certificate)
        yield FakeSite(server, module_gateway(server), authority)
        server.close()


@pytest.fixture(scope="module")
def fake_site(module_gateway, certificate, authority):
    """Only the fake server, with one gateway for the module."""
    server = FakeServer(certificate)
    yield FakeSite(server, module_gateway(server), authority)
    server.close()


@pytest.fixture
def make_nginx(tmp_path):
    made = []

    def make(*gateways, read_timeout="75s"):
        upstreams = [f"unix:{gateway.unix_path}" if gateway.unix_path else f"127.0.0.1:{gateway.port}"
                     for gateway in gateways]
        made.append(Nginx(tmp_path / f"nginx{len(made)}",
                          os.path.join(ROOT, "deploy", "nginx.conf"), upstreams, read_timeout))
        return made[-1]

    yield make
    for nginx in made:
        nginx.stop()


@pytest.fixture
def socket_folder():
    """A folder with a path short enough for a Unix socket."""
    folder = tempfile.mkdtemp(prefix="rg")
    os.chmod(folder, 0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def no_reports():
    """A report of a sanitizer fails the test that was running."""
    yield
    for gateway in _running:
        gateway.check_reports()
