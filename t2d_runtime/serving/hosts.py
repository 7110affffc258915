"""Names and origins that the service answers to, so that no other web site reaches it through a visitor's browser."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from t2d_runtime.errors import OptionError

LOOPBACK = ("localhost", "127.0.0.1", "::1")

_HOST = re.compile(r"(?P<name>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?", re.IGNORECASE)
_NAME = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+", re.IGNORECASE)


def is_loopback(host: str) -> bool:
    """True for an address that only this machine reaches."""
    address = _address(host)
    return host.lower() == "localhost" or (address is not None and address.is_loopback)


@dataclass(frozen=True)
class Hosts:
    """Hosts and origins that requests may name."""

    names: frozenset[str]
    """Lower case, without port."""
    any_address: bool = False
    """True where the service listens on all addresses: an address cannot be another site's name."""
    origins: frozenset[str] = frozenset()
    """Origins of other sites whose pages may call."""

    @classmethod
    def of(cls, host: str, names: Iterable[str] = (), origins: Iterable[str] = ()) -> Hosts:
        """The rules for a service on this address. Raises OptionError for names and origins that are none."""
        address = _address(host)
        allowed = {*LOOPBACK, host.lower(), *map(_checked_name, names)}
        any_address = address is not None and address.is_unspecified
        return cls(frozenset(allowed), any_address, frozenset(map(_checked_origin, origins)))

    def knows(self, host: str) -> bool:
        """True for a Host header with a name of this service, at any port."""
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found["name"].strip("[]").lower()
        return name in self.names or (self.any_address and _address(name) is not None)

    def trusts(self, origin: str, host: str) -> bool:
        """True for an Origin header of this service's own page, or of an allowed site."""
        if origin in self.origins:
            return True
        parts = urlsplit(origin) if "\\" not in origin else None
        return parts is not None and parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise OptionError(f"--allow-host {name!r}: expected a host name without a port, such as masks.example.org")
    return name.lower()


def _checked_origin(origin: str) -> str:
    try:
        parts = urlsplit(origin)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}":
        raise OptionError(f"--allow-origin {origin!r}: expected a scheme and a host, such as https://www.example.org")
    return origin
