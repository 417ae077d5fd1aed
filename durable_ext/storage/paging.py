"""Continuation tokens for stores that list instances by id: the page goes on after the last id of the one before."""

from __future__ import annotations

import base64

_MARK = b"after:"


def encode_token(instance_id: str) -> str:
    """The token of the page after this id."""
    return base64.urlsafe_b64encode(_MARK + instance_id.encode()).decode()


def decode_token(token: str) -> str:
    """The id a page goes on after. Raises ValueError if this is no such token."""
    try:
        decoded = base64.b64decode(token, altchars=b"-_", validate=True)
        if not decoded.startswith(_MARK):
            raise ValueError("not one of ours")
        return decoded.removeprefix(_MARK).decode()
    except ValueError as error:
        raise ValueError(f"{token!r} is not a continuation token; pass on the one of the page before") from error
