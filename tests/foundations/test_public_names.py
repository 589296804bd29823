"""No path of its maker's machine is in what is published, and a ticket still finds its model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import tiny
from command_line import Run, runner
from masks import magnitude_masks
from safetensors.torch import load_file, save_file
from samples import ticket_for

from tamtctl.foundations.config import settings_of
from tamtctl.foundations.errors import ModelError, TicketError, UsageError
from tamtctl.foundations.public_names import (
    LocalPaths,
    public,
    public_model,
    public_search,
    split_base_model,
)
from tamtctl.models.loading import load_encoder
from tamtctl.pruning.config import SearchConfig
from tamtctl.tasks.evaluation.api import evaluate
from tamtctl.tasks.evaluation.config import EvaluateConfig
from tamtctl.ticket.hub.card import as_published, card
from tamtctl.ticket.local_names import packaged_folder
from tamtctl.ticket.ticket import Ticket

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SEARCH = "search --sparsity 0.5 --method magnitude --recipe nano --sequence-length 16".split()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run a command in the folder of a project."""
    (tmp_path / "alice" / "project").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "alice" / "project")
    return runner(monkeypatch, capsys)


@pytest.fixture
def project(run: Run, tiny_model: Path, text_file: Path, tmp_path: Path) -> Path:
    """A project with a model, two texts, and nothing else."""
    folder = tmp_path / "alice" / "project"
    shutil.copytree(tiny_model, folder / "models" / "bert")
    for name in ("mails.txt", "letters.txt"):
        shutil.copy(text_file, folder / name)
    return folder


def published(ticket: Path) -> str:
    """Return all text that a push sends."""
    return (ticket / "ticket.json").read_text() + (ticket / "README.md").read_text()


@pytest.mark.parametrize("written", ["absolute", "relative", "home"])
def test_a_search_publishes_names_only(
    written: str, run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(project))
    start = {"absolute": f"{project}/", "relative": "", "home": "~/"}[written]
    options = ["--model", f"{start}models/bert", "--output-dir", "run"]
    options += ["--corpus", f"{start}mails.txt", "--check-corpus", f"{start}letters.txt"]
    done = run(*SEARCH, *options)
    assert done.code == 0, done.err
    text = published(Path("run/ticket"))
    assert "alice" not in text
    assert "~" not in text
    assert "models/" not in text
    values = json.loads(Path("run/ticket/ticket.json").read_text())
    assert values["base_model"]["id"] == values["search"]["model"] == "bert"
    assert values["search"]["corpus"] == ["mails.txt"]
    assert values["search"]["check_corpus"] == ["letters.txt"]
    # Its maker needs no --model, from wherever.
    monkeypatch.chdir(project.parent)
    done = run(
        "evaluate", project / "run/ticket", "--task", "mlm", "--corpus", project / "mails.txt"
    )
    assert done.code == 0, done.err
    (text_found,) = Ticket.load(project / "run/ticket").texts("corpus")
    assert Path(text_found).samefile(project / "mails.txt")


def test_a_report_names_no_path(run: Run, project: Path) -> None:
    mails = project / "mails.txt"
    mails.write_text(mails.read_text() * 2)  # of which a note tells
    options = ["--model", project / "models/bert", "--corpus", mails]
    assert run(*SEARCH, *options, "--output-dir", project / "run").code == 0
    to = ["--output-dir", project / "report"]
    assert run("compare", project / "run/ticket", "--blocks", "8", *to).code == 0
    note = "of the held-out text of mails.txt is in it more than once"
    assert note in (project / "report" / "report.md").read_text()
    for name in ("report.html", "report.md", "results.csv", "results.json"):
        assert "alice" not in (project / "report" / name).read_text(), name


def test_a_report_of_a_sweep_names_no_path(run: Run, project: Path) -> None:
    rows = [f"the {name} is a {kind},{kind}" for name in "abcdefgh" for kind in ("list", "file")]
    (project / "train.csv").write_text("\n".join(["text,label", *rows, ""]))
    (project / "own.toml").write_text(
        f'sequence-length = 16\ncorpus = ["{project}/mails.txt"]\n'
        f'[imp]\nheld-out = ["{project}/letters.txt"]\n'
    )
    words = "compare --sparsity 0.5 --methods magnitude --blocks 8 --tasks own --task-epochs 1"
    files = ["--recipe", project / "own.toml", "--train", project / "train.csv"]
    to = ["--model", project / "models/bert", "--output-dir", project / "report"]
    done = run(*words.split(), *files, *to)
    assert done.code == 0, done.err
    for name in ("report.html", "report.md", "results.csv", "results.json"):
        assert "alice" not in (project / "report" / name).read_text(), name


def test_a_project_that_is_moved_uses_its_own_model(
    run: Run, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(*SEARCH, "--model", "models/bert", "--corpus", "mails.txt", "-q").code == 0
    monkeypatch.chdir(tmp_path)
    project.rename(tmp_path / "moved")
    (ticket,) = Path("moved").glob("runs/*/ticket")
    assert Ticket.load(ticket).find_base() == ("moved/models/bert", None)
    assert Ticket.load(ticket).texts("corpus") == ("moved/mails.txt",)
    for command in (["evaluate", ticket, "--corpus", "moved/mails.txt"], ["export", ticket]):
        more = ["--output-dir", "out"] if command[0] == "export" else []
        assert run(*command, *more).code == 0
    # A model that is gone is named, and nothing is asked of the Hub.
    shutil.rmtree("moved/models")
    done = run("evaluate", ticket, "--corpus", "moved/mails.txt")
    assert done.code == 1
    assert "a model in a folder called 'bert'" in done.err
    assert "--model" in done.err


def test_other_commands_find_the_model(run: Run, project: Path, tmp_path: Path) -> None:
    run(*SEARCH, "--model", project / "models/bert", "--corpus", "mails.txt", "--output-dir", "run")
    done = run("import", "run/ticket", "--output-dir", "deltas", "--encoding", "delta")
    assert done.code == 0, done.err
    assert Ticket.load("deltas").find_base() == (str(project / "models/bert"), None)
    assert run("inspect", "deltas", "run/ticket").code == 0
    # A ticket that takes the place of another one does not inherit where its model is.
    Ticket.load(packaged_folder() / "nano-0.7").save_pretrained("deltas")
    assert not Path("deltas/local.json").exists()


def test_a_snapshot_of_the_cache_is_a_repository(run: Run, project: Path) -> None:
    snapshot = project / "hub" / "models--acme--bert" / "snapshots" / COMMIT
    snapshot.parent.mkdir(parents=True)
    (project / "models/bert").rename(snapshot)
    options = ["--model", snapshot, "--corpus", "mails.txt", "--output-dir", "run"]
    assert run(*SEARCH, *options).code == 0
    ticket = Ticket.load("run/ticket")
    assert (ticket.base_model.id, ticket.base_model.revision) == ("acme/bert", COMMIT)
    text = published(Path("run/ticket"))
    assert str(project) not in text
    assert "# A ticket of acme/bert at" in text
    assert "base_model: acme/bert" in text
    assert ticket.find_base() == (str(snapshot), None)


@pytest.fixture
def cached(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Hub's cache, in which the project's model is ``acme/bert``."""
    cache = project / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    storage = cache / "models--acme--bert"
    shutil.copytree(project / "models/bert", storage / "snapshots" / COMMIT)
    (storage / "refs").mkdir()
    (storage / "refs" / "main").write_text(COMMIT)
    return cache


def test_a_declared_base_model_is_compared_with_the_cache(
    run: Run, project: Path, cached: Path
) -> None:
    options = [*SEARCH, "--model", "models/bert", "--corpus", "mails.txt"]
    done = run(*options, "--base-model", "acme/bert", "--output-dir", "run")
    assert done.code == 0, done.err
    assert "base model acme/bert at 0123" in done.err
    ticket = Ticket.load("run/ticket")
    assert (ticket.base_model.id, ticket.base_model.revision) == ("acme/bert", COMMIT)
    assert "base_model: acme/bert" in published(Path("run/ticket"))
    # What is not in the cache is not checked, and that is said.
    done = run(*options, "--base-model", "other/bert", "--output-dir", "other")
    assert "not checked" in done.err
    assert Ticket.load("other/ticket").base_model.revision is None
    assert "base_model: other/bert" in published(Path("other/ticket"))
    # What has other weights is refused before anything is written.
    file = cached / "models--acme--bert" / "snapshots" / COMMIT / "model.safetensors"
    save_file({n: t + 1 for n, t in load_file(file).items()}, file, metadata={"format": "pt"})
    done = run(*options, "--base-model", "acme/bert", "--output-dir", "wrong")
    assert done.code == 1
    assert "has other weights" in done.err
    assert not Path("wrong").exists()
    for wrong in ("not an id", "/tmp/bert", "a/b/c"):
        assert run(*options, "--base-model", wrong, "--output-dir", "wrong").code == 2
    done = run(*SEARCH, "--model", "nano", "--corpus", "mails.txt", "--base-model", "acme/bert")
    assert done.code == 2


def test_import_and_push_name_the_base_model(run: Run, project: Path, cached: Path) -> None:
    ticket = ticket_for(project / "models/bert", project / "t")
    done = run("push", ticket, "me/t", "--base-model", "acme/bert", "--dry-run", "--json")
    assert done.code == 0, done.err
    assert "the weights are the same" in json.loads(done.out)["notes"][0]
    export_to = ["--output-dir", "checkpoint"]
    assert run("export", ticket, *export_to).code == 0
    options = ["--model", "models/bert", "--output-dir", "i", "--base-model", "acme/bert"]
    done = run("import", project / "checkpoint", *options)
    assert done.code == 0, done.err
    assert Ticket.load("i").base_model.id == "acme/bert"
    assert Ticket.load("i").search["imported_from"] == "checkpoint"
    done = run("import", ticket, "--output-dir", "named", "--base-model", "acme/bert")
    assert Ticket.load("named").base_model.revision == COMMIT
    assert Ticket.load("named").places.model is not None


def test_an_old_ticket_is_published_without_its_paths(project: Path) -> None:
    """Earlier versions wrote the paths into ``ticket.json``."""
    model = project / "models/bert"
    encoder = load_encoder(str(model), with_head=False)
    new = Ticket.create(
        encoder.weights, magnitude_masks(encoder.weights, 0.5), base_model_id=str(model),
        revision=None, model_type="bert", method="magnitude", target_sparsity=0.5, objective=None,
        search={"model": str(model), "corpus": [str(project / "mails.txt")], "seed": 1}, metrics={},
    )  # fmt: skip
    new.save_pretrained(project / "old")
    document = json.loads((project / "old/ticket.json").read_text())
    document["base_model"]["id"] = document["search"]["model"] = str(model)
    document["search"]["corpus"] = [str(project / "mails.txt")]
    (project / "old/ticket.json").write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    (project / "old/local.json").unlink()
    old = Ticket.load(project / "old")
    assert old.find_base() == (str(model), None)
    assert old.texts("corpus") == (str(project / "mails.txt"),)
    config = EvaluateConfig(
        name=str(project / "old"), task="kd", corpus=(str(project / "mails.txt"),)
    )
    assert evaluate(config).examples
    for text in (card(old, repo="me/t"), as_published(old).to_json({})):
        assert str(project) not in text
    assert as_published(old).search == new.search
    # What names no path is sent as it is.
    assert as_published(packaged := Ticket.from_pretrained("nano-0.7")) is packaged


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nano").mkdir()
    (tmp_path / "runs/search-x/ticket").mkdir(parents=True)
    odd = tmp_path / "a\u00a0b\nc"
    odd.mkdir()
    assert public_model("nano") == ("nano", None)
    assert public_model("org/name") == ("org/name", None)
    assert public_model("/gone/away/bert/") == ("bert", None)
    assert public_model("C:\\models\\bert") == ("bert", None)
    assert public_model(".")[0] == tmp_path.name
    assert public("runs/search-x/ticket") == "search-x"
    assert public("Salesforce/wikitext:raw") == "Salesforce/wikitext:raw"
    assert public("python-docs") == "python-docs"
    assert public_model(str(odd))[0] == "a b c"
    assert split_base_model("org/name@v1") == ("org/name", "v1")
    for wrong in ("", "/x", "a/b/c", "a b", "org/name@", "~x/y"):
        with pytest.raises(UsageError, match="--base-model"):
            split_base_model(wrong)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"fingerprint": "x"}', '{"fingerprint": 1, "texts": 3}', "[" * 10**5, "null"],
)
def test_what_is_no_file_of_ours_is_not_used(content: str, tmp_path: Path) -> None:
    (tmp_path / "local.json").write_text(content)
    assert LocalPaths.read(tmp_path, "f" * 64) == LocalPaths()
    values: dict[str, Any] = {"fingerprint": "f" * 64, "model": ["a"], "texts": {"corpus": 5}}
    (tmp_path / "local.json").write_text(json.dumps(values))
    assert LocalPaths.read(tmp_path, "f" * 64) == LocalPaths()


def test_a_model_of_unknown_place_is_not_sought_on_the_hub(tmp_path: Path) -> None:
    model = tiny.save(tmp_path / "bert", "bert")
    ticket = ticket_for(model, tmp_path / "t")
    shutil.rmtree(model)
    (ticket / "local.json").unlink()
    with pytest.raises(
        ModelError, match="in a folder called 'bert'; give that folder with --model"
    ):
        Ticket.load(ticket).find_base()


MINE = "---\nlicense: cc-by-4.0\nlanguage: de\n---\n\n# Mine\n\nMy words.\n\n---\n\nMore words.\n"


@pytest.mark.parametrize("form", ["plain", "byte-order mark", "CRLF", "both", "spaces"])
def test_a_card_keeps_what_its_owner_wrote(form: str) -> None:
    ticket = Ticket.from_pretrained("nano-0.7")
    old = MINE.replace("\n", "\r\n") if form in ("CRLF", "both") else MINE
    old = old.replace("---", "---  ", 2) if form == "spaces" else old
    old = "\ufeff" + old if form in ("byte-order mark", "both") else old
    new = card(ticket, repo="me/x", existing=old)
    assert new == card(ticket, repo="me/x", existing=MINE)
    _, head, body = new.split("---\n", 2)
    assert "cc-by-4.0" in head
    assert "license:" not in body
    assert "# Mine\n\nMy words.\n\n---\n\nMore words." in body
    assert card(ticket, repo="me/x", existing=new) == new  # the same again is the same
    assert card(ticket, repo="me/x", existing=new.replace("\n", "\r\n")) == new


def test_a_card_whose_marks_are_lost_loses_no_words() -> None:
    ticket = Ticket.from_pretrained("nano-0.7")
    new = card(ticket, repo="me/x", existing=MINE)
    begin, end = (f"<!-- {what}" for what in ("Generated by tamtctl", "end of what tamtctl writes"))
    without_end = "\n".join(line for line in new.splitlines() if not line.startswith(end))
    assert card(ticket, repo="me/x", existing=without_end) == new
    without_begin = "\n".join(line for line in new.splitlines() if not line.startswith(begin))
    for lost in (
        without_begin,
        without_end.replace("year", "jahr"),
        new + new.split("---\n", 2)[2],
    ):
        with pytest.raises(TicketError, match="what tamtctl wrote and what is yours"):
            card(ticket, repo="me/x", existing=lost)
    with pytest.raises(TicketError, match="no second one"):
        card(ticket, repo="me/x", existing="---\nlicense: mit\n\n# Mine\n")


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, one in settings_of(SearchConfig).items()
        if one.kind.one == "str" and (one.facts.is_open or not one.facts.choices)
        # A column, an id on the Hub, and names of rows, which are checked to be such.
        if name not in ("text_column", "base_model", "method", "pattern")
    ],
)
def test_no_setting_of_a_search_publishes_a_path(name: str, tmp_path: Path) -> None:
    path = str(tmp_path / "mine")
    value = [path] if settings_of(SearchConfig)[name].kind.is_several else path
    assert str(tmp_path) not in json.dumps(public_search({name: value}))
