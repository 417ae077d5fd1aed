"""`python -m durable_ext`: the `durable` command."""

from durable_ext.cli.main import main

main()
