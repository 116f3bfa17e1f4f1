import json
import time

import pytest

from core.errors import UserError
from core.runs.log_tail import log_lines
from core.runs.samples import SampleReader
from core.runs.watch import RunWatch
from tests.tui.fake_runs import (
    finished_run,
    held_lock,
    log_event,
    make_run,
    put_samples,
    put_state,
    tell,
    training_events,
)


def test_a_living_run_is_followed_and_a_torn_line_waits_for_its_rest(tmp_path):
    run = make_run(tmp_path)
    put_state(run, "running")
    tell(run, training_events(3))
    watch = RunWatch(run)
    with held_lock(run):
        assert watch.look().history.step == 3
        line = json.dumps({"v": 1, **log_event(4, 1.0)}) + "\n"
        with run.events.open("a") as file:
            file.write(line[:20])
            file.flush()
            assert watch.look().history.step == 3
            file.write(line[20:])
        view = watch.look()
    assert view.history.step == 4
    assert view.state.phase == "running"
    assert not view.behind


def test_a_long_run_is_read_in_parts_and_each_part_is_quick(tmp_path):
    run = make_run(tmp_path)
    put_state(run, "finished")
    tell(run, training_events(0) + [log_event(step, step) for step in range(1, 30_001)])
    watch = RunWatch(run)
    looks, slowest, began = 0, 0.0, 0.0
    shares = []
    while not shares or shares[-1] < 1.0:
        began = time.monotonic()
        shares.append(watch.look().read)
        slowest = max(slowest, time.monotonic() - began)
        looks += 1
    assert looks > 5
    assert shares == sorted(shares)
    assert slowest < 10.0  # a look is 0.1 s; the whole file in one is what must not happen
    assert len(watch.look().history.loss) == 30_000


def test_a_deleted_run_is_said_to_be_deleted(tmp_path):
    run = finished_run(tmp_path)
    watch = RunWatch(run)
    watch.look()
    for path in sorted(run.path.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    run.path.rmdir()
    with pytest.raises(UserError, match="deleted"):
        watch.look()


def test_a_damaged_recipe_does_not_hide_the_run(tmp_path):
    run = finished_run(tmp_path)
    run.recipe.write_text("model: [")
    view = RunWatch(run).look()
    assert view.recipe is None
    assert view.name == run.id
    assert view.history.step == 60


def test_samples_keep_the_peak_and_survive_what_is_no_number(tmp_path):
    run = make_run(tmp_path)
    put_samples(run, gpus=2, count=600)
    with run.gpu.open("a") as file:
        file.write('{"v": 1, "kind": "machine", "t": "x", "cpu": null, "gpus": [{}, 3]}\n{"torn')
    reader = SampleReader(run.gpu)
    history = reader.read()
    while reader.behind:
        history = reader.read()
    assert history.peak_used[1] == (8 + 59) * 1024**3
    assert len(history.recent) == 240
    assert history.latest.cpu is None
    assert len(history.latest.gpus) == 1
    assert history.latest.gpus[0].used is None


def test_the_log_is_shown_as_a_terminal_would_leave_it(tmp_path):
    path = tmp_path / "worker.log"
    path.write_bytes(b"\x1b[31mred\x1b[0m\n\n10%\r 50%\r100%\r\nlast \xff line")
    assert log_lines(path, 8) == ["red", "100%", "last \ufffd line"]
    assert log_lines(path, 1) == ["last \ufffd line"]
    assert log_lines(tmp_path / "none", 8) == []
