"""Encoders that are built in other ways: they are searched right, or refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from small_search import Interrupting, small_config
from transformers import PreTrainedTokenizerFast

from tamtctl.data.noise import Noise
from tamtctl.foundations.errors import ModelError, NoHeadError
from tamtctl.models.loading import load_encoder
from tamtctl.pruning.criteria import CRITERIA
from tamtctl.pruning.searching.api import search
from tamtctl.ticket.ticket import Ticket

pytestmark = pytest.mark.usefixtures("working_folder")


@pytest.mark.parametrize("objective", ["mlm", "kd"])
def test_parameters_that_were_one_tensor_are_trained(objective: str, text_file: Path) -> None:
    """To autograd, a change of one part is a change of all."""
    base = tiny.save(Path("gte"), "gte")
    model = load_encoder(str(base), with_head=False).model
    places = [p.untyped_storage().data_ptr() for p in model.parameters()]
    assert len(set(places)) == len(places)
    found = search(small_config(base, text_file, objective=objective), output_dir="run")
    assert found.flips > 0


def test_an_output_that_is_written_to_has_a_gradient(text_file: Path) -> None:
    base = tiny.save(Path("roc"), "roc_bert")
    masks = {
        method: Ticket.load(
            search(small_config(base, text_file, method=method), output_dir=method).ticket
        ).masks
        for method in ("fisher", "magnitude")
    }
    name = "embeddings.map_inputs_layer.weight"
    assert not torch.equal(masks["fisher"][name], masks["magnitude"][name])


def test_a_criterion_that_would_see_padding_of_the_model_is_refused(text_file: Path) -> None:
    base = tiny.save(Path("longformer"), "longformer")
    with pytest.raises(ModelError, match=r"query.weight of this LongformerModel has inputs of the"):
        search(small_config(base, text_file, method="wanda"), output_dir="wanda")
    assert search(small_config(base, text_file, init="magnitude"), output_dir="run").flips > 0


def test_the_attention_does_not_change_on_the_way() -> None:
    base = tiny.save(Path("big_bird"), "big_bird")
    encoder = load_encoder(str(base), with_head=True)
    ids = torch.randint(5, 30, (2, 38), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first = encoder.model(ids).logits
        encoder.model(ids[:, :3])  # so short that it would go over to full attention
        assert torch.equal(encoder.model(ids).logits, first)


def test_a_head_that_a_mask_would_change_is_refused() -> None:
    base = tiny.save(Path("deberta"), "deberta-v2", legacy=False)
    with pytest.raises(NoHeadError, match="computes with the word embeddings themselves"):
        load_encoder(str(base), with_head=True)
    assert load_encoder(str(base), with_head=False).matrices


@pytest.mark.parametrize("criterion", [n for n, row in CRITERIA.items() if row.needs_text])
def test_what_a_text_does_not_reach_is_ranked_by_magnitude_and_named(
    criterion: str, text_file: Path
) -> None:
    """The adapters of another language see nothing of the text."""
    base, watcher = tiny.save(Path("xmod"), "xmod"), Interrupting()
    masks = {
        method: Ticket.load(
            search(
                small_config(base, text_file, method=method), output_dir=method, watcher=watcher
            ).ticket
        ).masks
        for method in (criterion, "magnitude")
    }
    adapters = [name for name in masks[criterion] if "de_DE" in name]
    assert len(adapters) == 4
    assert all(torch.equal(masks[criterion][n], masks["magnitude"][n]) for n in adapters)
    (line,) = [line for line in watcher.notes if "no part" in line]
    assert line == (
        "encoder.layer.0.output.adapter_modules.de_DE.dense1.weight and 3 more have no part in "
        f"what the model makes of this text: not {criterion}, but magnitude ranks their weights"
    )


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ("squeezebert", "have no linear layer that a mask could cover"),
        ("ibert", "looks up no words in a table"),
    ],
)
def test_what_can_hardly_be_masked_is_refused(family: str, said: str) -> None:
    base = tiny.save(Path("base"), family)
    with pytest.raises(ModelError, match=said):
        load_encoder(str(base), with_head=False)


def test_layers_of_other_positions_have_no_distance(text_file: Path) -> None:
    base = tiny.save(Path("funnel"), "funnel")
    with pytest.raises(ModelError, match="which no single token can be told by"):
        search(small_config(base, text_file, objective="kd", init="magnitude"), output_dir="run")


def test_tokens_around_a_text_are_no_targets_though_the_tokenizer_does_not_name_them() -> None:
    whole = tiny.tokenizer()
    bare = PreTrainedTokenizerFast(
        tokenizer_object=whole.backend_tokenizer, pad_token="[PAD]", unk_token="[UNK]",
        mask_token="[MASK]",
    )  # fmt: skip
    assert whole.cls_token_id not in bare.all_special_ids
    assert Noise.of(bare).is_special.tolist() == Noise.of(whole).is_special.tolist()
