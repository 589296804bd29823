"""The README is a promise: every command and every Python block in it is run here.

Its test command is what runs this; its first command is a test of the slow set.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
import venv
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import processes
import pytest
import tiny
from command_line import Run
from sentence_models import sentence_model

import tamtctl

README = Path(__file__).parent.parent / "README.md"
COMMANDS = re.findall(r"^\$ (.+)$", README.read_text(encoding="utf-8"), re.MULTILINE)
# A ticket of whole neurons or heads is found and cut out: each command reads what the last wrote.
CHAINS = {name: [one for one in COMMANDS if f" {name}" in one] for name in ("half", "fewer-heads")}
PYTHON = re.findall(r"^```python\n(.+?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
(TWO_VALUED,) = re.findall(r"^```toml\n(.+?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
(EXTENSION,) = (code for code in PYTHON if "register(" in code)  # a script with its own commands
SET_UP = ["pip install . && tamtctl search --sparsity 0.8", "pip install nox && nox -s tests"]
# What stands for the reader's own things, and keeps a run short that would take a GPU hours.
INSTEAD = {
    "bert-base-uncased": "tiny-bert",
    "all-MiniLM-L6-v2": "tiny-bert",
    "my-text.txt": "english.txt",
    "wikipedia.txt.xz": "english.txt",
}
SHORT_SWEEP = (
    "--prune-every 1 --sequence-length 16 --blocks 4 --device cpu --model tiny-bert "
    "--corpus english.txt"
)
SHORT_COMPARISON = "--blocks 4"
SHORT_TRAINING = "--limit 64 --epochs 1 --device cpu"
SHORT_RECOVERY = "--corpus english.txt --batch-size 2 --sequence-length 16 --device cpu"
SHORT_BENCH = "--rounds 3 --batch-sizes 1 --lengths 8"
SHORT = "--steps 2 --batch-size 2 --sequence-length 16 --calibration-tokens 1024 --device cpu"


@pytest.fixture
def here(
    tiny_model: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A working directory that holds what the commands name."""
    monkeypatch.chdir(tmp_path)
    Path("tiny-bert").symlink_to(tiny_model)
    for name in ("english.txt", "my-text.txt"):
        Path(name).symlink_to(text_file)
    Path("two-valued.toml").write_text(TWO_VALUED)
    Path("queries.jsonl").write_text('{"_id": "q", "text": "a list"}')
    Path("corpus.jsonl").write_text('{"_id": "p", "text": "the list"}\n{"_id": "o", "text": "a"}')
    rows = [f"the {a} of {b},{a}" for a in ("file", "list") for b in tiny.WORDS]
    Path("labels.csv").write_text("\n".join(["text,topic", *rows]))
    Path("qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\tp\t1\n")
    return tmp_path


def test_the_set_up_commands_are_the_ones_promised() -> None:
    assert [command for command in COMMANDS if command.startswith("pip")] == SET_UP


def ends_well(process: BaseProcess, folder: Path) -> str:
    """Wait for a command, which must not fail; return what it printed."""
    process.join()
    assert process.exitcode == 0, (folder / "err").read_text()
    return (folder / "out").read_text()


@pytest.mark.parametrize(
    "command",
    [
        # One sweep is enough for every day; others differ in sparsities, threads, model and tasks.
        pytest.param(
            c,
            marks=[pytest.mark.slow]
            if c.startswith("torchrun")
            or ("compare" in c and ("0.5,0.7,0.9" in c or "--tasks" in c))
            else [],
        )
        for c in COMMANDS
        if c not in [*SET_UP, *CHAINS["half"], *CHAINS["fewer-heads"]]
        and not c.startswith("python ")
    ],
)
def test_commands_run(command: str, here: Path) -> None:
    runs_well(command, here)


@pytest.mark.parametrize(("name", "count"), [("half", 3), ("fewer-heads", 2)])
def test_commands_that_build_on_each_other_run(name: str, count: int, here: Path) -> None:
    search, *others = CHAINS[name]
    assert len(others) == count - 1
    for command in (f"{search} --model tiny-bert --corpus english.txt", *others):
        runs_well(command, here)


def runs_well(command: str, here: Path) -> None:
    if "--task retrieval" in command:
        sentence_model(Path("encoder"), {"pooling_mode_mean_tokens": True})
        command = command.replace("all-MiniLM-L6-v2", "encoder")
    if "--latency" in command:  # neurons must be most of the work
        tiny.save(Path("wide"), "bert", intermediate_size=2048)
        command = command.replace("all-MiniLM-L6-v2", "wide") + " --latency-length 16"
    words = [INSTEAD.get(word, word) for word in shlex.split(command)]
    if "search" in words:
        words += SHORT.split()
    if "compare" in words:
        words += ["--task-epochs", "1"] if "--tasks" in words else []
        words += SHORT_SWEEP.split() if "--sparsity" in words else SHORT_COMPARISON.split()
    if "finetune" in words:
        words += SHORT_TRAINING.split()
    if "recover" in words:
        words[words.index("--minutes") :] = ["--steps", "2", *SHORT_RECOVERY.split()]
    if "bench" in words:
        words += SHORT_BENCH.split()
    if words[0] == "torchrun":
        words[0:1] = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        subprocess.run(words, cwd=here, check=True)
    else:
        assert words[0] == "tamtctl"
        ends_well(processes.start(words[1:], here), here)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("python ")])
def test_the_extension_runs(command: str, here: Path) -> None:
    """The criterion is found, and compared under its own name, as the script that it is."""
    _, script, *words = shlex.split(command)
    (here / script).write_text(EXTENSION)
    assert len([line for line in EXTENSION.splitlines() if line]) <= 16
    words += ["--model", "tiny-bert", "--corpus", "english.txt"]
    words += SHORT.split() if "search" in words else SHORT_SWEEP.split()
    as_a_script = partial(runpy.run_path, script, run_name="__main__")  # which calls the command
    printed = ends_well(processes.start(words, here, before=as_a_script), here)
    assert ("│ relative " if "compare" in words else "of the mask flipped") in printed


@pytest.mark.slow
def test_the_slurm_script_runs(here: Path) -> None:
    """With one machine, two processes, and what stands for Slurm's own commands."""
    (script,) = re.findall(r"^```bash\n(.+?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    for name, does in (("srun", 'exec "$@"'), ("scontrol", "echo localhost")):
        (here / name).write_text(f"#!/bin/sh\n{does}\n")
        (here / name).chmod(0o755)
    (here / "job.sh").write_text(
        script.replace("--nproc-per-node 4", "--nproc-per-node 2").rstrip()
        + f" {SHORT} --model tiny-bert --corpus english.txt\n"
    )
    path = f"{here}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    slurm = {"SLURM_NNODES": "1", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "localhost"}
    done = subprocess.run(
        ["bash", "job.sh"],
        cwd=here,
        env=os.environ | slurm | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(here.glob("runs/*/ticket/ticket.json"))


@pytest.mark.parametrize("command", re.findall(r"^\| `(tamtctl .+?)`", README.read_text(), re.M))
def test_commands_of_the_table_exist(command: str, here: Path, run: Run) -> None:
    done = run(shlex.split(command)[1], "-h")
    assert done.code == 0, done.err


def test_python_runs_from_top_to_bottom(here: Path) -> None:
    """As the cells of one notebook: what a block defines, the blocks below it may use."""
    names: dict[str, object] = {}
    for code in PYTHON:
        if code != EXTENSION:
            exec(compile(code, "README.md", "exec"), names)
    texts = (here / "my-text.txt").read_text(encoding="utf-8").splitlines()
    labelled = [json.loads(line) for line in (here / "labels.jsonl").read_text().splitlines()]
    assert [row["text"] for row in labelled] == texts
    assert all(0 < row["confidence"] <= 1 and row["label"] for row in labelled)


def test_python_in_the_prose_names_what_there_is() -> None:
    text = re.sub(r"^```.+?^```", "", README.read_text(encoding="utf-8"), flags=re.M | re.S)
    inline = re.findall(r"`([^`]+)`", text)
    named = {name for code in inline for name in re.findall(r"\btamtctl\.([a-zA-Z_]\w*)", code)}
    assert {"search", "keep_zeros", "KeepZeros"} <= named
    assert named - {"pruning", "cli"} <= set(dir(tamtctl))


@pytest.mark.slow
def test_the_first_command_does_what_the_readme_shows(tmp_path: Path) -> None:
    """In an environment of its own, away from the checkout, the wheel does the main job."""
    venv.create(tmp_path / "venv", with_pip=True)
    binaries = tmp_path / "venv" / "bin"
    subprocess.run([binaries / "pip", "install", "-q", README.parent], check=True)
    (tmp_path / "empty").mkdir()
    done = subprocess.run(
        [binaries / "tamtctl", "search", "--sparsity", "0.8", "--json"],
        cwd=tmp_path / "empty",
        capture_output=True,
        text=True,
        check=True,
    )
    losses = json.loads(done.stdout)["losses"]
    assert losses["dense"] < losses["ticket"] < min(losses["magnitude"], losses["random"])
    shown = dict(re.findall(r"│ (\w+)[^│]* │ +(\d\.\d{3})", README.read_text(encoding="utf-8")))
    assert shown.keys() == losses.keys()
    for name, loss in shown.items():  # the documentation differs a little between Pythons
        assert losses[name] == pytest.approx(float(loss), abs=0.3)
