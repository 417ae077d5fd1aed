"""The replay engine: history and new events in; new events, messages and status out."""
