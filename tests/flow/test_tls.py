"""STARTTLS: mandatory, checked against the JID's domain, and never a password before it (DESIGN 2)."""
import time

import pytest

from fakes import misbehaviour
from fakes.support import PASSWORD, deadline, wait_until
from fakes.xmpp_server import FakeServer


@pytest.fixture
def server(request):
    made = []

    def make(*args, **how):
        made.append(FakeServer(*args, **how))
        made[-1].add("juliet")
        return made[-1]
    yield make
    for fake in made:
        fake.close()


def refused(gateway, server):
    response = gateway.api().try_sign_in("juliet@example.com")
    assert (response.status, response.code) == (502, "xmpp-unreachable"), response
    assert not [r for r in server.stanzas.all() if r.kind in ("auth", "response")]


def test_a_server_without_starttls(make_gateway, server):
    plain = server(None)
    refused(make_gateway(plain), plain)


def test_a_stripped_feature(fake, gateway):
    fake.add("juliet")
    fake.hook("open", misbehaviour.no_starttls)
    refused(gateway, fake)


def test_a_certificate_for_another_name(make_gateway, server, authority):
    other = server(authority.issue("example.org"))
    refused(make_gateway(other), other)


def test_an_expired_certificate(make_gateway, server, authority):
    old = server(authority.issue("example.com", "expired", days=-1))
    refused(make_gateway(old), old)


def test_an_unknown_authority(make_gateway, server, tmp_path):
    from fakes.certs import Authority
    stranger = server(Authority(tmp_path / "stranger").issue("example.com"))
    refused(make_gateway(stranger), stranger)


def test_a_handshake_that_stalls_is_cut_and_costs_others_nothing(fake, make_gateway):
    """The front ends it by shutdown() of its copy of the socket; the other user of the same worker goes
    on reading and writing meanwhile and after it."""
    gateway = make_gateway(fake, xmpp={"connect_timeout": "10s"})
    for name in ("juliet", "romeo"):
        fake.add(name)
    romeo = gateway.sign_in("romeo@example.com")
    fake.hook("starttls", misbehaviour.stall_tls, times=1)
    start = time.monotonic()
    response = gateway.api().try_sign_in("juliet@example.com")
    assert response.status in (502, 504), response
    assert time.monotonic() - start < deadline(9), "the handshake was not cut after 5 s"
    assert romeo.put_item("nurse@example.com").status == 201
    assert len(fake.sessions_of("romeo")) == 1, "romeo's session did not survive"
    assert gateway.sign_in("juliet@example.com").get("/v1/roster").status == 200


def test_plaintext_only_to_loopback_and_only_when_asked(make_gateway, server):
    plain = server(None)
    gateway = make_gateway(plain, xmpp={"plaintext_loopback": True})
    assert gateway.sign_in("juliet@example.com").get("/v1/roster").status == 200


def test_tls_is_really_used(fake, gateway):
    fake.add("juliet")
    gateway.sign_in("juliet@example.com")
    session = wait_until(lambda: fake.sessions_of("juliet"), what="session")[0]
    assert session.tls is not None and session.tls.version() in ("TLSv1.2", "TLSv1.3")
    assert PASSWORD not in gateway.log()
