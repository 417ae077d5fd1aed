"""The management URLs of an instance."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from durable_ext.errors import ConfigurationError

_AUTHORITY = re.compile(r"[A-Za-z0-9._\-]+(:[0-9]+)?|\[[0-9A-Fa-f:.]+\](:[0-9]+)?")


def no_code(instance_id: str) -> str | None:
    """For hubs whose management API asks for no key."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagementLinks:
    """Where the management API is served and what its URLs carry.

    `base_url` is everything before `/instances`, such as `http://localhost:7071/runtime/webhooks/durabletask`; None
    if the process serves no such API. `code_for(instance_id)` is the key the instance's URLs carry, None for none.
    """

    hub_name: str
    base_url: str | None = None
    connection_name: str = "Storage"
    code_for: Callable[[str], str | None] = no_code

    def payload(self, instance_id: str, *, base_url: str | None = None, fail_with_500: bool = False) -> dict[str, str]:
        """The URLs by their documented names. `{eventName}` and `{text}` are left for the caller to fill in.

        `base_url` is used instead of the configured one. With `fail_with_500` the status URL answers 500, not 200,
        once the instance has failed.
        """
        base = base_url or self.base_url
        if base is None:
            raise ConfigurationError(
                "Webhooks are not configured: this process serves no management API, so there are no URLs to hand "
                "out. Run under a host that serves it, or give the client its base URL."
            )
        instance = f"{base.rstrip('/')}/instances/{quote(instance_id, safe='')}"
        suffix = f"taskHub={quote(self.hub_name, safe='')}&connection={quote(self.connection_name, safe='')}"
        code = self.code_for(instance_id)
        if code is not None:
            suffix += f"&code={quote(code, safe='')}"
        status = f"{instance}?{suffix}"
        return {
            "id": instance_id,
            "statusQueryGetUri": status + ("&returnInternalServerErrorOnFailure=true" if fail_with_500 else ""),
            "sendEventPostUri": f"{instance}/raiseEvent/{{eventName}}?{suffix}",
            "terminatePostUri": f"{instance}/terminate?reason={{text}}&{suffix}",
            "rewindPostUri": f"{instance}/rewind?reason={{text}}&{suffix}",
            "purgeHistoryDeleteUri": status,
            "restartPostUri": f"{instance}/restart?{suffix}",
            "suspendPostUri": f"{instance}/suspend?reason={{text}}&{suffix}",
            "resumePostUri": f"{instance}/resume?reason={{text}}&{suffix}",
        }


def with_origin(url: str, origin: str) -> str:
    """`url`, served from another scheme and authority."""
    return origin + url[len(origin_of(url)) :]


def origin_of(url: str) -> str:
    """Scheme and authority of a URL: `https://host:port`."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def forwarded_origin(headers: Mapping[str, str]) -> str | None:
    """The origin a proxy says its caller used, if it says both scheme and host and both are plausible.

    A header may list one value per proxy; the first is the caller's. Believe it only where the app is configured
    to: anybody can send these headers.
    """
    named = {name.lower(): value.split(",")[0].strip() for name, value in headers.items()}
    host, scheme = named.get("x-forwarded-host", ""), named.get("x-forwarded-proto", "").lower()
    if scheme not in ("http", "https") or not _AUTHORITY.fullmatch(host):
        return None
    return f"{scheme}://{host}"
