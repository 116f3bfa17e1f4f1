"""Runs: a directory each, which is the only truth about it (see `directory`)."""
