"""Stages for the keeper's tests: real processes that do little."""
