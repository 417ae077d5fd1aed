"""Where engine and storage meet."""
