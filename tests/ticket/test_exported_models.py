"""Exported checkpoints, loaded by sentence-transformers itself: they are what their base is."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from command_line import Run
from hub_commands import run_with_hub
from hub_server import running_hub
from samples import own_config, ticket_for
from sentence_models import TEXTS, dense_layer, sentence_model, similar_pairs
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from tamtctl.foundations.errors import ModelError
from tamtctl.models.encoder import maskable_matrices
from tamtctl.models.loading import load_encoder
from tamtctl.tasks.evaluation.api import evaluate
from tamtctl.tasks.evaluation.config import EvaluateConfig
from tamtctl.tasks.finetuning.api import finetune
from tamtctl.ticket.exporting.checkpoint import write_checkpoint
from tamtctl.ticket.ticket import Ticket

library = pytest.importorskip("sentence_transformers")

MEAN = {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True}
CLS = {"word_embedding_dimension": 16, "pooling_mode_cls_token": True}


pytestmark = pytest.mark.usefixtures("working_folder")


def loaded(folder: Path | str, kind: str = "SentenceTransformer") -> Any:
    return getattr(library, kind)(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})


def loaded_as_it_is(folder: str) -> Any:
    return library.SentenceTransformer(folder, device="cpu")


def masked(folder: Path, ticket: Path, kind: str = "SentenceTransformer") -> Any:
    """Return the original, the weights of its transformer multiplied by the mask."""
    model, masks = loaded(folder, kind), Ticket.load(ticket).masks
    matrices = maskable_matrices(model.transformers_model)
    assert matrices.keys() - masks.keys() <= {"pooler.dense.weight"}  # random, and never read
    with torch.no_grad():
        for name in matrices.keys() & masks.keys():
            matrices[name].mul_(masks[name])
    return model


def same_embeddings(base: Path, **options: Any) -> None:
    """Export a ticket of a model, and compare the embeddings of what both folders load as."""
    ticket = ticket_for(base, Path("ticket"))
    done = write_checkpoint(ticket, "exported", **options)
    assert done.load == "SentenceTransformer('exported')"
    ours, original = loaded("exported"), masked(base, ticket)
    assert np.abs(ours.encode(TEXTS) - original.encode(TEXTS)).max() < 1e-5
    assert np.abs(original.encode(TEXTS) - loaded(base).encode(TEXTS)).max() > 1e-3
    assert (ours.prompts, ours.default_prompt_name) == (
        original.prompts,
        original.default_prompt_name,
    )
    assert ours.max_seq_length == original.max_seq_length
    assert ours.similarity_fn_name == original.similarity_fn_name


@pytest.mark.parametrize("encoder", ["", "0_Transformer"])
@pytest.mark.parametrize("as_bin", [False, True])
def test_the_library_gives_the_embeddings_of_the_masked_original(
    encoder: str, as_bin: bool
) -> None:
    base = sentence_model(
        Path("st"),
        MEAN,
        modules=("Dense", "Normalize"),
        encoder=encoder,
        config_sentence_transformers={
            "prompts": {"query": "the list: "},
            "default_prompt_name": "query",
            "similarity_fn_name": "dot",
        },
    )
    settings = {"max_seq_length": 12, "do_lower_case": True}
    (base / encoder / "sentence_bert_config.json").write_text(json.dumps(settings))
    dense_layer(base / "2_Dense", as_bin=as_bin)
    same_embeddings(base)
    assert not list(Path("exported").rglob("*.bin"))


def test_what_the_library_has_saved_itself() -> None:
    """Its current layout, with the full paths of its classes, a layer of LayerNorm and a cut."""
    from sentence_transformers.sentence_transformer import modules

    encoder = library.SentenceTransformer(
        str(tiny.save(Path("plain"), "roberta", with_head=False)), device="cpu"
    )[0]
    model = library.SentenceTransformer(
        modules=[encoder, modules.Pooling(16, "cls"), modules.LayerNorm(16)],
        truncate_dim=6,
        device="cpu",
    )
    model.max_seq_length = 30
    model.save_pretrained("st")
    same_embeddings(Path("st"))


def test_the_tokenizer_is_saved_as_it_was() -> None:
    base = sentence_model(Path("st"), MEAN)
    write_checkpoint(ticket_for(base, Path("ticket")), "exported")
    saved = [json.loads(Path(f, "tokenizer.json").read_text()) for f in (base, "exported")]
    assert saved[1]["truncation"] == saved[0]["truncation"]
    assert saved[1]["padding"] == saved[0]["padding"]


def test_half_precision_is_kept_where_it_loses_nothing() -> None:
    base = sentence_model(Path("st"), MEAN, modules=("Normalize",))
    AutoModel.from_pretrained(base, dtype=torch.float16).save_pretrained(base)
    ticket = ticket_for(base, Path("ticket"))
    write_checkpoint(ticket, "exported")
    assert loaded_as_it_is("exported").dtype == torch.float16
    for made, original in zip(
        loaded_as_it_is("exported").parameters(), masked(base, ticket).parameters(), strict=True
    ):
        assert torch.equal(made.float(), original)
    write_checkpoint(
        ticket, "with-a-new-head", head="question-answering"
    )  # which is random in float32
    head = AutoModelForQuestionAnswering.from_pretrained("with-a-new-head")
    assert head.dtype == torch.float32


def test_a_sentence_encoder_with_a_masked_lm_head_keeps_both() -> None:
    base = sentence_model(Path("st"), MEAN, modules=("Normalize",))
    tiny.save(base, "bert")
    same_embeddings(base)
    _, info = AutoModelForMaskedLM.from_pretrained("exported", output_loading_info=True)
    assert not info["missing_keys"]


def test_of_a_hub_id_and_of_its_snapshot() -> None:
    base = sentence_model(Path("st"), CLS, modules=("Normalize",))
    content = {
        str(path.relative_to(base)): path.read_bytes() for path in base.rglob("*") if path.is_file()
    }
    ticket = ticket_for(base, Path("ticket"))
    export_to = f"export {ticket} --model {{}} --output-dir {{}}".format
    with running_hub(lfs=True) as hub:
        snapshot = Path("home/hub/models--org--st/snapshots", hub.add("org/st", content))
        commands = [export_to("org/st", "of-hub"), export_to(snapshot, "of-snapshot")]
        found = run_with_hub(commands, HF_ENDPOINT=hub.url)
    assert [code for code, *_ in found] == [0, 0], found
    assert Path(snapshot, "1_Pooling", "config.json").is_symlink()
    original = masked(base, ticket).encode(TEXTS)
    for folder in ("of-hub", "of-snapshot"):
        assert np.abs(loaded(folder).encode(TEXTS) - original).max() < 1e-5

    (snapshot / "1_Pooling" / "config.json").unlink()  # as if it had never been fetched
    asked = export_to("org/st", "offline")
    ((code, _, error),) = run_with_hub([asked], HF_HUB_OFFLINE="1")
    assert code == 1
    assert "1_Pooling/config.json of model 'org/st' cannot be fetched" in error
    (snapshot / "modules.json").unlink()
    ((code, out, error),) = run_with_hub([asked], HF_HUB_OFFLINE="1")
    assert code == 0, error
    assert "the Hub could not be asked whether org/st is a model of sentence-tr" in error
    assert "load  AutoModel.from_pretrained('offline')" in out


def test_a_trimmed_sparse_encoder_states_its_size() -> None:
    base = splade(Path("splade"))
    pooling = next(base.glob("*_SpladePooling/config.json"))
    settings = json.loads(pooling.read_text())
    size = AutoConfig.from_pretrained(base).vocab_size
    pooling.write_text(json.dumps(settings | {"word_embedding_dimension": size}))
    Path("few.txt").write_text("\n\n".join(tiny.WORDS[:30]))
    done = write_checkpoint(ticket_for(base, Path("ticket")), "exported", trim_to="few.txt")
    assert done.vocabulary is not None
    model = loaded("exported", "SparseEncoder")
    assert model.encode(TEXTS).shape[1] == done.vocabulary.kept < size
    assert model.get_embedding_dimension() == done.vocabulary.kept


def with_type(base: Path, number: int, name: str) -> None:
    listed = json.loads((base / "modules.json").read_text())
    listed[number]["type"] = name
    (base / "modules.json").write_text(json.dumps(listed))


def test_the_first_versions_named_the_encoder_by_its_family() -> None:
    base = sentence_model(Path("st"), CLS, encoder="0_BERT")
    with_type(base, 0, "sentence_transformers.models.BERT")
    ticket = ticket_for(base, Path("ticket"))
    write_checkpoint(ticket, "exported")  # which the library loads, though no longer the base
    with_type(base, 0, "sentence_transformers.models.Transformer")
    assert np.allclose(
        loaded("exported").encode(TEXTS), masked(base, ticket).encode(TEXTS), atol=1e-5
    )


@pytest.mark.parametrize("number", [0, 1])
def test_code_of_a_model_is_left_out_by_name(number: int, run: Run) -> None:
    base = sentence_model(Path("st"), CLS)
    with_type(base, number, "custom_st.Module")
    (base / "custom_st.py").write_text("open('was_run', 'w')")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(
        json.dumps(config | {"auto_map": {"AutoModel": "custom_st.Module"}})
    )
    done = run("export", ticket_for(base, Path("ticket")), "--output-dir", "exported")
    assert done.code == 0, done.err
    assert "modules.json of model st names custom_st.Module, which is code of its own" in done.err
    assert "own Python code (auto_map) is left out" in done.err
    assert "not copied: 1_Pooling, custom_st.py, modules.json" in done.out
    assert "load  AutoModel.from_pretrained('exported')" in done.out
    assert not [p for p in Path("exported").rglob("*") if p.suffix == ".py" or p.is_dir()]
    assert "auto_map" not in Path("exported/config.json").read_text()
    assert not Path("was_run").exists()


def behind_a_link(base: Path) -> None:
    (base / "1_Pooling" / "config.json").rename("secret.json")
    (base / "1_Pooling" / "config.json").symlink_to(Path("secret.json").absolute())


def in_a_linked_folder(base: Path) -> None:
    (base / "1_Pooling").rename("elsewhere")
    (base / "1_Pooling").symlink_to(Path("elsewhere").absolute())


def somewhere_else(base: Path) -> None:
    shutil.copytree(base / "1_Pooling", "outside")
    listed = json.loads((base / "modules.json").read_text())
    listed[1]["path"] = "../outside"
    (base / "modules.json").write_text(json.dumps(listed))


def over_the_checkpoint(base: Path) -> None:
    listed = json.loads((base / "modules.json").read_text())
    listed[1]["path"] = "."
    (base / "modules.json").write_text(json.dumps(listed))


def at_no_place(base: Path) -> None:
    listed = json.loads((base / "modules.json").read_text())
    listed[0]["path"] = "a\0b"
    (base / "modules.json").write_text(json.dumps(listed))


def without_settings(base: Path) -> None:
    (base / "1_Pooling" / "config.json").unlink()


def with_code_in_weights(base: Path) -> None:
    with_type(base, 1, "sentence_transformers.models.Dense")
    (base / "1_Pooling" / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Path()}))


def with_huge_settings(base: Path) -> None:
    (base / "1_Pooling" / "config.json").write_text(json.dumps({"x": "y" * 2**21}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (behind_a_link, "1_Pooling/config.json is a link that leads out"),
        (in_a_linked_folder, "1_Pooling/config.json is a link that leads out"),
        (somewhere_else, "names a module outside of itself: '../outside'"),
        (over_the_checkpoint, "names a module outside of itself: '.'"),
        (at_no_place, r"names a module outside of itself: 'a\\x00b'"),
        (without_settings, "1_Pooling/config.json is missing"),
        (with_code_in_weights, "without running code in it"),
        (with_huge_settings, "cannot read 1_Pooling/config.json"),
    ],
)
def test_what_cannot_be_taken_over_is_refused_and_nothing_written(
    spoil: Callable[[Path], None], message: str
) -> None:
    base = sentence_model(Path("st"), CLS)
    ticket = ticket_for(base, Path("ticket"))
    spoil(base)
    with pytest.raises(ModelError, match=message) as raised:
        write_checkpoint(ticket, "exported")
    assert "\n" not in str(raised.value)
    assert not Path("exported").exists()
    assert not list(Path().glob(".exported*"))


def splade(folder: Path) -> Path:
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    encoder = Transformer(
        str(tiny.save(Path("plain"), "bert")),
        transformer_task="fill-mask",
        model_kwargs={"dtype": torch.float32},
    )
    model = library.SparseEncoder(modules=[encoder, SpladePooling()], device="cpu")
    model.save_pretrained(str(folder))
    return folder


@pytest.mark.parametrize("is_legacy", [False, True])
def test_a_sparse_encoder(is_legacy: bool) -> None:
    base = splade(Path("splade"))
    if is_legacy:
        with_type(base, 0, "sentence_transformers.sparse_encoder.models.MLMTransformer")
        (base / "sentence_bert_config.json").write_text('{"max_seq_length": 30}')
    ticket = ticket_for(base, Path("ticket"))
    done = write_checkpoint(ticket, "exported")
    assert (done.head, done.load) == ("masked-lm", "SparseEncoder('exported')")
    original = loaded(base, "SparseEncoder")
    Ticket.load(ticket).apply(original.transformers_model)  # its decoder stays dense
    ours, theirs = (
        model.encode(TEXTS, convert_to_tensor=True).to_dense()
        for model in (loaded("exported", "SparseEncoder"), original)
    )
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert float(ours.abs().max()) > 0.1

    bare = write_checkpoint(ticket, "bare", head="none")
    assert bare.load == "AutoModel.from_pretrained('bare')"
    assert "makes a SparseEncoder of the model's own masked-lm head" in bare.notes[0]
    assert not Path("bare/modules.json").exists()


def classifier(folder: Path, auto: Any = AutoModelForSequenceClassification, **head: Any) -> Path:
    """Save a model with a trained head of a task, for all that can be told."""
    torch.manual_seed(3)
    tiny.save(Path(f"{folder}-encoder"), "bert", with_head=False)
    auto.from_pretrained(f"{folder}-encoder", **head).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("is_legacy", [False, True])
def test_a_cross_encoder(is_legacy: bool) -> None:
    base = classifier(Path("plain"), num_labels=1)
    library.CrossEncoder(str(base), device="cpu").save_pretrained("cross")
    cross = Path("cross")
    if is_legacy:  # it said in the configuration of the model how its scores are made
        for file in cross.glob("*sentence*.json"):
            file.unlink()
        (cross / "modules.json").unlink()
        config = json.loads((cross / "config.json").read_text())
        said = {"activation_fn": "torch.nn.modules.activation.Sigmoid", "version": "4.0.1"}
        (cross / "config.json").write_text(json.dumps(config | {"sentence_transformers": said}))
    ticket = ticket_for(cross, Path("ticket"))
    done = write_checkpoint(ticket, "exported")
    assert (done.head, done.load) == ("sequence-classification", "CrossEncoder('exported')")
    assert done.new == ()
    pairs = [(text, TEXTS[0]) for text in TEXTS]
    ours = loaded("exported", "CrossEncoder").predict(pairs)
    assert np.allclose(ours, masked(cross, ticket, "CrossEncoder").predict(pairs), atol=1e-5)

    checkpoint = finetune(own_config(cross, dense=True))
    assert not (checkpoint.checkpoint[0] / "modules.json").exists()
    assert "sentence_transformers" not in (checkpoint.checkpoint[0] / "config.json").read_text()
    assert any("makes a CrossEncoder" in note for note in checkpoint.notes) != is_legacy


def whole(folder: Path) -> Path:
    return tiny.save(folder, "bert")


def bare(folder: Path) -> Path:
    return tiny.save(folder, "bert", with_head=False)


def named(folder: Path) -> Path:
    return classifier(folder, id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1})


def tagger(folder: Path) -> Path:
    return classifier(folder, AutoModelForTokenClassification, num_labels=3)


def reader(folder: Path) -> Path:
    return classifier(folder, AutoModelForQuestionAnswering)


def half(folder: Path) -> Path:
    """Say that it is a classifier, and lack the head."""
    bare(folder)
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["BertForSequenceClassification"]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("make", "head", "why", "loader"),
    [
        (whole, "masked-lm", "the model has one", "AutoModelForMaskedLM"),
        (bare, "none", "the model has none", "AutoModel"),
        (
            named,
            "sequence-classification",
            "the model's own, trained for bad, good",
            "AutoModelForSequenceClassification",
        ),
        (
            tagger,
            "token-classification",
            "the model's own, trained for LABEL_0, LABEL_1, LABEL_2",
            "AutoModelForTokenClassification",
        ),
        (
            reader,
            "question-answering",
            "the model's own, trained",
            "AutoModelForQuestionAnswering",
        ),
        (
            half,
            "none",
            "config.json names BertForSequenceClassification, but that head's weights are not all "
            "there",
            "AutoModel",
        ),
    ],
)
def test_the_head_follows_from_the_model(
    make: Callable[[Path], Path], head: str, why: str, loader: str, run: Run
) -> None:
    base = make(Path("base"))
    ticket = ticket_for(base, Path("ticket"))
    shown = run("export", ticket, "--output-dir", "exported")
    assert shown.code == 0, shown.err
    assert f"head        {head}: {why}\n" in shown.out
    assert f"load  {loader}.from_pretrained('exported')" in shown.out
    told = json.loads(run("export", ticket, "--output-dir", "again", "--json").out)
    assert (told["head"], told["head_reason"], told["new"]) == (head, why, [])
    kept, own = (
        json.loads(Path(folder, "config.json").read_text()).get("id2label")
        for folder in ("exported", "base")
    )
    assert kept == own
    asked = write_checkpoint(ticket, "asked", head="none")
    assert (asked.head, asked.head_reason) == ("none", "as asked for")
    assert bool(asked.unused) == (head != "none")


def test_a_head_that_computes_with_the_embeddings_is_left_out() -> None:
    base = tiny.save(Path("base"), "deberta-v2", legacy=False)
    done = write_checkpoint(ticket_for(base, Path("ticket")), "exported")
    assert done.head == "none"
    assert "computes with the word embeddings themselves" in done.head_reason


def test_fine_tuned_checkpoints_load_as_the_encoder_that_they_hold() -> None:
    base = sentence_model(Path("st"), CLS, modules=("Normalize",))
    checkpoint = finetune(own_config(base, dense=True)).checkpoint[0]
    encoder = load_encoder(str(checkpoint), with_head=False)
    inputs = tiny.tokenizer()(TEXTS[0], return_tensors="pt")
    with torch.no_grad():
        first = encoder.model(**inputs).last_hidden_state[0, 0]
    ours = loaded(checkpoint).encode(TEXTS[:1])[0]
    assert np.allclose(ours, (first / first.norm()).numpy(), atol=1e-5)
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text())
    assert (tokenizer["truncation"], tokenizer["padding"]) == (None, None)


def test_a_fine_tuned_checkpoint_of_a_sparse_encoder_is_none() -> None:
    base = splade(Path("splade"))
    done = finetune(own_config(base, dense=True))
    assert any("makes a SparseEncoder of the model's own masked-lm head" in n for n in done.notes)
    assert not (done.checkpoint[0] / "modules.json").exists()


def test_ticket_export_and_library_score_alike() -> None:
    from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

    similar_pairs()
    base = sentence_model(Path("st"), CLS, modules=("Normalize",))
    ticket = ticket_for(base, Path("ticket"))
    write_checkpoint(ticket, "exported")
    scores = [
        evaluate(EvaluateConfig(name=str(name), task="stsb-zero-shot", data_dir=".")).score
        for name in (ticket, "exported")
    ]
    first, second, score = zip(
        *(line.split("\t") for line in Path("dev.tsv").read_text().splitlines()[1:]), strict=True
    )
    evaluator = EmbeddingSimilarityEvaluator(
        list(first), list(second), [float(s) / 5 for s in score], main_similarity="cosine"
    )
    theirs = evaluator(loaded("exported"))["pearson_cosine"]
    assert scores == pytest.approx([theirs, theirs], abs=1e-5)


def test_evaluate_says_what_a_model_without_head_takes(run: Run) -> None:
    base = sentence_model(Path("st"), CLS)
    ticket = ticket_for(base, Path("ticket"))
    for name, advice in (("st", "--task kd --model DENSE"), (ticket, "--task kd needs none")):
        found = run("evaluate", name, "--task", "mlm")
        assert found.code == 1
        assert advice in found.err
        assert "--task stsb-zero-shot" in found.err


def test_the_vocabulary_comes_along() -> None:
    base = tiny.save(Path("base"), "bert")
    (base / "vocab.txt").write_text("\n".join(tiny.VOCABULARY))
    config = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(
        json.dumps(config | {"tokenizer_class": "BertTokenizer"})
    )
    write_checkpoint(ticket_for(base, Path("ticket")), "exported")
    assert Path("exported/vocab.txt").read_text() == (base / "vocab.txt").read_text()
    again = AutoModelForMaskedLM.from_pretrained("exported")
    assert type(again).__name__ == "BertForMaskedLM"
