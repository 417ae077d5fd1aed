"""The HTTP management API, without a web framework."""
