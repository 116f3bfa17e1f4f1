"""Train: a run as it happens. The run goes on without us; this only watches and asks."""

from __future__ import annotations

import time
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from core.errors import UserError
from core.runs import supervisor
from core.runs.watch import RunView, RunWatch
from core.text import clip, printable
from tui.screens.run_place import RunPlace
from tui.widgets.chart import Chart, Curve
from tui.widgets.chart_choice import METRICS, ChartChoice, series_of, value_text
from tui.widgets.log_pane import LogPane
from tui.widgets.machine_panel import machine_below
from tui.widgets.painted import LiveLines
from tui.widgets.readings import panel_beside, readings_below
from tui.widgets.run_banner import banner
from tui.widgets.run_header import header_lines

TAIL_LINES = 8
WHOLE_LOG_LINES = 2000
NOTHING = (
    "No run is open.\n\n"
    "Press 1 for Home: open a run there, or start the demo.\n"
    "To train on your own data: 2 looks at the rows, 3 plans the run."
)
WHY_NOT = {
    "stop": "The run is over: there is nothing to stop.",
    "ask": "That can be done while the run trains.",
    "detach": "The run is over: there is nothing to leave running.",
    "resume": "Only a stopped or failed run can be resumed.",
    "chat": "The chat opens when the run has finished.",
}
ACTIONS_ON_A_RUN = {*WHY_NOT, "log", "choose", "zoom", "metric"}


class TrainScreen(RunPlace):
    """The dashboard of the deck's run."""

    PLACE = "train"
    LOOKS_AT_LOG = TAIL_LINES
    CSS_PATH = "../styles/train.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "chat", "Chat with the tuned model", show=False),
        Binding("s", "stop", "Stop", tooltip="Stop the run gracefully: it writes a checkpoint"),
        Binding("c", "ask('checkpoint')", "Checkpoint", tooltip="Write a checkpoint now"),
        Binding("e", "ask('evaluate')", "Evaluate", tooltip="Measure the held-out loss now"),
        Binding("r", "resume", "Resume", tooltip="Go on from the last checkpoint"),
        Binding("l", "log", "Log", tooltip="The whole log, and back"),
        Binding("d", "detach", "Detach", tooltip="Leave; the run goes on by itself"),
        Binding("y", "choose('log')", "Logarithmic", show=False),
        Binding("m", "choose('smooth')", "Smooth the curve", show=False),
        Binding("z", "zoom", "Zoom to the last steps", show=False),
        Binding("v", "metric", "Next curve", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._choice = ChartChoice()

    def body(self) -> ComposeResult:
        yield Static(NOTHING, id="nothing", markup=False)
        with Vertical(id="dashboard"):
            yield LiveLines(id="head")
            yield Static(id="banner", markup=False)
            with Horizontal(id="middle"):
                with Vertical(id="plot"):
                    yield LiveLines(id="legend")
                    yield Chart(id="chart")
                    with Horizontal(id="small"):
                        for index in range(1, len(METRICS)):
                            with Vertical():
                                yield LiveLines(id=f"legend-{index}")
                                yield Chart(id=f"chart-{index}")
                    yield LiveLines(id="below")
                    yield LiveLines(id="samples")
                    yield LiveLines(id="log-title")
                    yield LogPane(id="log")
                yield LiveLines(id="beside")

    def leave_run(self) -> None:
        self.query_one(LogPane).follow()

    def show(self, view: RunView, more: None = None) -> None:
        width = self.size.width - 2
        self.query_one("#head", LiveLines).show(header_lines(view, width))
        self._show_banner(banner(view))
        if not view.behind:
            self._show_charts(view)
            self._show_readings(view, width)
        self._show_log(view)

    def _show_banner(self, content: Content) -> None:
        static = self.query_one("#banner", Static)
        if static.content != content:
            static.update(content)
            static.display = bool(content.plain)

    def _show_charts(self, view: RunView) -> None:
        history, choice = view.history, self._choice
        first, last = choice.steps(history)
        chart = self.query_one("#chart", Chart)
        self.query_one("#legend", LiveLines).show([choice.legend(history, chart.size.width)])
        empty = f"The {choice.metric} is drawn here from the first logged step on."
        chart.show(choice.curves(history), first, last, log=choice.log, empty=empty)
        if not self.query_one("#small").display:
            return
        others = [metric for metric in METRICS if metric != choice.metric]
        for index, metric in enumerate(others, 1):
            series = series_of(history, metric)
            title = Content.assemble(
                (f"{metric}  ", "$foreground-muted"), (value_text(metric, series.last), "")
            )
            self.query_one(f"#legend-{index}", LiveLines).show([title])
            self.query_one(f"#chart-{index}", Chart).show(
                [Curve(series.copy())], first, last, empty="–"
            )

    def _show_readings(self, view: RunView, width: int) -> None:
        machine = self.deck.machine
        beside = self.query_one("#beside", LiveLines)
        if beside.display:
            beside.show(panel_beside(view, machine, beside.size))
        else:
            lines = [*readings_below(view, width), *machine_below(view, machine, width)]
            self.query_one("#below", LiveLines).show(lines)
        width = self.query_one("#plot").size.width
        self.query_one("#samples", LiveLines).show(_sample_lines(view, width))

    def _show_log(self, view: RunView) -> None:
        whole = self.has_class("-log")
        failed = view.state.phase == "failed"  # then the last lines of the log say more
        name = "worker.log" if whole or failed else "Events"
        hint = "↑↓ PgUp PgDn scroll, l closes" if whole else "l opens worker.log"
        title = Content.assemble(
            (f"{name}  ", "bold $foreground-muted"), (hint, "$foreground-disabled")
        )
        self.query_one("#log-title", LiveLines).show([title])
        lines = view.log or ["(nothing written)"] if whole or failed else journal_lines(view)
        self.query_one(LogPane).show(lines)

    def on_resize(self) -> None:
        self.look()

    def why_not(self, action: str) -> str | None:
        view = self.view
        if view is None:
            wanted = ACTIONS_ON_A_RUN
            return "No run is open: press 1 and choose one." if action in wanted else None
        allowed = {
            "stop": view.state.alive,
            "detach": view.state.alive,
            "ask": view.state.alive and view.history.stage == "training",
            "resume": view.state.phase in ("stopped", "failed"),
            "chat": view.state.phase == "finished",
        }
        return None if allowed.get(action, True) else WHY_NOT[action]

    def action_chat(self) -> None:
        self.app.switch_mode("chat")

    def action_stop(self) -> None:
        from tui.screens.stop import StopScreen

        if self.view is not None:
            self.app.push_screen(StopScreen(self.view), self._stop)

    def _stop(self, how: str | None) -> None:
        watch = self._watch
        if how is None or watch is None:
            return
        self._try(lambda: supervisor.stop(watch.run, now=how == "now"))
        if how == "gracefully":
            self.notify("It stops after this step and writes a checkpoint.", timeout=6)

    def action_ask(self, intent: supervisor.Intent) -> None:
        watch = self._watch
        if watch is not None and self._try(lambda: supervisor.request(watch.run, intent)):
            words = {"checkpoint": "A checkpoint follows", "evaluate": "An evaluation follows"}
            self.notify(f"{words[intent]} after this step.", timeout=4)

    def action_resume(self) -> None:
        """In a thread, since it waits for the keeper to take its lock."""
        watch = self._watch
        if watch is not None:
            self.notify("Resuming …", timeout=3)
            self.run_worker(lambda: self._resume(watch), thread=True, group="resume")

    def _resume(self, watch: RunWatch) -> None:
        try:
            supervisor.resume(watch.run)
        except UserError as error:
            self.app.call_from_thread(self.deck_app.report, error)
        self.app.call_from_thread(self.look)

    def action_detach(self) -> None:
        self.app.exit()

    def action_log(self) -> None:
        """The whole log instead of the dashboard, and back."""
        pane = self.query_one(LogPane)
        pane.can_focus = self.toggle_class("-log").has_class("-log")
        self.LOOKS_AT_LOG = WHOLE_LOG_LINES if pane.can_focus else TAIL_LINES
        if pane.can_focus:
            pane.focus()
        else:
            pane.follow()
            self.set_focus(None)
        self.look()

    def action_choose(self, toggle: str) -> None:
        self._choice = self._choice.toggled(toggle)
        self.look()

    def action_zoom(self) -> None:
        if self.view is not None:
            self._choice = self._choice.next_zoom(self.view.history.step)
        self.look()

    def action_metric(self) -> None:
        self._choice = self._choice.next_metric()
        self.look()

    def _try(self, act: object) -> bool:
        try:
            act()  # type: ignore[operator]
        except UserError as error:
            self.deck_app.report(error)
            return False
        return True


def journal_lines(view: RunView) -> list[str]:
    """What happened of late, the newest last, with the time of day it happened at."""
    told = view.history.journal
    return [f"{time.strftime('%H:%M:%S', time.localtime(at))}  {text}" for at, text in told]


def _sample_lines(view: RunView, width: int) -> list[Content]:
    """The latest sample: what the model answers to a fixed held-out prompt at this step."""
    if not view.history.samples:
        return []
    sample = view.history.samples[-1]
    prompt = printable(str(sample.get("prompt", "")), single_line=True)
    answer = printable(str(sample.get("text", "")), single_line=True)
    title = f"sample @ {sample.get('step', '–')}  "
    return [
        Content.assemble(
            (title, "bold $foreground-muted"),
            (clip(prompt, width - len(title)), "$foreground-muted"),
        ),
        Content(clip(f"  {answer}", width)),
    ]
