"""Refuse what a foreign web page makes a browser send to the sandbox.

A page of the internet can make a browser post to this machine, or let its own name point here (DNS
rebinding). So pages and actions are served under names of this machine only, and an action that
comes from a page must come from the sandbox's own. A program sends no Origin and is let in. Calls
of merchants are signed, and need none of this.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from wxpay_async.protocol.wire import is_loopback

_READING: Final = ("GET", "HEAD")


def find_refusal(method: str, headers: Mapping[str, str], *, remote: bool) -> str:
    """Return why a request is refused; empty if it is let in.

    Args:
        method: of HTTP, upper case.
        headers: of the request, in any case.
        remote: whether the sandbox listens to other machines.
    """
    host = headers.get("Host", "")
    if host and not _is_own_name(host, remote=remote):
        return "the sandbox is not served under this name"
    if method in _READING:
        return ""
    origin = headers.get("Origin")
    if origin is not None and origin != f"http://{host}":
        return "this action does not come from a page of the sandbox"
    return ""


def is_own_machine(address: str) -> bool:
    """Return whether an IP address is this machine's."""
    return is_loopback(f"http://[{address}]" if ":" in address else f"http://{address}")


def _is_own_name(host: str, *, remote: bool) -> bool:
    try:
        name = urlsplit(f"http://{host}").hostname or ""
    except ValueError:
        return False
    if is_loopback(f"http://{host}"):
        return True
    # No one can make an address, or a name without a dot, point elsewhere in the public DNS.
    return remote and (_is_address(name) or (bool(name) and "." not in name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
