"""What a checkpoint says of itself: of a moved run, of another data file, and of a stranger."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import Run
from hypothesis import given, settings
from hypothesis import strategies as st

from tamtctl.foundations.errors import ModelError
from tamtctl.tasks.finetuning.api import finetune
from tamtctl.tasks.finetuning.config import FinetuneConfig
from tamtctl.tasks.run_facts import RunFacts

pytestmark = pytest.mark.usefixtures("working_folder")


def write_rows(file: Path, topics: tuple[str, ...] = ("list", "file")) -> None:
    rows = [{"text": f"{topic} {topic}", "label": topic} for topic in topics for _ in range(16)]
    file.write_text("\n".join(map(json.dumps, rows)))


@pytest.fixture
def project(run: Run, tiny_model: Path) -> Path:
    """A folder with a model, data, and a run that was made of them there."""
    folder = Path("project").absolute()
    shutil.copytree(tiny_model, folder / "m")
    write_rows(folder / "t.jsonl")
    command = "finetune own --dense --epochs 1 --device cpu --quiet --output-dir".split()
    files = ["--model", folder / "m", "--train", folder / "t.jsonl", "--dev", folder / "t.jsonl"]
    assert run(*command, folder / "run", *files).code == 0
    return folder


def test_a_moved_project_uses_its_own_files(run: Run, project: Path) -> None:
    shutil.copytree(project, "copy")
    shutil.rmtree(project / "m")
    (project / "t.jsonl").write_text("")
    for task in ("own", "kd"):
        done = run("evaluate", "copy/run/seed-1", "--task", task, "--json", "--device", "cpu")
        assert done.code == 0, done.err
    project.joinpath("t.jsonl").unlink()
    Path("copy/run").rename("elsewhere")  # alone: then it is where it was
    done = run("evaluate", "elsewhere/seed-1")
    assert done.code == 1
    assert str(project / "t.jsonl") in done.err


def test_examples_that_are_not_those_of_the_run_are_noted(run: Run, project: Path) -> None:
    checkpoint = project / "run/seed-1"
    same = json.loads(run("evaluate", checkpoint, "--json").out)
    assert not any("are not those" in note for note in same["notes"])
    write_rows(project / "t.jsonl", topics=("file", "list", "list"))
    other = run("evaluate", checkpoint)
    assert other.code == 0, other.err
    assert "these 48 examples of the split validation are not those that the run of" in other.err


WRONG: dict[str, Any] = {
    "no object": [],
    "a task without a name": {"task": {"kind": "classification", "labels": ["a", "b"]}},
    "texts for numbers": {"task": {"batch_size": "32"}},
    "labels that are none": {"task": {"labels": "ab"}},
    "a kind that is none": {"task": {"kind": "../shell"}},
    "metrics that are none": {"task": {"metrics": ["__class__"]}},
    "an unknown field": {"task": {"hook": "x"}},
    "a split that leaves": {"task": {"dev_splits": {"": "../../etc"}}},
    "lists for objects": {"task": {}, "files": [1], "model": "x"},
}


def test_the_file_of_another_program_says_nothing_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"eval_accuracy": 0.9}')
    assert RunFacts.read(tmp_path) is None


@pytest.fixture(scope="module")
def checkpoint(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a seed; whoever changes it changes a copy."""
    folder = tmp_path_factory.mktemp("fine-tuned")
    write_rows(data := folder / "t.jsonl")
    config = FinetuneConfig(
        task="own", dense=True, model=str(tiny_model), train=str(data), dev=str(data), epochs=1
    )
    return finetune(config, output_dir=folder / "run").checkpoint[0]


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_facts_that_no_run_wrote_are_refused(
    wrong: str, command: str, run: Run, checkpoint: Path
) -> None:
    file = Path("changed").absolute() / "metrics.json"
    shutil.copytree(checkpoint, file.parent)
    values, changed = json.loads(file.read_text()), WRONG[wrong]
    if isinstance(changed, dict) and changed:
        task = {**values["task"], **changed["task"]} if "name" not in wrong else changed["task"]
        changed = values | changed | {"task": task}
    file.write_text(json.dumps(changed))
    Path("in.txt").write_text("a list\n")
    more = ["--predict", "in.txt"] if command == "predict" else []
    done = run("evaluate", file.parent, *more)
    assert done.code == 1
    assert done.err.startswith(f"error: {file} is damaged (")
    assert done.err.count("\n") == 1


def test_a_kind_of_a_script_that_has_not_run_is_named(run: Run, checkpoint: Path) -> None:
    file = Path("changed").absolute() / "metrics.json"
    shutil.copytree(checkpoint, file.parent)
    values = json.loads(file.read_text())
    file.write_text(json.dumps(values | {"task": values["task"] | {"kind": "counting"}}))
    for more in ([], ["--predict", "in.txt"]):
        done = run("evaluate", file.parent, *more)
        assert done.code == 1
        assert done.err.startswith(f"error: {file}: there is no kind of task 'counting' here, only")
        assert done.err.endswith("if a script registers it, run that in place of tamtctl\n")


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=200) | st.sampled_from([b"[" * 10**5, b'{"task": NaN}']))
def test_any_bytes_are_facts_or_refused(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    (folder / "metrics.json").write_bytes(content)
    with pytest.raises(ModelError, match="is damaged"):
        RunFacts.read(folder)
