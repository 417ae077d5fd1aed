"""The Azure Functions programming model: decorators, bindings and the client they inject."""
