"""Make the pictures of the README from the running app: one real demo run, six places.

    python screenshots/make.py [--home FOLDER]

Trains the demo (minutes), so the content is real; delete the home to start afresh. Writes SVG
and, where a Chromium is found, PNG, 120×36 each.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))
os.environ["PYTHONPATH"] = str(FOLDER.parent)
os.environ.update(TERM="xterm-256color", COLORTERM="truecolor")
os.environ.pop("NO_COLOR", None)

SIZE = (120, 36)
PLACES = (("1", "home"), ("2", "data"), ("3", "plan"), ("5", "result"))
FONT = "'DejaVu Sans Mono', 'Fira Code', monospace"


def save(app: object, name: str) -> None:
    """Write the app's present screen as SVG, with a font that has every glyph we draw."""
    svg: str = app.export_screenshot(title="tunedeck")  # type: ignore[attr-defined]
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.S)
    svg = re.sub(r"font-family: ?[^;]+;", f"font-family: {FONT};", svg)
    (FOLDER / f"{name}.svg").write_text(svg, encoding="utf-8")
    print(f"{name}.svg")


async def wait_for(pilot: object, reached: object, seconds: float) -> None:
    """Let the app run until `reached()`; SystemExit when that takes too long."""
    deadline = time.monotonic() + seconds
    while not reached():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise SystemExit("the app did not get there in time")
        await pilot.pause(0.25)  # type: ignore[attr-defined]


async def tour() -> None:
    """Visit the places in the order of the journey."""
    from core import demo
    from core.runs.directory import RunDirectory
    from core.runs.state import current_state
    from core.runs.supervisor import launch, list_runs
    from tui.app import TuneDeck
    from tui.deck import Deck

    done = [item.run for item in list_runs() if item.state.phase == "finished"]
    recipe = demo.recipe()
    rows = Path(os.environ["TUNEDECK_HOME"]) / "requests.jsonl"
    rows.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(recipe.data.train[0], rows)
    deck = Deck(source=str(rows), model=recipe.model.id, max_length=256)
    app = TuneDeck(deck)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("5")  # Home would take the run that is highlighted there
        run: RunDirectory = done[0] if done else launch(recipe)
        deck.run = run
        await pilot.press("4")
        if not done:
            await wait_for(pilot, lambda: current_state(run).step >= 30, 600)
        save(app, "train")
        await wait_for(pilot, lambda: not current_state(run).alive, 600)
        for key, name in PLACES:
            await pilot.press(key)
            await pilot.pause(6)
            save(app, name)
            await pilot.press("escape")
        await pilot.press("6")
        await pilot.pause(15)
        for _ in range(2):
            await pilot.press("up", "enter")
            await pilot.pause(6)
        save(app, "chat")


def rasterise() -> None:
    """Turn each SVG into a PNG of the same size."""
    browser = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if browser is None:
        print("no Chromium found: the PNGs were not made")
        return
    for svg in sorted(FOLDER.glob("*.svg")):
        width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg.read_text()).groups()  # type: ignore[union-attr]
        size = f"--window-size={round(float(width))},{round(float(height))}"
        with tempfile.TemporaryDirectory() as profile:
            subprocess.run(
                [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                 "--disable-background-networking", "--no-first-run", "--disable-quic",
                 "--disable-component-update", "--disable-sync", f"--user-data-dir={profile}",
                 "--default-background-color=00000000", size,
                 f"--screenshot={svg.with_suffix('.png')}", svg.as_uri()],
                check=True, capture_output=True,
            )  # fmt: skip
        print(svg.with_suffix(".png").name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(tempfile.gettempdir()) / "tunedeck"
    parser.add_argument("--home", type=Path, default=default, help="where the demo run is kept")
    os.environ["TUNEDECK_HOME"] = str(parser.parse_args().home)
    asyncio.run(tour())
    rasterise()


if __name__ == "__main__":
    main()
