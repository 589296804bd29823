"""Whatever keeps the Hub from answering is told, whichever command asks it, and soon.

The commands run in a process of their own, with the unmodified libraries, against a Hub on the
loopback interface.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import processes
import pytest
import tiny
from hub_commands import COMMANDS, hub_environment
from hub_server import Fault, Hub, running_hub

# Waits fifty times as fast, and a second at most.
PROLOGUE = """
import time
real_sleep = time.sleep
time.sleep = lambda seconds: real_sleep(seconds / 50)
from tamtctl.ticket.hub import client
from tamtctl.foundations import hub_requests
from tamtctl.models import sources
client.TIMEOUT = hub_requests.TIMEOUT = sources.TIMEOUT = 1.0
"""

ASKING = {
    "evaluate": "evaluate {repo} --task mlm --corpus text.txt",
    "corpus": "search --sparsity 0.5 --model {model} --corpus {repo} --sequence-length 32",
    "pull": "pull {repo}",
    "search": "search --sparsity 0.5 --model {repo} --corpus text.txt --dry-run",
    "finetune": "finetune own --train own.jsonl --dev own.jsonl --model {repo} --dense",
}
ALL, SOME = tuple(ASKING), ("evaluate", "corpus", "pull")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "bert", "bert")


def errors(
    endpoint: str, folder: Path, model: Path, asked: list[tuple[str, str]]
) -> Iterator[tuple[str, str, str]]:
    """Run commands that ask for repositories; yield both, and the line that each ended with."""
    (folder / "text.txt").write_text("\n".join(["the file of the list"] * 200))
    (folder / "own.jsonl").write_text('{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n')
    environment = hub_environment(
        folder / "home", HF_ENDPOINT=endpoint, HF_HUB_ETAG_TIMEOUT="1", HF_HUB_DOWNLOAD_TIMEOUT="1"
    )
    commands = [ASKING[name].format(repo=repo, model=model).split() for repo, name in asked]
    done = processes.run_script(
        PROLOGUE + COMMANDS, json.dumps(commands), environment=environment, folder=folder
    )
    for (repo, name), printed in zip(asked, done.stdout.splitlines(), strict=True):
        code, _, error = json.loads(printed)
        assert code == 1, (repo, name, printed, done.stderr)
        assert error.splitlines()[-1].startswith("error: "), error
        assert "nrecognized model" not in error
        yield repo, name, error.splitlines()[-1]


STATUS = {
    401: "it is private|private one needs",
    403: "forbids reading org/x.*status 403",
    404: "there is no .*org/x|no such dataset",
    429: "fewer requests .status 429.; try again in 100 seconds",
    500: "problem of its own .status 500",
    503: "problem of its own .status 503",
}


def test_what_the_hub_answers(tmp_path: Path, model: Path) -> None:
    with running_hub(lfs=False) as hub:
        hub.add("org/x-gated", {"config.json": b"{}"}, gated=True)
        expected = {"org/x-gated": "is gated; ask for access at .* hf auth login"}
        gated = {"X-Error-Code": "GatedRepo"}
        hub.faults.append(Fault(".*datasets/org/x-gated.*", 403, headers=gated))
        for status, pattern in STATUS.items():
            expected[f"org/x-{status}"] = pattern
            after = {"Retry-After": "100"}
            hub.faults.append(Fault(f".*/org/x-{status}.*", status, headers=after))
        asked = [(repo, name) for repo in expected for name in SOME]
        asked += [("org/x-403", name) for name in ALL]
        for repo, name, line in errors(hub.url, tmp_path, model, asked):
            assert re.search(expected[repo], line), (repo, name, line)


def test_nobody_listens(tmp_path: Path, model: Path) -> None:
    asked = [("org/x", name) for name in SOME]
    for _, name, line in errors("http://127.0.0.1:9", tmp_path, model, asked):
        assert "the Hub at http://127.0.0.1:9 cannot be reached" in line, (name, line)


def test_an_unknown_host(tmp_path: Path, model: Path) -> None:
    asked = [("org/x", name) for name in SOME]
    for _, name, line in errors("http://hub.invalid", tmp_path, model, asked):
        assert "its name is not known here: check the network (DNS)" in line, (name, line)


@contextmanager
def mute_server(answer: bytes = b"") -> Iterator[str]:
    """Listen, take connections, and say nothing, or the same to all."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    taken.append(server.accept()[0])
                    if answer:
                        taken[-1].sendall(answer)
                except OSError:
                    return

        Thread(target=take, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        for one in taken:
            one.close()


def test_a_hub_that_says_nothing(tmp_path: Path, model: Path) -> None:
    asked = [("org/x", name) for name in ("evaluate", "pull")]
    with mute_server() as address:
        for _, name, line in errors(f"http://{address}", tmp_path, model, asked):
            assert "cannot be reached (no answer in time)" in line, (name, line)


def test_a_hub_without_tls(tmp_path: Path, model: Path) -> None:
    asked = [("org/x", name) for name in SOME]
    with mute_server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
        for _, name, line in errors(f"https://{address}", tmp_path, model, asked):
            assert "its certificate is not accepted" in line, (name, line)


def test_what_passes_is_asked_again(tmp_path: Path, model: Path) -> None:
    """A busy Hub and connections that break, in the middle of the weights, too: all goes well."""
    with running_hub(lfs=False) as hub:
        hub.add("org/x", {file.name: file.read_bytes() for file in model.iterdir()})
        hub.faults += [
            Fault("HEAD .*config.json", 503, times=1),
            Fault("GET .*config.json", "close", times=1),
            Fault("GET .*model.safetensors", "close", times=2),
            Fault("GET .*tokenizer.json", "silent", times=1),
        ]
        done = answers(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def answers(hub: Hub, folder: Path) -> processes.Done:
    (folder / "text.txt").write_text("\n".join(f"the file of the list {n}" for n in range(400)))
    environment = hub_environment(folder / "home", HF_ENDPOINT=hub.url)
    command = "search --sparsity 0.5 --model org/x --corpus text.txt --dry-run --sequence-length 32"
    script = PROLOGUE + "from tamtctl.cli.app import main; main()"
    return processes.run_script(script, *command.split(), environment=environment, folder=folder)
