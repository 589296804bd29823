from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType

import pytest
import tiny
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertForMaskedLM, BertTokenizer

from tamtctl.data.corpus import load_corpus
from tamtctl.models.files import nano_path

from . import measure, pretrain, pretraining
from .pretraining import Schedule
from .start import OFFSETS, new_model

WORDS = ["the", "city", "of", "lies", "on", "river", "and", "has", "a", "church", "in", "north"]


@pytest.fixture(scope="module")
def wikipedia(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("wikipedia") / "wikipedia.txt"
    articles = (" ".join(WORDS[i % 7 :] + WORDS[: i % 5]) + f" {i}." for i in range(400))
    path.write_text("\n\n".join(articles))
    return str(path)


@pytest.fixture
def _as_before() -> Iterator[None]:
    """Undo what a run does to its process."""
    threads, handler = torch.get_num_threads(), signal.getsignal(signal.SIGTERM)
    yield
    torch.set_num_threads(threads)
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="module")
def small_start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model to go on from, without dropout and in half precision, as nano is."""
    folder = tmp_path_factory.mktemp("start") / "bert"
    tiny.save(
        folder,
        "bert",
        max_position_embeddings=128,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    BertForMaskedLM.from_pretrained(folder, dtype=torch.float16).save_pretrained(folder)
    return folder


def command(wikipedia: str, output: Path, *more: str) -> list[str]:
    small = "--batch-size 2 --length 32 --threads 1 --log-seconds 0 --checkpoint-seconds 0"
    return ["--wikipedia", wikipedia, "--output", str(output), *small.split(), *more]


def run_and(action: Callable[[], None], arguments: list[str], output: Path) -> None:
    """Run in this process; once some steps are in a checkpoint, act as a user might."""

    def look(_number: int, _frame: FrameType | None) -> None:
        checkpoint = output / pretraining.CHECKPOINT
        if checkpoint.exists() and torch.load(checkpoint)["step"] > 2:
            action()
        else:  # only now, or on a slow machine one look would begin within another
            signal.setitimer(signal.ITIMER_REAL, 0.02)

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        pretrain.main(arguments)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# --- the model in the package ----------------------------------------------------------------


def test_nano_is_a_small_stock_model_in_float16() -> None:
    weights = nano_path() / "model.safetensors"
    assert weights.stat().st_size <= 8_000_000
    assert {tensor.dtype for tensor in load_file(weights).values()} == {torch.float16}
    model, loading = AutoModelForMaskedLM.from_pretrained(
        nano_path(), dtype=torch.float32, output_loading_info=True
    )
    assert type(model) is BertForMaskedLM
    assert not any(loading.values()), "missing, unexpected or mismatched weights"


def test_the_tokenizer_is_fast_lower_cased_and_fits_the_model() -> None:
    tokenizer = AutoTokenizer.from_pretrained(nano_path())
    assert isinstance(tokenizer, BertTokenizer)
    assert tokenizer.is_fast
    ids = tokenizer("Return the Länder of Europe.")["input_ids"]
    assert tokenizer.decode(ids) == "[CLS] return the lander of europe. [SEP]"
    assert len(tokenizer) == AutoModelForMaskedLM.from_pretrained(nano_path()).config.vocab_size


def test_nano_has_learned_context() -> None:
    tokenizer = AutoTokenizer.from_pretrained(nano_path())
    model = BertForMaskedLM.from_pretrained(nano_path(), dtype=torch.float32)
    held_out = load_corpus("python-docs", tokenizer).held_out
    plain, permuted = (
        measure.held_out_loss(model, tokenizer, held_out, limit=24, permuted=flag)
        for flag in (False, True)
    )
    assert plain < 4.5
    assert plain < permuted - 1.0


def test_the_losses_are_printed(wikipedia: str, capsys: pytest.CaptureFixture[str]) -> None:
    measure.main(["--valid", wikipedia, "--limit", "2"])
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines] == ["wikipedia", "python-docs"]
    assert all("context permuted" in line for line in lines)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--model", "/nowhere"], "model '/nowhere'"),
        (["--valid", "/nowhere.txt"], "/nowhere.txt"),
        (["--length", "513"], "--length must be at most 512"),
        (["--length", "2"], "leaves no room for text"),
        (["--limit", "0"], "--limit must be at least 1"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    wikipedia: str, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        measure.main(["--valid", wikipedia, *more])
    assert exited.value.code in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


# --- pre-training ----------------------------------------------------------------------------


@torch.no_grad()
def test_the_first_heads_look_at_their_offsets() -> None:
    torch.manual_seed(0)
    model = new_model(1000).eval()
    model.set_attn_implementation("eager")
    ids = torch.randint(5, 1000, (4, 64))
    attentions = model(ids, output_attentions=True).attentions  # layers x (B, heads, T, T)
    for probabilities, offsets in zip(attentions, OFFSETS, strict=False):
        for head, offset in enumerate(offsets):
            by_offset = {
                other: probabilities[:, head].diagonal(other, -2, -1).mean().item()
                for other in range(-8, 9)
            }
            assert max(by_offset, key=by_offset.__getitem__) == offset


def test_the_schedule_warms_up_and_decays_and_can_be_cut_short() -> None:
    schedule = Schedule(peak=1.0, warm_up=10, decay_from=60, end=100)
    rates = [schedule.learning_rate(work) for work in (0, 5, 10, 60, 80, 100)]
    assert rates == pytest.approx([1 / 11, 6 / 11, 1.0, 1.0, 0.5, 0.0])
    schedule.cool_down(work=20, more=10)
    assert [schedule.learning_rate(work) for work in (20, 25, 30)] == [1.0, 0.5, 0.0]
    schedule.cool_down(work=25, more=10)  # must not put the end off
    assert schedule.end == 30


@pytest.mark.usefixtures("_as_before")
def test_an_interrupted_run_ends_with_the_weights_of_an_uninterrupted_one(
    wikipedia: str, small_start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--start", str(small_start), "--tokens", "4000")
    pretrain.main(command(wikipedia, tmp_path / "whole", *options))
    resumed = command(wikipedia, tmp_path / "resumed", *options)
    with pytest.raises(SystemExit) as exited:
        run_and(partial(signal.raise_signal, signal.SIGINT), resumed, tmp_path / "resumed")
    assert exited.value.code == 130
    capsys.readouterr()
    pretrain.main(resumed)
    assert "resuming at step" in capsys.readouterr().err
    whole, again = (
        load_file(tmp_path / name / "model.safetensors") for name in ("whole", "resumed")
    )
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    before = load_file(small_start / "model.safetensors")
    assert {t.dtype for t in before.values()} == {t.dtype for t in whole.values()}
    assert any(not torch.equal(whole[name], before[name]) for name in whole)
    # What is left is a folder like nano's own.
    files = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert {file.name for file in (tmp_path / "resumed").iterdir()} == files


@pytest.mark.usefixtures("_as_before")
@pytest.mark.parametrize("way", ["file", "signal"])
def test_a_run_is_ended_early_through_the_decay(
    way: str,
    wikipedia: str,
    small_start: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "out"
    options = ("--start", str(small_start), "--minutes", "60", "--cool-down", "0.01")
    file, sigterm = (output / "stop").touch, partial(signal.raise_signal, signal.SIGTERM)
    run_and(file if way == "file" else sigterm, command(wikipedia, output, *options), output)
    assert "stopping early" in capsys.readouterr().err
    model = BertForMaskedLM.from_pretrained(output, dtype=torch.float32)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.usefixtures("_as_before")
def test_pre_training_from_nothing(wikipedia: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    pretrain.main(command(wikipedia, output, "--tokens", "400"))
    tokenizer = AutoTokenizer.from_pretrained(output)
    assert tokenizer.tokenize("Return the value") == ["return", "the", "value"]
    model = AutoModelForMaskedLM.from_pretrained(output)
    assert model.dtype == torch.float16
    assert model.config.vocab_size == len(tokenizer) == 8192


@pytest.mark.usefixtures("_as_before")
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--minutes", "nan"], "--minutes must be positive"),
        (["--masked-share", "1.5"], "--masked-share must be from 0 to 0.5"),
        (["--length", "513"], "--length must be between 8 and 512"),
        (["--start", "/nowhere"], "model '/nowhere'"),
        (["--start", str(nano_path()), "--wikipedia", "/nowhere.txt"], "/nowhere.txt"),
    ],
)
def test_bad_input_is_one_line(
    wikipedia: str,
    tmp_path: Path,
    more: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as exited:
        pretrain.main([*command(wikipedia, tmp_path / "out"), *more])
    assert exited.value.code in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


@pytest.mark.usefixtures("_as_before")
def test_a_foreign_or_damaged_output_folder_is_refused(
    wikipedia: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(SystemExit):
        pretrain.main(command(wikipedia, tmp_path, "--start", str(nano_path())))
    assert "is not empty" in capsys.readouterr().err
    (tmp_path / pretraining.CHECKPOINT).write_bytes(b"not a checkpoint")
    with pytest.raises(SystemExit):
        pretrain.main(command(wikipedia, tmp_path, "--start", str(nano_path())))
    assert "is damaged" in capsys.readouterr().err
