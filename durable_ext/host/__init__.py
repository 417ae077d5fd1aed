"""The local host: a Function App in one process, without Core Tools."""
