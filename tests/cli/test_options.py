"""Every command's options as they are typed: names, types, flags, defaults; frozen.

What is written in a script must mean the same in the next version. Help texts and their order are
free to get better.
"""

from __future__ import annotations

import pytest
from typer.main import get_command

from tamtctl.cli.app import app

OPTIONS = {
    "search": """
        --allocation str
        --budget-criterion str
        --floor float
        --head-learning-rate float
        --init-scores str
        --rows str
        --base-model str
        --batch-size int
        --calibration-tokens int
        --check-corpus list[str]
        --checkpoint-every int
        --compile bool flag
        --corpus list[str]
        --debug bool flag
        --device str
        --dry-run bool flag
        --eval-every int
        --force bool flag
        --from-scores str
        --held-out list[str]
        --init str
        --json bool flag
        --keep-scores bool flag
        --latency float
        --latency-backend str
        --latency-batch int
        --latency-length int
        --latency-threads int
        --learning-rate float
        --log-to str
        --low-memory bool flag
        --max-minutes float
        --method str
        --micro-batch-size int
        --model str
        --objective str
        --output-dir Path
        --patience int
        --pattern str
        --precision str
        --prune-every int
        --recipe str
        --rewind str
        --seed int
        --sequence-length int
        --sparsity float
        --steps int
        --stream bool flag
        --text-column str
        --threads int min=1
        --word-floor float
        -q/--quiet bool flag
    """,
    "compare": """
        --allocation str
        --budget-criterion str
        --rows str
        --at-steps str
        --blocks int
        --budget str default=steps
        --corpus list[str]
        --data-dir str
        --debug bool flag
        --dev str
        --device str
        --dry-run bool flag
        --find-task-learning-rate bool flag
        --force bool flag
        --json bool flag
        --keep-scores bool flag
        --label-column str default=label
        --limit int
        --methods str
        --model str
        --output-dir Path
        --passages str
        --pattern str
        --precision str
        --prune-every int
        --queries str
        --recipe str
        --relevant str
        --seeds str
        --sequence-length int
        --shard str
        --sparsity str
        --task-epochs int
        --task-learning-rate float
        --task-seeds str default=1
        --task-text-column list[str]
        --tasks str
        --text-column str
        --threads int min=1
        --train str
        -q/--quiet bool flag
        tickets list[str] several
    """,
    "finetune": """
        --log-to str
        --batch-size int
        --checkpoint-every int
        --data-dir str
        --debug bool flag
        --dense bool flag
        --dev str
        --device str default=auto
        --epochs int
        --find-learning-rate bool flag
        --force bool flag
        --json bool flag
        --keep-zeros/--no-keep-zeros bool flag
        --label-column str default=label
        --label-kind str
        --learning-rate float
        --limit int
        --max-length int
        --model str
        --output-dir Path
        --patience int
        --precision str default=auto
        --recipe str default=auto
        --seeds str default=1
        --select str default=last
        --text-column list[str]
        --threads int min=1
        --ticket str
        --train str
        -q/--quiet bool flag
        task str
    """,
    "combine": """
        --allocation str default=first
        --debug bool flag
        --encoding str
        --head str default=first
        --json bool flag
        --model str
        --op str default=majority
        --output-dir Path
        --sparsity float
        --token str
        -q/--quiet bool flag
        tickets list[str] several needed
    """,
    "cache": """
        --debug bool flag
        --dry-run bool flag
        --json bool flag
        -q/--quiet bool flag
        words list[str] several
    """,
    "evaluate": """
        --confidence bool flag
        --passages str
        --queries str
        --relevant str
        --rows str
        --batch-size int default=16
        --blocks int
        --corpus list[str]
        --data-dir str
        --debug bool flag
        --dev str
        --device str default=auto
        --head str
        --held-out-tenth bool flag
        --json bool flag
        --label-column str
        --model str
        --precision str default=auto
        --predict Path
        --sequence-length int
        --task str
        --text-column list[str]
        --threads int min=1
        -q/--quiet bool flag
        name str needed
    """,
    "bench": """
        --against str
        --batch-sizes str default=1,32
        --blocks int
        --corpus list[str]
        --data-dir str
        --debug bool flag
        --figure Path
        --json bool flag
        --lengths str default=32,128
        --passages str
        --queries str
        --relevant str
        --rounds int default=15
        --seed int default=1
        --task list[str]
        --threads str
        -q/--quiet bool flag
        folders list[str] several needed
    """,
    "recover": """
        --batch-size int default=32
        --check-corpus list[str]
        --checkpoint-every int
        --corpus list[str]
        --debug bool flag
        --device str default=auto
        --dry-run bool flag
        --force bool flag
        --held-out list[str]
        --json bool flag
        --learning-rate float default=0.0002
        --log-to str
        --micro-batch-size int
        --minutes float
        --model str
        --objective str
        --output-dir Path
        --precision str default=auto
        --rows str
        --seed int default=1
        --sequence-length int
        --steps int
        --text-column str
        --threads int min=1
        -q/--quiet bool flag
        ticket str needed
    """,
    "push": """
        --base-model str
        --commit-message str
        --create-pr bool flag
        --debug bool flag
        --dry-run bool flag
        --encoding str
        --json bool flag
        --license str
        --private bool flag
        --revision str
        --token str
        -q/--quiet bool flag
        repo str needed
        ticket str needed
    """,
    "pull": """
        --debug bool flag
        --dry-run bool flag
        --force-download bool flag
        --json bool flag
        --local-dir Path
        --revision str
        --token str
        -q/--quiet bool flag
        repo str needed
    """,
    "inspect": """
        --debug bool flag
        --figure Path
        --full bool flag
        --json bool flag
        --token str
        -q/--quiet bool flag
        tickets list[str] several needed
    """,
    "unpack": """
        --debug bool flag
        --json bool flag
        --limit float default=8.0
        --output-dir Path needed
        -q/--quiet bool flag
        archive Path needed
    """,
    "export": """
        --compress bool flag
        --format str
        --precision str default=fp32
        --debug bool flag
        --head str
        --json bool flag
        --model str
        --output-dir Path needed
        --token str
        --trained-head bool flag
        --trim-vocabulary list[str]
        -q/--quiet bool flag
        ticket str needed
    """,
    "import": """
        --base-model str
        --debug bool flag
        --encoding str
        --json bool flag
        --method str default=imported
        --model str
        --output-dir Path needed
        --prefix str
        --revision str
        -q/--quiet bool flag
        source Path needed
    """,
    "list": """
        --debug bool flag
        --hub bool flag
        --json bool flag
        --sort str default=date
        --token str
        -q/--quiet bool flag
    """,
    "env": """
        --debug bool flag
        --json bool flag
        -q/--quiet bool flag
    """,
}


def _described(parameter: object) -> str:
    """Return how an option is typed, as one line."""
    values = vars(parameter)
    names = "/".join([*values["opts"], *values["secondary_opts"]])
    kind = values["type_descriptor"].annotation
    parts = [names, getattr(kind, "__name__", "") if isinstance(kind, type) else str(kind)]
    parts += ["flag"] * bool(values.get("is_flag")) + ["several"] * (values["nargs"] == -1)
    parts += ["needed"] * values["required"]
    parts += [f"{limit}={values[limit]}" for limit in ("min", "max") if values[limit] is not None]
    if values["default"] not in (None, False):
        parts.append(f"default={values['default']}")
    return " ".join(parts)


def _typed(command: str) -> list[str]:
    return sorted(_described(one) for one in get_command(app).commands[command].params)  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", OPTIONS)
def test_a_command_is_typed_as_ever(command: str) -> None:
    assert _typed(command) == sorted(line.strip() for line in OPTIONS[command].strip().splitlines())


def test_no_command_is_left_out() -> None:
    assert set(OPTIONS) == set(get_command(app).commands)  # type: ignore[attr-defined]
