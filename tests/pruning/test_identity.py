"""What was made before is found again only if it was made of the same content."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dataset_server
import pytest
import torch
from command_line import Run
from safetensors.torch import load_file, save_file
from samples import ticket_for
from small_search import Interrupting, bits, interrupted, small_config

from tamtctl.foundations.digests import file_sha256
from tamtctl.foundations.errors import ChangedInputsError
from tamtctl.foundations.watching import StepReport
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.derived import derived_config
from tamtctl.pruning.searching.api import search
from tamtctl.pruning.searching.identity import model_identity
from tamtctl.tasks.finetuning.api import finetune
from tamtctl.tasks.finetuning.config import FinetuneConfig


@pytest.fixture(autouse=True)
def working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path, text_file: Path
) -> None:
    """A model ``m`` and a text ``c.txt`` that a test may change."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_model, "m")
    lines = text_file.read_text().splitlines()
    Path("c.txt").write_text("\n".join(map(str.capitalize, lines)))


def config(**changes: Any) -> SearchConfig:
    return small_config(Path("m"), Path("c.txt"), **({"steps": 2} | changes))


def change_tensor(part: str) -> Callable[[], None]:
    def change() -> None:
        file = Path("m/model.safetensors")
        weights = load_file(file)
        name = next(name for name in weights if part in name)
        weights[name] = weights[name] + 0.5
        save_file(weights, file, metadata={"format": "pt"})

    return change


def change_configuration() -> None:
    file = Path("m/config.json")
    file.write_text(file.read_text().replace('"gelu"', '"relu"'))


def change_tokenizer() -> None:
    file = Path("m/tokenizer.json")
    file.write_text(file.read_text().replace('"lowercase": true', '"lowercase": false'))


def change_corpus() -> None:
    lines = Path("c.txt").read_text().splitlines()
    Path("c.txt").write_text("\n".join(lines[: len(lines) // 2]))


CHANGES: dict[str, tuple[Callable[[], None], str]] = {
    "a bias": (change_tensor("attention.self.query.bias"), "weights of model m"),
    "a LayerNorm": (change_tensor("LayerNorm.weight"), "weights of model m"),
    "the head": (change_tensor("predictions"), "weights of model m"),
    "configuration": (change_configuration, "configuration of model m"),
    "tokenizer": (change_tokenizer, "tokenizer of model m"),
    "corpus": (change_corpus, "corpus c.txt"),
}


@pytest.mark.parametrize("place", ["2_Dense", "proj"])
def test_modules_count_wherever_the_model_says_they_are(place: str) -> None:
    modules = [{"type": "sentence_transformers.models.Dense", "path": place}]
    Path("m/modules.json").write_text(json.dumps(modules))
    Path("m", place).mkdir()
    Path("m/other").mkdir()
    found = []
    for folder in ("other", place):
        found.append(model_identity("m"))
        Path("m", folder, "model.safetensors").write_text("changed")
    assert found[0] == found[1] != model_identity("m")


@pytest.mark.parametrize("changed", CHANGES)
def test_a_finished_search_is_found_again_only_if_all_is_as_it_was(changed: str) -> None:
    change, name = CHANGES[changed]
    found = search(config())
    assert search(config()).already_done
    kept = {f: f.read_bytes() for f in found.run_folder.rglob("*") if f.is_file()}
    change()
    for _ in range(2):
        with pytest.raises(
            ChangedInputsError, match=rf"the {name}( \(.*\))? changed since.*--force"
        ):
            search(config())
    assert {f: f.read_bytes() for f in found.run_folder.rglob("*") if f.is_file()} == kept
    again = search(config(), force=True)
    assert not again.already_done
    assert again.losses != found.losses
    assert search(config()).already_done


@pytest.mark.parametrize("changed", ["a LayerNorm", "configuration", "corpus"])
def test_an_interrupted_search_does_not_go_on_with_something_else(changed: str) -> None:
    change, name = CHANGES[changed]
    one = config(steps=4, checkpoint_every=1)
    interrupted(one, Path("run"), after=3)
    change()
    with pytest.raises(ChangedInputsError, match=rf"the {name}( \(.*\))? changed"):
        search(one, output_dir=Path("run"))
    anew = search(one, output_dir=Path("run"), force=True)
    assert anew.resumed_from == 0
    assert bits(anew.ticket) == bits(search(one, output_dir=Path("other")).ticket)


def test_the_same_content_is_the_same_whatever_its_times_and_its_inode() -> None:
    search(config())
    for name in ("m/model.safetensors", "c.txt"):
        shutil.copy(name, "copy")
        Path(name).unlink()
        shutil.move("copy", name)
    config_file = Path("m/config.json")
    values = json.loads(config_file.read_text()) | {"transformers_version": "0.0", "dtype": "half"}
    config_file.write_text(json.dumps(values))
    assert search(config()).already_done


def test_which_file_changed_is_said_and_a_new_name_is_no_change() -> None:
    lines = Path("c.txt").read_text().splitlines()
    Path("c").mkdir()
    for name, part in (("a.txt", lines[:50]), ("b.txt", lines[50:])):
        Path("c", name).write_text("\n".join(part))
    config = small_config(Path("m"), Path("c"), steps=1)
    assert not search(config).already_done
    Path("c/b.txt").rename("c/z.txt")
    assert search(config).already_done
    text = Path("c/z.txt").read_text()
    Path("c/z.txt").write_text(text.upper())
    with pytest.raises(ChangedInputsError, match=r"the corpus c \(b.txt, z.txt\) changed since"):
        search(config)
    Path("c/z.txt").rename("c/b.txt")
    with pytest.raises(ChangedInputsError, match=r"the corpus c \(b.txt\) changed since"):
        search(config)
    Path("c/b.txt").write_text(text)
    file = Path("m/tokenizer_config.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_max_length": 20}))
    with pytest.raises(
        ChangedInputsError, match=r"tokenizer of model m \(tokenizer_config.json\) changed"
    ):
        search(config)


def test_held_out_text_ticket_and_scores_are_part_of_a_search() -> None:
    for name in ("h.txt", "k.txt"):
        shutil.copy("c.txt", name)
    ticket_for(Path("m"), Path("t"))
    kept = search(config(keep_scores=True), output_dir=Path("kept"))
    assert kept.ticket.exists()
    configs = {
        "held-out text h.txt": config(held_out=("h.txt",)),
        "check corpus k.txt": config(check_corpus=("k.txt",)),
        "ticket t": config(init="t"),
        "kept scores of kept": derived_config("kept", 0.5),
    }
    for one in configs.values():
        search(one)
        assert search(one).already_done
    for file in (Path("h.txt"), Path("k.txt")):
        file.write_text(file.read_text()[1000:])
    values = json.loads(Path("t/ticket.json").read_text())
    Path("t/ticket.json").write_text(json.dumps(values | {"created": "2020-01-01T00:00:00Z"}))
    scores = load_file("kept/scores.safetensors")
    save_file({name: tensor + 1 for name, tensor in scores.items()}, "kept/scores.safetensors")
    for name, one in configs.items():
        with pytest.raises(ChangedInputsError, match=rf"the {name}( \(.*\))? changed"):
            search(one)


def test_a_run_of_another_algorithm_or_of_no_known_origin_is_not_found() -> None:
    found = search(config())
    file = found.run_folder / "identity.json"
    identity = json.loads(file.read_text())
    file.write_text(json.dumps(identity | {"algorithm version": "0"}))
    with pytest.raises(ChangedInputsError, match="the algorithm version changed"):
        search(config())
    file.unlink()
    with pytest.raises(ChangedInputsError, match=r"has no identity\.json"):
        search(config())


def test_a_changed_file_is_noticed_although_size_and_time_are_as_before() -> None:
    file = Path("large.bin")
    file.write_bytes(b"a" * 2**20)
    os.utime(file, ns=(1, 1))
    first = file_sha256(file)
    file.write_bytes(b"b" * 2**20)
    os.utime(file, ns=(1, 1))
    assert file_sha256(file) != first


# --- fine-tuning -----------------------------------------------------------------------------


def write_rows(file: str, first: str = "list") -> None:
    rows = [{"text": f"{w} {w}", "label": w} for _ in range(8) for w in (first, "file")]
    Path(file).write_text("\n".join(map(json.dumps, rows)))


def own_task(**changes: Any) -> FinetuneConfig:
    write_rows("t.jsonl")
    values: dict[str, Any] = {
        "task": "own",
        "train": "t.jsonl",
        "dev": "t.jsonl",
        "epochs": 2,
        "batch_size": 4,
        "device": "cpu",
    }
    return FinetuneConfig(**(values | changes))


@pytest.mark.parametrize("changed", ["a bias", "configuration", "tokenizer"])
@pytest.mark.parametrize("is_dense", [True, False])
def test_fine_tuning_is_found_again_only_for_the_same_model(changed: str, is_dense: bool) -> None:
    ticket_for(Path("m"), Path("t"))
    one = own_task(model="m", dense=is_dense, ticket=None if is_dense else "t")
    finetune(one)
    assert finetune(one).already_done
    change, name = CHANGES[changed]
    change()
    with pytest.raises(ChangedInputsError, match=rf"the {name}( \(.*\))? changed"):
        finetune(one)
    assert not finetune(one, force=True).already_done


def test_a_folder_of_ones_own_says_which_data_changed_and_is_made_anew_by_force() -> None:
    ticket_for(Path("m"), Path("t"))
    one = own_task(model="m", ticket="t")
    finetune(one, output_dir="run")
    Path(one.dev or "").write_text(Path(one.dev or "").read_text() + "\n")
    with pytest.raises(ChangedInputsError, match=r"the data of own changed since .*--force"):
        finetune(one, output_dir="run")
    assert not finetune(one, output_dir="run", force=True).already_done
    ticket_for(Path("m"), Path("t"), sparsity=0.7)
    with pytest.raises(ChangedInputsError, match="the ticket t changed since"):
        finetune(one, output_dir="run")


class _Killed(Exception):  # noqa: N818, it is none
    pass


class _KilledWhileScoring(Interrupting):
    """A watcher that ends fine-tuning when it begins to score, and one that counts steps."""

    def __init__(self, *, is_killing: bool) -> None:
        super().__init__()
        self.is_killing, self.steps = is_killing, 0

    def status(self, message: str) -> None:
        if self.is_killing and message.startswith("scoring"):
            raise _Killed

    def progress(self, report: StepReport) -> None:
        self.steps += 1


@pytest.mark.parametrize("select", ["last", "best"])
def test_fine_tuning_that_is_killed_while_it_is_scored_goes_on_from_its_end(select: str) -> None:
    one = own_task(model="m", dense=True, select=select)
    with pytest.raises(_Killed):
        finetune(one, watcher=_KilledWhileScoring(is_killing=True))
    watcher = _KilledWhileScoring(is_killing=False)
    found = finetune(one, watcher=watcher)
    assert watcher.steps == 0  # nothing was trained again
    whole = finetune(one, output_dir=Path("whole"))
    assert found.scores == whole.scores
    for name, tensor in load_file(whole.checkpoint[0] / "model.safetensors").items():
        assert torch.equal(tensor, load_file(found.checkpoint[0] / "model.safetensors")[name])


# --- comparing -------------------------------------------------------------------------------

COMPARE = "compare t --model m --corpus c.txt --sequence-length 16 --device cpu --json".split()
COMPARE += ["--blocks", "8"]


def dense_losses(run: Run, *more: object) -> dict[str, float]:
    done = run(*COMPARE, *more)
    assert done.code == 0, done.err
    (dense,) = (row for row in json.loads(done.out)["results"] if row["method"] == "dense")
    return {key: value for key, value in dense.items() if key.endswith("_loss")}


@pytest.mark.parametrize("changed", ["a LayerNorm", "configuration"])
def test_a_kept_loss_is_that_of_the_model_at_hand(
    changed: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket_for(Path("m"), Path("t"))
    first = dense_losses(run, "--output-dir", "one")
    change, _ = CHANGES[changed]
    change()
    second = dense_losses(run, "--output-dir", "two")
    assert second != first
    monkeypatch.setenv("TAMTCTL_CACHE", str(Path("elsewhere").absolute()))
    assert dense_losses(run, "--output-dir", "three") == second


def test_a_report_is_not_overwritten_by_one_of_something_else(run: Run) -> None:
    ticket_for(Path("m"), Path("t"))
    dense_losses(run)
    (report,) = Path("runs").glob("compare-*/report.html")
    before = report.read_bytes()
    change_corpus()
    refused = run(*COMPARE)
    assert refused.code == 1
    assert "the text of c.txt changed since" in refused.err
    assert "--force" in refused.err
    assert report.read_bytes() == before
    dense_losses(run, "--force")
    assert report.read_bytes() != before


def test_another_content_of_a_recipe_is_another_sweep(run: Run) -> None:
    sweep = "compare --sparsity 0.5 --methods tamt-kd --recipe r.toml --model m --corpus c.txt"
    command = [*sweep.split(), "--device", "cpu", "--blocks", "8", "--json"]
    recipe = "batch-size = 2\nsequence-length = 16\nlearning-rate = {}\n[imp]\nprune-every = 1\n"
    folders = []
    for rate in ("1e-3", "5e-2", "1e-3"):
        Path("r.toml").write_text(recipe.format(rate))
        done = run(*command)
        assert done.code == 0, done.err
        folders.append(json.loads(done.out)["folder"])
    first, second, third = folders
    assert first == third != second


def test_a_sweep_is_not_made_of_runs_of_another_text(run: Run) -> None:
    Path("r.toml").write_text("batch-size = 2\nsequence-length = 16\n[imp]\nprune-every = 1\n")
    sweep = "compare --sparsity 0.5 --methods tamt-kd --recipe r.toml --model m --corpus c.txt"
    command = [*sweep.split(), "--device", "cpu", "--blocks", "8"]
    assert run(*command).code == 0
    change_corpus()
    for more in ([], ["--dry-run"]):
        refused = run(*command, "--output-dir", "another", *more)
        assert refused.code == 1
        assert "the corpus c.txt changed since the run in" in refused.err
        assert "make the sweep's runs anew with --force" in refused.err
        assert "--output-dir" not in refused.err  # which is where the report is
    forced = run(*command, "--output-dir", "another", "--force")
    assert forced.code == 0
    assert "changed since" in forced.err
    assert "--force" not in forced.err


# --- recipes ---------------------------------------------------------------------------------


def test_every_setting_of_a_recipe_counts_unless_the_shell_gives_it(run: Run) -> None:
    Path("r.toml").write_text(
        'seed = 7\ndevice = "cpu"\nthreads = 1\nprecision = "fp32"\nevaluation-blocks = 9\n'
        "sequence-length = 16\n[tamt]\nsteps = 2\n"
    )
    command = "search --sparsity 0.5 --model m --corpus c.txt --recipe r.toml --dry-run --json"
    told = json.loads(run(*command.split()).out)["config"]
    assert (told["seed"], told["device"], told["evaluation_blocks"]) == (7, "cpu", 9)
    told = json.loads(run(*command.split(), "--seed", 3, "--device", "auto").out)["config"]
    assert (told["seed"], told["device"]) == (3, "auto")
    from tamtctl.comparison.config import CompareConfig
    from tamtctl.comparison.grid import Cell

    sweep = CompareConfig(sparsities=(0.5,), recipe="r.toml", model="m")
    assert sweep.seeds == (7,)
    for cell in (*sweep.cells(), Cell("magnitude", 0.5, None)):
        one = sweep.search_config(cell)
        assert (one.device, one.threads, one.precision, one.evaluation_blocks) == (
            "cpu", 1, "fp32", 9,
        )  # fmt: skip
    assert replace(sweep, seeds=(1, 2), device="auto").search_config(cell).device == "auto"


# --- the Hub ---------------------------------------------------------------------------------

COMMIT = """
import json
from tamtctl.foundations.hub_commits import dataset_commit
print(json.dumps(dataset_commit("me/words")))
"""


def test_a_dataset_counts_by_its_commit_also_when_the_hub_cannot_be_reached() -> None:
    with dataset_server.serve("me/words", {"train.jsonl": b'{"text": "a"}\n'}) as endpoint:
        assert dataset_server.run(COMMIT, endpoint, Path("hf")) == dataset_server.SHA
    assert dataset_server.run(COMMIT, endpoint, Path("hf")) == dataset_server.SHA
