"""The embedded store: one SQLite file, one host, no server.

From the file up: `schema` opens it, `writer` groups commits, `statements` and `queries` are the SQL, `inbox`
and `workload` are what a running process keeps in memory, `store` puts them behind the contract.
"""
