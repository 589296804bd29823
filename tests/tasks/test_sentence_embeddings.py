"""Sentence embeddings: pooled, projected and normalised as the model's own files say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from command_line import Run
from samples import own_config, ticket_for
from sentence_models import TEXTS, dense_layer, sentence_model, similar_pairs
from torch import Tensor
from transformers import AutoModel

from tamtctl.foundations.devices import Compute
from tamtctl.foundations.errors import ModelError
from tamtctl.models.loading import load_encoder
from tamtctl.models.pooling import pool
from tamtctl.models.sentence_embeddings import SentencePipeline
from tamtctl.models.text_inputs import TextInputs
from tamtctl.tasks.evaluation.api import evaluate
from tamtctl.tasks.evaluation.config import EvaluateConfig
from tamtctl.tasks.finetuning.api import finetune
from tamtctl.ticket.exporting.checkpoint import write_checkpoint

pytestmark = pytest.mark.usefixtures("working_folder")


def embedded(model: Path, texts: list[str] = TEXTS) -> Tensor:
    encoder = load_encoder(str(model), with_head=False)
    encoding = TextInputs.of(encoder.model, encoder.tokenizer, usual=128)
    compute = Compute.choose("cpu", "fp32", 1)
    pipeline = SentencePipeline.of(str(model))
    return pipeline.embed(encoding, encoder.model, texts, 2, compute)[0]


def states(model: Path, text: str, max_length: int = 40) -> Tensor:
    """Return the last hidden states of a text by itself, (T, H)."""
    inputs = tiny.tokenizer()(text, truncation=True, max_length=max_length, return_tensors="pt")
    with torch.no_grad():
        encoder = AutoModel.from_pretrained(model, dtype=torch.float32)
        found: Tensor = encoder(**inputs).last_hidden_state[0]
        return found


def weighted(x: Tensor) -> Tensor:
    by = torch.arange(1.0, len(x) + 1)
    return (x * by[:, None]).sum(0) / by.sum()


BY_HAND: dict[str, Callable[[Tensor], Tensor]] = {
    "cls_token": lambda x: x[0],
    "max_tokens": lambda x: x.max(0).values,
    "mean_tokens": lambda x: x.mean(0),
    "mean_sqrt_len_tokens": lambda x: x.sum(0) / len(x) ** 0.5,
    "weightedmean_tokens": weighted,
    "lasttoken": lambda x: x[-1],
}


@pytest.mark.parametrize(
    "modes", [*[(mode,) for mode in BY_HAND], ("cls_token", "mean_tokens"), ()]
)
def test_tokens_are_pooled_as_the_model_says(modes: tuple[str, ...], tmp_path: Path) -> None:
    flags = {f"pooling_mode_{mode}": mode in modes for mode in BY_HAND}
    model = sentence_model(tmp_path / "st", {"word_embedding_dimension": 16} | flags)
    for text, found in zip(TEXTS, embedded(model), strict=True):
        own = states(model, text)
        wanted = torch.cat([BY_HAND[mode](own) for mode in modes or ("mean_tokens",)])
        assert torch.allclose(found, wanted, atol=1e-5)


def test_the_newer_way_to_say_it(tmp_path: Path) -> None:
    model = sentence_model(tmp_path / "st", {"pooling_mode": ["lasttoken", "cls"]})
    own = states(model, TEXTS[0])
    assert torch.allclose(embedded(model)[0], torch.cat([own[-1], own[0]]), atol=1e-5)


@pytest.mark.parametrize("as_bin", [False, True])
def test_dense_layers_and_normalisation_follow_in_their_order(as_bin: bool, tmp_path: Path) -> None:
    model = sentence_model(
        tmp_path / "st", {"pooling_mode_cls_token": True}, modules=("Dense", "Normalize")
    )
    layer = dense_layer(model / "2_Dense", as_bin=as_bin)
    wanted = torch.tanh(layer(states(model, TEXTS[0])[0]))
    assert torch.allclose(embedded(model)[0], wanted / wanted.norm(), atol=1e-5)


def test_embeddings_are_not_rounded_where_hidden_states_are(tmp_path: Path) -> None:
    model = sentence_model(tmp_path / "st", {"pooling_mode_cls_token": True}, modules=("Dense",))
    dense_layer(model / "2_Dense")
    pipeline, hidden = SentencePipeline.of(str(model)), torch.randn(2, 3, 16)
    wanted = pipeline.embeddings(hidden, torch.ones(2, 3))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(pipeline.embeddings(hidden, torch.ones(2, 3)), wanted)


def test_a_prompt_the_case_and_the_length_count(tmp_path: Path) -> None:
    prompts = {"prompts": {"q": "the list: "}, "default_prompt_name": "q"}
    limits = {"max_seq_length": 12, "do_lower_case": True}
    for keeps_prompt in (True, False):
        model = sentence_model(
            tmp_path / str(keeps_prompt),
            {"pooling_mode_mean_tokens": True, "include_prompt": keeps_prompt},
            config_sentence_transformers=prompts,
            sentence_bert_config=limits,
        )
        own = states(model, "the list: " + TEXTS[4], max_length=12)
        left_out = 0 if keeps_prompt else len(tiny.tokenizer()("the list: ")["input_ids"]) - 1
        assert torch.allclose(embedded(model)[4], own[left_out:].mean(0), atol=1e-5)


def test_what_cannot_be_honoured_is_refused_by_name(tmp_path: Path) -> None:
    cls = {"pooling_mode_cls_token": True}
    without, filling = {"default_prompt_name": "q"}, {"transformer_task": "fill-mask"}
    unknown: list[tuple[Callable[[Path], Path], str]] = [
        (lambda p: sentence_model(p, cls, modules=("LSTM",)), "sentence_transformers.models.LSTM"),
        (lambda p: sentence_model(p, {"pooling_mode_median": True}), "'pooling_mode_median'"),
        (lambda p: sentence_model(p, {"pooling_mode": "middle"}), "'middle'"),
        (
            lambda p: sentence_model(p, cls, config_sentence_transformers=without),
            "no prompt 'q'",
        ),
        (
            lambda p: sentence_model(p, cls, sentence_bert_config=filling),
            "transformer_task of sentence_bert_config.json is 'fill-mask'",
        ),
        (lambda p: sentence_model(p, cls, modules=("Dense",)), "2_Dense/config.json is missing"),
    ]
    for number, (make, message) in enumerate(unknown):
        model = make(tmp_path / str(number))
        with pytest.raises(ModelError, match=message) as raised:
            SentencePipeline.of(str(model))
        assert "\n" not in str(raised.value)
    model = sentence_model(tmp_path / "dense", cls, modules=("Dense",))
    dense_layer(model / "2_Dense", "Softsign")
    with pytest.raises(ModelError, match="Softsign of 2_Dense is not known here"):
        SentencePipeline.of(str(model))
    strange = sentence_model(tmp_path / "number", {"pooling_mode": 5})
    with pytest.raises(ModelError, match="pools its tokens by '5'"):
        SentencePipeline.of(str(strange))
    prompt = {"default_prompt_name": ["q"]}
    strange = sentence_model(tmp_path / "list", cls, config_sentence_transformers=prompt)
    with pytest.raises(ModelError, match="no prompt"):
        SentencePipeline.of(str(strange))
    (tmp_path / "outside.json").write_text("{}")
    listed = json.loads((model / "modules.json").read_text())
    listed[1]["path"] = "../outside"
    (model / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(ModelError, match="names a file outside of itself"):
        SentencePipeline.of(str(model))


def test_a_dense_layer_of_a_stranger_is_refused_in_one_line(tmp_path: Path) -> None:
    weight, bias = torch.zeros(4, 16), torch.zeros(4)
    for number, (content, message) in enumerate(
        (
            ([weight], "holds no tensors by name"),
            ({"linear.weight": weight[0], "linear.bias": bias}, "do not fit each other"),
            ({"linear.weight": weight, "linear.bias": torch.zeros(5)}, r"linear.bias \(5,\)"),
            ({"linear.weight": weight[:, :7], "linear.bias": bias}, "of 7 numbers, and gets 16"),
        )
    ):
        model = sentence_model(
            tmp_path / str(number), {"pooling_mode_cls_token": True}, modules=("Dense",)
        )
        dense_layer(model / "2_Dense", as_bin=True)
        torch.save(content, model / "2_Dense" / "pytorch_model.bin")
        with pytest.raises(ModelError, match=message) as raised:
            embedded(model)
        assert "\n" not in str(raised.value)


def test_tickets_checkpoints_and_exports_keep_the_pooling_of_their_model(
    tmp_path: Path, run: Run
) -> None:
    similar_pairs()
    model = sentence_model(
        tmp_path / "st", {"pooling_mode_cls_token": True}, modules=("Normalize",)
    )
    plain = tiny.save(tmp_path / "plain", "bert", with_head=False)

    def score(name: object) -> tuple[float, str | None]:
        config = EvaluateConfig(name=str(name), task="stsb-zero-shot", data_dir=".")
        found = evaluate(config)
        return found.score, found.embeddings

    said = "cls of the tokens, normalised, as the model says"
    own = score(model)
    assert own[1] == said
    assert score(plain) != own  # the same weights
    ticket = ticket_for(model, Path("ticket"))
    pruned = score(ticket)
    assert pruned[1] == said
    write_checkpoint(str(ticket), Path("exported"))
    exported = score("exported")
    assert exported[0] == pytest.approx(pruned[0], abs=1e-5)
    assert exported[1] == said
    checkpoint = finetune(own_config(model, dense=True)).checkpoint[0]
    assert score(checkpoint)[1] == said
    shutil.rmtree(model)
    assert score(checkpoint)[1] == said  # it has what it needs
    shown = run("evaluate", checkpoint, "--task", "stsb-zero-shot", "--data-dir", ".")
    assert f"embeddings  {said}" in shown.out


@pytest.mark.parametrize(
    "command",
    [
        "search --sparsity 0.5 --model st --corpus c.txt --objective kd --dry-run "
        "--sequence-length 16",
        "finetune own --dense --model st --train t.jsonl --dev t.jsonl --epochs 1",
        "evaluate st --task stsb-zero-shot --data-dir .",
        "evaluate st/0_Transformer --task stsb-zero-shot --data-dir .",
    ],
)
def test_the_encoder_of_the_older_layout_is_found(command: str, run: Run) -> None:
    """It is in a folder of its own; either folder may be given."""
    similar_pairs()
    sentence_model(Path("st"), {"pooling_mode_cls_token": True}, encoder="0_Transformer")
    Path("st/config.json").write_text('{"__version__": "0.3.0"}')  # of no encoder
    lines = (f"the list of {a} names is {b}" for a in tiny.WORDS for b in tiny.WORDS)
    Path("c.txt").write_text("\n".join(lines))
    rows = [json.dumps({"text": w, "label": w}) for w in ("a", "the")]
    Path("t.jsonl").write_text("\n".join(rows))
    found = run(*command.split())
    assert found.code == 0, found.err
    if "zero-shot" in command:
        assert "cls of the tokens, as the model says" in found.out  # which is said above it


def test_pooling_is_that_of_the_library(tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    every = {f"pooling_mode_{mode}": True for mode in BY_HAND}
    prompts = {"prompts": {"q": "The LIST: "}, "default_prompt_name": "q"}
    for number, include in enumerate((True, False)):
        model = sentence_model(
            tmp_path / str(number),
            {"word_embedding_dimension": 16, "include_prompt": include} | every,
            modules=("Normalize",),
            config_sentence_transformers=prompts,
            sentence_bert_config={"max_seq_length": 20, "do_lower_case": True},
        )
        wanted = library.SentenceTransformer(str(model), device="cpu").encode(TEXTS)
        assert np.allclose(embedded(model).numpy(), wanted, atol=1e-5)


def test_padding_is_never_pooled() -> None:
    torch.manual_seed(0)
    one = torch.randn(1, 3, 4)
    padded = torch.cat([one, torch.full((1, 2, 4), 1e3)], 1)
    modes = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
    alone = pool(one, torch.ones(1, 3, dtype=torch.long), modes)
    assert torch.allclose(pool(padded, torch.tensor([[1, 1, 1, 0, 0]]), modes), alone)
