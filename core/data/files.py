"""Opening files as they come: compressed or not, whatever their Unicode encoding."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, cast

from core.data.parts import is_held_out_name
from core.errors import UserError, describe_os_error

if TYPE_CHECKING:
    from core.data.hub import HubFile

Kind = Literal["jsonl", "json", "csv", "tsv", "parquet", "arrow", "text", "document"]

KINDS: dict[str, Kind] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".jsonlines": "jsonl", ".json": "json", ".csv": "csv",
    ".tsv": "tsv", ".tab": "tsv", ".parquet": "parquet", ".pq": "parquet", ".arrow": "arrow",
    ".feather": "arrow", ".txt": "text", ".md": "document", ".markdown": "document",
}  # fmt: skip
PACKED = (".gz", ".xz", ".bz2", ".zst")
HEAD_BYTES = 65536
_PIECE = 256
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "gz"), (b"\xfd7zXZ\x00", "xz"), (b"BZh", "bz2"), (b"\x28\xb5\x2f\xfd", "zst"),
)  # fmt: skip
_BOMS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16: its mark begins with the same bytes
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_TEXT_BYTES = bytes({*b"\t\n\x0b\x0c\r\x1b", *range(32, 256)} - {127})
READ_ERRORS = (OSError, EOFError, lzma.LZMAError, zlib.error, ValueError)
"""What reading a damaged compressed file can raise."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of rows. `packing` is the compression found in its first bytes (empty: none),
    `encoding` what its byte order mark says, `mark` the length of that mark. A `remote` file lies
    on the hub; `path` is then its name only. `part` is the list of rows that is meant, where a
    JSON object holds several (empty: none is named). With `cr` its lines end with CR alone, as
    on old Macs."""

    path: Path
    size: int
    kind: Kind
    packing: str
    encoding: str
    mark: int
    remote: HubFile | None = None
    part: str = ""
    cr: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether the bytes on disk are the UTF-8 text itself, so that offsets can be kept."""
        as_text = self.encoding == "utf-8" and not self.cr
        return self.remote is None and not self.packing and as_text

    def open(self) -> IO[bytes]:
        """The bytes as they lie there."""
        if self.remote is not None:
            return self.remote.open()
        try:
            return self.path.open("rb", buffering=1 << 20)
        except OSError as error:
            raise describe_os_error(error, "read") from error


def examine(path: Path, remote: HubFile | None = None) -> DataFile:
    """Look at a file's first bytes. UserError when it cannot be read or holds no rows."""
    file = DataFile(path, 0, "text", "", "utf-8", 0, remote)
    try:
        size = remote.size if remote is not None else path.stat().st_size
        with file.open() as stream:
            magic = stream.read(8)
    except OSError as error:
        raise describe_os_error(error, "read") from error
    if not magic:
        raise UserError(f"{path} is empty.", "Open another file.")
    packing = next((name for start, name in _MAGIC if magic.startswith(start)), "")
    head = _head(replace(file, packing=packing))
    encoding, mark = next(
        ((name, len(bom)) for bom, name in _BOMS if head.startswith(bom)), ("utf-8", 0)
    )
    kind = _kind(path, head, encoding, mark, packing)
    cr = kind in ("jsonl", "text") and _ends_with_cr(_text(head, encoding, mark))
    return DataFile(path, size, kind, packing, encoding, mark, remote, cr=cr)


def _text(head: bytes, encoding: str, mark: int) -> str:
    return head[mark:].decode(encoding, "replace")


def _ends_with_cr(text: str) -> bool:
    """Whether CR alone ends its lines."""
    return "\r" in text and "\n" not in text


@dataclass(slots=True)
class Lists:
    """The lists of rows in a JSON file: which is `wanted` (None: the usual one), which is read
    (`taken`; empty for an array that needs no name, None as long as none is), how many rows the
    others have, and whether the file is too big to be parsed as a whole."""

    wanted: str | None = None
    taken: str | None = None
    others: dict[str, int] = field(default_factory=dict)
    streamed: bool = False

    def wants(self, name: str) -> bool:
        """Whether the list of this name is the one to read, as far as can be said before the
        others have been seen."""
        if self.wanted is not None:
            return name == self.wanted
        return self.taken is None and not is_held_out_name(name)


class Meter:
    """How many bytes of the files on disk have been read, and which lists in them; readers of
    many files share one."""

    def __init__(self) -> None:
        self.lists: dict[Path, Lists] = {}
        self._done = self._reached = 0
        self._raw: IO[bytes] | None = None

    @property
    def position(self) -> int:
        raw = self._raw
        return self._done + (raw.tell() if raw and not raw.closed else self._reached)

    def follow(self, raw: IO[bytes]) -> None:
        self._raw = raw

    def reach(self, position: int) -> None:
        """Tell how much of a file has been read that cannot be followed."""
        self._reached = position

    def finish(self, size: int) -> None:
        self._raw, self._reached, self._done = None, 0, self._done + size


def open_lines(file: DataFile, meter: Meter | None = None) -> IO[bytes]:
    """The unpacked text as UTF-8 bytes after the mark, whatever encoding it has on disk.

    What cannot be decoded stays invalid UTF-8, so that the row it stands in is found.
    """
    stream = _unpack(file, meter)
    stream.read(file.mark)
    if file.encoding == "utf-8" and not file.cr:
        return stream
    return cast(IO[bytes], io.BufferedReader(_Recoded(stream, file.encoding, file.cr), 1 << 16))


def open_text(file: DataFile, meter: Meter | None = None) -> IO[str]:
    """The text after the mark; undecodable bytes become lone surrogates."""
    return io.TextIOWrapper(open_lines(file, meter), "utf-8", errors="surrogateescape", newline="")


class _Recoded(io.RawIOBase):
    """A stream of another encoding, or with other line ends, as UTF-8 with LF."""

    def __init__(self, stream: IO[bytes], encoding: str, cr: bool) -> None:
        self._stream = stream
        self._cr = cr
        self._errors = "surrogateescape" if encoding == "utf-8" else "surrogatepass"
        self._decoder = codecs.getincrementaldecoder(encoding)(self._errors)
        self._ready = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        while not self._ready and not self._ended:
            chunk = self._stream.read(1 << 16)
            self._ended = not chunk
            try:
                text = self._decoder.decode(chunk, final=self._ended)
            except UnicodeDecodeError:
                text = "\udcff"  # half a character
                self._decoder.reset()
            text = text.replace("\r", "\n") if self._cr else text
            self._ready = text.encode("utf-8", self._errors)
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count


def _unpack(file: DataFile, meter: Meter | None = None) -> IO[bytes]:
    raw = file.open()
    packing = file.packing
    if meter is not None:
        meter.follow(raw)
    if packing == "gz":
        return cast(IO[bytes], gzip.open(raw, "rb"))
    if packing == "xz":
        return lzma.open(raw, "rb")
    if packing == "bz2":
        return cast(IO[bytes], bz2.open(raw, "rb"))
    return _unpack_zstd(raw) if packing == "zst" else raw


def _unpack_zstd(raw: IO[bytes]) -> IO[bytes]:
    """Through pyarrow, which has the codec on every Python that we support."""
    import pyarrow

    return cast(IO[bytes], io.BufferedReader(pyarrow.input_stream(raw, compression="zstd")))


def _head(file: DataFile) -> bytes:
    """The first bytes, unpacked; of a damaged archive what comes before the damage."""
    head = b""
    try:
        with _unpack(file) as stream:
            while len(head) < HEAD_BYTES and (piece := stream.read(_PIECE)):
                head += piece
    except READ_ERRORS as error:
        if not head:
            raise UserError(
                f"{file.path} cannot be unpacked: {error}.", "Copy or pack it anew."
            ) from error
    return head


def _kind(path: Path, head: bytes, encoding: str, mark: int, packing: str) -> Kind:
    columnar = _columnar_kind(head)
    if columnar is not None and packing:
        raise UserError(f"{path} is a packed {columnar} file.", "Unpack it first.")
    if columnar is not None:
        return columnar
    bare = path.with_suffix("") if path.suffix.lower() in PACKED else path
    named = KINDS.get(bare.suffix.lower())
    if named in ("parquet", "arrow"):
        raise UserError(f"{path} is not a {named} file.", "It may be damaged: copy it anew.")
    _refuse_binary(path, head, encoding)
    text = _text(head, encoding, mark)
    text = text.replace("\r", "\n") if _ends_with_cr(text) else text
    if not text.strip() and len(head) < HEAD_BYTES:
        raise UserError(f"{path} holds nothing but white space.", "Open another file.")
    if named in (None, "json", "jsonl"):
        return _kind_of_json(text, named, whole=len(head) < HEAD_BYTES)
    return named


def _columnar_kind(head: bytes) -> Kind | None:
    if head.startswith(b"PAR1"):
        return "parquet"
    return "arrow" if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")) else None


def _refuse_binary(path: Path, head: bytes, encoding: str) -> None:
    if encoding != "utf-8":
        return
    strange = len(head.translate(None, _TEXT_BYTES))
    often = 10 if _is_utf8(head) else 20
    if strange * often > len(head):
        raise UserError(
            f"{path} is not text: it looks like a binary file.",
            "Open a jsonl, json, csv, tsv, parquet, txt or md file"
            " (UTF-16 text needs a byte order mark).",
        )


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # may end within a character
    except UnicodeDecodeError:
        return False
    return True


def _kind_of_json(text: str, named: Kind | None, *, whole: bool) -> Kind:
    """Whether text with this name is JSON lines, one JSON value, or (nameless) plain text."""
    lines = [line for line in text.lstrip().split("\n") if line.strip()]
    first = lines[0].strip()
    if first[0] not in "[{":
        return named or _kind_of_table(first)
    if len(lines) == 1 and whole:
        # one line: a value of its own, unless its name says that it is a row
        return "jsonl" if named == "jsonl" and first[0] == "{" else "json"
    alone = _parses(first)
    if len(lines) == 1:  # longer than what was read
        return "jsonl" if named == "jsonl" and first[0] == "{" else "json"
    if alone:
        return "jsonl"
    if first[0] == "[":
        return "json"
    second = lines[1].strip()
    if _parses(second):
        return "jsonl"  # its first line is broken
    pretty = first[-1] in "{[," and (first != "{" or second[0] in '"}')
    return "json" if pretty or named == "json" else "jsonl"


def _kind_of_table(first: str) -> Kind:
    """Whether nameless text is a table: two names in its first line are those of known columns."""
    from core.data.columns import KNOWN_NAMES, plain_name

    for separator in "\t,;":
        names = {plain_name(cell.strip(' "')) for cell in first.split(separator)}
        if len(KNOWN_NAMES & names) >= 2:
            return "tsv" if separator == "\t" else "csv"
    return "text"


def _parses(line: str) -> bool:
    import json

    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
