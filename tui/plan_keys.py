"""The keys of the Plan screen."""

from __future__ import annotations

from textual.binding import Binding, BindingType

PLAN_KEYS: list[BindingType] = [
    Binding("s", "start", "Start the run", show=False),
    Binding("y", "recipe", "Recipe", tooltip="The exact recipe: read, edit, keep, start"),
    Binding("slash", "find", "Find", key_display="/", tooltip="Only some models"),
    Binding("M", "method", "Method", tooltip="Any other method for the highlighted model"),
    Binding("o", "elsewhere", "Other GPUs", tooltip="The same run on a rented GPU, at a service"),
    Binding("left_square_bracket", "turn('length',-1)", "Length", key_display="[ ]"),
    Binding("right_square_bracket", "turn('length',1)", "Longer", key_display="]", show=False),
    Binding("minus", "turn('batch',-1)", "Batch", key_display="- +", tooltip="Micro-batch"),
    Binding("plus,equals_sign", "turn('batch',1)", "More", key_display="+", show=False),
    Binding("comma", "turn('accumulation',-1)", "Fewer rows a step", key_display=",", show=False),
    Binding("full_stop", "turn('accumulation',1)", "More rows a step", key_display=".", show=False),
    Binding("r", "turn('rank',-1)", "Rank", key_display="r R", tooltip="Less of what is trained"),
    Binding("R", "turn('rank',1)", "More of what is trained", show=False),
    Binding("e", "turn('epochs',-1)", "Epochs", key_display="e E"),
    Binding("E", "turn('epochs',1)", "More epochs", show=False),
    Binding("l", "turn('rate',-1)", "Learning rate", key_display="l L", show=False),
    Binding("L", "turn('rate',1)", "Higher learning rate", show=False),
    Binding("x", "turn('optimizer',1)", "Optimiser", show=False),
    Binding("c", "turn('checkpointing',1)", "Gradient checkpointing", show=False),
    Binding("b", "turn('bits',1)", "Bits of the base's weights", show=False),
    Binding("T", "turn('targets',1)", "Which layers are adapted", show=False),
    Binding("f", "turn('packing',1)", "Packing: rows end to end", show=False),
    Binding("O", "objective", "Objective", show=False, tooltip="What the rows are for"),
    Binding("w", "gpus", "GPUs", show=False, tooltip="How many GPUs train together"),
    Binding("u", "undo", "Undo the turns", show=False, tooltip="Back to the proposed values"),
    Binding("m", "model", "Model", tooltip="Only one model, also one that is not listed"),
    Binding("dollar_sign", "price", "Price", key_display="$", tooltip="Dollars per hour"),
    Binding("p", "presets", "Presets", tooltip="Recipes to begin with, yours first"),
    Binding("t", "trial", "Trial", tooltip="A few steps on some rows: does it all work?"),
    Binding("d", "start(False)", "Start, stay here", show=False, tooltip="Start detached"),
    Binding("a", "start(False,True)", "Add to the queue", show=False),
    Binding("n", "name", "Name", show=False, tooltip="Name the run"),
    Binding("i", "app.machine", "Machine", show=False, tooltip="All readings of the machine"),
    Binding("J,shift+down", "scroll(3)", "Scroll what is beside", key_display="J", show=False),
    Binding("K,shift+up", "scroll(-3)", "Scroll it back", key_display="K", show=False),
    Binding("escape", "back", "Back", show=False),
]
