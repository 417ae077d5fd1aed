"""The threads of a store."""

from __future__ import annotations

import threading
from collections.abc import Callable

from durable_ext.errors import StoreError


def start_thread(main: Callable[..., None], *args: object, name: str) -> None:
    """Run `main` beside everything else. Raises `StoreError` if the process may not have another thread.

    A daemon: a process that forgets to close the store may still exit. Nothing acknowledged is lost by that.
    """
    try:
        threading.Thread(target=main, args=args, name=name, daemon=True).start()
    except RuntimeError as error:
        raise StoreError(f"{name}: {error}. Does this user or container run into its limit of threads?") from error
