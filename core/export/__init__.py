"""Ways out: the formats that other programs read."""
