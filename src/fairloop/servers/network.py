"""What the environment says of the way to a server: proxies, and whose certificates are believed.

Read here and not by httpx, which sends requests to this machine through a proxy, takes no network in NO_PROXY, and ends
in a traceback over a certificate file that is not there.
"""

import ipaddress
import os
import ssl
from dataclasses import dataclass
from importlib.util import find_spec
from urllib.parse import SplitResult, urlsplit

from fairloop.errors import UserError


@dataclass(frozen=True)
class Route:
    """The way to an address.

    Attributes:
        proxy: the proxy's address; None: none.
        named: the variable that names it and its address without a password, for messages.
        security: whose certificates are believed; of an address without TLS it is not used.
    """

    proxy: str | None
    named: str
    security: ssl.SSLContext


def route_to(url: str) -> Route:
    """Return the way to an address, by HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR.

    This machine's own addresses are never reached through a proxy.

    Raises:
        UserError: one of these variables holds what cannot be used; the line names it.
    """
    target = urlsplit(url)
    name, proxy = ("", "") if _is_here(target.hostname or "") else _variable(f"{target.scheme}_proxy", "all_proxy")
    if proxy and _goes_without(target):
        name, proxy = "", ""
    named = _checked_proxy(name, proxy) if proxy else ""
    encrypted = target.scheme == "https" or proxy.startswith("https")
    security = _believed() if encrypted else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return Route((proxy if "://" in proxy else f"http://{proxy}") if proxy else None, named, security)


def _variable(*names: str) -> tuple[str, str]:
    """Return the first variable that is set, small letters before capitals as everywhere, and its value."""
    for spelled in (one for name in names for one in (name, name.upper())):
        if value := os.environ.get(spelled, "").strip():
            return spelled, value
    return "", ""


def _is_here(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _goes_without(target: SplitResult) -> bool:
    """Tell whether NO_PROXY names the host: by its name or a domain it is in, its address or a network, or `*`."""
    name, entries = _variable("no_proxy")
    host = target.hostname or ""
    return any(_names(entry.lower(), host, target.port, name) for entry in entries.replace(",", " ").split())


def _names(entry: str, host: str, port: int | None, variable: str) -> bool:
    if entry == "*":
        return True
    entry = entry.partition("://")[2] or entry
    try:
        network = ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass
    else:
        try:
            return ipaddress.ip_address(host) in network
        except ValueError:
            return False
    try:
        parts = urlsplit(f"//{entry}")
        named, wanted = parts.hostname or "", parts.port
    except ValueError:
        named, wanted = "", None
    if not named or parts.path.strip("/"):
        raise UserError.of(
            variable, entry, "allowed are hosts, domains, addresses and networks such as fd00::/8, with commas between"
        )
    name = named.lstrip("*").lstrip(".")
    return wanted in (None, port) and (host == name or host.endswith(f".{name}"))


def _checked_proxy(variable: str, value: str) -> str:
    """Check a proxy's address; return the variable and the address without name and password."""
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host:
        raise UserError(f"{variable}: allowed is the address of a proxy, such as http://proxy.example:3128")
    named = f"{variable}={parts.scheme}://{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}"
    if parts.scheme in ("http", "https"):
        return named
    if parts.scheme not in ("socks5", "socks5h"):
        raise UserError(f"{named}: allowed is a proxy that begins with http, https or socks5")
    if find_spec("socksio") is None:
        raise UserError(f"{named}: a SOCKS proxy needs the package socksio: pip install socksio, or name an HTTP proxy")
    return named


def _believed() -> ssl.SSLContext:
    """Return whose certificates are believed: those of SSL_CERT_FILE or SSL_CERT_DIR, else httpx's own."""
    for variable, kind, is_there in (
        ("SSL_CERT_FILE", "file", os.path.isfile),
        ("SSL_CERT_DIR", "folder", os.path.isdir),
    ):
        if not (value := os.environ.get(variable, "")):
            continue
        if not is_there(value):
            raise UserError.of(variable, value, f"there is no such {kind}")
        try:
            if kind == "file":
                return ssl.create_default_context(cafile=value)
            return ssl.create_default_context(capath=value)
        except OSError:  # SSLError is one
            raise UserError.of(variable, value, "it holds no certificates that can be read") from None
    import httpx

    return httpx.create_ssl_context(trust_env=False)
