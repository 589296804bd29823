"""Held-out text that is trained on as well, or that says the same twice, is named as that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Run
from small_search import command, small_config

from tamtctl.pruning.searching.api import search
from tamtctl.tasks.evaluation.api import evaluate
from tamtctl.tasks.evaluation.config import EvaluateConfig

pytestmark = pytest.mark.usefixtures("working_folder")


@pytest.mark.parametrize(
    ("share", "said"), [(1.0, "100 % of"), (0.5, "50 % of"), (0.0, None)], ids=str
)
def test_held_out_text_that_is_trained_on_is_named(
    share: float, said: str | None, run: Run, tiny_model: Path, text_file: Path
) -> None:
    # Other documents of the same lines, under another name: blocks between blank lines.
    lines = text_file.read_text().splitlines()
    own = [line[::-1] for line in lines]
    half = int(share * len(lines))
    Path("other.txt").write_text("\n\n".join(lines[:half] + own[half:]))
    config = small_config(tiny_model, text_file, held_out=("other.txt",), steps=2)
    done = run(*command(config, "--held-out", "other.txt"))
    assert done.code == 0, done.err
    name = json.loads(done.out)["held_out"]["name"]
    if said is None:
        assert name == "other.txt"
        assert "trained on" not in done.err
    else:
        assert name == f"other.txt, {said} it trained on, too"
        assert f"{said} the held-out text of other.txt is trained on, too" in done.err


def test_text_that_stands_twice_makes_standard_errors_too_small(
    run: Run, tiny_model: Path, text_file: Path
) -> None:
    config = small_config(tiny_model, text_file, steps=2)
    done = run(*command(config, "--corpus", text_file))
    assert done.code == 0, done.err
    assert "50 % of the held-out text" in done.err
    assert "standard errors and intervals are too small" in done.err
    again = evaluate(
        EvaluateConfig(
            name=str(tiny_model), task="mlm", corpus=(str(text_file),) * 2, sequence_length=16
        )
    )
    assert any("more than once" in note for note in again.notes)
    once = evaluate(
        EvaluateConfig(name=str(tiny_model), task="mlm", corpus=(str(text_file),), blocks=8)
    )
    assert once.notes == ()


@pytest.mark.parametrize("held_out", [True, False])
def test_a_check_corpus_that_is_the_corpus_is_no_second_domain(
    held_out: bool, run: Run, tiny_model: Path, text_file: Path
) -> None:
    Path("other.txt").write_text(text_file.read_text()[::-1])
    config = small_config(tiny_model, text_file, steps=2)
    more = ["--held-out", "other.txt"] if held_out else []
    done = run(*command(config, "--check-corpus", text_file, *more))
    assert done.code == 0, done.err
    assert "its losses tell of no second domain" in done.err
    assert ("all of it is trained on" in done.err) == held_out


def test_a_ticket_copied_out_of_its_project_finds_its_model_and_text(
    tiny_model: Path, text_file: Path, run: Run, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    for name, there in (("m", tiny_model), ("c.txt", text_file)):
        (project / name).symlink_to(there)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        search(small_config(Path("m"), Path("c.txt"), steps=1), output_dir="run")
    (project / "run" / "ticket").rename(tmp_path / "mine")
    done = run("compare", "mine", "--threads", "1", "--blocks", "8")
    assert done.code == 0, done.err
