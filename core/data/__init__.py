"""From a file to tokens: open → recognise → normalise → encode → inspect → split.

Everything here works without torch or transformers, so the app, the command line and the
trainer share one implementation.
"""
