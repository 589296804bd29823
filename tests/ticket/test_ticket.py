"""Tickets: the folder they are saved in, and what they do to models."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tickets import list_again, make_ticket, rewrite_json, small_ticket
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

from tamtctl.foundations.errors import TicketError, UsageError
from tamtctl.foundations.masks import pack, unpack
from tamtctl.models.encoder import base_encoder, fingerprint, maskable_matrices
from tamtctl.models.fingerprints import combined_fingerprint
from tamtctl.models.loading import load_encoder
from tamtctl.ticket import local_names
from tamtctl.ticket.finding import resolve_ticket
from tamtctl.ticket.local_names import packaged_folder, packaged_tickets
from tamtctl.ticket.ticket import Ticket

HEADS = {
    "none": AutoModel,
    "masked-lm": AutoModelForMaskedLM,
    "classifier": AutoModelForSequenceClassification,
    "question-answering": AutoModelForQuestionAnswering,
}
TOKENS = torch.tensor([[1, 8, 9, 10, 30, 2]])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small_ticket(mlm_head={"cls.dense.weight": torch.ones(3, 3)}).save_pretrained(tmp_path / "t")
    return tmp_path / "t"


# --- the folder ---------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple),
    density=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)
def test_packing_is_row_major_least_significant_bit_first(
    shape: tuple[int, ...], density: float
) -> None:
    mask = torch.rand(shape) < density
    packed = pack(mask.numpy())
    bits = mask.flatten().tolist() + [False] * (-mask.numel() % 8)
    expected = [
        sum(bit << i for i, bit in enumerate(bits[k : k + 8])) for k in range(0, len(bits), 8)
    ]
    assert packed.tolist() == expected
    assert np.array_equal(unpack(packed, shape), mask.numpy())


def test_round_trip(tmp_path: Path) -> None:
    head = {"cls.bias": torch.randn(4), "cls.dense.weight": torch.randn(4, 4)}
    ticket = small_ticket(mlm_head=head)
    ticket.save_pretrained(tmp_path / "a")
    again = Ticket.load(tmp_path / "a")
    for field in dataclasses.fields(ticket):
        if field.name not in ("stored", "mlm_head"):
            assert getattr(again, field.name) == getattr(ticket, field.name), field.name
    assert dict(again.masks).keys() == ticket.parameters.keys()
    assert all(torch.equal(again.mask(n), ticket.mask(n)) for n in ticket.masks)
    assert again.mlm_head is not None
    assert all(torch.equal(again.mlm_head[n], t) for n, t in head.items())
    again.save_pretrained(tmp_path / "b")
    for name in ("ticket.json", "mask.safetensors", "mlm_head.safetensors", "README.md"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_document_is_what_the_format_says(folder: Path) -> None:
    text = (folder / "ticket.json").read_text()
    document = json.loads(text)
    assert text == json.dumps(document, sort_keys=True, indent=2) + "\n"
    assert list(document) == [
        "allocation", "base_model", "created", "encoding", "files", "format_version", "method",
        "metrics", "objective", "parameters", "search", "sparsity", "tamtctl_version",
        "target_sparsity",
    ]  # fmt: skip
    ticket = Ticket.load(folder)
    generator = torch.Generator().manual_seed(1)
    weights = {
        n: torch.randn(e.shape, generator=generator) for n, e in small_ticket().parameters.items()
    }
    expected, hashes = fingerprint(weights)
    assert document["base_model"]["fingerprint"] == expected
    assert document["parameters"]["layer.0.weight"] == {
        "shape": [3, 4],
        "kept": int(ticket.mask("layer.0.weight").sum()),
        "sha256": hashes["layer.0.weight"],
    }
    zeros = sum(int((~mask).sum()) for mask in ticket.masks.values())
    assert document["sparsity"] == ticket.sparsity == zeros / 63
    assert set(document["files"]) == {"mask.safetensors", "mlm_head.safetensors"}


def test_size_of_the_mask_file(tmp_path: Path) -> None:
    model = tiny.build("bert", num_hidden_layers=12, with_head=False)
    ticket = make_ticket(maskable_matrices(model))
    ticket.save_pretrained(tmp_path / "t")
    size = (tmp_path / "t" / "mask.safetensors").stat().st_size
    assert size <= ticket.total / 8 + 4096 + 192 * len(ticket.parameters)


def test_head_is_a_copy(tmp_path: Path) -> None:
    shared = torch.nn.Parameter(torch.ones(3))
    ticket = small_ticket(mlm_head={"bias": shared, "decoder.bias": shared})
    with torch.no_grad():
        shared.zero_()
    ticket.save_pretrained(tmp_path / "t")
    head = Ticket.load(tmp_path / "t").mlm_head
    assert head is not None
    assert head["bias"].tolist() == head["decoder.bias"].tolist() == [1, 1, 1]


def test_card_has_metadata_the_hub_can_read(folder: Path, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "tamtctl"
    assert card.data.base_model is None  # nano is no Hub id
    hub = small_ticket(base_model_id="org/bert", revision="c0ffee")
    hub.save_pretrained(tmp_path / "hub")
    assert ModelCard.load(tmp_path / "hub" / "README.md").data.base_model == "org/bert"
    assert "| ticket | 2.75 |" in card.text
    assert "`layer.0.weight`" in card.text


# --- writing ------------------------------------------------------------------------------------


def test_replaces_a_ticket_and_keeps_other_files(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    small_ticket(method="magnitude", objective=None).save_pretrained(folder)
    assert Ticket.load(folder).method == "magnitude"
    assert not (folder / "mlm_head.safetensors").exists()
    assert (folder / "notes.txt").read_text() == "mine"
    assert [p.name for p in folder.parent.iterdir()] == ["t"]


def test_writes_into_new_nested_and_empty_folders(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for target in ("empty", "a/b/c"):
        small_ticket().save_pretrained(tmp_path / target)
        assert Ticket.load(tmp_path / target).sparsity == small_ticket().sparsity


def test_refuses_what_is_no_ticket_folder(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    (tmp_path / "file").write_text("x")
    for target, why in (("full", "exists and is no ticket"), ("file", "is a file")):
        with pytest.raises(TicketError, match=why):
            small_ticket().save_pretrained(tmp_path / target)
    with pytest.raises(TicketError, match="cannot write"):
        small_ticket().save_pretrained(tmp_path / "file" / "below")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "full"]


@pytest.mark.parametrize("failing", ["fsync", "rename"])
def test_a_failure_leaves_the_old_ticket(
    folder: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if ".new-" in self.name:
            raise KeyboardInterrupt
        return real(self, target)

    if failing == "fsync":
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(TicketError, match="No space left on device"):
            small_ticket(method="magnitude").save_pretrained(folder)
    else:
        monkeypatch.setattr(Path, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            small_ticket(method="magnitude").save_pretrained(folder)
    assert Ticket.load(folder).method == "tamt"
    assert [p.name for p in folder.parent.iterdir()] == ["t"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": {"loss": float("nan")}}, "metrics: nan is no plain JSON value"),
        ({"search": {"path": Path("x")}}, "search: .* is no plain JSON value"),
        ({"base_model_id": "two\nlines"}, "id must be a line of printable text"),
        ({"target_sparsity": 80}, "target_sparsity must be a number from 0 to 1"),
        ({"mlm_head": {"w": torch.tensor([float("inf")])}}, "finite"),
    ],
)
def test_what_cannot_be_read_again_is_refused_at_once(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(TicketError, match=message):
        small_ticket(**changes)


def test_masks_must_fit_the_weights() -> None:
    options: dict[str, Any] = {
        "base_model_id": "x", "revision": None, "model_type": "bert", "target_sparsity": 0.5,
        "method": "random", "objective": None, "search": {}, "metrics": {},
    }  # fmt: skip
    weights = {"a.weight": torch.ones(2, 2)}
    for masks, message in [
        ({}, "a.weight has no mask"),
        ({"a.weight": torch.ones(2, 2)}, "must be torch.bool"),
        ({"a.weight": torch.ones(2, 3, dtype=torch.bool)}, r"shape \[2, 2\]"),
        ({"a.weight": torch.ones(2, 2) > 0, "b": torch.ones(1) > 0}, "b has no weight"),
    ]:
        with pytest.raises(TicketError, match=message):
            Ticket.create(weights, masks, **options)
    with pytest.raises(TicketError, match="at least one"):
        Ticket.create({}, {}, **options)


# --- verification -------------------------------------------------------------------------------


def flip(path: Path, position: int, bit: int = 1) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= bit
    path.write_bytes(content)


def swap_two_bits(folder: Path) -> None:
    """Keep one weight more and one less, in the same matrix: every count stays as it was."""
    path = folder / "mask.safetensors"
    content = bytearray(path.read_bytes())
    byte = next(i for i in range(len(content) - 9, len(content)) if content[i] & 3 in (1, 2))
    content[byte] ^= 3
    path.write_bytes(content)


def set_field(*keys: str, to: Any) -> Any:
    def change(folder: Path) -> None:
        def assign(document: Any) -> None:
            for key in keys[:-1]:
                document = document[key]
            document[keys[-1]] = to

        rewrite_json(folder, assign)

    return change


def set_layer(key: str, to: Any) -> Any:
    return set_field("parameters", "layer.0.weight", key, to=to)


def repack(folder: Path, name: str, packed: Tensor) -> None:
    tensors = safetensors.torch.load_file(folder / "mask.safetensors")
    tensors[name] = packed
    safetensors.torch.save_file(tensors, folder / "mask.safetensors")
    list_again(folder)


def flip_mask(folder: Path) -> None:
    flip(folder / "mask.safetensors", -3)


def flip_head(folder: Path) -> None:
    flip(folder / "mlm_head.safetensors", -3)


def remove(name: str) -> Any:
    return lambda folder: (folder / name).unlink()


def replace_by_folder(folder: Path) -> None:
    (folder / "mask.safetensors").unlink()
    (folder / "mask.safetensors").mkdir()


def replace_by_fifo(folder: Path) -> None:
    (folder / "ticket.json").unlink()
    os.mkfifo(folder / "ticket.json")


def truncate(folder: Path) -> None:
    path = folder / "mask.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def huge_header(folder: Path) -> None:
    flip_length = struct.pack("<Q", 10 * 2**30)
    path = folder / "mask.safetensors"
    path.write_bytes(flip_length + path.read_bytes()[8:])
    list_again(folder)


def claim_consistently(folder: Path) -> None:
    """Claim a billion weights that are not there, in a document without any contradiction."""

    def claim(document: dict[str, Any]) -> None:
        entries = document["parameters"]
        entries["layer.0.weight"]["shape"] = [10**5, 10**4]
        total = sum(math.prod(entry["shape"]) for entry in entries.values())
        document["sparsity"] = 1 - sum(entry["kept"] for entry in entries.values()) / total
        document["base_model"]["fingerprint"] = combined_fingerprint(
            {name: entry["shape"] for name, entry in entries.items()},
            {name: entry["sha256"] for name, entry in entries.items()},
        )

    rewrite_json(folder, claim)


def unlisted_head(folder: Path) -> None:
    rewrite_json(folder, lambda document: document["files"].pop("mlm_head.safetensors"))


def write_json(text: str | bytes) -> Any:
    content = text.encode() if isinstance(text, str) else text
    return lambda folder: (folder / "ticket.json").write_bytes(content)


BAD: dict[str, tuple[Any, str]] = {
    "truncated": (truncate, "mask.safetensors is damaged: .* bytes instead of"),
    "bit flipped": (flip_mask, "mask.safetensors is damaged: its SHA"),
    "bits swapped": (swap_two_bits, "mask.safetensors is damaged: its SHA"),
    "head flipped": (flip_head, "mlm_head.safetensors is damaged"),
    "head unlisted": (unlisted_head, "does not list mlm_head.safetensors"),
    "head missing": (remove("mlm_head.safetensors"), "has no mlm_head.safetensors"),
    "mask missing": (remove("mask.safetensors"), "has no mask.safetensors"),
    "json missing": (remove("ticket.json"), "has no ticket.json"),
    "not a file": (
        replace_by_folder,
        "mask.safetensors is not a regular file",
    ),
    "fifo": (
        replace_by_fifo,
        "ticket.json is not a regular file",
    ),
    "wrong count": (
        lambda f: repack(f, "layer.0.weight", torch.tensor([0, 0], dtype=torch.uint8)),
        "mask of layer.0.weight: keeps 0 weights",
    ),
    "spare bits": (
        lambda f: repack(f, "layer.0.weight", torch.tensor([255, 31], dtype=torch.uint8)),
        "mask of layer.0.weight: spare bits are not zero",
    ),
    "wrong length": (
        lambda f: repack(f, "layer.0.weight", torch.zeros(3, dtype=torch.uint8)),
        "mask of layer.0.weight is not 2 bytes",
    ),
    "wrong dtype": (
        lambda f: repack(f, "layer.0.weight", torch.zeros(2, dtype=torch.int8)),
        "mask of layer.0.weight is not made of bytes",
    ),
    "extra matrix": (
        lambda f: repack(f, "layer.1.weight", torch.zeros(2, dtype=torch.uint8)),
        "ticket.json lacks the matrix 'layer.1.weight'",
    ),
    "huge header": (huge_header, "mask.safetensors is damaged"),
    "a trillion weights": (set_layer("shape", to=[10**6, 10**6]), "shapes claim more than"),
    "a billion weights": (claim_consistently, "mask.safetensors: .* do not fit the stated shapes"),
    "newer": (set_field("format_version", to=2), "made by a newer tamtctl .*; upgrade"),
    "version 0": (set_field("format_version", to=0), "format_version must be an integer from 1"),
    "version true": (set_field("format_version", to=True), "format_version must be an integer"),
    "encoding": (set_field("encoding", to="huffman"), "encoding 'huffman' is unknown .*; upgrade"),
    "sparsity": (set_field("sparsity", to=0.5), "sparsity is stated as 0.5"),
    "fingerprint": (set_field("base_model", "fingerprint", to="0" * 64), "fingerprint does not"),
    "weight hash": (set_layer("sha256", to="0" * 64), "fingerprint"),
    "kept": (set_layer("kept", to=13), "kept must be .* to 12"),
    "shape": (set_layer("shape", to=[3, -4]), "shape must be"),
    "name": (set_field("parameters", "../x", to={}), r"'\.\./x' is not the name of a parameter"),
    "no parameters": (set_field("parameters", to={}), "names no matrix"),
    "created": (set_field("created", to="yesterday"), "created must be an ISO 8601 time"),
    "control": (set_field("method", to="\x1b[2J"), "method must be a line of printable text"),
    "surrogate": (write_json('{"a": "\\ud800"}'), "no plain JSON value"),
    "nan": (write_json('{"a": NaN}'), "NaN is no JSON number"),
    "infinite": (write_json('{"a": 1e999}'), "inf is no plain JSON value"),
    "twice": (write_json('{"a": 1, "a": 2}'), "a key occurs twice"),
    "deep": (write_json("[" * 100_000), "nested more than"),
    "nested": (write_json('{"a": ' + "[" * 40 + "]" * 40 + "}"), "nested more than"),
    "digits": (write_json('{"a": ' + "9" * 5000 + "}"), "ticket.json is damaged"),
    "huge": (write_json(b" " * (2 * 2**20 + 1)), "bytes; more than"),
    "not json": (write_json("PK"), "ticket.json is damaged"),
    "not utf-8": (write_json(b"\xff\xfe"), "ticket.json is damaged"),
    "a list": (write_json("[]"), "must hold a JSON object"),
    "empty": (write_json(""), "ticket.json is damaged"),
    "no fields": (write_json("{}"), "format_version is missing"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_folders(folder: Path, case: str) -> None:
    spoil, message = BAD[case]
    spoil(folder)
    with pytest.raises(TicketError, match=message) as raised:
        Ticket.load(folder)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(f"ticket {str(folder)!r}: ")
    checks = Ticket.verify(folder)
    (failed,) = (check for check in checks if check.passed is False)
    assert str(raised.value) == f"ticket {str(folder)!r}: {failed.detail}"
    assert all(check.passed is None for check in checks[checks.index(failed) + 1 :])


def test_a_good_folder_passes_every_check(folder: Path) -> None:
    checks = Ticket.verify(folder)
    assert all(check.passed for check in checks)
    assert [c.name for c in checks][:2] == ["ticket.json", "metadata"]


def test_no_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path / ("x" * 300), tmp_path / "a\0b"):
        with pytest.raises(TicketError):
            Ticket.load(path)
        with pytest.raises(TicketError):
            resolve_ticket(path)


def test_what_a_newer_version_adds_is_ignored(folder: Path) -> None:
    (folder / "scores.safetensors").write_bytes(b"x")

    def add(document: dict[str, Any]) -> None:
        document["licence"] = {"name": "Apache-2.0"}
        document["parameters"]["layer.0.weight"]["block"] = 4
        document["files"]["../scores.safetensors"] = {"bytes": 1, "sha256": "0" * 64}

    rewrite_json(folder, add)
    assert Ticket.load(folder).method == "tamt"


def test_links_as_in_the_hub_cache_are_followed(folder: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for file in folder.iterdir():
        (snapshot / file.name).symlink_to(file)
    assert Ticket.load(snapshot).sparsity == Ticket.load(folder).sparsity


# --- names --------------------------------------------------------------------------------------


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_ticket().save_pretrained(tmp_path / "shelf" / "nano-0.7")
    monkeypatch.setattr(local_names, "packaged_folder", lambda: tmp_path / "shelf")
    monkeypatch.chdir(tmp_path)
    assert list(packaged_tickets()) == ["nano-0.7"]
    assert resolve_ticket("nano-0.7").kind == "packaged"
    assert Ticket.from_pretrained("nano-0.7").method == "tamt"
    small_ticket(method="random").save_pretrained(tmp_path / "nano-0.7")
    assert resolve_ticket("nano-0.7").kind == "path"  # a path comes first
    assert Ticket.from_pretrained("nano-0.7").method == "random"
    with pytest.raises(TicketError, match=r"packaged are: nano-0\.7"):
        resolve_ticket("nano-0.8")
    with pytest.raises(TicketError, match=r"no ticket '\.\./shelf/nano-0\.7'"):
        resolve_ticket("../shelf/nano-0.7")
    small_ticket().save_pretrained(tmp_path / "run" / "ticket")
    with pytest.raises(TicketError, match="is a run; its ticket is"):
        resolve_ticket(tmp_path / "run")
    with pytest.raises(TicketError, match="is a file"):
        resolve_ticket("nano-0.7/ticket.json")
    with pytest.raises(UsageError, match="there is no user 'nobody-of-that-name'"):
        resolve_ticket("~nobody-of-that-name/x")


def test_every_packaged_ticket_verifies() -> None:
    assert packaged_folder().name == "tickets"
    for folder in packaged_tickets().values():
        assert all(check.passed for check in Ticket.verify(folder))


# --- applying -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of every family with a masked-LM head and, where the family has one, a pooler."""
    root = tmp_path_factory.mktemp("checkpoints")
    for family in tiny.FAMILIES:
        tiny.save(root / family, family)
        tiny.save(root / f"{family}-encoder", family, with_head=False)
    return root


def load(auto: Any, folder: Path, **options: Any) -> PreTrainedModel:
    model: PreTrainedModel = auto.from_pretrained(folder, dtype=torch.float32, **options)
    model.eval()
    return model


def logits(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        output = model(TOKENS)
    return output.logits if "logits" in output else output[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_apply_to_every_head(checkpoints: Path, tmp_path: Path, family: str, head: str) -> None:
    encoder = load_encoder(str(checkpoints / f"{family}-encoder"), with_head=False)
    ticket = make_ticket(encoder.weights, model_type=family)
    source = checkpoints / (family if head == "masked-lm" else f"{family}-encoder")
    if head == "masked-lm":  # the two checkpoints differ; this one has no pooler
        encoder = load_encoder(str(source), with_head=True)
        ticket = make_ticket(dict(encoder.weights), model_type=family)
    model = load(HEADS[head], source)
    before = {n: p.detach().clone() for n, p in model.named_parameters(remove_duplicate=False)}
    applied = ticket.apply(model)

    matrices = maskable_matrices(model)
    assert set(applied.applied) | set(applied.skipped) == set(ticket.parameters)
    assert all(name.startswith("pooler") for name in applied.skipped + applied.unmasked)
    for name in applied.applied:
        weight = encoder.weights[name]
        expected = torch.where(ticket.mask(name), weight, torch.zeros(()))
        assert torch.equal(matrices[name], expected)
    changed = {id(matrices[name]) for name in applied.applied}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) not in changed:
            assert torch.equal(parameter, before[name]), name

    model.save_pretrained(tmp_path / "saved")
    again = load(HEADS[head], tmp_path / "saved")
    torch.testing.assert_close(logits(again), logits(model), rtol=0, atol=1e-6)
    saved = model.state_dict()
    assert all(torch.equal(tensor, saved[name]) for name, tensor in again.state_dict().items())


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_decoder_stays_dense(checkpoints: Path, family: str) -> None:
    """The logits are those of masked look-ups under the dense decoder, computed independently."""
    source = checkpoints / family
    ticket = make_ticket(load_encoder(str(source), with_head=True).weights)
    model, dense = load(AutoModelForMaskedLM, source), load(AutoModelForMaskedLM, source)
    applied = ticket.apply(model)
    decoder = model.get_output_embeddings()
    assert decoder.weight is not model.get_input_embeddings().weight
    assert torch.equal(decoder.weight, dense.get_output_embeddings().weight)
    assert applied.untied
    assert not model.config.tie_word_embeddings

    states: dict[str, Tensor] = {}
    model.base_model.register_forward_hook(lambda _m, _i, out: states.update(h=out[0]))

    def replace(_module: Any, _inputs: Any, output: Any) -> Any:
        output["last_hidden_state"] = states["h"]
        return output

    expected = logits(model)  # fills states
    dense.base_model.register_forward_hook(replace)
    torch.testing.assert_close(logits(dense), expected, rtol=0, atol=1e-6)


def test_a_missing_pooler_is_reported(checkpoints: Path) -> None:
    encoder = load_encoder(str(checkpoints / "bert-encoder"), with_head=False)
    ticket = make_ticket(encoder.weights)
    model = load(AutoModelForQuestionAnswering, checkpoints / "bert-encoder")
    assert ticket.apply(model).skipped == ("pooler.dense.weight",)


def test_a_random_pooler_is_left_alone(checkpoints: Path) -> None:
    ticket = make_ticket(load_encoder(str(checkpoints / "bert"), with_head=True).weights)
    model = load(AutoModelForSequenceClassification, checkpoints / "bert")
    applied = ticket.apply(model)
    assert applied.skipped == ()
    assert applied.unmasked == ("pooler.dense.weight",)


def refuse(ticket: Ticket, model: PreTrainedModel, message: str) -> None:
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    with pytest.raises(TicketError, match=message) as raised:
        ticket.apply(model)
    assert "\n" not in str(raised.value)
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters() if not p.is_meta)


def test_other_models_are_refused_untouched(checkpoints: Path) -> None:
    bert = checkpoints / "bert"
    ticket = make_ticket(load_encoder(str(bert), with_head=True).weights)
    half = AutoModel.from_pretrained(bert, dtype=torch.bfloat16)
    refuse(ticket, half, r"in bfloat16.*dtype=torch.float32")
    tuned = load(AutoModel, bert)
    with torch.no_grad():
        tuned.get_parameter("encoder.layer.1.output.dense.weight")[0, 0] += 1e-3
    refuse(ticket, tuned, r"layer.1.output.dense.weight .* before fine-tuning")
    refuse(ticket, tiny.build("roberta", seed=1), "does not hold the pre-trained weights of nano")
    refuse(ticket, tiny.build("bert", num_hidden_layers=1), "no matrix encoder.layer.1")
    refuse(ticket, tiny.build("bert", intermediate_size=24), r"shape \[24, 16\], not \[32, 16\]")
    refuse(ticket, tiny.build("distilbert"), "no matrix .*; this ticket is for nano")
    with torch.device("meta"):
        refuse(ticket, tiny.build("bert"), "meta device")
    applied_once = load(AutoModel, bert)
    ticket.apply(applied_once)
    refuse(ticket, applied_once, "before fine-tuning or masking")


def test_what_is_no_transformers_model_is_refused() -> None:
    others: list[Any] = [torch.nn.Linear(2, 2), None]
    for other in others:
        with pytest.raises(TicketError, match="applies to a transformers model"):
            small_ticket().apply(other)


def test_a_head_that_computes_with_the_embeddings_is_refused() -> None:
    model = tiny.build("deberta-v2", legacy=False)
    ticket = make_ticket({n: p.detach() for n, p in maskable_matrices(model).items()})
    refuse(ticket, model, "would mask its decoder; load the model without that head")
    assert ticket.apply(base_encoder(model)).applied
