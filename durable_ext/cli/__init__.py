"""The `durable` command."""

from durable_ext.cli.main import main

__all__ = ["main"]
