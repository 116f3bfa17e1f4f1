"""TuneDeck's core: everything but the user interface. Nothing here imports Textual."""

__version__ = "0.1.0"
