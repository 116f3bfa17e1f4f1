"""Peak VRAM: predicted by formula."""
