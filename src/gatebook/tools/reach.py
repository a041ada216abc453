"""Where a request may go: listed hosts, and addresses that are everybody's or declared.

URLs are read as policies read them (`kernel.rules.places`), so that what a rule allows is what is
called. Resolves nothing and sends nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import unquote

from gatebook.errors import Permanent, shown
from gatebook.kernel.rules.places import (
    DEFAULT_PORTS,
    Host,
    HostPattern,
    PlaceError,
    host_pattern,
    is_host,
    read_host,
)
from gatebook.tools.options import refused

SCHEMES = ("https", "http")
MAX_NAMED = 20  # hosts that an error names
# What Python knew as public until 3.11.10: IETF assignments (RFC 6890), where a cloud's metadata
# service answers too, and examples (RFC 9637).
RESERVED = (IPv4Network("192.0.0.0/24"), IPv6Network("3fff::/20"))
NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@dataclass(frozen=True)
class Target:
    """Where one URL leads. `authority` is what the Host header says."""

    scheme: str
    host: Host
    port: int
    authority: str


@dataclass(frozen=True)
class Reach:
    """The hosts, schemes and non-public networks that a tool was declared with."""

    names: tuple[str, ...]
    patterns: tuple[HostPattern, ...]
    schemes: tuple[str, ...]
    networks: tuple[Network, ...]

    def check(self, url: str) -> Target:
        """Return where a URL leads.

        Raises:
            Permanent: E_HTTP_URL, or E_HTTP_HOST for a host, port or scheme that is not listed.
        """
        scheme = url.partition("://")[0].lower()
        if "://" not in url or not url.isprintable():
            raise bad_url(url, "it is not scheme://host/path")
        if scheme not in self.schemes:
            raise bad_url(url, f"it must begin with {' or '.join(f'{s}://' for s in self.schemes)}")
        if _has_dots(url):
            raise bad_url(url, "its path goes through . or .., and would be another when sent")
        host = read_host(url)
        if host is None:
            raise bad_url(url, "its host is not plain, or it holds a blank or a backslash")
        if not any(is_host(host, pattern) for pattern in self.patterns):
            names = ", ".join(self.names[:MAX_NAMED])
            at = "" if host.port is None else f":{host.port}"
            raise Permanent(code="E_HTTP_HOST", value=host.name + at, names=names)
        name = f"[{host.name}]" if ":" in host.name else host.name
        port = host.port or DEFAULT_PORTS[scheme]
        authority = name if port == DEFAULT_PORTS[scheme] else f"{name}:{port}"
        return Target(scheme, host, port, authority)

    def check_addresses(self, target: Target, found: Sequence[str]) -> list[str]:
        """Return the addresses of a host, if all of them may be called.

        Raises:
            Permanent: E_HTTP_ADDRESS: one is not public and not in a declared network.
        """
        checked = []
        for text in dict.fromkeys(found):
            address = _address(text)
            detail = "no address" if address is None else kind_of(address)
            if address is None or (detail and not self._declared(address)):
                name = target.host.name
                raise Permanent(
                    code="E_HTTP_ADDRESS", value=name, address=shown(text), detail=detail
                )
            checked.append(text)
        return checked

    def _declared(self, address: Address) -> bool:
        return any(real_address(address) in network for network in self.networks)


def _has_dots(url: str) -> bool:
    """Whether a path has segments that HTTP clients and servers take out of it (RFC 3986, 5.2.4).

    A rule that looks at the URL would see one path, and the server be asked for another.
    """
    path = url.partition("://")[2].partition("#")[0].partition("?")[0]
    return any(unquote(part) in (".", "..") for part in path.split("/")[1:])


def bad_url(url: str, detail: str) -> Permanent:
    """Return the error for a URL that may not be asked. Nothing was sent."""
    return Permanent(code="E_HTTP_URL", value=url, detail=detail)


def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def real_address(address: Address) -> Address:
    """Return where an address leads: IPv4 inside of IPv6 is that IPv4 address."""
    if isinstance(address, IPv4Address):
        return address
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address


def kind_of(address: Address) -> str:
    """Return why an address is not everybody's, "" when it is."""
    real = real_address(address)
    kinds = {
        "loopback": real.is_loopback,
        "link-local": real.is_link_local,
        "unspecified": real.is_unspecified,
        "a multicast address": real.is_multicast,
        "a relay address": isinstance(real, IPv6Address) and real.teredo is not None,
        "private or reserved": not real.is_global or real.is_reserved or _is_reserved(real),
    }
    return next((kind for kind, fits in kinds.items() if fits), "")


def _is_reserved(address: Address) -> bool:
    """Whether an address is not public although this Python takes it for that."""
    site_local = isinstance(address, IPv6Address) and address.is_site_local
    return site_local or any(address in network for network in RESERVED)


def reach(tool: str, hosts: Sequence[str], schemes: Sequence[str], private: Sequence[str]) -> Reach:
    """Return what a tool may reach. Raises ConfigError E_TOOL_DECLARATION."""
    if isinstance(hosts, str) or not hosts:
        raise refused(tool, "it lists no hosts", 'give a list: http(["api.example.com"])')
    patterns = []
    for name in hosts:
        try:
            patterns.append(host_pattern(name))
        except PlaceError as exc:
            raise refused(tool, f"host {shown(name)} is not one", str(exc)) from exc
    if isinstance(schemes, str) or not schemes or not set(schemes) <= set(SCHEMES):
        fix = f"give a list of {', '.join(SCHEMES)}"
        raise refused(tool, f"schemes={shown(schemes)} is not allowed", fix)
    networks = []
    for text in (private,) if isinstance(private, str) else private:
        try:
            networks.append(ip_network(text))
        except ValueError as exc:
            fix = "give addresses or networks: private=['127.0.0.1', '10.2.0.0/16']"
            raise refused(tool, f"private network {shown(text)}: {exc}", fix) from exc
    return Reach(tuple(hosts), tuple(patterns), tuple(dict.fromkeys(schemes)), tuple(networks))
