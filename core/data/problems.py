"""The kinds of problems: how bad each is, what it does to a model, and what to do."""

from __future__ import annotations

from dataclasses import dataclass

from core.data.report import Severity


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem. `what` follows the number of rows (“3 rows …”)."""

    severity: Severity
    what: str
    remedy: str


KINDS: dict[str, Kind] = {
    "invalid-json": Kind(
        "error", "cannot be read as JSON and are dropped.", "Mend or delete these lines."
    ),
    "encoding": Kind(
        "error",
        "are not clean UTF-8: bytes or halves of characters are wrong.",
        "Save the file as UTF-8; a model learns the wrong characters as they stand.",
    ),
    "not-an-object": Kind(
        "error",
        "are not an object with named fields and are dropped.",
        "Every row needs the same names: an object in JSON, as many cells as the header in CSV.",
    ),
    "mixed-formats": Kind(
        "warning",
        "have another format than most: the model sees two kinds of prompt for one task.",
        "Use one format; rows that cannot be trained on together with the others are dropped.",
    ),
    "missing-field": Kind(
        "error", "lack a field that their format needs and are dropped.", "Fill it in."
    ),
    "unknown-role": Kind(
        "error",
        "have a turn of an unknown role and are dropped.",
        "Roles are system, user, assistant and tool (ShareGPT's names are known too).",
    ),
    "no-assistant-turn": Kind(
        "error", "have no answer to train on and are dropped.", "Add the answer."
    ),
    "bad-turn-order": Kind(
        "warning",
        "have turns out of order: the model sees conversations that no chat will ever be.",
        "Let user and assistant alternate, begin with the user and end with the answer; many"
        " chat templates refuse anything else.",
    ),
    "empty-response": Kind(
        "error",
        "have an empty answer: the model would learn to say nothing.",
        "Fill in or delete it; rows with no other answer are dropped.",
    ),
    "too-long": Kind(
        "warning",
        "are longer than max_length: the end is cut off, and with it the stop token.",
        "Raise max_length, or shorten the rows.",
    ),
    "no-trained-tokens": Kind(
        "error",
        "have no token to train on and are dropped.",
        "Raise max_length if their prompt fills it, or give an answer a weight above 0; the row's"
        " tokens say why.",
    ),
    "no-stop-token": Kind(
        "warning",
        "do not end with a token that generation stops at: the model may never stop.",
        "Use a model whose chat template ends answers with one of its stop tokens.",
    ),
    "unshown-tool-call": Kind(
        "warning",
        "have tool calls that the model's template does not show: these turns are not trained.",
        "Use a model whose chat template knows tools, or write the calls into the answers.",
    ),
    "duplicate": Kind(
        "warning",
        "repeat an earlier row to the letter: they count twice and favour memorising.",
        "Delete them, unless the weight is wanted.",
    ),
    "near-duplicate": Kind(
        "info",
        "are nearly the same as an earlier row (they share 0.8 or more of all runs of three words,"
        " estimated by MinHash): the model sees them more often than the rest.",
        "Keep the best of each group.",
    ),
    "conflicting-answers": Kind(
        "warning",
        "ask the same as another row but answer differently: the model learns a coin toss.",
        "Keep one answer for each prompt, unless variety is wanted.",
    ),
    "leakage": Kind(
        "error",
        "are also in the data held out for evaluation, to the letter or nearly: the score is one"
        " of memory.",
        "Delete them on one side (--write with --eval leaves them out of the copy).",
    ),
    "few-examples": Kind(
        "info",
        "are few for fine-tuning.",
        "Under 200 rows a model mostly memorises; 500 to 1,000 good ones are a start.",
    ),
    "response-length-outlier": Kind(
        "info",
        "have an answer far longer or shorter than the others.",
        "Look at them: they are often mistakes, long ones cost the most memory, and a few essays"
        " among short answers make lengths a matter of luck.",
    ),
    "inconsistent-format": Kind(
        "warning",
        "answer in another form than nearly all others (JSON, a code block, markup, one word):"
        " the model learns to leave the form now and then.",
        "Bring these answers into the form of the rest, or delete them.",
    ),
    "cut-off": Kind(
        "warning",
        "have an answer that stops in the middle of a sentence or block: the model learns to stop"
        " there too.",
        "Complete or delete them; often a length limit cut them when they were generated.",
    ),
    "refusal": Kind(
        "warning",
        "answer with refusal boilerplate, which a model picks up quickly.",
        "Delete them unless refusing is what you want to teach.",
    ),
    "control-characters": Kind(
        "warning",
        "hold control characters (escape sequences, bidi overrides, NUL).",
        "Strip them; the model would learn to print them.",
    ),
    "secret": Kind(
        "warning",
        "hold what looks like a key or password, which a model can repeat to anyone.",
        "Revoke and remove it.",
    ),
    "pii": Kind(
        "info",
        "hold what looks like personal data, which a model can repeat to anyone.",
        "Remove or replace it.",
    ),
    "set-apart": Kind(
        "info",
        "are for evaluation by their names.",
        "Name other rows to evaluate on with --eval (e in the app); name the files one by one to"
        " train on all.",
    ),
    "named-for-evaluation": Kind(
        "warning",
        "are trained on, though by their names they are for evaluation.",
        "Leave them out, or evaluate on them (--eval, e in the app), unless that is meant.",
    ),
    "unread-lists": Kind(
        "warning",
        "are in lists of the file that are not read.",
        "Name one to read it instead, as FILE/LIST; --eval FILE/LIST says what of it is in these"
        " rows too.",
    ),
}  # fmt: skip

CODES = tuple(KINDS)
OF_FILES = frozenset(("set-apart", "named-for-evaluation"))
"""Of these files are counted, not rows."""
BIT = {code: 1 << position for position, code in enumerate(CODES)}


def codes_of(mask: int) -> tuple[str, ...]:
    """The codes in a bit mask of `BIT`."""
    return tuple(code for code in CODES if mask & BIT[code])
