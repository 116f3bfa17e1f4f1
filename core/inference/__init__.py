"""Running a model: what chat and evaluation share. Imports torch; child processes only."""
