"""The commands run on a simulated GPU, and on a real one that is here; no tensor is left behind."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

import processes
import pytest
import simulated_gpu
import tiny
import torch
from command_line import Outcome
from processes import run_script
from samples import examples_file, squad_folder, ticket_for
from sentence_models import sentence_model, similar_pairs
from small_search import RECIPE
from small_tasks import sst2_folder

from tamtctl.pruning.criteria.table import CRITERIA
from tamtctl.ticket.ticket import Ticket

pytestmark = pytest.mark.usefixtures("working_folder")

ON_GPU, ON_CPU = ("--device", "cuda", "--precision", "fp32"), ("--device", "cpu")
SHARE_OF_ROUNDING = 0.01  # of the mask; a real GPU adds in another order
Run = Callable[..., None]
Prepare = Callable[[], object]
# Scores in nats move by 0.05 in a step, so that four of them change every kind of mask.
SHORT = f"""calibration-tokens = 256
dropout = false{RECIPE}[tamt]
steps = 4
init-scores = "nats"
learning-rate = 0.05
"""


@pytest.mark.parametrize(
    "refused",
    [
        "gpu + cpu",
        "cpu + gpu",
        "cpu.add_(gpu)",
        "torch.stack([gpu.sum(), cpu.sum()])",
        "torch.nn.functional.embedding(cpu.long(), gpu.view(1, -1))",
        "gpu.numpy()",
        "numpy.asarray(gpu)",
        "gpu.uniform_(generator=torch.Generator())",
        "torch.randint(2, (3,), generator=torch.Generator(), device='cuda')",
        "torch.rand(3, generator=torch.Generator('cuda'))",
    ],
)
def test_what_a_gpu_refuses_is_refused(refused: str) -> None:
    code = f"""
import numpy, torch, simulated_gpu
simulated_gpu.install()
cpu = torch.zeros(3)
gpu = cpu.to("cuda")
assert (gpu + cpu.sum()).device == gpu[cpu.long()].device == simulated_gpu.GPU
assert (gpu.cpu() + cpu).numpy().sum() == 0
try:
    {refused}
except (RuntimeError, TypeError) as error:
    assert str(error).startswith("simulated GPU: "), error
else:
    raise AssertionError("it is not refused")
"""
    done = run_script(code, environment=os.environ)
    assert not done.returncode, done.stderr


@pytest.fixture(params=["simulated", pytest.param("real", marks=pytest.mark.gpu)])
def prepare(request: pytest.FixtureRequest) -> Prepare:
    """What a process does before it has a GPU: it simulates one, or nothing, if one is here."""
    if request.param == "simulated":
        return simulated_gpu.install
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device is here")
    return processes.nothing


@pytest.fixture
def run_there(prepare: Prepare) -> Run:
    """A function that runs ``tamtctl`` with its arguments in a process with a GPU."""

    def run(*arguments: object) -> None:
        process = processes.start(arguments, Path(), before=prepare)
        process.join()
        assert process.exitcode == 0, f"{arguments}: {Path('err').read_text()}"

    return run


@pytest.fixture(scope="session")
def sentence_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of sentence-transformers, whose embeddings are means."""
    folder = tmp_path_factory.mktemp("models") / "sentences"
    return sentence_model(folder, {"pooling_mode_mean_tokens": True})


@pytest.fixture
def searching(working_folder: None, text_file: Path) -> tuple[object, ...]:
    """The command line of a search of two steps, but for its model."""
    Path("tiny.toml").write_text(SHORT)
    lines = text_file.read_text().splitlines()[:50]
    Path("few.txt").write_text("\n".join(lines))
    return "search", "--corpus", "few.txt", "--recipe", "tiny.toml", "--sparsity", "0.5"


@pytest.mark.parametrize(
    "options",
    [
        *(f"--method {name}" for name, row in CRITERIA.items() if row.needs_text),
        "--method obs*fisher",
        "--method fisher --allocation global",
        "--method wanda --allocation by-type",
        "--method obs --pattern 2:4",
        "--method taylor --pattern block:4x4",
        "--method taylor --pattern neurons",
        "--method fisher --pattern heads",
        "--objective mlm --keep-scores --eval-every 1 --patience 1",
        "--objective kd --pattern 2:4",
        "--objective mlm+kd --pattern neurons --init fisher --learning-rate 0.5",
        "--objective embedding --pattern block:4x4",
        "--objective similarity --micro-batch-size 2",
        "--method imp",
        "--method imp --pattern heads",
    ],
)
def test_a_search_finds_the_mask_that_it_finds_on_the_cpu(
    options: str,
    searching: tuple[object, ...],
    tiny_model: Path,
    sentence_encoder: Path,
    prepare: Prepare,
    run_there: Run,
    run: Callable[..., Outcome],
) -> None:
    of_sentences = "embedding" in options or "similarity" in options
    model = sentence_encoder if of_sentences else tiny_model
    command = (*searching, "--model", model, *options.split())
    run_there(*command, *ON_GPU, "--output-dir", "there")
    done = run(*command, *ON_CPU, "--output-dir", "here")
    assert done.code == 0, done.err
    there, here = (Ticket.load(Path(name, "ticket")) for name in ("there", "here"))
    pairs = [(there.mask(name), here.mask(name)) for name in here.masks]
    differing = sum(int((one != other).sum()) for one, other in pairs)
    is_trained = "--method" not in options or options == "--method imp"
    most = 0 if prepare is simulated_gpu.install else SHARE_OF_ROUNDING
    assert differing <= most * sum(one.numel() for one, _ in pairs)
    flips = [ticket.metrics.get("flips", 0) for ticket in (there, here)]
    assert abs(flips[0] - flips[1]) <= most
    assert flips[1] > most or not is_trained


def test_a_search_in_bf16_that_is_interrupted_goes_on(
    searching: tuple[object, ...], tiny_model: Path, prepare: Prepare, run_there: Run
) -> None:
    command = (
        *searching, "--model", tiny_model, "--device", "cuda", "--output-dir", "run",
        "--steps", "20", "--checkpoint-every", "2",
    )  # fmt: skip
    process = processes.start(command, Path(), before=prepare)
    while process.is_alive() and not list(Path("run").glob("checkpoints/step-*")):
        process.join(0.01)
    assert process.is_alive(), Path("err").read_text()
    assert process.pid
    os.kill(process.pid, signal.SIGINT)
    process.join()
    assert process.exitcode == 130
    run_there(*command)
    told = Path("err").read_text()
    assert "going on from step" in told
    is_slow = "the GPU's kernels do not work here, and a step is up to three times slower: " in told
    assert is_slow == (prepare is simulated_gpu.install)
    assert Path("run", "ticket").is_dir()


@pytest.fixture
def task_files(working_folder: None) -> None:
    """Small files of every kind of task, for fine-tuning and evaluating."""
    examples_file(Path("classes.jsonl"), 12)
    texts = [f"the {word} of a file" for word in tiny.WORDS[:8]]
    write_rows("numbers.jsonl", ({"text": t, "label": i / 2} for i, t in enumerate(texts)))
    words, tags = ["the", "list", "of", "a", "file"], ["O", "B-L", "O", "O", "B-F"]
    write_rows("tags.jsonl", ({"text": words, "label": tags} for _ in texts))
    squad_folder(Path("squad"))
    write_rows("queries.jsonl", ({"_id": f"q{i}", "text": t} for i, t in enumerate(texts)))
    write_rows("passages.jsonl", ({"_id": f"p{i}", "text": t} for i, t in enumerate(texts)))
    relevant = (f"q{i}\tp{i}\t1\n" for i in range(len(texts)))
    Path("relevant.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(relevant))
    similar_pairs()


def write_rows(name: str, rows: Iterable[dict[str, object]]) -> None:
    Path(name).write_text("\n".join(map(json.dumps, rows)))


def own(name: str, kind: str) -> str:
    return f"own --train {name}.jsonl --dev {name}.jsonl --label-kind {kind}"


@pytest.mark.usefixtures("task_files")
@pytest.mark.parametrize(
    ("task", "data"),
    [
        (own("classes", "classification") + " --find-learning-rate", ""),
        (own("numbers", "regression") + " --learning-rate 1e-2", ""),
        (own("tags", "token-classification") + " --learning-rate 1e-2", ""),
        ("squad --learning-rate 1e-2", "--data-dir squad"),
    ],
)
def test_a_ticket_is_fine_tuned_and_evaluated(
    task: str, data: str, bare_bert: Path, run_there: Run
) -> None:
    ticket = ticket_for(bare_bert, Path("mine").absolute())
    options = ("--epochs", "1", "--batch-size", "4", "--seeds", "1", "--output-dir", "run")
    run_there("finetune", *task.split(), *data.split(), "--ticket", ticket, *options, *ON_GPU)
    run_there("evaluate", "run/seed-1", *data.split(), *ON_GPU)


@pytest.mark.usefixtures("task_files")
@pytest.mark.parametrize(
    "task",
    [
        "mlm --corpus {text} --blocks 4 --sequence-length 16",
        "stsb-zero-shot --data-dir .",
        "retrieval --queries queries.jsonl --passages passages.jsonl --relevant relevant.tsv",
    ],
)
def test_a_ticket_is_evaluated_without_training(
    task: str, tiny_model: Path, text_file: Path, run_there: Run
) -> None:
    ticket = ticket_for(tiny_model, Path("mine").absolute())
    run_there("evaluate", ticket, "--task", *task.format(text=text_file).split(), *ON_GPU)


def test_a_ticket_recovers(tiny_model: Path, text_file: Path, run_there: Run) -> None:
    ticket = ticket_for(tiny_model, Path("mine").absolute())
    run_there(
        "recover", ticket, "--corpus", text_file, "--objective", "mlm+kd", "--steps", "2",
        "--batch-size", "2", "--sequence-length", "16", *ON_GPU,
    )  # fmt: skip


def test_tickets_are_compared(
    searching: tuple[object, ...], tiny_model: Path, run_there: Run
) -> None:
    sst2_folder(Path("SST-2"), train=8, dev=4)
    run_there(
        "compare", *searching[1:], "--model", tiny_model, "--methods", "tamt-mlm,magnitude",
        "--tasks", "sst2", "--data-dir", "SST-2", "--task-epochs", "1", "--task-seeds", "1",
        "--task-learning-rate", "1e-2", *ON_GPU,
    )  # fmt: skip
