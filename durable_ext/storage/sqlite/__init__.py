"""The embedded store: one SQLite file, one host, no server.

From the file up: `schema` opens it and brings its `tables` up to date, `writer` groups commits on one thread and
`reader` answers queries on others; `message_rows`, `work_rows`, `instance_rows`, `commits`, `hosting` and `queries` are
the SQL; `inbox` and `workload` are what a running process keeps in memory; `store` puts them behind the contract.
"""
