"""The wheel works in an empty folder, beside files that have our names."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    words = ["-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)]
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    return next(folder.glob("tunedeck-*.whl"))


def test_the_wheel_holds_the_data(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in (
        "presets/demo/train.jsonl",
        "presets/demo/heldout.jsonl",
        "presets/models.yaml",
        "presets/gpus.yaml",
        "tui/styles/app.tcss",
        "core/py.typed",
    ):
        assert name in names
    assert not any(name.startswith("tests/") for name in names)


def test_decoys_in_the_working_folder_do_not_shadow_ours(
    wheel: Path, tmp_path: Path, tiny_model: Path, tiny_rows: Path
) -> None:
    """A worker is started from a folder with a `core.py` and a `tui/` of somebody else's."""
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    work = tmp_path / "work"
    (work / "tui").mkdir(parents=True)
    (work / "tui" / "__init__.py").write_text("raise SystemExit('the wrong tui')")
    (work / "core.py").write_text("raise SystemExit('the wrong core')")
    recipe = work / "recipe.yaml"
    recipe.write_text(
        f"model: {tiny_model}\ndata: {{train: [{tiny_rows}], max_length: 128}}\n"
        "training: {max_steps: 2}\nevaluation: {enabled: false}\nmerge: false\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", "from tui.cli import main; main()", "train", str(recipe)],
        cwd=work,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1",
             "TUNEDECK_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Finished" in done.stderr
