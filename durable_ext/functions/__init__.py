"""The Azure Functions programming model: decorators, bindings and the client they inject.

- app: the containers and their decorators, which only record;
- bindings: the bindings they record; azure: what azure-functions makes of that; signatures: what user functions must
  look like, and what their annotations say;
- lowering: from what was recorded to a registry for the engine and plain functions for the host;
- resolving: the name and result type of a function that orchestrator code passes to a call;
- injection: the parameters a host does not fill; starts: starting the instances that a function puts out;
- client: the clients that functions are given.
"""
