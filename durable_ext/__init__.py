"""Durable Functions for Azure Functions, in pure Python."""
