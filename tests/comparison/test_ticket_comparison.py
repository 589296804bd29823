"""What a comparison of tickets claims, and of what it says that it cannot tell."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import Run
from hub_commands import run_with_hub
from hub_server import running_hub
from masks import magnitude_masks, random_masks
from partial_tickets import partial
from safetensors.torch import load_file, save
from samples import ticket_for
from small_search import command, small_config
from torch import Tensor

from tamtctl.foundations.masks import keep_count
from tamtctl.models.loading import load_encoder
from tamtctl.pruning.one_shot import reference_masks
from tamtctl.ticket.ticket import Ticket

pytestmark = pytest.mark.usefixtures("working_folder")


def make(
    model: Path,
    to: str,
    masks: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    search: dict[str, Any] | None = None,
    **metadata: Any,
) -> str:
    """Save masks as a ticket that says to have been trained as asked for."""
    encoder = load_encoder(str(model), with_head=False)
    found = masks(encoder.weights)
    values: dict[str, Any] = {
        "target_sparsity": 0.5,
        "method": "imported",
        "objective": None,
        "metrics": {},
    }
    Ticket.create(
        {name: encoder.weights[name] for name in found},
        found,
        base_model_id=str(model),
        revision=None,
        model_type="bert",
        search=search or {},
        **(values | metadata),
    ).save_pretrained(to)
    return to


def compared(run: Run, *words: object) -> dict[str, Any]:
    done = run("compare", *words, "--blocks", "12", "--sequence-length", "16", "--json")
    assert done.code == 0, done.err
    result: dict[str, Any] = json.loads(done.out)
    return result


def test_of_two_sequences_no_winner_is_declared(
    run: Run, tiny_model: Path, text_file: Path
) -> None:
    ticket = ticket_for(tiny_model, Path("t"))
    words: list[object] = [
        "compare",
        ticket,
        "--corpus",
        text_file,
        "--blocks",
        "2",
        "--output-dir",
        "out",
    ]
    words += ["--sequence-length", "16"]
    done = run(*words, "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert result["differences"]
    for one in result["differences"]:
        assert (one["low"], one["high"]) == (None, None)
        assert one["why_none"] == "too few to tell (2 sequences; 8 are needed)"
    page = Path("out/report.html").read_text()
    shown = (
        run(*words).out + "".join(result["sentences"]) + page + Path("out/report.md").read_text()
    )
    assert "beats" not in shown
    assert "cannot be told apart" not in shown
    assert shown.count("too few to tell (2 sequences; 8 are needed)") >= 4
    assert shown.count("2 sequences × 16 tokens of text.txt") == 5  # on each page also at its end


def test_a_model_that_has_changed_on_the_hub_is_no_dense_model(
    tiny_model: Path, text_file: Path
) -> None:
    files = {path.name: path.read_bytes() for path in tiny_model.iterdir() if path.is_file()}
    other = load_file(tiny_model / "model.safetensors")
    name = next(name for name in other if name.endswith("query.weight"))
    other[name] += 1
    rows = [{"text": f"a {word}", "label": word} for word in ("list", "file")] * 8
    Path("t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    common = f"--corpus {text_file} --sequence-length 16"
    compare = f"compare found/ticket {common} --blocks 12 --tasks own --train t.jsonl --dev t.jsonl"
    compare += " --task-epochs 1 --output-dir"
    with running_hub(lfs=True) as hub:
        hub.add("org/bert", files)
        search = f"search --method magnitude --sparsity 0.5 --model org/bert {common}"
        (found,) = run_with_hub([f"{search} --output-dir found"], HF_ENDPOINT=hub.url)
        assert found[0] == 0, found
        hub.repos["org/bert"].commit(files | {"README.md": b"words"})
        (same,) = run_with_hub([f"{compare} same"], HF_ENDPOINT=hub.url)
        assert same[0] == 0, same
        hub.repos["org/bert"].commit(files | {"model.safetensors": save(other, {"format": "pt"})})
        (code, _, error), *_ = run_with_hub([f"{compare} other"], HF_ENDPOINT=hub.url)
    assert code == 1
    assert "error: model 'org/bert' has other weights on the Hub now than at commit" in error


def test_a_mask_that_nothing_changed_is_named(run: Run, tiny_model: Path, text_file: Path) -> None:
    metrics = {"flips": 0.0, "steps": 9}
    same = make(
        tiny_model, "same", lambda w: magnitude_masks(w, 0.5), method="tamt", metrics=metrics
    )
    other = make(
        tiny_model, "other", lambda w: random_masks(w, 0.5, 8), method="tamt", metrics=metrics
    )
    result = compared(run, same, other, "--corpus", text_file, "--output-dir", "out")
    sentences = "\n".join(result["sentences"])
    assert "magnitude and same at 0.5 are one and the same mask: the search changed" in sentences
    assert "other at 0.5 is the mask that its search started from" in sentences
    assert "same beats magnitude" not in sentences
    of_same = [d for d in result["differences"] if (d["a"], d["b"]) == ("same", "magnitude")]
    assert all(one["identical"] and one["value"] == 0 for one in of_same)
    assert "| identical masks |" in Path("out/report.md").read_text()
    assert "| none | 9 |" in Path("out/report.md").read_text()


def test_partial_tickets_stand_beside_baselines_of_their_matrices(
    run: Run, tiny_model: Path, text_file: Path
) -> None:
    one = partial(tiny_model, "linear", "one")

    def one_more(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Other weights, and one more of each matrix, as a program that rounds up would keep."""
        linear = {n: w for n, w in weights.items() if n.startswith("encoder.")}
        shuffled = {n: w.flatten().roll(1).view_as(w) for n, w in linear.items()}
        counts = {n: keep_count(w.numel(), 0.5) + 1 for n, w in linear.items()}
        return reference_masks(shuffled, counts)

    two = make(tiny_model, "two", one_more, target_sparsity=0.498, allocation="free")
    attention = partial(tiny_model, "attention", "attention")
    whole = ticket_for(tiny_model, Path("whole"))
    words = [one, two, attention, whole, "--corpus", text_file]
    result = compared(run, *words)
    levels = {
        among: sorted(r["name"] for r in result["results"] if r["among"] == among and r["sparsity"])
        for among in dict.fromkeys(r["among"] for r in result["results"])
    }
    baselines = ["magnitude", *(f"random seed {seed}" for seed in (1, 2, 3))]
    assert levels == {
        None: [*baselines, "whole"],
        "12 of 13 matrices, those of one": sorted([*baselines, "one", "two"]),
        "8 of 13 matrices, those of attention": sorted([*baselines, "attention"]),
    }
    # The ticket is the magnitude mask of its matrices, and the baseline is no other.
    losses = {(r["among"], r["name"]): (r["mlm_loss"], r["kd_loss"]) for r in result["results"]}
    for among, name in (
        ("12 of 13 matrices, those of one", "one"),
        ("8 of 13 matrices, those of attention", "attention"),
    ):
        assert losses[among, name] == losses[among, "magnitude"]
    pairs = {(d["a"], d["b"]) for d in result["differences"]}
    assert ("one", "two") in pairs
    assert not pairs & {("one", "whole"), ("whole", "one"), ("attention", "one")}
    assert any("one" in s and "two" in s and "MLM loss" in s for s in result["sentences"])
    assert any("one and whole are not compared" in note for note in result["notes"])
    back = compared(run, *reversed(words[:4]), *words[4:])
    assert {r["name"]: r["mlm_loss"] for r in back["results"] if r["ticket"]} == {
        r["name"]: r["mlm_loss"] for r in result["results"] if r["ticket"]
    }
    of_names = [{r["name"]: r["among"] for r in one["results"]} for one in (back, result)]
    assert of_names[0] == of_names[1]


def test_a_free_allocation_is_compared_at_its_own_counts(
    run: Run, tiny_model: Path, text_file: Path
) -> None:
    def globally(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        threshold = torch.cat([w.abs().flatten() for w in weights.values()]).median()
        return {name: w.abs() > threshold for name, w in weights.items()}

    free = make(tiny_model, "free", globally, allocation="free")
    result = compared(run, free, "--corpus", text_file, "--output-dir", "out")
    masked = [r for r in result["results"] if r["method"] != "dense"]
    assert {r["among"] for r in masked} == {"as spread in free"}
    # The largest weights of all are the largest of each matrix: the same mask at equal counts.
    assert "magnitude and free at 0.5 (as spread in free) are one and the same mask" in " ".join(
        result["sentences"]
    )
    assert "0.5 (as spread in free)" in Path("out/report.md").read_text()


def test_every_ticket_is_measured_on_every_text(
    run: Run, tiny_model: Path, text_file: Path
) -> None:
    lines = text_file.read_text().splitlines()
    for name, part in (("a.txt", lines[:100]), ("b.txt", lines[100:])):
        Path(name).write_text("\n".join(part))
    one, two = (
        make(
            tiny_model,
            f"of-{name}",
            lambda w, seed=seed: random_masks(w, 0.5, seed),  # type: ignore[misc]
            {"corpus": [f"{name}.txt"], "sequence_length": 16},
        )
        for seed, name in ((7, "a"), (8, "b"))
    )
    done = run("compare", one, two, "--blocks", "12", "--json", "--output-dir", "out")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert [text["name"] for text in result["texts"]] == ["a.txt", "b.txt"]
    rows = {row["name"]: row for row in result["results"]}
    for name in ("a.txt", "b.txt"):
        alone = compared(run, one, two, "--corpus", name)
        for row in alone["results"]:
            assert row["mlm_loss"] == rows[row["name"]][f"mlm_loss on {name}"]
    again = run("compare", two, one, "--blocks", "12", "--json", "--output-dir", "back")
    back = json.loads(again.out)
    assert [text["name"] for text in back["texts"]] == ["a.txt", "b.txt"]
    assert {r["name"]: r for r in back["results"]} == rows
    report = Path("out/report.md").read_text()
    assert "MLM loss (nats per masked token) on a.txt" in report
    assert "tokens of b.txt, the text of of-b" in report
    # A text of one's own, or one record of a stranger that is no list of names.
    odd = make(
        tiny_model,
        "odd",
        lambda w: random_masks(w, 0.5, 9),
        {"corpus": "a.txt", "sequence_length": "long", "held_out": [3]},
    )
    assert compared(run, odd)["corpus"] == "a.txt"


def test_a_ticket_of_another_content_of_its_text_is_named(
    run: Run, tiny_model: Path, text_file: Path
) -> None:
    lines = text_file.read_text().splitlines()
    Path("c.txt").write_text("\n".join(lines[:150]))
    config = small_config(tiny_model, Path("c.txt"), steps=1)
    tickets = []
    for seed in ("1", "2"):
        done = run(*command(config, "--seed", seed, "--output-dir", f"run{seed}"))
        assert done.code == 0, done.err
        tickets.append(f"run{seed}/ticket")
        said = compared(run, *tickets)["notes"]
        # So far the text is what the last one was trained on.
        assert [note for note in said if "other text" in note] == [
            f"run{earlier} was trained on other text than is in c.txt now: its losses are not "
            "those that it was made with"
            for earlier in range(1, int(seed))
        ]
        Path("c.txt").write_text("\n".join(lines[:100]))
    assert not [n for n in compared(run, *tickets, "--corpus", text_file)["notes"] if "other" in n]


def test_a_ticket_that_says_no_length_is_measured_at_that_of_the_others(
    run: Run, tiny_model: Path, text_file: Path
) -> None:
    search = {"corpus": [str(text_file)], "sequence_length": 16}
    one = make(tiny_model, "one", lambda w: random_masks(w, 0.5, 5), search)
    other = make(tiny_model, "other", lambda w: random_masks(w, 0.5, 6))
    done = run("compare", one, other, "--blocks", "8", "--corpus", text_file, "--json")
    assert done.code == 0, done.err
    assert len(json.loads(done.out)["texts"]) == 1
    assert "sequences × 16 tokens" in done.err


def test_tickets_have_labels_of_their_own(run: Run, tiny_model: Path, text_file: Path) -> None:
    names = [
        make(tiny_model, name, lambda w, seed=seed: random_masks(w, 0.5, seed))  # type: ignore[misc]
        for seed, name in enumerate(("a/t", "b/t", "magnitude"), start=5)
    ]
    result = compared(run, *names, "--corpus", text_file)
    labels = [row["name"] for row in result["results"]][-3:]
    assert labels == ["a/t", "b/t", "ticket magnitude"]
    assert ("a/t", "b/t") in {(d["a"], d["b"]) for d in result["differences"]}
    assert any("a/t" in s and "b/t" in s for s in result["sentences"])
    for twice in (["a/t", "a/t"], ["a/t", "./a/t"]):
        refused = run("compare", *twice, "--corpus", text_file)
        assert refused.code == 2
        assert "give it once" in refused.err
        assert refused.err.count("\n") == 1


def test_a_ticket_that_its_text_flatters_is_named(
    run: Run, tiny_model: Path, text_file: Path
) -> None:
    lines = text_file.read_text().splitlines()
    Path("c.txt").write_text("\n".join(lines[:100]))
    Path("h.txt").write_text("\n".join(lines[100:]))
    search = {"corpus": ["c.txt"], "held_out": ["h.txt"], "sequence_length": 16}
    ticket = make(tiny_model, "t", lambda w: random_masks(w, 0.5, 5), search)
    own = compared(run, ticket)
    assert own["corpus"] == "h.txt"  # on which it was not trained
    assert not own["notes"]
    flattered = compared(run, ticket, "--corpus", "c.txt")
    assert any("t was trained on text of c.txt" in note for note in flattered["notes"])
