"""A Slurm script whose array of jobs makes the runs of a sweep side by side."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from tamtctl.cli.pace import duration

if TYPE_CHECKING:
    from tamtctl.comparison.config import CompareConfig
    from tamtctl.comparison.sweep_plan import PlannedRun

# Options of the command that showed the plan; the jobs are started without them.
_OF_THE_PLAN = ("--dry-run", "--json", "-q", "--quiet", "--debug")
_OWN_NAMES = ("tamtctl", "__main__.py")


def slurm_array(
    config: CompareConfig, plan: Sequence[PlannedRun], arguments: Sequence[str]
) -> str | None:
    """Return the script; None where fewer than two parts are left, or the budget is in seconds.

    Args:
        config: The sweep.
        plan: Its runs.
        arguments: The command line that showed the plan: the program's path, then its words.
    """
    if not plan or config.budget == "seconds":
        return None
    parts = plan[0].parts
    todo = _to_do(plan)
    if len(todo) < 2:
        return None
    seconds: dict[int, float] = {}
    for run in plan:
        seconds[run.part] = seconds.get(run.part, 0.0) + run.estimated_seconds + run.task_seconds
    command = _command(arguments)
    return f"""\
#!/bin/bash
#SBATCH --job-name=tamtctl
#SBATCH --ntasks=1
#SBATCH --array={_ranges(todo)}
# The longest part takes about {duration(max(seconds.values()))} here. Add --time, --gpus and
# --partition as your cluster wants them; all jobs must see this folder.
{command} --shard "$SLURM_ARRAY_TASK_ID/{parts}"
# When all have ended, this puts them together in a report:
# {command}
"""


def _to_do(plan: Sequence[PlannedRun]) -> list[int]:
    return sorted({run.part for run in plan if run.state != "done"})


def _command(arguments: Sequence[str]) -> str:
    program, *words = arguments
    name = ["tamtctl"] if PurePath(program).name in _OWN_NAMES else ["python", program]
    return shlex.join([*name, *(word for word in words if word not in _OF_THE_PLAN)])


def _ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers as Slurm takes them: 1-3,5."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][-1] == number - 1:
            found[-1].append(number)
        else:
            found.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in found)
