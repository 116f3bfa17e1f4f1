"""Peak VRAM: predicted by formula, simulated, and corrected by what was measured."""
