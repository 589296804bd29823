from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from tamtctl.foundations.errors import ModelError
from tamtctl.models.encoder import fingerprint, maskable_matrices, max_sequence_length
from tamtctl.models.loading import load_encoder, load_tokenizer

# Matrices in a two-layer encoder: embeddings, four of attention and two of feed-forward a layer, …
MATRICES = dict.fromkeys(tiny.FAMILIES, 13) | {
    "electra": 14,  # … embeddings_project
    "albert": 8,  # … embedding_hidden_mapping_in, and one shared layer
    "deberta-v2": 17,  # … pos_key_proj and pos_query_proj
    "modernbert": 9,  # … with query, key and value in one
}
POOLED = {"bert", "roberta", "xlm-roberta", "camembert", "albert", "mpnet"}


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_family_is_found_by_structure(family: str, tmp_path: Path) -> None:
    tiny.save(tmp_path / "mlm", family)
    tiny.save(tmp_path / "bare", family, with_head=False)
    with_head = load_encoder(str(tmp_path / "mlm"), with_head=True)
    same_without = load_encoder(str(tmp_path / "mlm"), with_head=False)
    bare = load_encoder(str(tmp_path / "bare"), with_head=False)

    assert len(with_head.matrices) == MATRICES[family]
    assert with_head.matrices.keys() == same_without.matrices.keys() == bare.matrices.keys()
    # The pooler counts only if the checkpoint holds it, whichever class it is loaded into.
    assert not with_head.pooler
    assert not same_without.pooler
    assert bool(bare.pooler) == (family in POOLED)
    assert fingerprint(with_head.weights) == fingerprint(same_without.weights)
    for name, weight in bare.weights.items():
        assert torch.equal(weight, load_file(tmp_path / "bare" / "model.safetensors")[name])
    assert max_sequence_length(bare.model) >= 38

    with pytest.raises(ModelError, match="--objective kd"):
        load_encoder(str(tmp_path / "bare"), with_head=True)


def test_nothing_but_linear_layers_and_word_embeddings_is_maskable() -> None:
    names = set(maskable_matrices(tiny.build("deberta-v2")))
    assert not [n for n in names if "rel_embeddings" in n or "conv" in n or "LayerNorm" in n]
    names = set(maskable_matrices(tiny.build("bert")))
    assert not [n for n in names if "position" in n or "token_type" in n or n.startswith("cls")]


def test_the_fingerprint_is_what_the_format_says() -> None:
    weight = torch.arange(6, dtype=torch.float64).view(2, 3)
    digest = hashlib.sha256(np.arange(6, dtype="<f4").tobytes()).hexdigest()
    line = f"a.weight 2x3 {digest}\n"
    expected = hashlib.sha256(line.encode()).hexdigest()
    assert fingerprint({"a.weight": weight}) == (expected, {"a.weight": digest})
    assert fingerprint({"a.weight": weight.T.contiguous().T})[0] == expected


def test_half_precision_checkpoints_are_loaded_in_float32(tmp_path: Path) -> None:
    tiny.save(tmp_path, "bert")
    weights = load_file(tmp_path / "model.safetensors")
    save_file({n: w.half() for n, w in weights.items()}, tmp_path / "model.safetensors")
    encoder = load_encoder(str(tmp_path), with_head=True)
    assert {p.dtype for p in encoder.model.parameters()} == {torch.float32}


def test_bad_models_are_refused_in_one_line(tmp_path: Path) -> None:
    def refusal(name: Path | str) -> str:
        with pytest.raises(ModelError) as caught:
            load_encoder(str(name), with_head=True)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "nor reachable on the Hub" in refusal("no/such-model")
    assert "neither a folder" in refusal("not a name at all!")
    (tmp_path / "empty").mkdir()
    assert "no config.json" in refusal(tmp_path / "empty")
    (tmp_path / "file").write_text("x")
    assert "is a file" in refusal(tmp_path / "file")

    tiny.save(tmp_path / "bert", "bert")
    (tmp_path / "bert" / "model.safetensors").write_bytes(b"x" * 100)
    assert "cannot be loaded" in refusal(tmp_path / "bert")
    (tmp_path / "bert" / "model.safetensors").unlink()
    assert "no weights" in refusal(tmp_path / "bert")
    (tmp_path / "bert" / "config.json").write_text("{")
    refusal(tmp_path / "bert")
    (tmp_path / "bert" / "config.json").write_text(json.dumps({"model_type": "nonesuch"}))
    refusal(tmp_path / "bert")

    small = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": len(tiny.VOCABULARY)}
    decoder = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2", **small))
    decoder.save_pretrained(tmp_path / "gpt2")
    assert "not a masked-language-model encoder" in refusal(tmp_path / "gpt2")


def test_an_incomplete_encoder_is_refused(tmp_path: Path) -> None:
    tiny.save(tmp_path, "bert")
    weights = load_file(tmp_path / "model.safetensors")
    del weights["bert.encoder.layer.1.output.dense.weight"]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"lacks 1 of the encoder's weights.*layer\.1\.output"):
        load_encoder(str(tmp_path), with_head=False)


def test_a_model_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    AutoModel.from_config(tiny.build("bert").config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no fast tokenizer"):
        load_tokenizer(str(tmp_path))
