"""A SkyPilot task: the recipe and its files on rented machines, resumed when one is taken away."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import yaml

from core.errors import UserError
from core.export.cluster import CPU_CORES, RAM_GIB, Job
from core.recipe import load_recipe
from core.runs.nodes import DEFAULT_PORT

FOLDER = "~/tunedeck-files"
VOLUME_FOLDER = "/tunedeck"
_HEAD = """\
# Trains {recipe} with TuneDeck.   sky {launch} {name}.sky.yaml
{note}"""
_NO_VOLUME = """\
# Without a volume the run is lost with its machine: `tunedeck export … --volume NAME` writes a task
# for spot machines whose runs lie on the SkyPilot volume of that name (`sky volumes`).
"""


class _Dumper(yaml.SafeDumper):
    """Scripts as a person would write them: line by line."""


def _as_block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _as_block)


def skypilot_task(job: Job, *, gpu: str | None, volume: str | None) -> str:
    """The text of the task. UserError when it needs a GPU and `gpu` names none."""
    if job.gpus and gpu is None:
        raise UserError("Which GPU should SkyPilot rent?", "Name it, as in --gpu H100.")
    task: dict[str, Any] = {"name": job.name, "num_nodes": job.nodes}
    task["resources"] = _resources(job, gpu, spot=volume is not None)
    if volume is not None:
        task["volumes"] = {VOLUME_FOLDER: volume}
        task["envs"] = {"TUNEDECK_HOME": VOLUME_FOLDER}
    task["file_mounts"] = {_there(path): str(path) for path in (job.recipe, *job.files)}
    task["setup"] = "pip install tunedeck\n"
    task["run"] = "\n".join(_run(job)) + "\n"
    head = _HEAD.format(
        recipe=job.recipe.name,
        launch="launch" if volume is None else "jobs launch",
        name=job.name,
        note=_NO_VOLUME if volume is None else "",
    )
    return head + yaml.dump(task, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def _resources(job: Job, gpu: str | None, *, spot: bool) -> dict[str, Any]:
    each = max(1, job.gpus)
    found: dict[str, Any] = {"cpus": f"{CPU_CORES * each}+", "memory": f"{RAM_GIB * each}+"}
    if job.gpus:
        found["accelerators"] = f"{gpu}:{job.gpus}"
    return {**found, "use_spot": spot}


def _there(path: Path) -> str:
    """Where a local file lies on the rented machine: its whole path, so that no two are one."""
    return f"{FOLDER}{path.absolute()}"


def _run(job: Job) -> list[str]:
    """The shell lines. Local data and models have moved, and the recipe is told where to."""
    recipe = load_recipe(job.recipe)
    moved = set(job.files)
    options = ["--plain"]
    for key, sources in (("data.train", recipe.data.train), ("data.eval", recipe.data.eval)):
        if any(_goes_along(source, moved) for source in sources):
            listed = ", ".join(_in_quotes(source, moved) for source in sources)
            options.append(f'--set "{key}=[{listed}]"')
    if _goes_along(recipe.model.id, moved):
        options.append(f'--set "model.id={_in_quotes(recipe.model.id, moved)}"')
    lines = [f"files=$HOME{FOLDER.removeprefix('~')}"]
    if job.nodes > 1:
        lines.append('main=$(echo "$SKYPILOT_NODE_IPS" | head -n 1)')
        options.append(f'--node-rank "$SKYPILOT_NODE_RANK" --main-address "$main:{DEFAULT_PORT}"')
    place = f'"$files"{shlex.quote(str(job.recipe))}'
    return [*lines, job.command(place, *options)]


def _goes_along(source: str, moved: set[Path]) -> bool:
    """Whether it is among the files that move, or in one of them (a list) or of their folders."""
    path = Path(source)
    return not moved.isdisjoint((path, *path.parents))


def _in_quotes(source: str, moved: set[Path]) -> str:
    """A YAML string inside double quotes of the shell, which fills in $files."""
    text = f"@files@{source}" if _goes_along(source, moved) else source
    escaped = json.dumps(text, ensure_ascii=False)
    for special in ("\\", '"', "$", "`"):
        escaped = escaped.replace(special, "\\" + special)
    return escaped.replace("@files@", "$files")
