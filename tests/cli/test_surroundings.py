"""Strange surroundings: no home, no working directory, variables of other jobs, odd folders."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from command_line import Run
from samples import own_config
from small_search import small_config

from tamtctl.foundations.cache import cache_dir
from tamtctl.foundations.errors import TamtctlError, TicketError, UsageError, explain
from tamtctl.foundations.files import give_usual_rights, replacing_file
from tamtctl.foundations.folders import check_target
from tamtctl.foundations.launch import check_launch, world_size
from tamtctl.foundations.paths import expanded
from tamtctl.pruning.searching.api import search
from tamtctl.tasks.finetuning.api import finetune
from tamtctl.ticket.exporting.checkpoint import write_checkpoint
from tamtctl.ticket.importing import import_ticket
from tamtctl.ticket.local_names import packaged_folder

pytestmark = pytest.mark.usefixtures("working_folder")

NANO = packaged_folder() / "nano-0.7"


def last(text: str) -> str:
    return text.splitlines()[-1]


# --- homes ----------------------------------------------------------------------------------------


@pytest.fixture
def without_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under an id without a name."""

    def unknown(*_: object) -> object:
        raise KeyError("getpwuid(): uid not found: 12345")

    for name in ("HOME", "TAMTCTL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def test_without_a_home_the_variable_is_named(
    run: Run, without_home: None, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run("evaluate", tiny_model, "--task", "kd", "--model", tiny_model)
    assert done.code == 1
    assert last(done.err) == (
        "error: there is no home folder to keep caches in; set TAMTCTL_CACHE (or HOME) to a folder "
        "that you can write to"
    )
    assert run("env").code == 0  # a bug report is possible
    assert run("inspect", "nano-0.7").code == 0
    assert "set HOME" in run("inspect", "~/ticket").err
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", "~/.cache/huggingface/hub")
    for command in (["pull", "org/name"], ["evaluate", "org/name"]):
        assert "set HF_HOME (or HOME)" in run(*command).err
    assert not Path("~").exists()
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_dir() == Path("/x/tamtctl")


def test_a_home_of_nobody_is_named_wherever_there_is_a_path(run: Run, tiny_model: Path) -> None:
    nobody = "~nobody-of-that-name/x"
    search = ["search", "--sparsity", "0.5", "--dry-run"]
    for command in (
        ["evaluate", nobody], ["inspect", nobody], ["push", nobody, "a/b"],
        [*search, "--model", nobody, "--corpus", "x"], [*search, "--recipe", nobody],
        [*search, "--output-dir", nobody], [*search, "--from-scores", nobody],
        [*search, "--model", tiny_model, "--sequence-length", "16", "--corpus", nobody],
        [*search, "--recipe", "nano", "--init", nobody],
        ["finetune", "sst2", "--data-dir", nobody], ["finetune", "--train", nobody, "--dev", "x"],
        ["import", nobody, "--model", "nano", "--output-dir", "t"],
        ["import", "x", "--model", "nano", "--output-dir", nobody],
        ["export", "nano-0.7", "--output-dir", nobody], ["pull", "a/b", "--local-dir", nobody],
        ["inspect", "nano-0.7", "--figure", f"{nobody}.png"],
        ["evaluate", tiny_model, "--task", "sst2", "--predict", nobody],
    ):  # fmt: skip
        done = run(*command)
        assert done.code == 2, (command, done.err)
        assert "there is no user 'nobody-of-that-name'" in last(done.err), command
    assert not list(Path().iterdir())


def test_what_is_really_called_so_comes_first(run: Run) -> None:
    Path("~nobody-of-that-name").mkdir()
    assert expanded("~nobody-of-that-name").is_dir()


# --- several processes ----------------------------------------------------------------------------

COMPLETE = {
    "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
}  # fmt: skip


def test_variables_left_over_from_another_job(
    run: Run, monkeypatch: pytest.MonkeyPatch, tiny_model: Path
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for harmless in (["env"], ["list"], ["--version"], ["inspect", "nano-0.7"]):
        assert run(*harmless).code == 0
    line = (
        "error: WORLD_SIZE is set, but MASTER_ADDR is not: unset WORLD_SIZE, or start with torchrun"
    )
    search = ["search", "--sparsity", "0.5", "--model", tiny_model, "--dry-run"]
    for command in (search, ["finetune", "sst2"], ["evaluate", tiny_model]):
        done = run(*command)
        assert (done.code, last(done.err)) == (2, line)
    monkeypatch.setenv("WORLD_SIZE", "two")
    assert run("env").code == 0
    assert "WORLD_SIZE is 'two'" in run(*search).err


def test_what_torchrun_sets_is_complete() -> None:
    check_launch({})
    check_launch({"WORLD_SIZE": ""})
    check_launch({"WORLD_SIZE": "1"})
    check_launch({"RANK": "3", "LOCAL_RANK": "x"})
    check_launch(COMPLETE)
    assert world_size(COMPLETE) == 2
    for name in COMPLETE.keys() - {"WORLD_SIZE"}:
        with pytest.raises(UsageError, match=f"{name} is not: unset WORLD_SIZE"):
            check_launch({k: v for k, v in COMPLETE.items() if k != name})
    for name, value in {
        "WORLD_SIZE": "0",
        "RANK": "2",
        "LOCAL_RANK": "-1",
        "MASTER_PORT": "x",
    }.items():
        with pytest.raises(UsageError, match=f"{name} is '{value}'"):
            check_launch(COMPLETE | {name: value})


# --- folders --------------------------------------------------------------------------------------


def test_a_working_directory_that_is_gone(tmp_path: Path) -> None:
    code = "import os, sys; os.rmdir(os.getcwd()); from tamtctl.cli.app import main; main()"
    for number, command in enumerate((["search", "--sparsity", "0.5"], ["--version"])):
        (tmp_path / str(number)).mkdir()
        done = subprocess.run(
            [sys.executable, "-c", code, *command], cwd=tmp_path / str(number),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == (number == 0)
        if done.returncode:
            assert last(done.stderr).startswith("error: the working directory is gone")


def test_the_folder_that_a_shell_stands_in_is_not_replaced(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    os.chdir("a/b")
    (tmp_path / "link").symlink_to(tmp_path / "a" / "b")
    for there in (".", "..", "../..", "/", tmp_path / "link", "../b", ""):
        for command in (
            ["import", NANO, "--output-dir", there], ["export", "nano-0.7", "--output-dir", there],
            ["pull", "a/b", "--local-dir", there],
        ):  # fmt: skip
            done = run(*command)
            assert done.code == 2, (command, done.err)
            assert "is the working directory or holds it" in last(done.err)
    assert Path.cwd().samefile(tmp_path / "a" / "b")
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    "there", ["/proc/x", "/dev/null/x", "/dev/null", "file", "file/x", "loop/x"]
)
def test_a_folder_that_cannot_be_written_is_refused_before_the_work(
    there: str, run: Run, tiny_model: Path, text_file: Path
) -> None:
    Path("file").touch()
    Path("loop").symlink_to("loop")
    config = small_config(tiny_model, text_file)
    for call in (
        lambda: search(config, output_dir=Path(there)),
        lambda: finetune(own_config(tiny_model, dense=True), output_dir=Path(there)),
        lambda: import_ticket("not even looked at", there, model="nano"),
        lambda: write_checkpoint(NANO, there),
        lambda: check_target(there),
    ):
        with pytest.raises(TamtctlError) as raised:
            call()
        assert "\n" not in str(raised.value)
    done = run("inspect", "nano-0.7", "--figure", f"{there}/x.png")
    assert done.code == 2


def test_no_place_for_temporary_files() -> None:
    error = FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")
    assert explain(error) == "no folder for temporary files can be written; set TMPDIR to one"


# --- rights ---------------------------------------------------------------------------------------


def modes(folder: Path) -> dict[str, int]:
    return {
        str(f.relative_to(folder)): stat.S_IMODE(f.stat().st_mode)
        for f in folder.rglob("*")
        if f.is_file()
    }


@pytest.mark.parametrize("umask", [0o077, 0o002, 0o027])
def test_files_have_the_rights_that_the_umask_gives(
    umask: int, tiny_model: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAMTCTL_CACHE", str(tmp_path / "cache"))
    before = os.umask(umask)
    try:
        config = small_config(tiny_model, text_file, steps=4, keep_scores=True)
        done = search(config, output_dir=tmp_path / "run")
        finetune(own_config(tiny_model, dense=True), output_dir=tmp_path / "fine")
        write_checkpoint(done.ticket, tmp_path / "out")
        with replacing_file(tmp_path / "file") as file:
            file.write(b"x")
        torch.save({}, tmp_path / "saved")
        (tmp_path / "saved").chmod(0o600)
        give_usual_rights(tmp_path / "saved")
    finally:
        os.umask(before)
    found = modes(tmp_path)
    for name in ("run/scores", "run/ticket/mask", "out/model", "fine/seed-1/model"):
        assert f"{name}.safetensors" in found
    assert {name: oct(mode) for name, mode in found.items() if mode != 0o666 & ~umask} == {}
    folders = [f for f in tmp_path.rglob("*") if f.is_dir()]
    assert {stat.S_IMODE(f.stat().st_mode) for f in folders} == {0o777 & ~umask}


def test_a_ticket_of_another_kind_of_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(TicketError, match="is not empty; give a new or an empty folder"):
        import_ticket(NANO, tmp_path / "mine")
