"""What a run needs of a machine that a scheduler hands out: the command that starts or resumes it.

The command is the same on every attempt and on every machine: `--auto-resume` finds the run by its
name in TUNEDECK_HOME, which therefore has to lie on a disk that outlives the machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from core.data.sources import names_a_list
from core.errors import UserError, describe_os_error
from core.paths import expanded
from core.recipe import Recipe, load_recipe
from core.runs.directory import find_run, write_atomically

CPU_CORES = 8
RAM_GIB = 32


@dataclass(frozen=True, slots=True)
class Job:
    """A recipe as a scheduler sees it: a file, a name, machines, GPUs on each (0: none), and the
    local files and folders that it reads."""

    recipe: Path
    name: str
    nodes: int
    gpus: int
    files: tuple[Path, ...]

    def command(self, recipe: str, *options: str) -> str:
        """The shell command that works on the run until it is done. All words are taken as they
        are: a shell may have to fill in variables."""
        return " ".join(["tunedeck", "train", recipe, "--auto-resume", *options])


def job_of(file: Path, recipe: Recipe) -> Job:
    """UserError for what no scheduler could be told: `all` GPUs of a machine not yet known."""
    hardware = recipe.hardware
    if hardware.gpus == "all":
        raise UserError(
            "hardware.gpus is all, and a scheduler wants a number.",
            "Set hardware.gpus to how many GPUs each machine should have.",
        )
    count = len(hardware.gpus) if isinstance(hardware.gpus, list) else hardware.gpus
    name = re.sub(r"[^a-z0-9]+", "-", recipe.name.lower()).strip("-") or "run"
    local = [recipe.model.id, *recipe.data.train, *recipe.data.eval]
    return Job(
        recipe=file.absolute(),
        name=name,
        nodes=hardware.nodes,
        gpus=0 if hardware.gpu == "cpu" else count,
        files=_files(Path(source) for source in local if Path(source).is_absolute()),
    )


def _files(named: Iterable[Path]) -> tuple[Path, ...]:
    """The files and folders to take along, each once: of a list in a file that file, and nothing
    that lies in a folder that goes as well."""
    found = dict.fromkeys(path.parent if names_a_list(path) else path for path in named)
    return tuple(path for path in found if found.keys().isdisjoint(path.parents))


def write_job(
    subject: str,
    to: str,
    destination: Path | None = None,
    *,
    gpu: str | None = None,
    volume: str | None = None,
) -> Path:
    """Write a Slurm script or a SkyPilot task for a recipe file or a run; its path.

    Default: beside the recipe file, or in the run's export/.
    """
    from core.export.skypilot import skypilot_task
    from core.export.slurm import slurm_script

    file, folder = _found(subject)
    job = job_of(file, load_recipe(file))
    if to == "slurm":
        text, name = slurm_script(job), f"{job.name}.slurm.sh"
    else:
        text, name = skypilot_task(job, gpu=gpu, volume=volume), f"{job.name}.sky.yaml"
    place = expanded(destination or folder / name).absolute()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, text)
    except OSError as error:
        raise describe_os_error(error, "export to") from error
    return place


def _found(subject: str) -> tuple[Path, Path]:
    """The recipe file that is meant, and the folder for what is made of it."""
    path = expanded(subject)
    if path.is_file():
        return path, path.absolute().parent
    run = find_run(subject)
    return run.recipe, run.export
