"""Who is let in: the local host asks for no keys, so it must not answer whatever page a browser happens to show.

Any page may send requests to this machine, and with a name of its own that leads here (DNS rebinding) read the answers
too. A browser cannot be made to lie about two things: the name it asked (`Host`), and the page that asks (`Origin`,
`Sec-Fetch-Site`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from durable_ext.printable import printable

HOW_TO_ALLOW = '"Host": {"AllowedHosts": "name, name"} in local.settings.json'

ANY = "*"
"""Stands for every name in the list of allowed hosts."""

_AUTHORITY = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")


class NotAdmittedError(Exception):
    """The request is turned away with this status; the text says why, and what to do about it."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Door:
    """Checks names. `bind` is what the user calls the `address` that is listened on, `allowed` are more names for it.

    On a loopback address only this machine's names and the allowed ones are answered to, elsewhere any name, unless
    some are allowed by name: then only those.
    """

    def __init__(self, bind: str, address: str, allowed: Iterable[str] = ()) -> None:
        names = {_plain(each) for each in allowed}
        self._any = ANY in names or (not names and not _is_loopback(_plain(address)))
        self._allowed = names | {_plain(bind), _plain(address)}

    def authority(self, hosts: list[str]) -> str:
        """What the caller calls this host, checked: it comes back in links. Raises `NotAdmittedError`."""
        if len(hosts) != 1:
            raise NotAdmittedError(400, "a request needs one Host header")
        name = _host_of(hosts[0])
        if name is None:
            raise NotAdmittedError(400, f"Host '{_shown(hosts[0])}' is no name or address with a port")
        if not (self._any or _is_loopback(name) or name in self._allowed):
            raise NotAdmittedError(
                403,
                f"This host answers as localhost only, not as '{name}'. If that name is meant to lead here, allow it: "
                f"{HOW_TO_ALLOW}.",
            )
        return hosts[0]

    def check_sender(self, authority: str, headers: Mapping[str, str]) -> None:
        """Turn away what a page of another site sends. Raises `NotAdmittedError`."""
        origin = headers.get("Origin")
        if origin is None:
            # Sent without an origin: links and pictures, which only ever GET, and everything that is no browser.
            if headers.get("Sec-Fetch-Site", "").casefold() != "cross-site":
                return
            origin = "another site"
        elif self._is_ours(origin, authority):
            return
        raise NotAdmittedError(
            403,
            f"The management API does not answer pages of {_shown(origin)}. If that site is meant to use it, allow its "
            f"name: {HOW_TO_ALLOW}.",
        )

    def _is_ours(self, origin: str, authority: str) -> bool:
        try:
            page = urlsplit(origin).hostname
        except ValueError:
            return False
        if page is None:  # "null": a sandbox, a file
            return False
        page, own = _plain(page), _host_of(authority)
        # Other ports of the same name are fine: a development server hands its page's requests on as they came.
        return page == own or page in self._allowed or (own is not None and _is_loopback(own) and _is_loopback(page))


def _host_of(authority: str) -> str | None:
    """Name or address without the port; None if it is neither."""
    found = _AUTHORITY.fullmatch(authority)
    if found is None or int(found[2] or 0) > 65535:
        return None
    name = _plain(found[1])
    if found[1].startswith("["):
        try:
            ipaddress.IPv6Address(name)
        except ValueError:
            return None
    return name or None


def _plain(name: str) -> str:
    return name.strip().strip("[]").rstrip(".").casefold()


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _shown(text: str) -> str:
    return printable(text)[:200]
