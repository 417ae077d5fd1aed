"""The Azure Functions programming model: decorators, bindings and the client they inject.

- app: the containers and their decorators, which only record (bindings: what they record, checks: what they refuse);
- lowering: from what was recorded to a registry for the engine and plain functions for the host;
- resolving: the name and result type of a function that orchestrator code passes to a call;
- injection: the client parameter, and the output that starts instances (starts: reading it, starting: doing it);
- client: the clients that functions are given.
"""
