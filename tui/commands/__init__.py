"""The commands behind `tunedeck`, imported one at a time."""
