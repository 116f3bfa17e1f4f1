"""Talking to a model: a worker that holds it, and its client."""
