import math

import pytest

from core.runs.history import RunHistory


def event(kind, t, **fields):
    return {"v": 1, "kind": kind, "t": float(t), **fields}


def log(step, t, loss=1.0, **more):
    return event("log", t, step=step, loss=loss, **more)


def told(*events):
    history = RunHistory()
    history.update(events)
    return history


def test_a_resume_tells_steps_again_and_the_curves_stay_single_valued():
    history = told(
        *(log(step, step, loss=10.0 + step, lr=1.0) for step in range(1, 8)),
        event("eval", 6, step=6, loss=2.0),
        event("state", 50, phase="preparing", stage=""),
        log(5, 60, loss=5.0, lr=0.5),
    )
    assert list(history.loss.steps) == [1, 2, 3, 4, 5]
    assert history.loss.last == 5.0
    assert len(history.eval_loss) == 0, "the evaluation of a step that comes again is stale"
    assert history.step == 5


def test_the_pause_before_a_resume_is_not_work():
    history = told(
        event("state", 100, phase="preparing", stage=""),
        event("state", 101, phase="running", stage="training", total_steps=10),
        log(1, 110),
        event("state", 1000, phase="preparing", stage=""),
        event("state", 1001, phase="running", stage="training"),
        log(2, 1005),
    )
    assert history.elapsed() == pytest.approx(15)
    assert history.elapsed(now=1010) == pytest.approx(20)
    assert history.sessions == 2
    assert history.stages == ["training"]


def test_a_resume_puts_the_alarms_of_before_into_the_journal():
    history = told(
        event("state", 1, phase="preparing", stage=""),
        event("state", 2, phase="running", stage="training"),
        event("error", 3, code="killed", message="It was killed.", remedy="Resume it."),
        event("done", 4, phase="failed"),
    )
    assert [notice.message for notice in history.notices] == ["It was killed."]
    history.update([event("state", 9, phase="preparing", stage="")])
    assert history.notices == []
    assert list(history.journal) == [(3.0, "✗ It was killed. Resume it.")]


def test_time_stands_still_when_the_run_has_ended():
    history = told(log(1, 10), event("done", 30, phase="stopped"))
    assert history.elapsed(now=500) == pytest.approx(20)


def test_nan_is_counted_and_never_zero():
    history = told(log(1, 1), log(2, 2, loss=math.nan))
    assert history.nan_losses == 1
    assert math.isnan(history.loss.last)


def test_progress_has_a_rate_over_the_last_seconds():
    def at(t, done, text="a"):
        return event(
            "progress", t, stage="downloading", done=done, total=1000, unit="bytes", text=text
        )

    history = told(at(0, 0), at(10, 500), at(12, 540))
    assert history.progress.rate == pytest.approx(20.0)
    assert history.progress.seconds_left == pytest.approx(23.0)
    assert history.progress.fraction == pytest.approx(0.54)
    history.update([at(13, 5, text="another file")])
    assert history.progress.rate is None


def test_an_unknown_total_has_no_fraction():
    history = told(event("progress", 1, stage="encoding", done=7, total=None, unit="rows"))
    assert history.progress.fraction is None
    assert history.progress.seconds_left is None


def test_what_it_does_not_know_is_skipped():
    history = told({"kind": "fireworks", "t": 3.0}, {"kind": "log"}, log(1, 5))
    assert history.step == 1


def test_eta_follows_the_pace():
    history = told(
        event("state", 0, phase="running", stage="training", total_steps=110),
        *(log(step, step * 2, step_seconds=2.0) for step in range(1, 11)),
    )
    assert history.eta_seconds == pytest.approx(200)
