"""Push and pull against a loopback Hub, with the unmodified client of huggingface_hub."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_commands import COMMANDS
from hub_server import READ_TOKEN, SENT_AS_IS, TOKEN, Fault, Hub, ask, running_hub
from huggingface_hub import RepoCard, close_session, constants
from masks import magnitude_masks
from small_tickets import rewrite_json, small_ticket

from tamtctl.foundations.errors import HubError, TamtctlError, TicketError, UsageError
from tamtctl.models.encoder import maskable_matrices
from tamtctl.models.loading import load_encoder
from tamtctl.ticket.finding import resolve_ticket
from tamtctl.ticket.hub.cache import pulled_tickets
from tamtctl.ticket.hub.catalogue import published_tickets
from tamtctl.ticket.hub.pulling import PullResult, pull
from tamtctl.ticket.sharing import push
from tamtctl.ticket.ticket import Ticket


@pytest.fixture(autouse=True, scope="module")
def direct_client() -> Iterator[None]:
    """Let the client, which lives as long as the process, go through no proxy."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            patch.delenv(name)
        close_session()
        yield
        close_session()


@pytest.fixture(params=["lfs", "regular"])
def hub(
    request: pytest.FixtureRequest, fresh_client: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hub]:
    """A Hub that stores masks as large files, or as regular ones with xet left on."""
    with running_hub(lfs=request.param == "lfs") as server:
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", request.param == "lfs")
        ask(server.url, monkeypatch)
        yield server


@pytest.fixture
def regular_hub(fresh_client: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """One of them, for what does not depend on how files are stored."""
    with running_hub(lfs=False) as server:
        ask(server.url, monkeypatch)
        yield server


@pytest.fixture
def fresh_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Online, logged out, with a cache of its own, and waiting fifty times as fast."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "tokens"))
    real_sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: real_sleep(seconds / 50))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small_ticket(mlm_head={"cls.dense.weight": torch.ones(3, 3)}).save_pretrained(tmp_path / "t")
    return tmp_path / "t"


def published(hub: Hub, folder: Path, **options: Any) -> dict[str, bytes]:
    """Put a ticket on the Hub without any push."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    hub.add("org/name", files, **options)
    return hub.files("org/name")


def cached_files(tmp_path: Path) -> list[str]:
    """Return the names under which the cache shows files."""
    return sorted(p.name for p in (tmp_path / "hub-cache").glob("models--*/snapshots/*/*"))


def same_bytes(a: Path, b: Path) -> bool:
    return all((a / name).read_bytes() == (b / name).read_bytes() for name in SENT_AS_IS)


def fails(call: Callable[[], Any], message: str, error: type[TamtctlError] = HubError) -> None:
    with pytest.raises(error, match=message) as raised:
        call()
    line = str(raised.value)
    assert line.isprintable(), line
    assert TOKEN not in line


# --- there and back -----------------------------------------------------------------------------


def test_round_trip(hub: Hub, folder: Path, tmp_path: Path) -> None:
    first = push(folder, "org/name", token=TOKEN)
    assert first.changed
    assert first.url == f"{hub.url}/org/name"
    assert hub.repos["org/name"].branches["main"] == first.commit
    assert ("PUT" in " ".join(hub.requests)) == hub.lfs

    again = push(folder, "org/name", token=TOKEN)
    assert not again.changed
    assert again.commit == first.commit
    assert len(hub.repos["org/name"].commits) == 2  # the empty one and ours

    pulled = pull("org/name")
    assert pulled.commit == first.commit
    assert same_bytes(folder, pulled.path)
    assert pulled_tickets() == {"org/name": pulled.path}
    assert pulled.path.is_relative_to(tmp_path / "hub-cache")

    copied = pull("org/name", local_dir=tmp_path / "copy")
    assert copied.path == tmp_path / "copy"
    assert sorted(p.name for p in copied.path.iterdir()) == sorted([*SENT_AS_IS, "README.md"])
    assert all(p.is_file() and not p.is_symlink() for p in copied.path.iterdir())
    assert same_bytes(folder, copied.path)

    assert resolve_ticket("org/name").kind == "hub"
    assert Ticket.from_pretrained("org/name").metrics == Ticket.load(folder).metrics


def test_a_changed_ticket_makes_one_commit(hub: Hub, folder: Path) -> None:
    push(folder, "org/name", token=TOKEN)
    small_ticket(method="random", objective=None).save_pretrained(folder)
    second = push(folder, "org/name", token=TOKEN, commit_message="Without a head")
    assert second.changed
    assert hub.repos["org/name"].messages[-1] == "Without a head"
    assert sorted(hub.files("org/name")) == ["README.md", "mask.safetensors", "ticket.json"]
    assert Ticket.from_pretrained("org/name").method == "random"


def test_other_files_of_the_repository_stay(regular_hub: Hub, folder: Path) -> None:
    regular_hub.add("org/name", {"notes.txt": b"mine", ".gitattributes": b""})
    push(folder, "org/name", token=TOKEN)
    assert regular_hub.files("org/name")["notes.txt"] == b"mine"


def test_from_python(regular_hub: Hub) -> None:
    ticket = small_ticket(metrics={"seed": 3})
    assert ticket.push_to_hub("org/name", token=TOKEN, private=True).changed
    assert regular_hub.repos["org/name"].private
    assert Ticket.from_pretrained("org/name", token=READ_TOKEN).metrics == {"seed": 3}


def test_another_encoding_on_the_hub(regular_hub: Hub, tmp_path: Path) -> None:
    """Pushed as a difference to the magnitude masks, and applied to the model it belongs to."""
    encoder = load_encoder("nano", with_head=False)
    weights = {name: weight.clone() for name, weight in encoder.weights.items()}
    masks = magnitude_masks(encoder.weights, 0.7)
    ticket = Ticket.create(
        encoder.weights, masks, base_model_id="nano", revision=None, model_type="bert",
        target_sparsity=0.7, method="magnitude", objective=None, search={}, metrics={},
    )  # fmt: skip
    ticket.save_pretrained(tmp_path / "bits")
    pushed = push(tmp_path / "bits", "org/name", token=TOKEN, encoding="delta")
    assert pushed.files["mask.safetensors"] < ticket.stored_bytes / 10
    pulled = Ticket.from_pretrained("org/name")
    assert pulled.encoding == "delta"
    model = encoder.base
    pulled.apply(model)
    for name, parameter in maskable_matrices(model).items():
        if name in masks:
            expected = torch.where(masks[name], weights[name], torch.zeros(()))
            assert torch.equal(parameter, expected)
    fails(
        lambda: push(tmp_path / "bits", "org/name", token=TOKEN, encoding="delt"),
        "did you mean delta",
        UsageError,
    )


def test_branches_tags_and_commits(regular_hub: Hub, folder: Path) -> None:
    main = push(folder, "org/name", token=TOKEN)
    small_ticket(method="random").save_pretrained(folder)
    branch = push(folder, "org/name", token=TOKEN, revision="exp/second")
    assert regular_hub.repos["org/name"].branches["main"] == main.commit
    assert Ticket.from_pretrained("org/name").method == "tamt"
    assert Ticket.from_pretrained("org/name@exp/second").method == "random"
    assert pull("org/name", revision=main.commit).commit == main.commit
    assert set(pulled_tickets()) == {"org/name", "org/name@exp/second"}
    assert pull("org/name", revision=branch.commit).commit == branch.commit


def test_what_is_pushed_to_a_branch_names_the_branch(regular_hub: Hub, folder: Path) -> None:
    """Else card and advice lead to another ticket of the same model."""
    main, branch = (
        push(folder, "org/name", token=TOKEN, revision=revision)
        for revision in ("main", "exp/second")
    )
    assert main.pull_command == "tamtctl pull org/name"
    assert branch.pull_command == "tamtctl pull org/name --revision exp/second"
    cards = {
        name: regular_hub.files("org/name", name)["README.md"].decode()
        for name in ("main", "exp/second")
    }
    assert cards["main"].count("org/name@") == 0
    assert cards["exp/second"].count("org/name@exp/second") == 4
    assert branch.pull_command in cards["exp/second"]


def test_pull_request(regular_hub: Hub, folder: Path) -> None:
    published(regular_hub, folder)
    small_ticket(method="random").save_pretrained(folder)
    proposed = push(folder, "org/name", token=READ_TOKEN, create_pr=True)
    assert proposed.url == f"{regular_hub.url}/org/name/discussions/1"
    assert Ticket.from_pretrained("org/name").method == "tamt"
    assert proposed.pull_command == "tamtctl pull org/name --revision refs/pr/1"
    assert Ticket.from_pretrained(f"org/name@{proposed.branch}").method == "random"
    fails(
        lambda: push(folder, "org/name", token=TOKEN, create_pr=True, revision="dev"),
        "leave --revision out",
        UsageError,
    )


def test_dry_runs_send_and_fetch_nothing(regular_hub: Hub, folder: Path, tmp_path: Path) -> None:
    planned = push(folder, "org/name", dry_run=True)
    assert regular_hub.requests == []
    assert planned.files["mask.safetensors"] == (folder / "mask.safetensors").stat().st_size
    assert push(folder, "org/name", token=TOKEN).files == planned.files
    announced = pull("org/name", dry_run=True)
    assert announced.files == planned.files
    assert not any("resolve" in request for request in regular_hub.requests)
    assert cached_files(tmp_path) == []


def test_a_damaged_ticket_is_not_pushed(regular_hub: Hub, folder: Path) -> None:
    (folder / "mask.safetensors").write_bytes(b"")
    fails(lambda: push(folder, "org/name", token=TOKEN), "is damaged", TicketError)
    assert regular_hub.requests == []


def test_only_files_of_the_format_are_fetched(regular_hub: Hub, folder: Path) -> None:
    files = published(regular_hub, folder)
    files |= {"pytorch_model.bin": b"\x80\x04", "code.py": b"", "a/ticket.json": b"{}"}
    pull("org/name")
    fetched = {r.split("/")[-1] for r in regular_hub.requests if "resolve" in r}
    assert fetched == {*SENT_AS_IS, "README.md"}
    before = len([r for r in regular_hub.requests if r.startswith("GET /org")])
    pull("org/name")  # nothing new, nothing fetched
    assert len([r for r in regular_hub.requests if r.startswith("GET /org")]) == before
    pull("org/name", force_download=True)
    assert len([r for r in regular_hub.requests if r.startswith("GET /org")]) == 2 * before


def test_the_commit_is_pinned(regular_hub: Hub, folder: Path) -> None:
    """What is pushed while a pull runs does not mix with it."""
    published(regular_hub, folder)
    first = regular_hub.repos["org/name"].branches["main"]
    pull("org/name")
    assert {r.split("/")[4] for r in regular_hub.requests if "resolve" in r} == {first}


def test_listing(regular_hub: Hub, folder: Path) -> None:
    push(folder, "org/name", token=TOKEN)
    small_ticket(base_model_id="org/bert", revision="c0ffee").push_to_hub("org/b", token=TOKEN)
    regular_hub.add("org/other", {"README.md": b"---\ntags: [x]\n---\n"})
    found = {one.repo: one.base_model for one in published_tickets()}
    assert found == {"org/name": "-", "org/b": "org/bert"}


# --- the card -----------------------------------------------------------------------------------


def metadata_of(card: str) -> dict[str, Any]:
    data: Any = RepoCard(card).data
    return dict(data.to_dict())


def test_the_card_says_how_a_ticket_was_found(tmp_path: Path) -> None:
    def card(**metadata: Any) -> str:
        small_ticket(**metadata).save_pretrained(folder := tmp_path / str(len(metadata)))
        return (folder / "README.md").read_text()

    assert "found by `tamt`, objective `mlm`, on unlabelled text" in card()
    one_shot = card(method="magnitude", metrics={"steps": 0})
    assert "found by `magnitude`, without training" in one_shot
    imported = card(method="imported", objective=None, search={"imported_from": "x"})
    assert "how that found it is not recorded" in imported
    for text in (one_shot, imported):
        assert "on unlabelled text" not in text


def test_own_text_and_metadata_survive(regular_hub: Hub, folder: Path) -> None:
    push(folder, "org/name", token=TOKEN, license_id="mit")
    files = regular_hub.files("org/name")
    card = files["README.md"].decode()
    card = card.replace("license: mit", "license: mit\nlanguage: en")
    card = card.replace("- pruning\n", "- pruning\n- favourite\n")
    above, below = "Read this first — ä", "Trained on a rainy day."
    card = card.replace("---\n\n<!--", f"---\n\n{above}\n\n<!--") + f"\n{below}\n"
    files["README.md"] = card.encode()
    small_ticket(method="random", objective=None).save_pretrained(folder)
    assert push(folder, "org/name", token=TOKEN).changed
    new = regular_hub.files("org/name")["README.md"].decode()
    data = metadata_of(new)
    assert (data["license"], data["language"]) == ("mit", "en")
    assert "favourite" in data["tags"]
    assert "random" in data["tags"]
    assert "tamt" not in data["tags"]
    assert new.index(above) < new.index("It was found by `random`") < new.index(below)
    assert not push(folder, "org/name", token=TOKEN).changed

    local = folder / "README.md"
    local.write_text(local.read_text() + "\nAnother text.\n")
    second = push(folder, "org/name", token=TOKEN)
    assert not second.changed
    assert "kept the text" in second.notes[0]


def test_text_in_the_local_card_is_published(regular_hub: Hub, folder: Path) -> None:
    local = folder / "README.md"
    local.write_text(local.read_text() + "\nMy notes.\n")
    push(folder, "org/name", token=TOKEN)
    assert regular_hub.files("org/name")["README.md"].decode().rstrip().endswith("My notes.")


def test_a_card_by_somebody_else_stays_below_ours(regular_hub: Hub, folder: Path) -> None:
    regular_hub.add("org/name", {"README.md": b"---\nlicense: gpl-3.0\n---\n# My model\n"})
    push(folder, "org/name", token=TOKEN)
    card = regular_hub.files("org/name")["README.md"].decode()
    assert "license: gpl-3.0" in card
    assert card.rstrip().endswith("# My model")


@pytest.mark.parametrize("base", ["nano", "/home/me/models/my bert", "../bert", "bert"])
def test_a_base_model_off_the_hub_passes_its_validation(
    regular_hub: Hub, tmp_path: Path, base: str
) -> None:
    small_ticket(base_model_id=base).save_pretrained(tmp_path / "local")
    assert push(tmp_path / "local", "org/name", token=TOKEN).changed
    card = regular_hub.files("org/name")["README.md"].decode()
    assert "base_model" not in metadata_of(card)
    assert "/home/me" not in card


def test_what_the_hub_says_against_a_card(regular_hub: Hub, folder: Path) -> None:
    fails(
        lambda: push(folder, "org/name", token=TOKEN, license_id="nonsense"),
        'does not accept the card: .*"license" must be one of',
    )
    regular_hub.files("org/name")["README.md"] = b"---\n: [\n---\n"
    fails(
        lambda: push(folder, "org/name", token=TOKEN),
        "metadata of the existing README.md cannot be read",
        TicketError,
    )


# --- what can go wrong on the way ---------------------------------------------------------------


def test_private_repositories(hub: Hub, folder: Path, tmp_path: Path) -> None:
    published(hub, folder, private=True)
    fails(lambda: pull("org/name"), "or it is private; .* hf auth login")
    assert cached_files(tmp_path) == []
    pull("org/name", token=READ_TOKEN)
    # With the ticket in the cache, the client's own snapshot_download would return it.
    fails(lambda: pull("org/name"), "or it is private")
    fails(lambda: pull("org/name", token="hf_wrong"), "does not accept the token")
    fails(lambda: Ticket.from_pretrained("org/name"), "or it is private")


def test_a_public_repository_does_not_become_private(regular_hub: Hub, folder: Path) -> None:
    push(folder, "org/name", token=TOKEN)
    fails(lambda: push(folder, "org/name", token=TOKEN, private=True), "exists and is public")


def test_what_is_not_there(regular_hub: Hub, folder: Path, tmp_path: Path) -> None:
    published(regular_hub, folder)
    fails(lambda: pull("org/nothing"), "there is no org/nothing on the Hub")
    fails(lambda: pull("org/nothing", token=TOKEN), "that this token can see")
    fails(lambda: pull("org/name", revision="v2"), "org/name has no revision 'v2'")
    for name in ("ticket.json", "mask.safetensors"):
        del published(regular_hub, folder)[name]
        fails(lambda: pull("org/name"), f"is no ticket: it has no {name}", TicketError)
    del published(regular_hub, folder)["mlm_head.safetensors"]
    fails(lambda: pull("org/name"), "lists mlm_head.safetensors, which is not there", TicketError)
    assert cached_files(tmp_path) == []
    published(regular_hub, folder, gated=True)
    fails(lambda: pull("org/name"), "is gated; ask for access")


def test_a_file_that_vanishes(regular_hub: Hub, folder: Path) -> None:
    published(regular_hub, folder)
    gone = Fault(".* /org/name/resolve/.*mask.*", 404, headers={"X-Error-Code": "EntryNotFound"})
    regular_hub.faults.append(gone)
    fails(lambda: pull("org/name"), "lacks a file that it lists")


def test_tokens(regular_hub: Hub, folder: Path) -> None:
    fails(lambda: push(folder, "org/name"), "needs a token; run hf auth login")
    fails(lambda: push(folder, "org/name", token="hf_wrong"), "does not accept the token")
    fails(lambda: push(folder, "org/name", token=READ_TOKEN), "you may not create")
    published(regular_hub, folder)
    fails(lambda: push(folder, "org/name", token=READ_TOKEN), "use one that can write")
    for odd in ("hf_\n", "hf tok", "hf_ü", "hf_\x00"):
        with pytest.raises(UsageError, match="no token has") as raised:
            push(folder, "org/name", token=odd)
        assert odd not in str(raised.value)


def test_names(regular_hub: Hub, folder: Path) -> None:
    for name in ("name", "a/b/c", "org/..", "org/na me", "-/x", "org/a--b"):
        fails(lambda: push(folder, name, token=TOKEN), "give one like org/name", UsageError)  # noqa: B023
        fails(lambda: pull(name), "give one like org/name", UsageError)  # noqa: B023
    for revision in ("../x", "a b", "/etc", "a//b", "a/../b", ""):
        fails(lambda: pull("org/name", revision=revision), "no branch", UsageError)  # noqa: B023
    assert regular_hub.requests == []


BUSY = {
    "500 once": (Fault("GET /api/models/.*", 500, times=1), None),
    "503 for good": (Fault("GET /api/models/.*", 503), "status 503"),
    "429 once": (Fault("GET /api/.*", 429, times=1, headers={"Retry-After": "2"}), None),
    "429 for good": (Fault("GET /api/.*", 429, headers={"Retry-After": "2"}), "in 2 seconds"),
    "429 for an hour": (Fault("GET /api/.*", 429, headers={"Retry-After": "3600"}), "3600 sec"),
    "files 500": (Fault("GET /org/.*", 500, headers={}), "status 500"),
    "files 429 once": (Fault("GET /org/.*", 429, times=1, headers={"Retry-After": "1"}), None),
    "heads 500 once": (Fault("HEAD /org/.*", 500, times=1), None),
    "no answer": (Fault("GET /api/.*", "silent"), "cannot be reached"),
    "closed once": (Fault("GET /org/.*mask.*", "close", times=1), None),
    "truncated": (Fault("GET /org/.*mask.*", "truncate"), "broke off .*; try again"),
    "other bytes": (Fault("GET /org/.*mask.*", "corrupt"), "mask.safetensors .* came damaged"),
    "another card": (Fault("GET /org/.*README.*", "corrupt"), "README.md .* came damaged"),
    "another document": (Fault("GET /org/.*json.*", "corrupt"), "ticket.json .* came damaged"),
    "not a Hub": (Fault("GET /api/.*", "corrupt"), "does not answer like a Hub"),
}


@pytest.mark.parametrize("case", BUSY)
def test_pulling_from_a_hub_out_of_order(hub: Hub, folder: Path, tmp_path: Path, case: str) -> None:
    published(hub, folder)
    fault, message = BUSY[case]
    hub.faults.append(dataclasses.replace(fault))
    target = tmp_path / "copy"
    if message is None:
        assert same_bytes(folder, pull("org/name", local_dir=target).path)
        return
    fails(lambda: pull("org/name", local_dir=target), message)
    assert not target.exists()
    assert pulled_tickets() == {}
    assert list((tmp_path / "hub-cache").rglob("*.incomplete")) == []
    hub.faults.clear()
    assert same_bytes(folder, pull("org/name", local_dir=target).path)  # nothing bad was kept


@pytest.mark.parametrize(
    ("request_", "action", "message"),
    [
        ("GET /api/models/.*", 500, "status 500"),
        ("POST /api/repos/create", 500, "status 500"),
        ("POST .*preupload.*", 500, "status 500"),
        ("POST .*commit.*", 500, "status 500"),
        ("POST .*commit.*", "silent", "cannot be reached"),
        ("POST .*commit.*", 412, "somebody else"),
        ("POST /api/validate-yaml", "corrupt", "does not answer like a Hub"),
    ],
)
def test_pushing_to_a_hub_out_of_order(
    hub: Hub, folder: Path, request_: str, action: int | str, message: str
) -> None:
    hub.faults.append(Fault(request_, action))
    fails(lambda: push(folder, "org/name", token=TOKEN), message)
    assert all(
        "ticket.json" not in files for repo in hub.repos.values() for files in repo.commits.values()
    )
    hub.faults.clear()
    assert push(folder, "org/name", token=TOKEN).changed


def test_a_hub_that_is_down(
    regular_hub: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(regular_hub, folder)
    dead = "http://127.0.0.1:9"  # the port of discard, where nobody listens
    fails(lambda: push(folder, "org/name", token=TOKEN, endpoint=dead), "cannot be reached")
    fails(lambda: pull("org/name", endpoint=dead), "was not fetched before, and the Hub at")
    fetched = pull("org/name")
    cached = pull("org/name", endpoint=dead)
    assert (cached.from_cache, cached.path) == (True, fetched.path)
    fails(lambda: pull("org/name", endpoint=dead, force_download=True), "cannot be reached")
    fails(lambda: pull("org/name", endpoint="nonsense", revision="x"), "cannot be reached")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert pull("org/name").from_cache
    assert pull("org/name", revision=fetched.commit).from_cache
    assert pull("org/name", local_dir=tmp_path / "copy").path == tmp_path / "copy"
    fails(lambda: pull("org/other"), "was not fetched before, and HF_HUB_OFFLINE is set")
    fails(lambda: push(folder, "org/name", token=TOKEN), "HF_HUB_OFFLINE is set")
    with pytest.raises(HubError, match="was not fetched before"):
        resolve_ticket("runs/typo")


def test_a_hub_with_a_problem_is_as_good_as_down(regular_hub: Hub, folder: Path) -> None:
    published(regular_hub, folder)
    fetched = pull("org/name")
    regular_hub.faults.append(Fault("GET /api/.*", 503))
    assert pull("org/name") == dataclasses.replace(fetched, from_cache=True)
    assert Ticket.from_pretrained("org/name").method == "tamt"


def test_a_cached_ticket_that_was_damaged(regular_hub: Hub, folder: Path) -> None:
    published(regular_hub, folder)
    mask = pull("org/name").path / "mask.safetensors"
    mask.resolve().write_bytes(b"x" * mask.stat().st_size)
    fails(lambda: pull("org/name"), "came damaged")
    assert same_bytes(folder, pull("org/name").path)


def test_pulls_at_the_same_time(hub: Hub, folder: Path) -> None:
    published(hub, folder)
    with ThreadPoolExecutor(4) as pool:
        pulls = [pool.submit(pull, "org/name") for _ in range(4)]
        results: list[PullResult] = [future.result() for future in pulls]
    assert all(same_bytes(folder, result.path) for result in results)


def test_local_dir_must_be_free(regular_hub: Hub, folder: Path, tmp_path: Path) -> None:
    published(regular_hub, folder)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    fails(lambda: pull("org/name", local_dir=tmp_path / "full"), "no ticket", TicketError)
    small_ticket(method="random").save_pretrained(tmp_path / "old")
    pull("org/name", local_dir=tmp_path / "old")
    assert same_bytes(folder, tmp_path / "old")


# --- hostile repositories -----------------------------------------------------------------------


def spoil_json(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    return lambda folder: rewrite_json(folder, change)


def claim(shape: list[int]) -> Callable[[Path], None]:
    def change(document: dict[str, Any]) -> None:
        document["parameters"]["layer.0.weight"]["shape"] = shape

    return spoil_json(change)


def overwrite(name: str, content: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return write


def relist(folder: Path) -> None:
    size = (folder / "mask.safetensors").stat().st_size
    rewrite_json(folder, lambda d: d["files"]["mask.safetensors"].update(bytes=size))


def header_of_ten_gigabytes(folder: Path) -> None:
    from test_ticket import huge_header

    huge_header(folder)


def pickle_as_mask(folder: Path) -> None:
    (folder / "mask.safetensors").write_bytes(b"\x80\x04cos\nsystem\nS'touch pwned'\n\x85R.")
    relist(folder)


def remove_weight_hash(document: dict[str, Any]) -> None:
    document["parameters"]["layer.0.weight"]["sha256"] = "0" * 64


HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "a trillion weights": (claim([10**6, 10**6]), "shapes claim more than"),
    "a billion weights": (claim([10**5, 10**4]), "sparsity is stated|do not fit"),
    "ten gigabytes of header": (header_of_ten_gigabytes, "mask.safetensors is damaged"),
    "deep document": (overwrite("ticket.json", b'{"a":' * 10**5), "nested more than"),
    "long document": (overwrite("ticket.json", b" " * (2**21 + 1)), "more than a ticket may have"),
    "a long card": (overwrite("README.md", b" " * (2**21 + 1)), "more than a ticket may have"),
    "repeated keys": (overwrite("ticket.json", b'{"a": 1, "a": 1}'), "occurs twice"),
    "many digits": (overwrite("ticket.json", b'{"a": ' + b"9" * 10**5 + b"}"), "is damaged"),
    "a link as mask": (overwrite("mask.safetensors", b"../../etc/passwd"), "16 bytes instead of"),
    "a pickle as mask": (pickle_as_mask, "do not fit the stated shapes|is damaged"),
    "a pickle as document": (overwrite("ticket.json", b"\x80\x04."), "is damaged"),
    "wrong fingerprint": (spoil_json(remove_weight_hash), "fingerprint"),
    "a path as name": (
        spoil_json(lambda d: d["parameters"].update({"../x": {}})),
        "is not the name of a parameter",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_repositories(
    regular_hub: Hub, folder: Path, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spoil, message = HOSTILE[case]
    spoil(folder)
    files = published(regular_hub, folder)
    files |= {"../outside": b"x", "/etc/evil": b"x", "model.pkl": b"\x80\x04.", "setup.py": b"1/0"}
    outside = {p for p in tmp_path.rglob("*") if "hub-cache" not in p.parts}
    fails(lambda: pull("org/name", local_dir=tmp_path / "copy"), message, TamtctlError)
    assert cached_files(tmp_path) == []
    assert pulled_tickets() == {}
    assert {p for p in tmp_path.rglob("*") if "hub-cache" not in p.parts} == outside
    if case in ("a trillion weights", "a billion weights", "a link as mask", "long document"):
        assert not any("resolve" in r and "mask" in r for r in regular_hub.requests)


def test_a_repository_of_many_files(regular_hub: Hub, folder: Path) -> None:
    published(regular_hub, folder).update({f"f{i}": b"" for i in range(5000)})
    fails(lambda: pull("org/name"), "more than 5000 files")


def test_commits_that_are_not_commits(regular_hub: Hub, folder: Path, tmp_path: Path) -> None:
    """A reference in the cache that leads elsewhere is not followed by a listing."""
    refs = tmp_path / "hub-cache" / "models--org--evil" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(str(folder))
    assert pulled_tickets() == {}


ETAGS = {
    "a way up": "../../../../thesis.tex",
    "an absolute path": "{victim}",
    "a folder that is there": "../snapshots/x",
    "the folder itself": "..",
    "another file of the cache": "../refs/main",
    "a new file": "../../../../planted",
    "weak": 'W/"{victim}"',
}


@pytest.mark.parametrize("case", ETAGS)
def test_an_etag_is_no_path(hub: Hub, folder: Path, tmp_path: Path, case: str) -> None:
    """A Hub that calls a file by a path: it is neither deleted, nor written, nor taken."""
    published(hub, folder)
    victim = tmp_path / "thesis.tex"
    victim.write_text("mine")
    etag = ETAGS[case].format(victim=victim)
    everything = Fault(".* /org/.*", "headers", headers={"ETag": etag, "X-Linked-Etag": etag})
    hub.faults.append(everything)
    before = sorted(tmp_path.iterdir())
    pulled = pull("org/name")
    assert same_bytes(folder, pulled.path)
    hub.faults.append(Fault(".* /org/.*", "corrupt"))
    hub.faults.reverse()
    fails(lambda: pull("org/name", force_download=True), "came damaged")
    assert victim.read_text() == "mine"
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "hub-cache"])


@pytest.mark.parametrize("sha", ["../../../x", "main", "A" * 40, "a" * 41])
def test_a_commit_that_is_none(regular_hub: Hub, folder: Path, tmp_path: Path, sha: str) -> None:
    published(regular_hub, folder)
    repo = regular_hub.repos["org/name"]
    repo.commits[sha] = repo.commits.pop(repo.branches["main"])
    repo.branches["main"] = sha
    for dry_run in (False, True):
        with pytest.raises(HubError):
            pull("org/name", dry_run=dry_run)
    assert cached_files(tmp_path) == []


def test_links_in_the_cache_lead_nowhere(regular_hub: Hub, folder: Path, tmp_path: Path) -> None:
    """What an earlier lie may have left in the cache is not followed out of it."""
    files = published(regular_hub, folder)
    victim = tmp_path / "mask.safetensors"
    victim.write_bytes(files["mask.safetensors"])
    snapshot = pull("org/name").path
    storage = snapshot.parent.parent
    # A name of the snapshot, then a blob: both are taken anew, and the file they led to stays.
    (snapshot / "mask.safetensors").unlink()
    (snapshot / "mask.safetensors").symlink_to(victim)
    assert not (pull("org/name").path / "mask.safetensors").resolve().samefile(victim)
    blob = (snapshot / "mask.safetensors").resolve()
    blob.unlink()
    victim.write_bytes(b"x" * victim.stat().st_size)
    blob.symlink_to(victim)
    assert same_bytes(folder, pull("org/name").path)
    assert victim.read_bytes()[:1] == b"x"
    # A folder of the cache.
    for name in ("blobs", "refs"):
        (storage / name).rename(tmp_path / name)
        (storage / name).symlink_to(tmp_path / name)
        files["README.md"] += b" "
        regular_hub.repos["org/name"].commit(dict(files))
        fails(lambda: pull("org/name"), "in the Hub's cache is a link; remove it")
        (storage / name).unlink()
        (tmp_path / name).rename(storage / name)
    assert same_bytes(folder, pull("org/name").path)


def test_a_commit_elsewhere_is_not_listed(folder: Path, fresh_client: None, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / ("a" * 40)
    elsewhere.parent.mkdir()
    folder.rename(elsewhere)
    refs = tmp_path / "hub-cache" / "models--org--evil" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(str(elsewhere))
    os.mkfifo(refs / "pipe")
    (refs / "loop").symlink_to("loop")
    (refs / "large").write_bytes(b"a" * 10**7)
    assert pulled_tickets() == {}


@pytest.mark.parametrize("name", [*SENT_AS_IS, "README.md"])
@pytest.mark.parametrize("kind", ["link out", "link to a link", "pipe", "folder"])
def test_nothing_is_published_through_a_link(
    regular_hub: Hub, folder: Path, tmp_path: Path, name: str, kind: str
) -> None:
    secret = tmp_path / "id_rsa"
    (folder / name).rename(secret)
    match kind:
        case "link out":
            (folder / name).symlink_to(secret)
        case "link to a link":
            (folder / "notes").symlink_to(secret)
            (folder / name).symlink_to("notes")
        case "pipe":
            os.mkfifo(folder / name)
        case "folder":
            (folder / name).mkdir()
    for options in ({"dry_run": True}, {"token": TOKEN}):
        with pytest.raises(TicketError) as raised:
            push(folder, "org/name", **options)
        assert name in str(raised.value)
    assert regular_hub.requests == []


def test_a_ticket_is_published_from_the_cache_and_with_links_inside(
    regular_hub: Hub, folder: Path
) -> None:
    published(regular_hub, folder)
    assert push(pull("org/name").path, "org/other", token=TOKEN).changed
    (folder / "README.md").rename(folder / "card.md")
    (folder / "README.md").symlink_to("card.md")
    assert push(folder, "org/third", token=TOKEN).changed
    assert regular_hub.files("org/third")["README.md"].startswith(b"---")


# --- end to end ---------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["lfs", "regular"])
def test_the_command_line(storage: str, folder: Path, tmp_path: Path) -> None:
    clean = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    clean = {k: v for k, v in clean.items() if not k.startswith(("HF_", "HUGGING"))}
    clean |= {"HF_HUB_DISABLE_XET": "1"} if storage == "lfs" else {}
    commands: dict[str, list[object]] = {
        "push": ["push", folder, "org/name", "--license", "mit"],
        "again": ["push", folder, "org/name", "--json"],
        "pull": ["pull", "org/name", "--local-dir", tmp_path / "copy"],
        "inspect": ["inspect", "org/name"],
        "list": ["list", "-q"],
        "on the hub": ["list", "--hub", "-q"],
        "wrong token": ["pull", "org/name", "--token", "hf_wrongwrong"],
        "missing": ["inspect", "org/missing"],
    }
    with running_hub(lfs=storage == "lfs") as hub:
        home = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN}
        script = json.dumps([list(map(str, command)) for command in commands.values()])
        process = subprocess.run(
            [sys.executable, "-c", COMMANDS, script],
            capture_output=True, text=True, env=clean | home, cwd=tmp_path, timeout=200,
        )  # fmt: skip
    assert process.stderr == ""
    outcomes = map(json.loads, process.stdout.splitlines())
    done = dict(zip(commands, outcomes, strict=True))
    for name, (code, out, err) in done.items():
        assert TOKEN not in out + err
        assert "hf_wrongwrong" not in out + err
        failed = name in ("wrong token", "missing")
        assert code == (1 if failed else 0), (name, err)
        if failed:
            assert err.startswith("error: ")
            assert err.count("\n") == 1
        elif name != "again":
            assert all(line.startswith(("next ", "  ")) for line in err.splitlines())
    assert f"pushed  {hub.url}/org/name" in done["push"][1]
    assert json.loads(done["again"][1])["changed"] is False
    assert f"next    tamtctl inspect {tmp_path / 'copy'}" in done["pull"][2]
    assert same_bytes(folder, tmp_path / "copy")
    assert "(pulled from the Hub, " in done["inspect"][1]
    assert done["list"][1].splitlines()[0] == done["on the hub"][1].strip() == "org/name"
