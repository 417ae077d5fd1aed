"""The keys of the management API.

The hub key opens everything. URLs handed out for an instance do not carry it, but a token that is signed with it
and opens that one instance: whoever is given a status link cannot list, start or purge anything else.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable
from typing import Protocol

from durable_ext.errors import ConfigurationError

_SHORTEST_KEY = 16


class Keys(Protocol):
    """What opens the management API."""

    def code_for(self, instance_id: str) -> str | None:
        """The `code` that URLs of this instance carry, or None for none."""

    def admits(self, presented: Iterable[str], instance_id: str | None) -> bool:
        """Whether one of the presented codes opens this instance; with None, the whole hub."""
        ...


class DevelopmentKeys:
    """Everybody may do everything, and URLs carry no code. For a host only its developer can reach."""

    def code_for(self, instance_id: str) -> str | None:
        """Always None."""
        return None

    def admits(self, presented: Iterable[str], instance_id: str | None) -> bool:
        """Always."""
        return True


class HubKeys:
    """One or more hub keys, and the tokens signed with them.

    The first key signs, all of them open: to replace a key, put the new one first and drop the old one once no URL
    signed with it is in use. A token is good for its instance in this hub, as long as the key is.
    """

    def __init__(self, hub_name: str, *keys: str) -> None:
        if not keys or any(len(key) < _SHORTEST_KEY for key in keys):
            raise ConfigurationError(
                f"a key of the management API needs at least {_SHORTEST_KEY} characters; "
                f"generate one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
            )
        self._hub_name, self._keys = hub_name, tuple(key.encode() for key in keys)

    def code_for(self, instance_id: str) -> str:
        """The token that opens this instance and nothing else."""
        return _token(self._keys[0], self._hub_name, instance_id)

    def admits(self, presented: Iterable[str], instance_id: str | None) -> bool:
        """Whether a hub key, or a token of this instance, was presented. Takes as long for wrong ones."""
        good = list(self._keys)
        if instance_id is not None:
            good += [_token(key, self._hub_name, instance_id).encode() for key in self._keys]
        # a list, so that all() is compared whatever the first comparison says
        found = [hmac.compare_digest(code.encode(errors="replace"), each) for code in presented for each in good]
        return any(found)


def _token(key: bytes, hub_name: str, instance_id: str) -> str:
    # Lower-case hub names are what makes two spellings one hub; ids never hold a NUL, so the parts cannot be confused.
    signed = "\0".join(("durable instance token v1", hub_name.lower(), instance_id))
    digest = hmac.new(key, signed.encode(errors="surrogatepass"), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
