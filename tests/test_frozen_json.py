"""The fields of JSON that scripts read: what commands print, and the files that they leave.

Everything is asked for through the command line, so that code may move without a change to this
file. A field that goes, changes its type or gets another name breaks somebody's script.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import runpy
import shutil
import string
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

# Field → type of its values; ``?`` follows a field that is not always there, ``*`` is any matrix.
# ``$name`` stands for another entry of `PARTS`.
PARTS = {
    "losses": "{dense:float magnitude:float random:float ticket:float}",
    "search": """
        {adam_epsilon:float batch_size:int bias_correction:bool check_corpus:[str] clip:str
        corpus:[str] device:str dropout:bool evaluation_blocks:int held_out:[] init:str
        learning_rate:float max_grad_norm:float max_minutes:null method:str micro_batch_size:null
        model:str objective:str precision:str prune_every:null rewind:str schedule_epochs:null
        seed:int sequence_length:int sparsity:float steps:int stream:bool text_column:null
        threads:null weight_decay:float}
    """,
    "base": "{fingerprint:str id:str model_type:str revision:null}",
    "measured": """
        {changed:bool check_losses:$losses flips:float losses:$losses sequences:int
        sequences_there:int standard_errors:$losses steps:int trained_on:[str] unit:str}
    """,
    "ticket": """
        {allocation:str base_model:$base created:str encoding:str format_version:int method:str
        metrics:$measured objective:str parameters:{*:{kept:int sha256:str shape:[int]}}
        search:$search sparsity:float tamtctl_version:str target_sparsity:float}
    """,
    "finetune": """
        {batch_size:int data_dir:null data_sha256:str dense:bool dev:str device:str epochs:int
        find_learning_rate:bool label_column:str label_kind:null learning_rate:float limit:null
        max_length:null model:null patience:null precision:str seeds:[int] select:str task:str
        text_columns:[str] threads:null ticket:str ticket_sha256:str train:str}
    """,
    "training": """
        {batch_size:int epochs:int has_standard_labels:bool learning_rate:float origin:str
        warm_up:float}
    """,
    "compare": """
        {at_steps:[] budget:str corpus:[str] data_dir:null device:str evaluation_blocks:int
        keep_scores:bool limit:null methods:[] model:null precision:str prune_every:null recipe:str
        seeds:[int] sequence_length:int sparsities:[] task_epochs:null task_learning_rate:null
        task_seeds:[int] tasks:[] text_column:null threads:null tickets:[str]}
    """,
    "versions": """
        huggingface-hub:str mps:str numpy:str platform:str python:str rich:str safetensors:str
        tamtctl:str tokenizers:str torch:str torchmetrics:str transformers:str typer:str
        zstandard:str
    """,
    "flips": """
        {by_chance:float layers:$layers matrices:{*:float} share:float types:$types unknown:null}
    """,
    "types": """
        {attention.output.dense:float attention.self.key:float attention.self.query:float
        attention.self.value:float embeddings.word_embeddings:float intermediate.dense:float
        output.dense:float}
    """,
    "searched": """
        {allocation:str already_done:bool bytes:int calibration_seconds:float changed:bool
        check_losses:$losses corpus:str flips:float held_out:{name:str sequences:int} init:str
        losses:$losses method:str model:str objective:str resumed_from:int rows:str run_folder:str
        seconds:float sequence_length:int sequences:int
        sparsities:{embeddings:float layers:float} sparsity:float
        standard_errors:$losses steps:int stopped_early:bool target_sparsity:float ticket:str
        tokens_per_second:float unit:str}
    """,
    "finetuned": """
        {already_done:bool beside:[] checkpoint:[str] constant_answer:str constant_score:float
        dev_cut:int dev_examples:int dev_selected:bool epochs:int epochs_done:[int]
        has_made_dev:bool labels:str mean:float metric:str metrics:{accuracy:{constant:float
        mean:float scores:[float] standard_errors:[null] std:null} macro_f1:{constant:float
        mean:float scores:[float] standard_errors:[null] std:null}} model:str notes:[str]
        patience:null rate_search:null reported_epochs:[int] resumed_from:int run_folder:str
        scores:[float] seconds:[float] seeds:[int] selected_on:null sparsity:float
        standard_error:null std:null steps:int stopped_early:[bool] task:str ticket:str
        train_cut:int train_examples:int training:$training untrained:str zeros:str}
    """,
    "check": "{detail:str name:str passed:bool}",
    "inspected": """
        {bytes:int checks:[$check] flips:$flips kind:str layers:$layers measured:{changed:bool
        check_losses:$losses check_text:str flips:float losses:$losses scores:{}
        standard_errors:$losses steps:int text:str unit:str} path:str ticket:$ticket types:$types
        valid:bool}
    """,
    "similar": """
        {chance_hamming:float chance_jaccard:float hamming:float jaccard:float}
    """,
    "compared": """
        at_steps:[] blocks:int config:$compare corpus:str correlations:{} derived:[]
        differences:[{a:str among:null b:str high:float identical:bool low:float measure:str
        sparsity:float value:float why_none:null}] folder:str left_out:{} model:str notes:[]
        results:[{among:null flips:float|null kd_loss:float kd_standard_error:float method:str
        mlm_loss:float mlm_standard_error:float name:str objective:null|str seconds:float|null
        seed:int|null sparsity:float steps:int|null ticket:null|str}] sentences:[str]
        similarities:[{chance:[[float]] jaccard:[[float]] names:[str] sparsity:null}]
        steps_to_equal:[] texts:[{name:str rows:str sequences:int source:str tokens:int
        trained_on:[]}] units:{kd:str mlm:str}
    """,
    "layers": "{-:float 0:float 1:float}",
    "sequences": "{count:int cut:float longest:int mean_length:float rows:str unknown:float}",
}
PRINTED = {
    "search --dry-run": """
        {config:$search device:str estimated_seconds:float held_out_sequences:$sequences
        held_out_tokens:int matrices:int model_type:str precision:str processes:int
        resumed_from:int run_folder:str sparsities:{embeddings:float layers:float} steps:int
        threads:int train_sequences:$sequences train_tokens:int warnings:[str] weights:int}
    """,
    "search": "$searched",
    "finetune": "$finetuned",
    "evaluate a task": """
        {beside:[] constant_answer:str constant_scores:{accuracy:float macro_f1:float}
        constant_split:str cut:int data:str dev_selected:bool embeddings:null examples:int
        head:null metric:str metrics:{accuracy:float macro_f1:float} name:str notes:[str]
        score:float sparsity:float standard_error:null standard_errors:{accuracy:null
        macro_f1:null} task:str unit:null units:{}}
    """,
    "evaluate mlm": """
        {beside:[] constant_answer:null constant_scores:{} constant_split:null cut:int
        cut_off:float data:str dev_selected:bool embeddings:null examples:int head:str
        mean_length:float metric:str metrics:{mlm:float} name:str notes:[str] rows:str
        score:float sequence_length:int sequences:int sequences_there:int sparsity:float
        standard_error:null standard_errors:{mlm:null} task:str text:str unit:str
        units:{mlm:str} unknown:float}
    """,
    "evaluate kd": """
        {beside:[] constant_answer:null constant_scores:{} constant_split:null cut:int
        cut_off:float data:str dev_selected:bool embeddings:null examples:int head:null
        mean_length:float metric:str metrics:{kd:float} name:str notes:[str] rows:str
        score:float sequence_length:int sequences:int sequences_there:int sparsity:float
        standard_error:null standard_errors:{kd:null} task:str text:str unit:str
        units:{kd:str} unknown:float}
    """,
    "evaluate --predict": """
        {cut:int notes:[] predictions:[{confidence:{file:float list:float} prediction:str
        text:[str]}] task:str}
    """,
    "compare": "{$compared}",
    "compare --dry-run": """
        {runs:[{cell:str estimated_seconds:float part:int parts:int run_folder:str state:str
        steps:int task_seconds:float}] slurm:null}
    """,
    "inspect": "$inspected",
    "inspect two": """
        {similarities:[{a:str average:$similar b:str flips:null matrices:{*:$similar}
        same_base:bool}] tickets:[{bytes:int checks:[$check] flips:$flips kind:str layers:$layers
        measured:{changed:bool|null check_losses:$losses check_text:str flips:float losses:$losses
        scores:{} standard_errors:$losses steps:int|null text:str unit:str} path:str
        ticket:{allocation:str base_model:$base created:str encoding:str format_version:int
        method:str metrics:{changed?:bool check_losses:$losses flips:float losses:$losses
        sequences:int sequences_there:int standard_errors:$losses steps:int trained_on:[str]
        unit:str} objective:str parameters:{*:{kept:int sha256:str shape:[int]}} search:$search
        sparsity:float tamtctl_version:str target_sparsity:float} types:$types valid:bool}]}
    """,
    "list": """
        {damaged:[] tickets:[{base_model:str bytes:int created:str kind:str loss:float method:str
        name:str objective:str path:str sparsities:{embeddings:float layers:float} sparsity:float
        unit:str}]}
    """,
    "env": "{cache:str cpu:str cuda:str datasets:str hub cache:str $versions}",
    "export": """
        {bytes:int checked:str head:str head_reason:str left_out:[] load:str model_class:str
        modules:[] new:[] notes:[str] parameters:int path:str skipped:[] unused:[] weights:int
        zeros:int}
    """,
    "import": """
        {base_model:null bytes:int dense:[] encoding:str file:str ignored:int kind:str matrices:int
        not_read:[] other_prefixes:[] prefix:str remark:null sparsity:float ticket:str}
    """,
}
KEPT = {
    "run/identity.json": """
        {algorithm version:str check corpus text.txt:str configuration of model model:str corpus
        text.txt:str tokenizer of model model:str weights of model model:str}
    """,
    "run/result.json": "$searched",
    "run/ticket/ticket.json": """
        {allocation:str base_model:$base created:str encoding:str
        files:{mask.safetensors:{bytes:int sha256:str} mlm_head.safetensors:{bytes:int sha256:str}}
        format_version:int method:str metrics:$measured objective:str parameters:{*:{kept:int
        sha256:str shape:[int]}} search:$search sparsity:float tamtctl_version:str
        target_sparsity:float}
    """,
    "run/ticket/local.json": """
        {fingerprint:str model:{absolute:str relative:str} texts:{check_corpus:[{absolute:str
        relative:str}] corpus:[{absolute:str relative:str}]}}
    """,
    "tuned/identity.json": """
        {algorithm version:str classes of own:str configuration of model model:str data of own:str
        rate and length of the training:str ticket run/ticket:str tokenizer of model model:str
        weights of model model:str}
    """,
    "tuned/result.json": "$finetuned",
    "tuned/seed-1/metrics.json": """
        {beside:[] config:$finetune constant:{loss:float scores:{accuracy:float macro_f1:float}
        split:str value:str} data:{source:str train:{examples:int sha256:str}
        validation:{examples:int sha256:str}} dev_selected:bool device:str environment:{cache:str
        cpu:str cuda:str datasets:str hub cache:str $versions} epoch_scores:[] epochs_done:int
        files:{dev:{absolute:str relative:str} model:{absolute:str relative:str}}
        finding:{is_untrained:bool why:str} labels:null model:{fingerprint:str id:str}
        precision:str reported_epoch:null scores:{accuracy:float macro_f1:float} seconds:float
        seed:int selected_on:null setting:str sparsity:float standard_errors:{accuracy:null
        macro_f1:null} steps:int task:{batch_size:int columns:[str] dev_splits:{:str} epochs:int
        folder:null has_broken_rows:bool hub:null kind:str label_column:str label_range:null
        labels:[str] learning_rate:float max_length:int metrics:[str] name:str other_names:{}
        stride:int summary:str unnamed_columns:[]} ticket:$ticket training:$training
        training_loss:float zeros:str}
    """,
    "compared/identity.json": """
        {algorithm version:str model model:str text of text.txt:str ticket run/ticket:str}
    """,
    "run/config.json": "$search",
    "tuned/config.json": "$finetune",
    "compared/config.json": "$compare",
    "run/metrics.jsonl": """
        {eval_losses:{mlm:float} flips:float is_last:bool learning_rate:float loss:float
        seconds:float step:int steps:int terms:{mlm:float} tokens_per_second:float}
    """,
    "tuned/seed-1/metrics.jsonl": """
        {eval_losses:{} flips:float is_last:bool learning_rate:float loss:float seconds:float
        step:int steps:int terms:{seed 1 training:float} tokens_per_second:float}
    """,
    "tuned/seed-1/predictions.jsonl": """
        {confidence:{file:float list:float} id:str label:str prediction:str split:str}
    """,
}

SMALL = (
    "--recipe nano --model model --corpus text.txt --check-corpus text.txt --sparsity 0.5 "
    "--batch-size 4 --sequence-length 16 --device cpu --init magnitude --init-scores two-valued"
)
OWN = "own --train own.jsonl --dev own.jsonl --epochs 1 --learning-rate 1e-6 --batch-size 8"


def json_of(line: str) -> Any:
    """Run a command in this process, and return the one JSON value that it prints."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["tamtctl", *line.split(), "--json"])
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        with pytest.raises(SystemExit) as ended:
            runpy.run_module("tamtctl", run_name="__main__")
    assert ended.value.code == 0, err.getvalue()
    return json.loads(out.getvalue())


def shape(*values: object) -> str:
    """Return which fields the values at one place of JSON have, and of what types these are."""
    mappings = [value for value in values if isinstance(value, dict)]
    lists = [value for value in values if isinstance(value, list)]
    names = {type(value).__name__ for value in values if not isinstance(value, dict | list)}
    found = {name.replace("NoneType", "null") for name in names}
    if mappings:
        found.add("{" + " ".join(fields(mappings)) + "}")
    if lists:
        found.add("[" + shape(*(value for values in lists for value in values)) + "]")
    return "|".join(sorted(found))


def fields(mappings: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    places: dict[str, list[Any]] = {}
    for mapping in mappings:
        for name, value in mapping.items():
            places.setdefault("*" if name.endswith(".weight") else name, []).append(value)
    for name, values in sorted(places.items()):
        is_always_there = name == "*" or all(name in mapping for mapping in mappings)
        yield f"{name}{'' if is_always_there else '?'}:{shape(*values)}"


def written_out(literal: str) -> str:
    while "$" in literal:
        literal = string.Template(literal).substitute(PARTS)
    return re.sub(r"(?<=[:{[])\s+|\s+(?=[]}])", "", " ".join(literal.split()))


@pytest.fixture(scope="module")
def place(
    tiny_model: Path, text_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A folder to run commands in, with a tiny model, a text and labelled examples."""
    folder = tmp_path_factory.mktemp("frozen")
    shutil.copytree(tiny_model, folder / "model")
    shutil.copy(text_file, folder / "text.txt")
    rows = ({"text": f"{x} is the {y}", "label": y} for y in ("list", "file") for x in "abcdefghij")
    (folder / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with contextlib.chdir(folder):
        yield folder


@pytest.fixture(scope="module")
def printed(place: Path) -> dict[str, Any]:
    """Command → what it prints."""
    return {
        "search --dry-run": json_of(f"search {SMALL} --steps 4 --dry-run"),
        "search": json_of(f"search {SMALL} --steps 4 --eval-every 2 --output-dir run"),
        "magnitude": json_of(f"search {SMALL} --method magnitude --output-dir other"),
        "finetune": json_of(f"finetune {OWN} --ticket run/ticket --output-dir tuned"),
        "evaluate a task": json_of("evaluate tuned/seed-1"),
        "evaluate mlm": json_of("evaluate run/ticket --task mlm --corpus text.txt --blocks 4"),
        "evaluate kd": json_of("evaluate run/ticket --task kd --corpus text.txt --blocks 4"),
        "evaluate --predict": json_of("evaluate tuned/seed-1 --predict own.jsonl"),
        "compare": json_of("compare run/ticket --corpus text.txt --blocks 12 --sequence-length 16"),
        "compare --dry-run": json_of(
            "compare --sparsity 0.5 --methods imp --model model --corpus text.txt "
            "--sequence-length 16 --dry-run"
        ),
        "inspect": json_of("inspect run/ticket"),
        "inspect two": json_of("inspect run/ticket other/ticket"),
        "list": json_of("list"),
        "env": json_of("env"),
        "export": json_of("export run/ticket --output-dir exported"),
        "import": json_of("import exported --model model --output-dir imported"),
    }


@pytest.mark.parametrize("name", PRINTED)
def test_fields_that_a_command_prints(name: str, printed: dict[str, Any]) -> None:
    assert shape(printed[name]) == written_out(PRINTED[name])


@pytest.mark.parametrize("name", KEPT)
def test_fields_of_the_files_of_a_run(name: str, place: Path, printed: dict[str, Any]) -> None:
    file = place / name.replace("compared", printed["compare"]["folder"])
    if file.suffix == ".json":
        assert shape(json.loads(file.read_text())) == written_out(KEPT[name])
    else:
        assert shape(*map(json.loads, file.read_text().splitlines())) == written_out(KEPT[name])


def test_a_report_is_what_compare_prints_and_where_it_was_made(
    place: Path, printed: dict[str, Any]
) -> None:
    folder = place / printed["compare"]["folder"]
    results = json.loads((folder / "results.json").read_text())
    assert shape(results.pop("environment")) == written_out(
        "{cpu:str cuda:str datasets:str $versions}"
    )
    assert shape(results) == shape(printed["compare"])


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        ("run", "config.json identity.json metrics.jsonl result.json ticket"),
        ("run/ticket", "README.md local.json mask.safetensors mlm_head.safetensors ticket.json"),
        ("other", "config.json identity.json result.json ticket"),
        ("tuned", "config.json identity.json result.json seed-1"),
        (
            "tuned/seed-1",
            "config.json metrics.json metrics.jsonl model.safetensors predictions.jsonl "
            "tokenizer.json tokenizer_config.json",
        ),
        (
            "compared",
            "config.json figures identity.json report.html report.md results.csv results.json "
            "results.tex",
        ),
        (
            "exported",
            "config.json model.safetensors pruned.json tokenizer.json tokenizer_config.json",
        ),
        ("imported", "README.md local.json mask.safetensors ticket.json"),
    ],
)
def test_files_of_a_folder(folder: str, names: str, place: Path, printed: dict[str, Any]) -> None:
    path = place / folder.replace("compared", printed["compare"]["folder"])
    assert sorted(file.name for file in path.iterdir() if file.name != ".lock") == names.split()
