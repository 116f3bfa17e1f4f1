"""Broken, mis-encoded, hostile files: what each is called, holds, and must be found to be.

Each expects the codes by row ({number: code}) and how many rows are usable, or a word of the
sentence that refuses the file as a whole.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import lzma
from dataclasses import dataclass, field

GOOD = json.dumps({"messages": [{"role": "user", "content": "q"},
                                {"role": "assistant", "content": "a"}]})  # fmt: skip


def chat(user: object, assistant: object) -> str:
    turns = [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
    return json.dumps({"messages": turns}, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Case:
    title: str
    name: str
    content: bytes
    codes: dict[int, str] = field(default_factory=dict)
    usable: int = 1
    refused: str = ""


def lines(
    title: str, bad: str | bytes, code: str, usable: int = 2, *, name: str = "a.jsonl"
) -> Case:
    """The bad row as the second of three, the others sound and different."""
    raw = bad.encode("utf-8", "surrogatepass") if isinstance(bad, str) else bad
    content = b"\n".join([GOOD.encode(), raw, GOOD.replace('"q"', '"r"').encode()])
    return Case(title, name, content, {2: code}, usable)


def refused(title: str, name: str, content: bytes, word: str) -> Case:
    return Case(title, name, content, {}, 0, word)


ROWS = [
    lines("cut off in a string", '{"messages": [{"role": "user", "content": "cut', "invalid-json"),
    lines("cut off after a colon", '{"messages":', "invalid-json"),
    lines("a lone brace", "}", "invalid-json"),
    lines("words", "hello there", "invalid-json"),
    lines("a trailing comma", GOOD[:-1] + ",}", "invalid-json"),
    lines("a comma after the row", GOOD + ",", "invalid-json"),
    lines("two rows on a line", GOOD + GOOD, "invalid-json"),
    lines("single quotes", GOOD.replace('"', "'"), "invalid-json"),
    lines("Python, not JSON", '{"messages": None}', "invalid-json"),
    lines("NaN", '{"messages": NaN}', "invalid-json"),
    lines("Infinity", '{"a": -Infinity}', "invalid-json"),
    lines("a comment", "// " + GOOD, "invalid-json"),
    lines("an unescaped tab", '{"text": "a\tb"}', "invalid-json"),
    lines("a raw NUL", b'{"text": "a\x00b"}', "invalid-json"),
    lines("a raw escape sequence", b'{"text": "\x1b[2J"}', "invalid-json"),
    lines("a bad escape", r'{"text": "\x41"}', "invalid-json"),
    lines("a short \\u", r'{"text": "\u12"}', "invalid-json"),
    lines("deep arrays", "[" * 100_000, "invalid-json"),
    lines("deep objects", '{"a":' * 100_000 + "1" + "}" * 100_000, "invalid-json"),
    lines("closed deep arrays", "[" * 5000 + "]" * 5000, "invalid-json"),
    lines("deep inside a row", '{"messages": ' + "[" * 3000 + "]" * 3000 + "}", "invalid-json"),
    lines("a BOM in the middle", b"\xef\xbb\xbf" + GOOD.encode(), "invalid-json"),
    lines("an array", "[1, 2]", "not-an-object"),
    lines("a string", '"hello"', "not-an-object"),
    lines("a number", "42", "not-an-object"),
    lines("a huge number", "9" * 400, "invalid-json"),
    lines("null", "null", "not-an-object"),
    lines("true", "true", "not-an-object"),
    lines("Latin-1", GOOD.replace('"a"', '"é"').encode("latin-1"), "encoding"),
    lines("a lone continuation byte", b'{"text": "\x80"}', "encoding"),
    lines("overlong UTF-8", b'{"text": "\xc0\xaf"}', "encoding"),
    lines("a surrogate in UTF-8", b'{"text": "\xed\xa0\x80"}', "encoding"),
    lines("a cut character", GOOD.encode() + b"\xe4\xbd", "encoding"),
    lines("half a surrogate pair", r'{"text": "\ud83d"}', "encoding"),
    lines("a swapped surrogate pair", r'{"text": "\ude00\ud83d"}', "encoding"),
    lines("UTF-16 in a line", '{"text": "x"}'.encode("utf-16-le"), "invalid-json"),
    lines("nothing in it", "{}", "missing-field"),
    lines("other columns", '{"a": 1, "b": 2}', "missing-field"),
    lines("an empty name", '{"": ""}', "missing-field"),
    lines("messages is null", '{"messages": null}', "missing-field"),
    lines("messages is text", '{"messages": "hello"}', "missing-field"),
    lines("messages is a number", '{"messages": 3}', "missing-field"),
    lines("messages is an object", '{"messages": {"role": "user"}}', "missing-field"),
    lines("a turn is text", '{"messages": ["hello"]}', "missing-field"),
    lines("a turn is null", '{"messages": [null]}', "missing-field"),
    lines("a turn without a role", '{"messages": [{"content": "x"}]}', "missing-field"),
    lines("a turn without content", '{"messages": [{"role": "user"}]}', "missing-field"),
    lines("content is null", chat("q", None), "missing-field"),
    lines("content is an object", chat("q", {"a": 1}), "missing-field"),
    lines("content is an image", chat([{"type": "image_url", "image_url": "x"}], "a"),
          "missing-field"),
    lines("tool calls are text",
          '{"messages": [{"role": "assistant", "tool_calls": "x"}]}', "missing-field"),
    lines("tools are text", GOOD[:-1] + ', "tools": "x"}', "missing-field"),
    lines("an unknown role", '{"messages": [{"role": "narrator", "content": "x"}]}',
          "unknown-role"),
    lines("an escape sequence as a role",
          r'{"messages": [{"role": "\u001b]0;x\u0007", "content": "x"}]}', "unknown-role"),
    lines("a role that is a list", '{"messages": [{"role": ["user"], "content": "x"}]}',
          "unknown-role"),
    lines("a role that is an object", '{"messages": [{"role": {}, "content": "x"}]}',
          "unknown-role"),
    lines("no turns", '{"messages": []}', "no-assistant-turn"),
    lines("only a question", '{"messages": [{"role": "user", "content": "q"}]}',
          "no-assistant-turn"),
    lines("an empty answer", chat("q", ""), "empty-response"),
    lines("an answer of white space", chat("q", " \n\t\u3000"), "empty-response"),
    lines("plain text among chats", '{"text": "x"}', "mixed-formats"),
    lines("pairs among chats", '{"prompt": "x", "completion": "y"}', "mixed-formats", 3),
    lines("a clear-screen sequence", chat("q2", "\x1b[2J\x1b[H"), "control-characters", 3),
    lines("a title sequence", chat("\x1b]0;pwned\x07", "a"), "control-characters", 3),
    lines("a clipboard sequence", chat("q2", "\x1b]52;c;ZWNobw==\x07"), "control-characters", 3),
    lines("NUL", chat("q2", "a\x00b"), "control-characters", 3),
    lines("backspaces", chat("q2", "a\x08b"), "control-characters", 3),
    lines("DEL", chat("q2", "a\x7fb"), "control-characters", 3),
    lines("C1 controls", chat("q2", "a\x9b31mb"), "control-characters", 3),
    lines("a bidi override", chat("q2", "a\u202eb"), "control-characters", 3),
    lines("a bidi isolate", chat("q2", "a\u2067b"), "control-characters", 3),
    lines("a replacement character", chat("q2", "a\ufffdb"), "encoding", 3),
    lines("a noncharacter", chat("q2", "a\uffffb" + "\x01"), "control-characters", 3),
    lines("the same row again", GOOD, "duplicate", 3),
    lines("spaces around a repeated row", f"  {GOOD}\t ", "duplicate", 3),
    lines("a repeated key", GOOD[:-1] + ', "messages": []}', "no-assistant-turn"),
    lines("markup", chat("[bold red]q[/]", "[/bold] [@click=app.quit]x[/]"), "", 3),
    lines("a million spaces", " " * 1_000_000, "", 2),
    lines("a long answer", chat("q2", "x" * 2_000_000), "", 3),
    lines("ten thousand turns", json.dumps({"messages": [
        {"role": role, "content": "x"} for _ in range(5000) for role in ("user", "assistant")
    ]}), "", 3),
    lines("a wide object", json.dumps({f"k{n}": n for n in range(20_000)}), "missing-field"),
    lines("combining characters", chat("q2", "e" + "\u0301" * 10_000), "", 3),
    lines("no answers to any turn", chat("q2", "a")[:-2] + "]" + "}" + " ", "", 3),
]  # fmt: skip

FILES = [
    refused("empty", "a.jsonl", b"", "empty"),
    refused("only white space", "a.jsonl", b"\n\n  \r\n", "white space"),
    refused("only a BOM", "a.jsonl", codecs.BOM_UTF8, "white space"),
    refused("NULs", "a.jsonl", b"\x00" * 5000, "binary"),
    refused("an ELF binary", "a.jsonl", b"\x7fELF\x02\x01" + b"\x00\x01\x02\x03" * 300, "binary"),
    refused("a PNG", "a.json", b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\rIHDR" * 40, "binary"),
    refused("a zip", "a.csv", b"PK\x03\x04" + b"\x14\x00\x00\x00\x08\x00" * 60, "binary"),
    refused("UTF-16 without a mark", "a.jsonl", GOOD.encode("utf-16-be"), "binary"),
    refused("no parquet", "a.parquet", GOOD.encode(), "not a parquet"),
    refused("a cut parquet", "a.parquet", b"PAR1\x15\x04" + b"\x00" * 50, "cannot be read"),
    refused("no arrow", "a.arrow", b"hello", "not a arrow"),
    refused("a cut gzip head", "a.jsonl.gz", b"\x1f\x8b\x08", "cannot be unpacked"),
    refused("a damaged gzip", "a.jsonl.gz",
            b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x07" + b"\xff" * 9, "cannot be unpacked"),
    refused("a false zstd", "a.jsonl.zst", b"\x28\xb5\x2f\xfd\xff\xff", "cannot be unpacked"),
    refused("a false xz", "a.jsonl.xz", b"\xfd7zXZ\x00\x00\x00", "cannot be unpacked"),
    refused("a false bzip2", "a.jsonl.bz2", b"BZh91AY&SYxxxx", "cannot be unpacked"),
    refused("an empty gzip", "a.jsonl.gz", gzip.compress(b""), "white space"),
    refused("a table with a name twice", "a.csv", b"prompt,prompt\n1,2\n", "name the columns"),
    Case("a cut gzip", "a.jsonl.gz", gzip.compress((GOOD + "\n").encode() * 9)[:-12],
         {2: "duplicate", 7: "invalid-json"}, 6),
    Case("CRLF", "a.jsonl", f"{GOOD}\r\n{{\r\n".encode(), {2: "invalid-json"}),
    Case("CR alone", "a.jsonl", f"{GOOD}\r\r{{\r[1]".encode(),
         {3: "invalid-json", 4: "not-an-object"}),
    Case("CR alone after a BOM", "a.jsonl",
         codecs.BOM_UTF8 + f"[]\r{GOOD}\r".encode() + b'{"a": "\xff"}\r',
         {1: "not-an-object", 3: "encoding"}),
    Case("CR alone in UTF-16", "a", codecs.BOM_UTF16_BE + f"{GOOD}\r{{".encode("utf-16-be"),
         {2: "invalid-json"}),
    Case("CR alone in a packed file", "a.gz", gzip.compress(f"{GOOD}\r{{\r".encode()),
         {2: "invalid-json"}),
    Case("CR alone in text", "a.txt", b"one\rtwo\r\rone\r", {4: "duplicate"}, 3),
    Case("CR alone in a table", "a.csv", b"prompt,completion\rq,a\ronly\r", {2: "missing-field"}),
    Case("CR alone in an array", "a.json", f"[{GOOD},\r{GOOD},\r2]".encode(),
         {2: "duplicate", 3: "not-an-object"}, 2),
    Case("a BOM", "a.jsonl", codecs.BOM_UTF8 + f"{GOOD}\n{{".encode(), {2: "invalid-json"}),
    Case("UTF-16", "a.jsonl", codecs.BOM_UTF16_LE + f"{GOOD}\n{{".encode("utf-16-le"),
         {2: "invalid-json"}),
    Case("UTF-16 with half a pair", "a.jsonl",
         codecs.BOM_UTF16_LE + f"{GOOD}\n".encode("utf-16-le") + b'{\x00"\x00\x00\xd8"\x00}\x00',
         {2: "encoding"}),
    Case("UTF-16 cut in a character", "a.jsonl",
         codecs.BOM_UTF16_LE + f"{GOOD}\n{{".encode("utf-16-le") + b"\x41", {2: "encoding"}),
    refused("packed twice", "a.jsonl.gz", gzip.compress(bz2.compress(GOOD.encode())), "binary"),
    Case("xz", "a.jsonl.xz", lzma.compress(f"{GOOD}\n[]".encode()), {2: "not-an-object"}),
    Case("no newline at the end", "a.jsonl", f"[]\n{GOOD}".encode(), {1: "not-an-object"}),
    Case("blank lines", "a.jsonl", f"\n\n{GOOD}\n \n{{\n".encode(), {5: "invalid-json"}),
    Case("nothing but broken rows", "a.jsonl", b"{\n" * 50, {1: "invalid-json"}, 0),
    Case("a broken array", "a.json", f"[{GOOD}, {GOOD[:20]}".encode(), {2: "invalid-json"}),
    Case("an array without commas", "a.json", f"[{GOOD} {GOOD}]".encode(), {2: "invalid-json"}),
    Case("an array of everything", "a.json", f"[1, {GOOD}, null]".encode(),
         {1: "not-an-object", 3: "not-an-object"}),
    Case("an empty array", "a.json", b"[]", {}, 0),
    Case("a deep array", "a.json", b"[" * 50_000, {1: "invalid-json"}, 0),
    Case("words in .json", "a.json", b"hello there", {1: "invalid-json"}, 0),
    Case("an object that holds nothing", "a.json", b'{"version": 1}', {1: "missing-field"}, 0),
    Case("a short table row", "a.csv", b"prompt,completion\nq,a\nonly\n", {2: "missing-field"}),
    Case("a long table row", "a.csv", b"prompt,completion\nq,a\n1,2,3\n", {2: "not-an-object"}),
    Case("a table in Latin-1", "a.csv", b"prompt,completion\nq,a\n\xe9,\xe9\n", {2: "encoding"}),
    Case("an open quote", "a.csv", b'prompt,completion\nq,a\n"open,2\n3,4\n', {2: "missing-field"}),
    Case("a table with NUL", "a.csv", b"prompt,completion\nq,a\x00\n" + b"x,y\n" * 40,
         {1: "control-characters", 3: "duplicate"}, 41),
    Case("text in Latin-1", "a.txt", b"fine\n\xe9t\xe9\n", {2: "encoding"}),
    Case("a file without a name for it", "notes", f"{GOOD}\n{{\n".encode(), {2: "invalid-json"}),
]  # fmt: skip
CASES = [*ROWS, *FILES]
