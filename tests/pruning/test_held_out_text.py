"""What a loss says of itself: how sure it is, in which unit, and on which text."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
import tiny
from command_line import Run
from small_search import small_config

from tamtctl.foundations.errors import CorpusError, ModelError
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.searching.api import search
from tamtctl.tasks.evaluation.api import evaluate
from tamtctl.tasks.evaluation.config import EvaluateConfig
from tamtctl.ticket.exporting.api import export
from tamtctl.ticket.hub.card import card
from tamtctl.ticket.ticket import Ticket


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, lines: int, words: list[str] = tiny.WORDS, seed: int = 0) -> str:
    chosen = random.Random(seed)
    text = "\n".join(" ".join(chosen.choices(words, k=40)) for _ in range(lines))
    Path(name).write_text(text)
    return name


def command(model: Path, text: Path, *more: object) -> list[object]:
    options: list[object] = ["search", "--model", model, "--corpus", text, "--sparsity", 0.5]
    options += ["--recipe", "nano", "--sequence-length", 16, "--batch-size", 4]
    is_trained = "--method" not in more or "tamt" in more
    options += ["--learning-rate", 5e-3, "--steps", 4] if is_trained else []
    return [*options, "--output-dir", "run", *more]


@pytest.mark.parametrize("method", ["tamt", "magnitude", "random"])
def test_a_ticket_of_few_held_out_sequences_has_no_standard_error_and_no_claim(
    method: str, tiny_model: Path, text_file: Path, run: Run
) -> None:
    few = write("few.txt", 1)  # two sequences
    done = run(*command(tiny_model, text_file, "--held-out", few, "--method", method))
    assert done.code == 0
    assert "too few held-out sequences (2) to tell" in done.err
    assert "Too few held-out sequences (2) to tell" in done.out
    assert "closes" not in done.out
    assert re.search(r"ticket +│ +\d\.\d{3} │ +– │", done.out)
    metrics = Ticket.load(Path("run/ticket")).metrics
    assert set(metrics["standard_errors"].values()) == {None}
    assert metrics["sequences"] == 2
    again = json.loads(
        run(*command(tiny_model, text_file, "--held-out", few, "--method", method, "--json")).out
    )
    assert again["already_done"]
    assert again["standard_errors"]["ticket"] is None
    assert (again["sequences"], again["sequence_length"]) == (2, 16)


def test_one_evaluation_block_of_a_recipe(tiny_model: Path, text_file: Path) -> None:
    for objective in ("kd", "mlm+kd"):
        config = small_config(
            tiny_model, text_file, steps=2, evaluation_blocks=1, objective=objective
        )
        result = search(config, output_dir=Path(objective))
        assert set(result.standard_errors.values()) == {None}
        assert all(loss >= 0 for loss in result.losses.values())


def test_enough_sequences_make_a_claim_and_say_what_was_measured(
    tiny_model: Path, text_file: Path, run: Run
) -> None:
    done = run(*command(tiny_model, text_file, "--steps", 40))
    title = (
        r"Held-out mlm loss at sparsity 0\.5, nats per masked token, (\d+) sequences × 16 tokens"
    )
    assert re.search(title + rf" of {re.escape(str(text_file))} \(its held-out tenth\)\n", done.out)
    assert re.search(r"step 40/40  loss \d+\.\d{3} nats per masked token  flips", done.err)
    assert "too few" not in done.out + done.err
    result = json.loads(run(*command(tiny_model, text_file, "--steps", 40, "--json")).out)
    assert result["unit"] == "nats per masked token"
    assert result["changed"] is True
    assert result["sequences"] == result["held_out"]["sequences"] > 8
    assert result["standard_errors"]["ticket"] > 0

    there = result["sequences"]
    text = f"{there} sequences × 16 tokens of {text_file.name} (held out)"
    shown = run("inspect", "run/ticket").out
    assert f"Held-out loss (nats per masked token; lower is better)\non {text}\n" in shown
    assert re.search(r"mask +loss  ± s\.e\.\n", shown)
    assert re.search(r"ticket +\d\.\d{3}   \d\.\d{3}  █", shown)
    measured = json.loads(run("inspect", "run/ticket", "--json").out)["measured"]
    assert (measured["unit"], measured["text"]) == ("nats per masked token", text)
    ticket = Ticket.load(Path("run/ticket"))
    written = card(ticket)
    assert "| mask | held-out loss (nats per masked token) | standard error |" in written
    assert f"Losses are means over {text}.".replace("_", "") in written.replace("_", "").replace(
        "\\", ""
    )
    assert "trained_on" not in written


def test_no_share_is_told_of_a_gap_that_is_noise(
    tiny_model: Path, text_file: Path, run: Run
) -> None:
    # One weight of a hundred makes no difference that eight sequences could show.
    search = ["search", "--sparsity", "0.01", "--model", tiny_model, "--corpus", text_file]
    options = ["--steps", "4", "--batch-size", "4", "--sequence-length", "16", "--recipe", "nano"]
    done = run(*search, *options, "--learning-rate", "0.05", "--json")
    assert done.code == 0, done.err
    losses = json.loads(done.out)["losses"]
    assert losses["magnitude"] != losses["dense"]
    assert "% of the gap" not in done.err
    assert ("cannot be told" in done.err) == (losses["magnitude"] > losses["dense"])


def test_the_sum_of_two_losses_is_not_in_nats(tiny_model: Path, text_file: Path, run: Run) -> None:
    done = run(*command(tiny_model, text_file, "--objective", "mlm+kd"))
    assert "loss at sparsity 0.5, nats + (1 − cosine), " in done.out
    assert re.search(r"step 4/4  loss \d+\.\d{3} \(nats \+ \(1 − cosine\)\)  ", done.err)
    found = json.loads(
        run("evaluate", "run/ticket", "--corpus", text_file, "--blocks", 9, "--json").out
    )
    assert found["unit"] == "nats + (1 − cosine)"
    assert found["units"]["kd"] == "1 − cosine"
    assert (found["sequences"], found["sequence_length"]) == (9, 16)
    assert Ticket.load(Path("run/ticket")).metrics["unit"] == "nats + (1 − cosine)"


# --- what cannot be measured is found before the work -----------------------------------------


def refused(config: SearchConfig) -> str:
    with pytest.raises(CorpusError) as raised:
        search(config, output_dir=Path("run"))
    assert not Path("run").exists()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_text_that_the_model_does_not_know_is_refused(tiny_model: Path, text_file: Path) -> None:
    greek = write("greek.txt", 200, ["αβγ", "δεζ", "ηθι"])
    for objective in ("mlm", "kd"):
        message = refused(small_config(tiny_model, Path(greek), objective=objective))
        assert re.match(
            r"100 % of the [\d,]+ tokens to train on of greek\.txt are unknown", message
        )
    assert "tokens held out of" in refused(
        small_config(tiny_model, text_file, held_out=(greek,), method="random")
    )
    assert "greek.txt" in refused(small_config(tiny_model, text_file, check_corpus=(greek,)))
    with pytest.raises(CorpusError, match="unknown to the model"):
        evaluate(EvaluateConfig(name=str(tiny_model), corpus=(greek,), sequence_length=16))


@pytest.mark.parametrize(("unknown", "is_noted"), [(1, False), (5, True)])
def test_many_unknown_tokens_are_noted(
    unknown: int, is_noted: bool, tiny_model: Path, run: Run
) -> None:
    mixed = write("mixed.txt", 200, tiny.WORDS[: 50 - unknown] + ["αβγ"] * unknown)
    note = r"(9|1\d) % of the tokens (held out|to train on) of mixed\.txt are unknown to the model"
    arguments = command(tiny_model, Path(mixed), "--method", "magnitude")
    for _ in range(2):  # also from the cache
        assert bool(re.search(note, run(*arguments, "--dry-run").err)) is is_noted
    found = run("evaluate", tiny_model, "--corpus", mixed, "--sequence-length", 16)
    assert bool(re.search(note, found.err)) is is_noted
    done = run(*arguments, "--json")
    assert bool(re.search(note, done.err)) is is_noted
    json.loads(done.out)
    compared = run("compare", "run/ticket", "--dry-run", "--recipe", "nano")
    assert bool(re.search(note, compared.err)) is is_noted


def test_held_out_text_without_a_masked_token_is_refused(tiny_model: Path, text_file: Path) -> None:
    # Known words enough not to be wholly unknown, but none of them is drawn.
    Path("specials.txt").write_text(" ".join(["[SEP]"] * 13 + ["the"] + ["[SEP]"] * 14))
    for method in ("tamt", "magnitude"):
        config = small_config(
            tiny_model, text_file, held_out=("specials.txt",), method=method, evaluation_blocks=1
        )
        message = refused(config)
        assert message.startswith("none of the held-out tokens of ")
    with pytest.raises(CorpusError, match="none of the held-out tokens"):
        evaluate(
            EvaluateConfig(
                name=str(tiny_model), corpus=("specials.txt",), sequence_length=16, blocks=1
            )
        )


def test_no_held_out_sequence_at_all_is_refused(tiny_model: Path, text_file: Path) -> None:
    Path("short.txt").write_text("the list of a name")
    message = refused(small_config(tiny_model, text_file, held_out=("short.txt",), method="random"))
    assert message.startswith("the text of short.txt is too short")
    assert "5 tokens are less than a block of 14" in message


def test_a_tokenizer_larger_than_the_model_is_refused(text_file: Path, run: Run) -> None:
    model = tiny.save(Path("larger"), "bert")
    more = tiny.tokenizer()
    more.add_tokens(["<e1>"])
    more.save_pretrained(model)
    for command in (
        ["evaluate", model, "--corpus", text_file],
        [
            "compare",
            "--model",
            model,
            "--corpus",
            text_file,
            "--sparsity",
            "0.5",
            "--recipe",
            "nano",
        ],
    ):
        done = run(*command)
        assert done.code == 1
        assert done.err.splitlines()[-1].startswith(
            "error: the tokenizer of model 'larger' has ids up to "
        )


# --- a mask that did not change ----------------------------------------------------------------


def test_a_ticket_that_changed_nothing_says_so(tiny_model: Path, text_file: Path, run: Run) -> None:
    for init, start in (("magnitude", "the magnitude mask"), ("random", "the random mask it")):
        arguments = command(
            tiny_model, text_file, "--learning-rate", 1e-4, "--init", init,
            "--init-scores", "two-valued", "--force",
        )  # fmt: skip
        done = run(*arguments, "--output-dir", init)
        assert "This training cannot change the mask: in 4 steps" in done.err
        assert f"The mask did not change: it is {start}" in done.out
        assert "closes" not in done.out
        metrics = Ticket.load(Path(init, "ticket")).metrics
        assert metrics["changed"] is False
        assert metrics["flips"] == 0
    found = json.loads(run(*arguments, "--output-dir", init, "--json").out)
    assert found["changed"] is False
    assert "did not change the mask" in run("inspect", f"{init}/ticket").out
    assert "Training did not change the mask" in card(Ticket.load(Path(init, "ticket")))
    dry = run(*arguments, "--output-dir", "other", "--dry-run", "--json")
    assert "cannot change" in json.loads(dry.out)["warnings"][0]
    one_shot = run(*command(tiny_model, text_file, "--method", "magnitude", "--output-dir", "one"))
    assert "did not change" not in one_shot.out


# --- which text -------------------------------------------------------------------------------


def evaluated(name: object, *corpus: str, **changes: object) -> tuple[int, str]:
    values = {"sequence_length": 16, "blocks": 10_000} | changes
    found = evaluate(EvaluateConfig(name=str(name), corpus=corpus, **values))  # type: ignore[arg-type]
    assert found.text is not None
    return found.text.of, found.text.name


def test_a_text_is_scored_as_a_whole_unless_it_was_trained_on(tiny_model: Path) -> None:
    own, other = write("own.txt", 200), write("other.txt", 100, seed=1)
    search(small_config(tiny_model, Path(own), steps=1), output_dir=Path("run"))
    ticket = Path("run/ticket")
    whole = 200 * 40 // 14
    assert evaluated(tiny_model, own) == (whole, "own.txt")
    tenth, name = evaluated(tiny_model, own, held_out_tenth=True)
    assert whole / 20 < tenth < whole / 5
    assert name == "own.txt (its held-out tenth)"
    rest = "own.txt (its held-out tenth); the ticket was trained on the rest"
    assert evaluated(ticket, own) == (tenth, rest)
    assert evaluated(ticket, other) == (100 * 40 // 14, "other.txt")
    Path("moved.txt").write_bytes(Path(own).read_bytes())
    assert evaluated(ticket, "moved.txt") == (tenth, rest.replace("own", "moved"))
    export(ticket, "exported")
    assert evaluated("exported", own) == (tenth, rest.replace("the ticket", "its mask"))
    both = evaluated(ticket, "moved.txt", other)  # of which one is known
    assert both[0] == pytest.approx(tenth + 100 * 40 // 14, abs=1)
    assert "the ticket was trained on the rest, in 1 of 2 files" in both[1]
    write(own, 200, seed=3)  # of the same name, but another
    assert "trained on a text so named, of other content" in evaluated(ticket, own)[1]


def test_a_text_that_was_trained_on_as_a_whole_is_named_as_that(tiny_model: Path) -> None:
    own, other = write("own.txt", 200), write("other.txt", 30, seed=1)
    config = small_config(tiny_model, Path(own), held_out=(other,), steps=1)
    search(config, output_dir=Path("run"))
    found = evaluated("run/ticket", own)
    assert found == (200 * 40 // 14, "own.txt; the ticket was trained on this very text")
    assert evaluated("run/ticket", other) == (30 * 40 // 14, "other.txt")


def test_packaged_tickets_are_scored_on_what_they_have_not_seen(run: Run) -> None:
    found = json.loads(run("evaluate", "nano-0.7", "--blocks", 8, "--json").out)
    assert found["text"] == "python-docs (its held-out tenth); the ticket was trained on the rest"
    assert found["sequences"] == 8 < found["sequences_there"]


def test_weights_that_are_no_numbers_are_refused(text_file: Path) -> None:
    model = tiny.build("bert")
    dict(model.named_parameters())["bert.embeddings.LayerNorm.bias"].data[0] = float("nan")
    model.save_pretrained("broken")
    tiny.tokenizer().save_pretrained("broken")
    for method in ("tamt", "magnitude"):
        with pytest.raises(ModelError, match=r"holds numbers that are not finite, in .*LayerNorm"):
            search(small_config(Path("broken"), text_file, method=method), output_dir=Path("run"))
    with pytest.raises(ModelError, match="not finite"):
        evaluate(EvaluateConfig(name="broken", corpus=(str(text_file),), sequence_length=16))
    assert not Path("run").exists()
