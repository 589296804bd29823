"""Licences are true: of the wheel, of cards, and said before a ticket is published."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import tiny
import yaml
from command_line import Run
from huggingface_hub import constants
from small_tickets import make_ticket, small_ticket

from tamtctl.foundations.errors import UsageError
from tamtctl.models.files import nano_path
from tamtctl.models.licences import known_licence, licence_of
from tamtctl.models.loading import load_encoder
from tamtctl.ticket.exporting.card import copy_card
from tamtctl.ticket.exporting.checkpoint import write_checkpoint
from tamtctl.ticket.sharing import push
from tamtctl.ticket.ticket import Ticket

ROOT = Path(__file__).parents[2]
NANO = "cc-by-sa-4.0"


def metadata_of(card: str) -> dict[str, object]:
    told: dict[str, object] = yaml.safe_load(card.split("---")[1])
    return told


def test_the_package_says_both_licences_and_holds_both_texts() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0 AND CC-BY-SA-4.0"
    texts = [(ROOT / file).read_text() for file in project["license-files"]]
    assert "Apache License" in texts[0]
    assert "Attribution-ShareAlike 4.0 International" in texts[1]
    assert licence_of("nano") == NANO
    assert (nano_path() / "LICENSE").is_file()


def test_the_citation_names_the_version_and_the_paper() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert cited["cff-version"] == "1.2.0"
    assert cited["version"] == project["version"]
    assert cited["message"]
    assert cited["authors"]
    (paper,) = cited["references"]
    assert paper["authors"][0] == {"family-names": "Liu", "given-names": "Yuanxin"}
    assert paper["url"] in (ROOT / "README.md").read_text()
    assert set(cited["license"]) == set(project["license"].split(" AND "))


@pytest.mark.parametrize(
    ("card", "told"),
    [
        ("---\nlicense: mit\n---\n", "mit"),
        ("\ufeff---\r\ntags: [x]\r\nlicense: 'Apache-2.0'\r\n---\r\n", "apache-2.0"),
        ("---\nlicense: other\n---\n", None),
        ("---\nlicense: unknown\n---\n", None),
        ("---\ntags: [x]\n---\nlicense: mit\n", None),
        ("license: mit\n", None),
        ("---\nlicense: [mit, gpl]\n---\n", None),
        ("---\nlicense: <script>\n---\n", None),
        ("", None),
    ],
)
def test_a_card_says_a_licence_in_its_metadata(card: str, told: str | None, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(card)
    assert licence_of(str(tmp_path)) == told


def test_no_link_of_a_strangers_model_is_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("---\nlicense: mit\n---\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "README.md").symlink_to(tmp_path / "secret")
    assert licence_of(str(tmp_path / "model")) is None
    assert licence_of("no/such-model") is None
    assert licence_of("no name/at all/") is None


def test_a_licence_of_the_hub_is_a_plain_name() -> None:
    assert known_licence("MIT") == "mit"
    for told in (None, ["mit"], "a\nb", "x" * 100, "other", ""):
        assert known_licence(told) is None


def test_a_card_says_the_licence_of_its_ticket(tmp_path: Path) -> None:
    small_ticket().save_pretrained(tmp_path / "nano")
    card = (tmp_path / "nano" / "README.md").read_text()
    assert metadata_of(card)["license"] == NANO
    assert f"The base model `nano` is under `{NANO}`" in card
    assert f"This ticket is under `{NANO}`." in card
    for packaged in (ROOT / "tickets").glob("*/README.md"):
        assert metadata_of(packaged.read_text())["license"] == NANO


@pytest.fixture
def ticket(tmp_path: Path) -> Path:
    """A ticket of a model that says no licence."""
    model = tiny.save(tmp_path / "model", "bert")
    weights = load_encoder(str(model), with_head=False).weights
    made: Ticket = make_ticket(weights, base_model_id=str(model))
    made.save_pretrained(tmp_path / "ticket")
    return tmp_path / "ticket"


def test_push_warns_where_the_licence_is_not_known(
    ticket: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    card = (ticket / "README.md").read_text()
    assert "license" not in metadata_of(card)
    assert "was not known where this was written" in card
    (note,) = push(ticket, "me/ticket", dry_run=True).notes
    assert "the licence of model, which the ticket is a part of, is not known here" in note
    assert "--license" in note
    (note,) = push(ticket, "me/ticket", license="mit", dry_run=True).notes
    assert push(ticket, "me/ticket", license_id="mit", dry_run=True).notes == (note,)  # as before
    with pytest.raises(UsageError, match="license and license_id are one setting"):
        push(ticket, "me/ticket", license="mit", license_id="mit", dry_run=True)
    assert "see that mit goes with it" in note
    done = run("push", ticket, "me/ticket", "--dry-run")
    assert done.code == 0
    assert "note    the licence of model" in done.err
    # Once the model says its licence there is nothing to warn of.
    (tmp_path / "model" / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    assert not push(ticket, "me/ticket", dry_run=True).notes
    assert not push("nano-0.7", "me/ticket", dry_run=True).notes


def test_an_export_says_the_licence_of_the_weights_that_it_holds(
    ticket: Path, tmp_path: Path
) -> None:
    assert not (write_checkpoint(ticket, tmp_path / "untold").path / "README.md").exists()
    (tmp_path / "model" / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    exported = write_checkpoint(ticket, tmp_path / "exported").path
    card = (exported / "README.md").read_text()
    assert "The weights are those of `model`, pruned" in card
    trained = write_checkpoint(ticket, tmp_path / "trained", weights={}).path
    assert "trained on from those of `model`" in (trained / "README.md").read_text()
    assert metadata_of(card) == {"license": "mit", "library_name": "transformers"}
    assert "under the licence of that model, `mit`" in card
    assert str(tmp_path) not in card
    (tmp_path / "graph").mkdir()
    copy_card(exported, tmp_path / "graph")
    assert licence_of(str(tmp_path / "graph")) == "mit"
    copy_card(tmp_path / "untold", tmp_path)
    assert not (tmp_path / "README.md").exists()
