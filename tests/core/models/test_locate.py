from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.errors import UserError
from core.models import download
from core.models.hub_cache import repository, snapshot
from core.models.locate import is_local, locate, locate_tokenizer
from tests.core.models.conftest import COMMIT, Hub

MODEL = "acme/tiny"


def test_a_local_folder_is_taken_as_it_is(model_folder: Path) -> None:
    assert locate(str(model_folder)) == model_folder


@pytest.mark.parametrize(
    ("remove", "words"),
    [
        (("config.json",), "no config.json"),
        (("tokenizer.json",), "no tokenizer"),
        (("model.safetensors",), "no weights"),
        (("config.json", "tokenizer.json", "model.safetensors"), "no config.json; it has no wei"),
    ],
)
def test_what_a_folder_lacks_is_said(
    model_folder: Path, remove: tuple[str, ...], words: str
) -> None:
    for name in remove:
        (model_folder / name).unlink()
    with pytest.raises(UserError, match=words):
        locate(str(model_folder))


def test_a_missing_shard_is_named(model_folder: Path) -> None:
    (model_folder / "model.safetensors").unlink()
    (model_folder / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "model-00001.safetensors", "b": "model-00002.safetensors"}}'
    )
    (model_folder / "model-00001.safetensors").touch()
    with pytest.raises(UserError, match=r"1 of its weight files are missing \(model-00002"):
        locate(str(model_folder))


def test_an_adapter_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "acme/base"}')
    with pytest.raises(UserError, match="only an adapter") as caught:
        locate(str(tmp_path))
    assert "acme/base" in caught.value.remedy


def test_a_gguf_cannot_be_trained(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    for place in (tmp_path, tmp_path / "model.gguf"):
        with pytest.raises(UserError, match="GGUF"):
            locate(str(place))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no folder"):
        locate(str(tmp_path / "nowhere"))


def test_hub_ids_and_paths_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not is_local("acme/tiny")
    assert not is_local("gpt2")
    assert all(is_local(name) for name in ("/a/b", "./a", "~/a", "a/b/c", ".."))
    (tmp_path / "acme" / "tiny").mkdir(parents=True)
    assert is_local("acme/tiny")


def test_a_download_brings_what_is_needed_and_shows_its_bytes(hub: Hub) -> None:
    hub.add(MODEL)
    seen: list[tuple[str, int, int | None]] = []
    folder = locate(MODEL, progress=lambda *news: seen.append(news))
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    stages, done, totals = zip(*seen, strict=True)
    assert stages[-1] == f"downloading {MODEL}"
    assert done[-1] == totals[-1] > 300_000
    hub.requests.clear()
    assert locate(MODEL) == folder
    assert hub.requests == []


def test_a_tokenizer_alone_leaves_the_weights(hub: Hub) -> None:
    hub.add(MODEL)
    folder = locate_tokenizer(MODEL)
    assert (folder / "tokenizer.json").exists()
    assert not (folder / "model.safetensors").exists()
    assert not any("safetensors" in request for request in hub.requests)
    assert (locate(MODEL) / "model.safetensors").exists()


def test_offline_takes_the_cache_and_nothing_else(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(MODEL)
    folder = locate(MODEL)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.requests.clear()
    assert locate(MODEL) == folder
    with pytest.raises(UserError, match="HF_HUB_OFFLINE"):
        locate("acme/other")
    assert hub.requests == []


@pytest.mark.parametrize(
    ("status", "code", "words", "remedy"),
    [
        (403, "GatedRepo", "gated", "hf auth login"),
        (401, "GatedRepo", "gated", "hf auth login"),
        (403, "", "gated", "hf auth login"),
        (401, "RepoNotFound", "no model", "hf auth login"),
        (404, "EntryNotFound", "incomplete", "revision"),
    ],
)
def test_a_hub_that_refuses_says_why_before_anything_is_fetched(
    hub: Hub, status: int, code: str, words: str, remedy: str
) -> None:
    hub.add(MODEL)
    hub.status[MODEL] = (status, code)
    with pytest.raises(UserError, match=words) as caught:
        locate(MODEL)
    assert remedy in caught.value.remedy
    assert not any("model.safetensors" in request for request in hub.requests)


def test_a_model_that_does_not_exist(hub: Hub) -> None:
    with pytest.raises(UserError, match="There is no model “acme/none”"):
        locate("acme/none")


def test_a_hub_that_cannot_be_reached(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="cannot be reached"):
        locate(MODEL)


def test_a_hub_that_hangs_is_left(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.hangs = True
    monkeypatch.setattr(download, "ANSWER_SECONDS", 2.0)
    start = time.monotonic()
    with pytest.raises(UserError, match="has not answered for 2 s"):
        download.download(MODEL, None, download.silent, answer_seconds=2.0)
    assert time.monotonic() - start < 30


def test_a_download_that_stalls_is_left_and_leaves_nothing(hub: Hub) -> None:
    hub.add(MODEL)
    hub.stalls_in = "model.safetensors"
    with pytest.raises(UserError, match="has not moved for 1 s"):
        download.download(MODEL, None, download.silent, stall_seconds=1.0)
    assert snapshot(MODEL) is None
    assert not list(repository(MODEL).rglob("*.incomplete"))


def test_an_interrupted_download_leaves_nothing_half_made(hub: Hub) -> None:
    hub.add(MODEL)
    hub.stalls_in = "model.safetensors"
    code = f"from core.models.locate import locate; locate({MODEL!r})"
    process = subprocess.Popen([sys.executable, "-P", "-c", code], env={**os.environ})
    wait_for(lambda: any("model.safetensors" in request for request in hub.requests))
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    wait_for(lambda: not list(repository(MODEL).rglob("*.incomplete")))
    assert snapshot(MODEL) is None
    hub.stalls_in = ""
    hub.released.set()
    assert locate(MODEL) == repository(MODEL) / "snapshots" / COMMIT


def wait_for(condition: object, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
