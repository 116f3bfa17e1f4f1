"""From data, models and free memory to a recommended recipe."""
