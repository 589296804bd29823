"""The command line through its entry point: what a person and a script see."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Run, runner
from small_disk import small_disk


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run a command in an empty working directory."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return runner(monkeypatch, capsys)


@pytest.fixture
def tiny_search(tiny_model: Path, text_file: Path) -> list[object]:
    options = "search --sparsity 0.7 --steps 4 --batch-size 4 --sequence-length 16 --device cpu"
    return [*options.split(), "--model", tiny_model, "--corpus", text_file]


def test_search_says_what_it_does_and_what_it_found(run: Run, tiny_search: list[object]) -> None:
    done = run(*tiny_search)
    assert done.code == 0, done.err
    assert done.err.startswith("recipe fast: ")
    for expected in ("13 matrices", "sparsity 0.7 in each", "4 steps of 4 × 16", "cpu, fp32"):
        assert expected in done.err
    assert done.out.startswith("Held-out mlm loss at sparsity 0.")  # the result, and no more
    for row in ("dense", "random", "magnitude", "start: obs", "ticket"):
        assert re.search(rf"{row} +│ +\d\.\d{{3}}", done.out)
    assert "\x1b" not in done.out + done.err  # no terminal, no colours
    (ticket,) = Path("runs").glob("search-tiny-bert-0.7-tamt-mlm-*/ticket")
    assert f"next    tamtctl inspect {ticket}" in done.err
    assert run("inspect", ticket).code == 0
    again = run(*tiny_search)
    assert "done before" in again.err
    assert again.out == done.out


def test_search_as_json_is_one_object(run: Run, tiny_search: list[object]) -> None:
    done = run(*tiny_search, "--json", "--output-dir", "mine")
    result = json.loads(done.out)
    assert {
        "ticket", "sparsity", "target_sparsity", "method", "objective", "model", "corpus", "steps",
        "seconds", "tokens_per_second", "losses", "bytes", "resumed_from",
    } <= result.keys()  # fmt: skip
    assert result["ticket"] == "mine/ticket"
    assert result["losses"].keys() == {"dense", "random", "magnitude", "start", "ticket"}
    assert "recipe fast" in done.err
    assert result["bytes"] == sum(f.stat().st_size for f in Path("mine/ticket").iterdir())


def test_quiet_prints_the_path_alone(run: Run, tiny_search: list[object]) -> None:
    assert run(*tiny_search, "-q", "--output-dir", "mine").out == "mine/ticket\n"


def test_dry_run_writes_nothing(run: Run, tiny_search: list[object]) -> None:
    done = run(*tiny_search, "--dry-run", "--json")
    assert json.loads(done.out)["matrices"] == 13
    assert list(Path().iterdir()) == []


def test_a_check_corpus_is_a_column(run: Run, tiny_search: list[object], text_file: Path) -> None:
    done = run(*tiny_search, "--check-corpus", text_file)
    assert "check corpus" in done.out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("--sparsity 80", 2, "did you mean 0.8"),
        ("--sparsity nan", 2, "got nan"),
        ("--sparsity x", 2, "--sparsity"),
        ("", 2, "--sparsity is needed"),
        ("--sparsity 0.8 --recipe papr", 2, "did you mean paper"),
        ("--sparsity 0.8 --method tamd", 2, "did you mean tamt"),
        ("--sparsity 0.8 --nonsense", 2, "No such option: --nonsense"),
        ("--sparsity 0.8 --model no/such --device cpu", 2, "--recipe fast is for any model"),
        (
            "--sparsity 0.8 --model no/such --recipe nano --device cpu",
            1,
            "neither a folder nor reachable",
        ),
        ("--sparsity 0.8 --corpus nowhere.txt --device cpu", 1, "nowhere.txt"),
        ("--sparsity 0.8 --corpus no/dataset --device cpu", 1, "no/dataset"),
        ("--sparsity 0.8 --device cuda", 2, "--device cuda is not available"),
        ("--sparsity 0.8 --device mps", 2, "--device mps has no float64"),
        ("--sparsity 0.8 --init nowhere --device cpu", 1, "nowhere"),
    ],
)
def test_bad_requests_get_one_line(arguments: str, code: int, message: str, run: Run) -> None:
    import torch

    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = run("search", *arguments.split())
    assert done.code == code
    (line,) = (line for line in done.err.splitlines() if line.startswith("error: "))
    assert message in line
    assert "Traceback" not in done.err + done.out
    assert list(Path().iterdir()) == []


def test_bad_text_gets_one_line(run: Run, tiny_search: list[object], tmp_path: Path) -> None:
    bad = {"empty.txt": b"", "binary.txt": b"a\x00b" * 99, "latin.txt": b"caf\xe9 " * 99}
    bad["short.txt"] = b"two words"
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        done = run(*tiny_search[:-1], tmp_path / name)
        assert done.code == 1
        (line,) = (line for line in done.err.splitlines() if line.startswith("error: "))
        assert name in line
        assert list(Path().iterdir()) == []


def test_a_folder_with_something_else_is_left_alone(run: Run, tiny_search: list[object]) -> None:
    Path("thesis").mkdir()
    Path("thesis/chapter.tex").write_text("x")
    done = run(*tiny_search, "--output-dir", "thesis", "--force")
    assert done.code == 2
    assert "not empty" in done.err
    assert [path.name for path in Path("thesis").iterdir()] == ["chapter.tex"]


def test_debug_shows_the_traceback(run: Run) -> None:
    assert "Traceback" in run("search", "--sparsity", "80", "--debug").err


def test_list_and_inspect(run: Run, tiny_search: list[object]) -> None:
    run(*tiny_search, "--output-dir", "runs/mine")
    tickets = json.loads(run("list", "--json").out)["tickets"]
    (mine,) = (ticket for ticket in tickets if ticket["path"] == "runs/mine/ticket")
    assert mine.keys() >= {
        "name", "path", "sparsity", "method", "objective", "base_model", "bytes",
    }  # fmt: skip
    packaged = {ticket["name"] for ticket in tickets if ticket["name"].startswith("nano-")}
    assert packaged >= {"nano-0.5", "nano-0.7", "nano-0.8", "nano-0.9"}
    for name in packaged:
        assert run("inspect", name).code == 0
    mask = Path("runs/mine/ticket/mask.safetensors")
    content = bytearray(mask.read_bytes())
    content[-1] ^= 3
    mask.write_bytes(content)
    done = run("inspect", "runs/mine/ticket")
    assert done.code == 1
    assert "FAILED" in done.out
    assert done.err.startswith("error: ")


def test_env_names_what_a_bug_report_needs(run: Run) -> None:
    facts = json.loads(run("env", "--json").out)
    assert {"tamtctl", "python", "torch", "transformers", "cuda", "cpu", "cache"} <= facts.keys()


def test_every_command_has_an_example_in_its_help(run: Run) -> None:
    overview = run("--help").out
    commands = re.findall(r"^  (\w+) {2,}\w", overview.split("Commands")[1], re.MULTILINE)
    assert {"search", "inspect", "list", "env"} <= set(commands)
    for command in commands:
        done = run(command, "-h")
        assert done.code == 0
        (_, example) = " ".join(done.out.split()).split("Example: ")
        assert example.startswith(f"tamtctl {command}"), "the example stands at the end"
    assert run("--version").out.startswith("tamtctl ")


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['tamtctl', '--help']; from tamtctl.cli import app as cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'datasets', 'numpy'} & sys.modules.keys()\n"
        "sys.exit(f'{heavy} loaded' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_full_disk_is_named_and_leaves_no_ticket(
    run: Run, tiny_search: list[object], tmp_path: Path
) -> None:
    with small_disk(tmp_path / "full", "16k") as full:
        done = run(*tiny_search, "--output-dir", full / "run")
        assert done.code == 1
        assert "no space left" in done.err.lower()
        assert not (full / "run" / "ticket").exists()
