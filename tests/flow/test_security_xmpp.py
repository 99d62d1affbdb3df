"""Where the gateway connects to, and whom it believes: served domains only, SRV records of both kinds,
direct TLS, and certificates that are refused for four different reasons."""
import pytest

from fakes.certs import Authority
from fakes.dns_server import DnsServer
from fakes.support import free_port
from fakes.xmpp_server import FakeServer

DOMAIN = "example.com"
STARTTLS, DIRECT = "_xmpp-client._tcp.example.com", "_xmpps-client._tcp.example.com"


@pytest.fixture
def dns():
    server = DnsServer()
    yield server
    server.close()


@pytest.fixture
def make_server():
    """make_server(certificate, direct=True): speaks TLS from the first byte."""
    made = []

    def make(certificate, direct=False, **how):
        server = FakeServer(certificate, **how)
        server.add("juliet")
        if direct:
            server.hook("connect",
                        lambda session, _: session.start_tls(server.certificate.server_context()))
        made.append(server)
        return server
    yield make
    for server in made:
        server.close()


def by_dns(make_gateway, dns, **xmpp):
    return make_gateway({DOMAIN: ""}, xmpp={"dns_servers": [dns.address], **xmpp})


def works(gateway):
    api = gateway.sign_in(f"juliet@{DOMAIN}")
    assert api.put_item("nurse@example.com").status == 201
    return api


def away(gateway, codes=("xmpp-unreachable",)):
    response = gateway.api().try_sign_in(f"juliet@{DOMAIN}")
    assert response.status in (502, 504) and response.code in codes, response
    return response


def no_password_came(server):
    return not [r for r in server.stanzas.all() if r.kind in ("auth", "response")]


# --- direct TLS ---------------------------------------------------------------------------------------

def test_direct_tls_by_configuration(make_gateway, make_server, certificate):
    server = make_server(certificate, direct=True)
    works(make_gateway(f"{server.address}+tls"))
    [session] = server.sessions_of("juliet")
    assert session.tls is not None
    assert not [r for r in server.stanzas.all() if r.kind == "starttls"]


def test_direct_tls_by_name(make_gateway, make_server, dns, certificate):
    server = make_server(certificate, direct=True)
    dns.a("xmpp.example.net", "127.0.0.1")
    works(make_gateway(f"xmpp.example.net:{server.port}+tls", xmpp={"dns_servers": [dns.address]}))


def test_direct_tls_comes_back_after_a_cut(make_gateway, make_server, certificate):
    server = make_server(certificate, direct=True)
    gateway = make_gateway(f"{server.address}+tls")
    api = works(gateway)
    server.cut_all()
    server.signed_in.wait_for(lambda session: not session.closed, since=1, what="the second sign-in")
    assert api.put_item("mercutio@example.com").status == 201


def test_direct_tls_towards_a_server_that_has_none(make_gateway, make_server, certificate):
    server = make_server(certificate)
    gateway = make_gateway(f"{server.address}+tls", xmpp={"connect_timeout": "3s"})
    away(gateway, ("xmpp-unreachable", "xmpp-timeout"))
    assert no_password_came(server)


# --- certificates -------------------------------------------------------------------------------------

def bad_certificate(authority, folder, kind):
    if kind == "expired":
        return authority.issue(DOMAIN, "security-expired", days=-1)
    if kind == "wrong-name":
        return authority.issue("example.org", "security-other-name")
    if kind == "unknown-ca":
        return Authority(folder / "stranger", "Stranger").issue(DOMAIN)
    return Authority.self_signed(folder, DOMAIN)


@pytest.mark.parametrize("direct", [False, True], ids=["starttls", "direct"])
@pytest.mark.parametrize("kind", ["expired", "self-signed", "wrong-name", "unknown-ca"])
def test_refused_certificates_are_told_apart(make_gateway, make_server, authority, tmp_path, kind,
                                             direct):
    server = make_server(bad_certificate(authority, tmp_path, kind), direct)
    gateway = make_gateway(server.address + ("+tls" if direct else ""))
    away(gateway)
    lines = gateway.log_lines("certificate-refused")
    assert [(line["domain"], line["reason"]) for line in lines] == [(DOMAIN, kind)], lines
    assert no_password_came(server)


def test_a_private_ca_is_not_trusted_without_being_named(make_gateway, make_server, certificate):
    server = make_server(certificate)
    gateway = make_gateway(server, ca_file="")
    away(gateway)
    assert [line["reason"] for line in gateway.log_lines("certificate-refused")] == ["unknown-ca"]


def test_the_ca_file_is_read_at_the_start(make_gateway, make_server, authority, certificate, tmp_path):
    """The worker keeps a copy: neither its place nor its content matter later, and no other file can
    be put under its name."""
    held = tmp_path / "own-ca.pem"
    with open(authority.cert, "rb") as file:
        held.write_bytes(file.read())
    server = make_server(certificate)
    gateway = make_gateway(server, ca_file=str(held))
    works(gateway)
    held.unlink()
    server.cut_all()
    server.signed_in.wait_for(lambda session: not session.closed, since=1, what="the second sign-in")


# --- SRV ----------------------------------------------------------------------------------------------

def test_srv_of_either_kind(make_gateway, make_server, dns, certificate):
    server = make_server(certificate)
    dns.srv(STARTTLS, "host.example.net", server.port)
    dns.a("host.example.net", "127.0.0.1")
    works(by_dns(make_gateway, dns))
    assert sorted(dns.asked("SRV")) == sorted([STARTTLS, DIRECT])


def test_srv_of_direct_tls(make_gateway, make_server, dns, certificate):
    server = make_server(certificate, direct=True)
    dns.srv(DIRECT, "host.example.net", server.port)
    dns.a("host.example.net", "127.0.0.1")
    works(by_dns(make_gateway, dns))
    assert server.sessions_of("juliet")[0].tls is not None


def test_the_next_record_is_tried_when_the_first_refuses(make_gateway, make_server, dns, certificate):
    server = make_server(certificate)
    dns.srv(STARTTLS, "dead.example.net", free_port(), priority=1)
    dns.srv(DIRECT, "gone.example.net", 5223, priority=2)              # no address at all
    dns.srv(STARTTLS, "host.example.net", server.port, priority=3)
    dns.a("dead.example.net", "127.0.0.1")
    dns.a("host.example.net", "127.0.0.1")
    works(by_dns(make_gateway, dns))


def test_priorities_of_both_kinds_are_one_order(make_gateway, make_server, dns, certificate):
    first, second = make_server(certificate, direct=True), make_server(certificate)
    dns.srv(STARTTLS, "b.example.net", second.port, priority=20)
    dns.srv(DIRECT, "a.example.net", first.port, priority=10)
    for name in ("a.example.net", "b.example.net"):
        dns.a(name, "127.0.0.1")
    works(by_dns(make_gateway, dns))
    assert len(first.connects) == 1 and len(second.connects) == 0


def test_a_cname_and_an_answer_by_tcp(make_gateway, make_server, dns, certificate):
    server = make_server(certificate)
    dns.srv(STARTTLS, "alias.example.net", server.port)
    dns.cname("alias.example.net", "host.example.net")
    dns.a("host.example.net", "127.0.0.1")
    dns.truncate = True
    works(by_dns(make_gateway, dns))
    assert dns.tcp_questions > 0


def test_a_lying_srv_record_gets_no_password(make_gateway, make_server, dns, authority):
    """The certificate must be the JID domain's, whatever the DNS says (RFC 6120 13.7.2.1)."""
    server = make_server(authority.issue("evil.example.net"))
    dns.srv(STARTTLS, "evil.example.net", server.port)
    dns.a("evil.example.net", "127.0.0.1")
    gateway = by_dns(make_gateway, dns)
    away(gateway)
    assert gateway.log_lines("certificate-refused")[0]["reason"] == "wrong-name"
    assert no_password_came(server)


def test_a_root_target_means_not_served(make_gateway, dns):
    dns.srv(STARTTLS, ".", 0)
    dns.a(DOMAIN, "127.0.0.1")
    away(by_dns(make_gateway, dns))
    assert DOMAIN not in dns.asked("A") + dns.asked("AAAA"), "RFC 6120 3.2.1: no fall-back"


def test_without_srv_the_domain_itself_is_asked(make_gateway, dns):
    dns.a(DOMAIN, "127.99.99.99")          # nobody listens on its port 5222
    away(by_dns(make_gateway, dns))
    assert DOMAIN in dns.asked("A")


def test_names_of_srv_records_are_not_searched_for_elsewhere(make_gateway, dns):
    dns.srv(STARTTLS, "host.nowhere.example", 5222)
    away(by_dns(make_gateway, dns))
    asked = set(dns.asked("A"))
    assert asked == {"host.nowhere.example"}, asked


@pytest.mark.parametrize("how", ["silent", "servfail"])
def test_a_dns_server_that_fails(make_gateway, dns, how):
    setattr(dns, how, True)
    gateway = by_dns(make_gateway, dns, connect_timeout="3s")
    away(gateway, ("xmpp-unreachable", "xmpp-timeout"))
    assert gateway.api().get("/v1/openapi.json").status == 200


def test_an_address_is_looked_up_again_after_a_failure(make_gateway, make_server, dns, certificate):
    dns.srv(STARTTLS, "host.example.net", free_port())
    dns.a("host.example.net", "127.0.0.1")
    gateway = by_dns(make_gateway, dns)
    away(gateway)
    server = make_server(certificate)
    dns.records.clear()
    dns.srv(STARTTLS, "host.example.net", server.port)
    dns.a("host.example.net", "127.0.0.1")
    works(gateway)


# --- served domains only (T11) ------------------------------------------------------------------------

ELSEWHERE = ["127.0.0.1", "[::1]", "localhost", "metadata", "169.254.169.254", "metadata.google.internal",
             "example.net", "example.com.", "sub.example.com", "xample.com", "example.com.evil.net",
             "еxample.com", "exаmple.com", "example。net", "example.co", "example.com:5222",
             "example.com/@127.0.0.1", "0x7f000001", "2130706433", "127.1", "EXAMPLE.NET"]


def test_no_other_domain_is_ever_reached(make_gateway, make_server, dns, certificate):
    server = make_server(certificate)
    dns.srv(STARTTLS, "host.example.net", server.port)
    dns.a("host.example.net", "127.0.0.1")
    gateway = by_dns(make_gateway, dns)
    for domain in ELSEWHERE:
        response = gateway.api().try_sign_in("a@" + domain)
        assert (response.status, response.code) in ((403, "domain-not-served"), (400, "invalid-jid"),
                                                    (422, "invalid-jid"), (401, "unauthorized")), \
            (domain, response)
        if response.status == 401:
            assert domain in ("example.com.", "example.com/@127.0.0.1"), domain
    others = [name for name in dns.asked() if name not in (STARTTLS, DIRECT, "host.example.net")]
    assert others == []
    works(gateway)


def test_the_domain_is_one_in_every_spelling(make_gateway, make_server, certificate):
    """JIDs of two domains, and one domain written in two ways: never mixed up."""
    server = make_server(certificate)
    gateway = make_gateway(server)
    api = gateway.sign_in("JULIET@EXAMPLE.COM")
    assert api.get("/v1/session").json()["jid"] == "juliet@example.com"
    assert gateway.sign_in("juliet@example.com").get("/v1/roster").status == 200
    assert len(server.sessions_of("juliet")) == 1


def test_the_same_name_at_two_domains_is_two_users(make_gateway, make_server, authority):
    one = make_server(authority.issue("example.com"))
    two = make_server(authority.issue("example.org"), domain="example.org")
    two.accounts["juliet"].password = "another-password-2"
    gateway = make_gateway({"example.com": one.address, "example.org": two.address})
    first = gateway.sign_in("juliet@example.com")
    second = gateway.sign_in("juliet@example.org", "another-password-2")
    assert first.put_item("only-one@example.net").status == 201
    assert "only-one@example.net" in first.items() and "only-one@example.net" not in second.items()
    assert gateway.api().try_sign_in("juliet@example.org").status == 401
    assert first.delete("/v1/session?all=1").status == 204
    assert second.get("/v1/roster").status == 200
