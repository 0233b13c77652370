"""Addresses of machines: what counts as one place, as this machine, as one of a list."""

import ipaddress
from collections.abc import Iterable


def place_of(address: str) -> str:
    """Return what counts as one place: an IPv4 address, or the /64 that an IPv6 host owns."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    return str(found if found.version == 4 else ipaddress.ip_network((found, 64), strict=False))


def is_loopback(host: str) -> bool:
    """Return whether a host to serve on can only be reached from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_among(address: str, networks: Iterable[str]) -> bool:
    """Return whether an address is in one of the networks, such as "10.0.0.5" or "10.1.0.0/16"."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(found in ipaddress.ip_network(network) for network in networks)
