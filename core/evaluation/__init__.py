"""Held-out loss, perplexity and exact match, of the base and of the tuned model."""
