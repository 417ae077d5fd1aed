"""Where instances live."""
