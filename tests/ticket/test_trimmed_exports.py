"""Exports without the tokens that a text does not use: smaller, and they read it as before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from command_line import Run
from sentence_models import sentence_model
from small_tickets import magnitude_ticket
from transformers import AutoTokenizer

from tamtctl.models.encoder import embedding_names, maskable_matrices
from tamtctl.models.heads import HEADS
from tamtctl.pruning.patterns import UNSTRUCTURED
from tamtctl.ticket.exporting.checkpoint import write_checkpoint

pytestmark = pytest.mark.usefixtures("working_folder")

MEAN = {"pooling_mode_mean_tokens": True, "word_embedding_dimension": 16}
USED = "the list of names is a type which it will set to value".split()


def change(file: Path, **values: Any) -> None:
    """Change values of a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.fixture
def corpus() -> Path:
    """Sixty documents of a quarter of the words that the tiny tokenizer knows."""
    lines = (" ".join(USED[at % 7 :] + USED[: at % 5] + ["zq"]) + "." for at in range(60))
    file = Path("used.txt")
    file.write_text("\n\n".join(lines) + "\n")
    return file


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_text_is_read_as_by_the_whole_model(family: str, corpus: Path) -> None:
    ticket = magnitude_ticket(tiny.save(Path("base"), family), UNSTRUCTURED)
    write_checkpoint(ticket, "whole", head="masked-lm")
    done = write_checkpoint(ticket, "trimmed", head="masked-lm", trim_to=str(corpus))
    assert done.vocabulary is not None
    assert done.vocabulary.of == len(tiny.VOCABULARY)
    assert done.vocabulary.kept < 0.75 * done.vocabulary.of
    assert done.vocabulary.unknown == done.vocabulary.unknown_before
    assert done.vocabulary.more_tokens == 0
    tokens, logits = {}, {}
    for name in ("whole", "trimmed"):
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = HEADS["masked-lm"].from_pretrained(name, dtype=torch.float32).eval()
        assert model.config.vocab_size == len(tokenizer)
        for special in ("pad", "mask", "cls", "sep"):
            stated = getattr(model.config, f"{special}_token_id", None)
            assert stated in (None, getattr(tokenizer, f"{special}_token_id"))
        batch = tokenizer(corpus.read_text().splitlines()[:4], padding=True, return_tensors="pt")
        tokens[name] = [tokenizer.convert_ids_to_tokens(row) for row in batch["input_ids"].tolist()]
        ids, mask = batch["input_ids"], batch["attention_mask"]
        with torch.no_grad():
            logits[name] = model(input_ids=ids, attention_mask=mask).logits  # (4, T, V)
    assert tokens["trimmed"] == tokens["whole"]
    kept = tiny.tokenizer().convert_tokens_to_ids(
        AutoTokenizer.from_pretrained("trimmed").convert_ids_to_tokens(
            [*range(done.vocabulary.kept)]
        )
    )
    assert torch.allclose(logits["trimmed"], logits["whole"][..., kept], atol=1e-5)


def test_zeros_and_sizes_are_those_of_the_folder(corpus: Path) -> None:
    ticket = magnitude_ticket(tiny.save(Path("base"), "bert"), "neurons")
    whole = write_checkpoint(ticket, "whole")
    sliced = write_checkpoint(ticket, "sliced", trim_to=str(corpus))
    assert sliced.bytes < whole.bytes
    assert sliced.parameters < whole.parameters
    assert sliced.zeros == 0
    ticket = magnitude_ticket(Path("base"), UNSTRUCTURED)
    sparse = write_checkpoint(ticket, "sparse", trim_to=str(corpus))
    model = HEADS[sparse.head].from_pretrained("sparse", dtype=torch.float32)
    matrices = maskable_matrices(model)
    assert sparse.zeros == sum(int((m == 0).sum()) for m in matrices.values())
    assert sparse.weights == sum(m.numel() for m in matrices.values())
    (name,) = embedding_names(model)
    assert sparse.vocabulary is not None
    assert len(matrices[name]) == sparse.vocabulary.kept


def test_a_sentence_encoder_gives_the_same_embeddings(corpus: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    ticket = magnitude_ticket(sentence_model(Path("base"), MEAN), UNSTRUCTURED)
    write_checkpoint(ticket, "whole")
    write_checkpoint(ticket, "trimmed", trim_to=[str(corpus), str(corpus)])
    texts = corpus.read_text().split("\n\n")[:5]
    whole = library.SentenceTransformer("whole", device="cpu").encode(texts)
    trimmed = library.SentenceTransformer("trimmed", device="cpu").encode(texts)
    assert torch.allclose(torch.tensor(whole), torch.tensor(trimmed), atol=1e-5)


def test_a_sentence_encoder_keeps_its_prompts_and_its_case(corpus: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    prompts = {"prompts": {"query": "have you all: "}}
    base = sentence_model(
        Path("base"), MEAN,
        sentence_bert_config={"max_seq_length": 32, "do_lower_case": True},
        config_sentence_transformers=prompts,
    )  # fmt: skip
    ticket = magnitude_ticket(base, UNSTRUCTURED)
    cased = Path("cased.txt")
    cased.write_text(corpus.read_text().upper())
    write_checkpoint(ticket, "whole")
    done = write_checkpoint(ticket, "trimmed", trim_to=str(cased))
    assert done.vocabulary is not None
    assert done.vocabulary.more_tokens == 0
    assert done.vocabulary.unknown == done.vocabulary.unknown_before < 0.1
    texts = cased.read_text().split("\n\n")[:5]
    for how in ({}, {"prompt_name": "query"}):
        whole, trimmed = (
            torch.tensor(library.SentenceTransformer(name, device="cpu").encode(texts, **how))
            for name in ("whole", "trimmed")
        )
        assert torch.allclose(whole, trimmed, atol=1e-5)


@pytest.mark.parametrize("place", ["config.json", "tokenizer.json"])
def test_padding_that_is_no_token_of_the_text_is_no_matter(place: str, corpus: Path) -> None:
    base = tiny.save(Path("base"), "bert")
    if place == "config.json":  # of a token that the text lacks
        change(base / place, pad_token_id=tiny.VOCABULARY.index("have"))
    else:
        padding = {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None,
                   "pad_id": tiny.VOCABULARY.index("have"), "pad_type_id": 0,
                   "pad_token": "have"}  # fmt: skip
        change(base / place, padding=padding)
    ticket = magnitude_ticket(base, UNSTRUCTURED)
    done = write_checkpoint(ticket, "trimmed", trim_to=str(corpus))
    assert done.vocabulary is not None
    assert HEADS["none"].from_pretrained("trimmed").config.vocab_size == done.vocabulary.kept


def test_the_command_says_what_it_costs(run: Run, corpus: Path) -> None:
    magnitude_ticket(tiny.save(Path("base"), "bert"), UNSTRUCTURED)
    words = ["export", "ticket", "--trim-vocabulary", corpus, "--output-dir"]
    done = run(*words, "trimmed")
    assert done.code == 0, done.err
    said = " ".join((done.out + done.err).split())
    assert "tokens are left: every single character, and those of used.txt but for its" in said
    assert "0.0% more tokens" in said
    for refused, code, why in (
        (["export", "trimmed", "--format", "onnx", *words[2:], "out"], 2, "are for tickets"),
        (["export", "ticket", "--trim-vocabulary", "gone.txt", "--output-dir", "out"], 1, "gone"),
    ):
        found = run(*refused)
        assert (found.code, why in found.err) == (code, True), found.err
        assert not Path("out").exists()
