"""A hub on loopback, and folders that look like models."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

COMMIT = "a" * 40
BREAKS_AT = 60_000
LLAMA_CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}


@dataclass
class Hub:
    """What the fake hub holds, and how it misbehaves."""

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    data_sets: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    """Data sets: name → revision (`main` for the usual one) → files."""
    breaks: dict[str, tuple[int, dict[str, str]] | None] = field(default_factory=dict)
    """Data sets that break off beyond the byte `BREAKS_AT`: with a status and headers, or (None)
    in the middle of an answer."""
    busy: dict[str, dict[str, str]] = field(default_factory=dict)
    """Data sets whose files are refused with 429 and these headers."""
    recovers: bool = False
    """They break off once only."""
    dies: bool = False
    """At that byte nobody listens any more."""
    refuses_lists: bool = False
    """`status` is the answer to a request for the list of files too, also if it is 403."""
    redirects: bool = False
    """Pieces of data sets lie at another address."""
    ignores_ranges: bool = False
    status: dict[str, tuple[int, str]] = field(default_factory=dict)
    hangs: bool = False
    stalls_in: str = ""
    stalls_for: float = 60
    address: str = ""
    requests: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def add(self, model: str, **extra: bytes) -> None:
        """A small but whole model."""
        self.files[model] = {
            "config.json": json.dumps(LLAMA_CONFIG).encode(),
            "tokenizer.json": b"{}",
            "model.safetensors": b"\x01" * 300_000,
            "onnx/model.onnx": b"\x02" * 1000,
            "README.md": b"hello",
        } | {name.replace("__", "."): content for name, content in extra.items()}


def commit_of(name: str, revision: str) -> str:
    return hashlib.sha1(f"{name}@{revision}".encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        return

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        if self.hub.hangs:
            self.hub.released.wait(60)
            return None
        path = self.path.split("?")[0]
        if path.startswith(("/api/datasets/", "/datasets/")):
            return self._data_set(path.strip("/").split("/"), body)
        if path.startswith("/api/models/"):
            return self._info("/".join(path.split("/")[3:5]))
        parts = path.strip("/").split("/")
        return self._file("/".join(parts[:2]), "/".join(parts[4:]), body)

    def _info(self, model: str) -> None:
        if model not in self.hub.files:
            return self._error(401, "RepoNotFound")
        siblings = [
            {"rfilename": name, "size": len(content)}
            for name, content in self.hub.files[model].items()
        ]
        content = json.dumps({"id": model, "sha": COMMIT, "siblings": siblings}).encode()
        return self._send(200, content, {"Content-Type": "application/json"})

    def _data_set(self, parts: list[str], body: bool) -> None:
        """`api/datasets/ORG/NAME[/revision/REV]` and `datasets/ORG/NAME/resolve/COMMIT/FILE`."""
        is_listing = parts[0] == "api"
        name, rest = "/".join(parts[is_listing + 1 :][:2]), parts[is_listing + 3 :]
        lists = self.hub.status.get(name, (0,))[0] == 403 and not self.hub.refuses_lists
        if name in self.hub.status and not (is_listing and lists):
            return self._error(*self.hub.status[name])
        if name not in self.hub.data_sets:
            return self._error(401, "RepoNotFound")
        asked = unquote(rest[1]) if rest else "main"
        commits = {revision: commit_of(name, revision) for revision in self.hub.data_sets[name]}
        found = [one for one, commit in commits.items() if asked in (one, commit)]
        if not found:
            return self._error(404, "RevisionNotFound")
        files, commit = self.hub.data_sets[name][found[0]], commits[found[0]]
        if is_listing:
            siblings = [{"rfilename": file, "size": len(data)} for file, data in files.items()]
            tree = {"id": name, "sha": commit, "siblings": siblings}
            return self._send(200, json.dumps(tree).encode(), {"Content-Type": "application/json"})
        return self._piece(name, files[unquote("/".join(rest[2:]))], commit, body)

    def _piece(self, name: str, content: bytes, commit: str, body: bool) -> None:
        """A file, or the part of it that is asked for."""
        if name in self.hub.busy:
            return self._send(429, b"", self.hub.busy[name])
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        if self.hub.redirects and "moved" not in self.path:
            return self._send(302, b"", {"Location": f"{self.path}?moved"})
        wanted = self.headers.get("Range")
        if wanted is None or self.hub.ignores_ranges:
            return self._send(200, content, headers, body=body)
        first, last = map(int, wanted.removeprefix("bytes=").split("-"))
        if self.hub.dies and first >= BREAKS_AT:
            self.server.socket.close()
            self.close_connection = True
            return None
        if name in self.hub.breaks and first >= BREAKS_AT:
            found = self.hub.breaks.pop(name) if self.hub.recovers else self.hub.breaks[name]
            if found is None:
                return self._send(206, content[first : last + 1], headers, stalls=True)
            return self._send(found[0], b"{}", found[1])
        return self._send(206, content[first : last + 1], headers, body=body)

    def _file(self, model: str, name: str, body: bool) -> None:
        if model in self.hub.status:
            return self._error(*self.hub.status[model])
        content = self.hub.files.get(model, {}).get(name)
        if content is None:
            return self._error(404, "EntryNotFound")
        tag = hashlib.sha256(content).hexdigest()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{tag}"'}
        stalls = body and name == self.hub.stalls_in
        return self._send(200, content, headers, body=body, stalls=stalls)

    def _error(self, status: int, code: str) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code})

    def _send(
        self,
        status: int,
        content: bytes,
        headers: dict[str, str],
        *,
        body: bool = True,
        stalls: bool = False,
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if stalls:
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.hub.released.wait(self.hub.stalls_for)
            self.close_connection = True
        elif body and self.command != "HEAD":
            self.wfile.write(content)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub's address is set, with an empty cache and an empty TuneDeck home."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("TUNEDECK_HOME", str(tmp_path / "home"))
    yield hub
    hub.released.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A folder with a config, a tokenizer and (empty) weights."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA_CONFIG))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    return folder
