"""The way to a server: proxies, exceptions from them, and certificates, by the variables of the environment."""

import ssl

import pytest

from fairloop.errors import UserError
from fairloop.servers.network import route_to

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir")
PROXY = "http://proxy.example:3128"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def setting(monkeypatch, **variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize(
    ("url", "variables", "proxy"),
    [
        ("http://server.example/v1", {}, None),
        ("http://server.example/v1", {"HTTP_PROXY": PROXY}, PROXY),
        ("http://server.example/v1", {"HTTPS_PROXY": PROXY}, None),
        ("https://server.example/v1", {"HTTPS_PROXY": "proxy.example:3128"}, PROXY),
        ("https://server.example/v1", {"ALL_PROXY": PROXY}, PROXY),
        ("http://server.example/v1", {"http_proxy": PROXY, "HTTP_PROXY": "http://other:1"}, PROXY),
        *((f"http://{host}:8000/v1", {"ALL_PROXY": "socks5://nowhere:1"}, None) for host in ("localhost", "127.8.0.1")),
        ("http://[::1]:8000/v1", {"HTTP_PROXY": PROXY}, None),
        ("http://0.0.0.0:8000/v1", {"HTTP_PROXY": PROXY}, None),
        ("http://gpu.localhost:8000/v1", {"HTTP_PROXY": PROXY}, None),
        ("http://localhost.example/v1", {"HTTP_PROXY": PROXY}, PROXY),
    ],
)
def test_the_proxy_of_an_address(url, variables, proxy, monkeypatch):
    setting(monkeypatch, **variables)
    assert route_to(url).proxy == proxy


@pytest.mark.parametrize(
    ("host", "exceptions", "through"),
    [
        ("[fd00::7]", "fd00::/8", False),
        ("[fe80::7]", "10.0.0.0/8, fd00::/8", True),
        ("10.1.2.3", "10.0.0.0/8,fd00::/8", False),
        ("11.1.2.3", "10.0.0.0/8", True),
        ("[fd00::7]:8000", "[fd00::7]", False),
        ("node7.cluster.example", ".cluster.example", False),
        ("node7.cluster.example", "*.cluster.example", False),
        ("node7.cluster.example", "cluster.example", False),
        ("mycluster.example", "cluster.example", True),
        ("node7.example:8000", "node7.example:8000", False),
        ("node7.example:8000", "node7.example:8001", True),
        ("node7.example", "other, *", False),
        ("node7.example", "fd00::/8", True),
    ],
)
def test_no_proxy_names_hosts_domains_addresses_and_networks(host, exceptions, through, monkeypatch):
    setting(monkeypatch, HTTP_PROXY=PROXY, NO_PROXY=exceptions)
    assert route_to(f"http://{host}/v1").proxy == (PROXY if through else None)


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"ALL_PROXY": "ftp://h:1"}, "ALL_PROXY=ftp://h:1: allowed is a proxy that begins with http, https or socks5"),
        ({"HTTPS_PROXY": "http://"}, "HTTPS_PROXY: allowed is the address of a proxy"),
        ({"HTTPS_PROXY": "http://h:99999"}, "HTTPS_PROXY: allowed is the address of a proxy"),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "a, fd00::/999"}, "NO_PROXY=fd00::/999: allowed are hosts, domains"),
        ({"SSL_CERT_FILE": "/no/such/file"}, "SSL_CERT_FILE=/no/such/file: there is no such file"),
        ({"SSL_CERT_DIR": "/no/such/folder"}, "SSL_CERT_DIR=/no/such/folder: there is no such folder"),
        ({"SSL_CERT_FILE": __file__}, f"SSL_CERT_FILE={__file__}: it holds no certificates"),
    ],
)
def test_what_cannot_be_used_gets_one_line_that_names_the_variable(variables, line, monkeypatch):
    setting(monkeypatch, **variables)
    with pytest.raises(UserError) as caught:
        route_to("https://server.example/v1")
    assert str(caught.value).startswith(line)
    route_to("http://localhost:8000/v1")  # which needs neither proxy nor certificates


def test_a_socks_proxy_needs_its_package(monkeypatch):
    from fairloop.servers import network

    setting(monkeypatch, ALL_PROXY="socks5://me:hunter2@h:1080")
    monkeypatch.setattr(network, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"^ALL_PROXY=socks5://h:1080: a SOCKS proxy needs the package socksio"):
        route_to("https://server.example/v1")
    monkeypatch.setattr(network, "find_spec", lambda _: "there")
    assert route_to("https://server.example/v1").proxy == "socks5://me:hunter2@h:1080"


def test_whose_certificates_are_believed(monkeypatch):
    by_default = route_to("https://server.example/v1").security
    assert by_default.verify_mode == ssl.CERT_REQUIRED
    assert by_default.cert_store_stats()["x509_ca"] > 10
    import certifi

    setting(monkeypatch, SSL_CERT_FILE=certifi.where())
    assert route_to("https://server.example/v1").security.cert_store_stats() == by_default.cert_store_stats()
