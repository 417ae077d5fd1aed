"""A store in dictionaries: the contract in its plainest form, and the store of fast tests.

`hub` is what there is and how a commit changes it, `offers` who is given what and when, `store` the connection of one
worker or client, `records` what is stored.
"""

from durable_ext.storage.memory.hub import MemoryHub
from durable_ext.storage.memory.store import MemoryStore

__all__ = ["MemoryHub", "MemoryStore"]
