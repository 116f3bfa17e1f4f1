"""What an evaluation found, as it lies in a run's eval/: results.json and the answers.

Read by the app and the command line, so nothing here imports torch.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from core.errors import describe_os_error
from core.evaluation.metrics import Answer
from core.runs.directory import RunDirectory, write_atomically

VERSION = 1
NAMES = ("tuned", "base")


@dataclass(frozen=True, slots=True)
class ModelResult:
    """One model on the held-out rows; None is what could not be measured on these rows.

    `loss` is the mean in nats over `loss_tokens` trained tokens of `loss_rows` rows.
    `exact_match` and `json_valid` are shares of the `rows` generated answers; `json_valid` only
    where every reference is JSON. `cut_off` is the share that reached `max_new_tokens`.
    """

    model: str
    loss: float | None = None
    perplexity: float | None = None
    loss_rows: int = 0
    loss_tokens: int = 0
    exact_match: float | None = None
    json_valid: float | None = None
    rows: int = 0
    cut_off: float | None = None
    max_new_tokens: int = 0
    generated_tokens: int = 0
    seconds: float = 0.0
    device: str = ""


@dataclass(frozen=True, slots=True)
class Results:
    """The results by model: "tuned", and "base" where it was measured."""

    models: dict[str, ModelResult] = field(default_factory=dict)


def read_results(run: RunDirectory) -> Results:
    """What has been measured so far; empty where nothing was or the file is damaged."""
    try:
        tree: Any = json.loads(_results_path(run).read_text(encoding="utf-8"))
        models = tree["models"]
        known = ModelResult.__dataclass_fields__
        return Results(
            {
                name: ModelResult(**{key: value for key, value in one.items() if key in known})
                for name, one in models.items()
                if name in NAMES
            }
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Results()


def read_answers(run: RunDirectory, model: str) -> list[Answer]:
    """The generated answers of "tuned" or "base", in the order of the rows."""
    try:
        lines = _answers_path(run, model).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise describe_os_error(error, "read the answers") from error
    return [Answer(**json.loads(line)) for line in lines]


def save(run: RunDirectory, result: ModelResult, answers: list[Answer]) -> None:
    """Keep one model's result beside the other's; the answers first, so that both are whole."""
    lines = (json.dumps(asdict(answer), ensure_ascii=False) + "\n" for answer in answers)
    models = {**read_results(run).models, result.model: result}
    tree = {"v": VERSION, "models": {name: asdict(one) for name, one in models.items()}}
    try:
        run.eval.mkdir(exist_ok=True)
        write_atomically(_answers_path(run, result.model), "".join(lines))
        write_atomically(_results_path(run), json.dumps(tree, indent=1) + "\n")
    except OSError as error:
        raise describe_os_error(error, "save the evaluation") from error


def clear(run: RunDirectory) -> None:
    """Forget earlier results, before the same rows are measured anew."""
    for path in (_results_path(run), *(_answers_path(run, name) for name in NAMES)):
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise describe_os_error(error, "replace") from error


def _results_path(run: RunDirectory) -> Path:
    return run.eval / "results.json"


def _answers_path(run: RunDirectory, model: str) -> Path:
    return run.eval / f"{model}.jsonl"
