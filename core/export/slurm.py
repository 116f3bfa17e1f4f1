"""A Slurm script: one task a node, stopped with a checkpoint before its time is up, and put back
into the queue until the run is done."""

from __future__ import annotations

import shlex

from core.export.cluster import CPU_CORES, RAM_GIB, Job
from core.runs.nodes import DEFAULT_PORT

_SCRIPT = """\
#!/bin/bash
# Trains {recipe} with TuneDeck.   sbatch {file}
# Adjust the partition, account, time and memory to your cluster.
#SBATCH --job-name={name}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=1
{gpus}#SBATCH --cpus-per-task={cores}
#SBATCH --mem={memory}G
#SBATCH --time=24:00:00
#SBATCH --output={name}-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=TERM@300

set -uo pipefail
# The run lies here. It must be a disk that all nodes see.
export TUNEDECK_HOME="${{TUNEDECK_HOME:-$HOME/.local/share/tunedeck}}"
# source /path/to/venv/bin/activate
{command}
echo "$outcome"
# Out of time, or taken away: the same job again goes on from the checkpoint.
if [[ "$outcome" == *'"state": "stopped"'* ]]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""
_ONE = """\
outcome=$(srun {train})
code=$?"""
_SEVERAL = """\
main=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MAIN_ADDRESS="$main:{port}"
outcome=$(srun bash -c {train})
code=$?"""


def slurm_script(job: Job) -> str:
    """The text of the script."""
    recipe = shlex.quote(str(job.recipe))
    if job.nodes == 1:
        command = _ONE.format(train=job.command(recipe, "--json"))
    else:
        node = ('--node-rank "$SLURM_NODEID"', '--main-address "$MAIN_ADDRESS"')
        train = shlex.quote(job.command(recipe, "--json", *node))
        command = _SEVERAL.format(train=train, port=DEFAULT_PORT)
    each = max(1, job.gpus)
    return _SCRIPT.format(
        recipe=job.recipe.name,
        file=f"{job.name}.slurm.sh",
        name=job.name,
        nodes=job.nodes,
        gpus=f"#SBATCH --gpus-per-node={job.gpus}\n" if job.gpus else "",
        cores=CPU_CORES * each,
        memory=RAM_GIB * each,
        command=command,
    )
