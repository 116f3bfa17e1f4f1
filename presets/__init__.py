"""Data that people edit: models, GPUs, recipes, the demo's rows. No code."""
