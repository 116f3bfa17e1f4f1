"""The child that talks to the hub. It lives in a process of its own so that a hub that hangs can
be left: `python -P -m core.models.fetch MODEL REVISION what` with what = all | tokenizer.

Messages on stdout: `listing` (commit, total bytes), `bytes` (done so far), `done` (path),
`error` (code, message, remedy).
"""

from __future__ import annotations

import fnmatch
import json
import os
import signal
import sys
from pathlib import Path
from threading import Thread
from typing import Any, NoReturn

SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "spiece.model",
    "*.jinja",
    "chat_template.json",
)
CHUNK_BYTES = 256 * 1024
REQUEST_SECONDS = 10.0


def choose(files: dict[str, int], *, weights: bool) -> dict[str, int]:
    """The files worth having, small ones first. Safetensors, else the older `.bin` weights."""
    top = {name: size for name, size in files.items() if "/" not in name}
    small = {n: s for n, s in top.items() if any(fnmatch.fnmatch(n, p) for p in SMALL_FILES)}
    first = {"config.json": small["config.json"]} if "config.json" in small else {}
    if not weights:
        return first | small
    for pattern in ("model*.safetensors", "pytorch_model*.bin"):
        heavy = {name: size for name, size in top.items() if fnmatch.fnmatch(name, pattern)}
        if heavy:
            index = {n: s for n, s in top.items() if n == _index_name(pattern)}
            return first | small | index | heavy
    return first | small


def _index_name(pattern: str) -> str:
    stem, suffix = pattern.split("*")
    return f"{stem}{suffix}.index.json"


def main(model_id: str, revision: str, what: str) -> int:
    """Download into the Hugging Face cache; the branch's ref is written when all is there."""
    from huggingface_hub import HfApi, constants, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    client_error: type[Exception] = HfHubHTTPError.__bases__[0]  # httpx's or its successor's
    constants.DOWNLOAD_CHUNK_SIZE = CHUNK_BYTES  # so that a slow line shows that it moves
    meter = _meter_class()
    try:
        info = HfApi().model_info(
            model_id, revision=revision or None, files_metadata=True, timeout=REQUEST_SECONDS
        )
        listed = {file.rfilename: file.size or 0 for file in info.siblings or []}
        wanted = choose(listed, weights=what == "all")
        _send(kind="listing", commit=info.sha, total=sum(wanted.values()))
        for name in wanted:
            path = hf_hub_download(model_id, name, revision=info.sha, tqdm_class=meter)
        if not wanted:
            _fail("empty", f"{model_id} on the hub holds no model files.", "Check the id.")
        _write_ref(model_id, revision or "main", str(info.sha))
        _send(kind="done", path=str(Path(path).parent))
    except (client_error, HFValidationError, OSError) as error:
        _report(error, model_id, revision)
    return 0


def _meter_class() -> Any:
    from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

    class Meter(tqdm):  # type: ignore[misc, type-arg, unused-ignore]
        """Adds up the bytes of all files and reports them; draws nothing."""

        done = 0

        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)
            # xet draws two bars for a file: what it rebuilds, and what that took to transfer
            self._counts = "downloading bytes" not in str(options.get("desc"))
            super().__init__(*args, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            Meter.done += int(n or 0) if self._counts else 0
            _send(kind="bytes", done=Meter.done)
            return None

    return Meter


def _write_ref(model_id: str, revision: str, commit: str) -> None:
    from core.models.hub_cache import repository

    if revision == commit:
        return
    ref = repository(model_id) / "refs" / revision
    ref.parent.mkdir(parents=True, exist_ok=True)
    temporary = ref.with_name(f"{ref.name}.{os.getpid()}")
    temporary.write_text(commit)
    os.replace(temporary, ref)


def _report(error: Exception, model_id: str, revision: str) -> NoReturn:
    """One sentence for each way in which a hub says no."""
    from huggingface_hub import errors

    status = _status(error)
    if isinstance(error, errors.GatedRepoError) or status == 403:
        _fail(
            "gated",
            f"{model_id} is gated: its owner gives it only to those who accept the licence.",
            f"Accept it on the model's page ({_page(model_id)}), then run `hf auth login`.",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        _fail("revision", f"{model_id} has no revision “{revision}”.", "Check the revision.")
    if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError):
        _fail(
            "missing",
            f"There is no model “{model_id}” on the hub, or it is private.",
            "Check the id; for a private or gated model run `hf auth login` first.",
        )
    if status == 401:
        _fail("gated", f"The hub does not let you read {model_id}.", "Run `hf auth login`.")
    if status == 404:
        _fail("missing", f"{model_id} is incomplete on the hub.", "Try another revision.")
    if isinstance(error, OSError) and error.errno in (13, 28, 30, 122):
        _fail("disk", f"Cannot write to the model cache: {error.strerror}.", "Free some space.")
    _fail(
        "unreachable",
        f"The hub cannot be reached, so {model_id} cannot be downloaded.",
        "Check the network, or give a local folder.",
    )


def _status(error: BaseException | None) -> int | None:
    """The HTTP status behind an error; the library wraps some in an error of its cache."""
    while error is not None:
        code = getattr(getattr(error, "response", None), "status_code", None)
        if code is not None:
            return int(code)
        error = error.__cause__
    return None


def _page(model_id: str) -> str:
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{model_id}"


def _fail(code: str, message: str, remedy: str) -> NoReturn:
    _send(kind="error", code=code, message=message, remedy=remedy)
    sys.exit(1)


def _send(**message: Any) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _end_with_parent() -> None:
    """When the parent closes our stdin, end as on SIGTERM: files half downloaded are removed."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


def _stop(number: int, frame: object) -> NoReturn:
    sys.exit(1)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    Thread(target=_end_with_parent, daemon=True).start()
    sys.exit(main(*sys.argv[1:4]))
