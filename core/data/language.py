"""The language of a text, or the script where that is all that can be told.

Scripts come from Unicode blocks. In Latin script a language is recognised by its commonest
words; code, names and very short texts have too few of them and stay undetermined. It is meant
for the mix in a file, not for a verdict on a row.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter

UNDETERMINED = "undetermined (Latin)"
_NO_LETTERS = "no letters"
_READ = 600
_LETTERS = 200
_LAST_LATIN = "\u036f"
_FEWEST = 3
_SHARE = 0.1
_WORDS: dict[str, str] = {
    "English": "the and of to is in that you for it with are this be was on have what how do i my",
    "German": "der die und ist das nicht den ein eine zu mit für auf wie sie ich es im was",
    "French": "le les et des est une que dans pour qui pas vous sur avec ce au du il je",
    "Spanish": "el los y las que en un por con para una del como es está qué se al su",
    "Portuguese": "o os e não uma que em um para com da do como é você ao na no por",
    "Italian": "il di che non per una sono con del della è le un gli come più nel alla",
    "Dutch": "de het een en van is niet dat op te voor met zijn ik je hoe wat aan er",
    "Polish": "i w nie na się z do jest to jak że co są dla przez czy od po",
    "Swedish": "och det att en är som på för inte med av den till har ett jag om hur",
    "Turkish": "ve bir bu için ile da de ne mi çok daha olarak gibi var değil olan",
    "Indonesian": "yang dan di untuk dengan ini itu tidak dari pada adalah apa dalam akan",
    "Vietnamese": "và của là có không cho một các được người trong những để với này",
}
_KNOWN: dict[str, list[str]] = {}
for _name, _words in _WORDS.items():
    for _word in _words.split():
        _KNOWN.setdefault(_word, []).append(_name)
_WORD = re.compile(r"[^\W\d_]+")
# (first code point, script); each reaches up to the next
_BLOCKS: tuple[tuple[int, str], ...] = (
    (0, "Latin"), (0x370, "Greek"), (0x400, "Cyrillic"), (0x530, "Armenian"), (0x590, "Hebrew"),
    (0x600, "Arabic"), (0x700, "other"), (0x900, "Devanagari"), (0x980, "Bengali"),
    (0xA00, "other"), (0xB80, "Tamil"), (0xC00, "Telugu"), (0xC80, "other"), (0xE00, "Thai"),
    (0xE80, "other"), (0x10A0, "Georgian"), (0x1100, "Korean"), (0x1200, "other"),
    (0x1E00, "Latin"), (0x1F00, "Greek"), (0x2000, "other"), (0x3040, "Japanese"),
    (0x3100, "other"), (0x3130, "Korean"), (0x3190, "other"), (0x3400, "Chinese"),
    (0xA000, "other"), (0xAC00, "Korean"), (0xD800, "other"), (0xF900, "Chinese"),
    (0xFB00, "other"), (0x20000, "Chinese"), (0x30000, "other"),
)  # fmt: skip
_FIRSTS = tuple(first for first, _ in _BLOCKS)


def language_of(text: str) -> str:
    """The language, else the script, of the end of a text: there a row's answer stands."""
    end = text[-_READ:]
    script = "Latin" if end.isascii() else _script(end)
    return _latin(end) if script == "Latin" else script


def _script(text: str) -> str:
    """The commonest script among the last letters; kana make Chinese characters Japanese."""
    letters = [char for char in text[-_LETTERS:] if char.isalpha()]
    others = [char for char in letters if char > _LAST_LATIN]
    found = Counter(_BLOCKS[bisect_right(_FIRSTS, ord(char)) - 1][1] for char in others)
    found["Latin"] += len(letters) - len(others)
    if not letters:
        return _NO_LETTERS
    script, _ = max(found.items(), key=lambda item: (item[1], item[0]))
    return "Japanese" if script == "Chinese" and found["Japanese"] * 10 > len(letters) else script


def _latin(text: str) -> str:
    words = _WORD.findall(text.lower())
    if not words:
        return _NO_LETTERS
    hits: Counter[str] = Counter()
    distinct: Counter[str] = Counter()
    for word, count in Counter(words).items():
        for name in _KNOWN.get(word, ()):
            hits[name] += count
            distinct[name] += 1
    (best, most), (_, second) = (*sorted(hits.items(), key=_by_count)[:2], ("", 0), ("", 0))[:2]
    enough = distinct[best] >= _FEWEST and most >= _SHARE * len(words)
    return best if enough and most > second else UNDETERMINED


def _by_count(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]
