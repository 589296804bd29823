"""The Slurm array of a sweep: which parts it makes, and that a shell takes it as it is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tamtctl.cli.slurm import slurm_array
from tamtctl.comparison.config import CompareConfig
from tamtctl.comparison.sweep_plan import PlannedRun

SWEEP = CompareConfig(sparsities=(0.5, 0.7))
TYPED = [
    "/usr/bin/tamtctl",
    "compare",
    "--sparsity",
    "0.5,0.7",
    "--dry-run",
    "--corpus",
    "my $t.txt",
]


def plan(*states: str) -> list[PlannedRun]:
    return [
        PlannedRun(f"cell {i}", Path(f"runs/{i}"), state, 4, 60.0 * i, 3600.0, i, len(states))
        for i, state in enumerate(states, 1)
    ]


def test_it_makes_the_parts_that_are_left() -> None:
    script = slurm_array(SWEEP, plan("to do", "to do", "to do", "done", "damaged"), TYPED)
    assert script
    assert "#SBATCH --array=1-3,5\n" in script
    assert '/5"' in script
    assert "--dry-run" not in script
    assert "about 65 min" in script


def test_a_shell_runs_every_part_as_it_was_typed(tmp_path: Path) -> None:
    script = slurm_array(SWEEP, plan("to do", "to do"), TYPED)
    assert script
    (tmp_path / "job.sh").write_text(script)
    shows = tmp_path / "tamtctl"
    shows.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    shows.chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": "2"}
    done = subprocess.run(
        ["bash", "job.sh"], cwd=tmp_path, env=path, capture_output=True, text=True, check=True
    )
    words = ["compare", "--sparsity", "0.5,0.7", "--corpus", "my $t.txt", "--shard", "2/2"]
    assert done.stdout.splitlines() == words


@pytest.mark.parametrize("states", [(), ("to do",), ("done", "to do", "done")])
def test_one_part_needs_no_array(states: tuple[str, ...]) -> None:
    assert slurm_array(SWEEP, plan(*states), TYPED) is None


def test_a_budget_of_seconds_has_no_parts() -> None:
    seconds = CompareConfig(sparsities=(0.5, 0.7), methods=("imp", "tamt-mlm"), budget="seconds")
    assert slurm_array(seconds, plan("to do", "to do"), TYPED) is None


def test_a_script_of_ones_own_is_started_by_python() -> None:
    script = slurm_array(SWEEP, plan("to do", "to do"), ["relative.py", *TYPED[1:]])
    assert script
    assert "\npython relative.py compare " in script
