"""A small Hub on the loopback interface, for the unmodified client of huggingface_hub.

It keeps repositories in memory and can be told to misbehave: see `Fault`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml
from huggingface_hub import constants

TOKEN = "hf_" + "goodtoken" * 4
READ_TOKEN = "hf_" + "readtoken" * 4
Files = dict[str, bytes]


@dataclass
class Repo:
    """A repository: commits are snapshots, branches name them."""

    private: bool = False
    gated: bool = False
    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, files: Files, branch: str = "main", message: str = "") -> str:
        sha = hashlib.sha1(f"{len(self.commits)} {branch} {message}".encode()).hexdigest()
        self.commits[sha] = files
        self.branches[branch] = sha
        self.messages.append(message)
        return sha

    def sha_of(self, revision: str) -> str | None:
        return self.branches.get(revision) or (revision if revision in self.commits else None)


@dataclass
class Fault:
    """What to do instead of answering a request whose method and path match.

    ``action`` is a status; ``close``: end the connection after half of the body; ``silent``: end
    it before any answer; ``truncate``: send a shorter body as if it were whole; ``corrupt``: send
    other bytes of the same length; ``headers``: answer as usual, with these headers; ``body``:
    answer with this body.
    """

    request: str  # a regular expression of "METHOD /path"
    action: int | str
    times: int = 10**9
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Hub:
    """The server's state and address.

    Args:
        lfs: Whether binary files are uploaded as large files; else all are regular ones.
    """

    def __init__(self, lfs: bool) -> None:
        self.lfs = lfs
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.url = ""

    def add(self, repo_id: str, files: Files, **options: Any) -> str:
        """Create a repository with one commit and return its name."""
        self.repos[repo_id] = Repo(**options)
        return self.repos[repo_id].commit(files)

    def files(self, repo_id: str, revision: str = "main") -> Files:
        repo = self.repos[repo_id]
        sha = repo.sha_of(revision)
        assert sha is not None
        return repo.commits[sha]

    def is_large(self, path: str) -> bool:
        return self.lfs and path.endswith(".safetensors")

    def fault(self, request: str) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and re.fullmatch(fault.request, request):
                fault.times -= 1
                return fault
        return None


@contextmanager
def running_hub(*, lfs: bool) -> Iterator[Hub]:
    """Serve a Hub on a free port of 127.0.0.1."""
    hub = Hub(lfs)
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _RefusedError(Exception):
    """An answer with an error status."""

    def __init__(self, status: int, code: str = "", message: str = "", **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message or code} | headers
        if code:
            self.headers["X-Error-Code"] = code


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # answers are small and come in two writes

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815, names that the base class calls

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        self.where, self.query = unquote(parts.path), parse_qs(parts.query)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = f"{self.command} {self.where}"
        self.hub.requests.append(request)
        self.fault = self.hub.fault(request)
        try:
            if self.fault and isinstance(self.fault.action, int):
                raise _RefusedError(self.fault.action, message="out of order", **self.fault.headers)
            if self.fault and self.fault.action == "silent":
                self.close_connection = True
                return
            self._dispatch(body)
        except _RefusedError as refused:
            self._send(refused.status, b"", refused.headers)

    def _dispatch(self, body: bytes) -> None:
        for pattern, answer in self._routes():
            if match := re.fullmatch(pattern, f"{self.command} {self.where}"):
                answer(*match.groups(), *([body] if self.command in ("POST", "PUT") else []))
                return
        raise _RefusedError(404, message=f"no such route: {self.command} {self.where}")

    def _routes(self) -> list[tuple[str, Callable[..., None]]]:
        repo = r"([\w.-]+/[\w.-]+)"
        return [
            (r"POST /api/repos/create", self._create),
            (r"POST /api/validate-yaml", self._validate),
            (rf"POST /api/models/{repo}/preupload/(.+)", self._preupload),
            (rf"POST /{repo}\.git/info/lfs/objects/batch", self._lfs_batch),
            (r"PUT /objects/(\w+)", self._put_object),
            (r"POST /objects/(\w+)/verify", lambda _oid, _body: self._json({})),
            (rf"POST /api/models/{repo}/commit/(.+)", self._commit),
            (rf"POST /api/models/{repo}/branch/(.+)", self._branch),
            (r"GET /api/models", self._search),
            (rf"GET /api/models/{repo}/tree/([^/]+)", self._tree),
            (rf"GET /api/models/{repo}/revision/(.+)", self._info),
            (rf"GET /api/models/{repo}", self._info),
            (rf"(?:HEAD|GET) /{repo}/resolve/([^/]+)/(.+)", self._resolve),
        ]

    # --- who may do what -------------------------------------------------------------------------

    def _token(self) -> str | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
        if token not in (None, TOKEN, READ_TOKEN):
            raise _RefusedError(401, message="Invalid credentials in Authorization header")
        return token

    def _repo(self, repo_id: str, *, write: bool = False) -> Repo:
        token = self._token()
        repo = self.hub.repos.get(repo_id)
        if repo is None or (repo.private and token is None):
            raise _RefusedError(404 if token else 401, "RepoNotFound", "Repository not found")
        if repo.gated and token is None:
            raise _RefusedError(403, "GatedRepo", "Access is restricted")
        if write and token != TOKEN:
            raise _RefusedError(403, message="you have no write access")
        return repo

    def _sha(self, repo: Repo, revision: str) -> str:
        if (sha := repo.sha_of(revision)) is None:
            raise _RefusedError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha

    # --- uploads ---------------------------------------------------------------------------------

    def _create(self, body: bytes) -> None:
        if self._token() != TOKEN:
            raise _RefusedError(403, message="you may not create repositories")
        wanted = json.loads(body)
        repo_id = f"{wanted['organization']}/{wanted['name']}"
        status = 409 if repo_id in self.hub.repos else 200
        if status == 200:
            self.hub.add(repo_id, {}, private=wanted.get("visibility") == "private")
        self._json({"url": f"{self.hub.url}/{repo_id}"}, status)

    def _validate(self, body: bytes) -> None:
        content = json.loads(body)["content"]
        errors = []
        match = re.match(r"---\n(.*?\n)---\n", content, re.DOTALL)
        data = yaml.safe_load(match[1]) if match else None
        if not isinstance(data, dict):
            errors.append('"metadata" must be an object')
        elif "base_model" in data and not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", data["base_model"]):
            errors.append('"base_model" with value is not valid. Use a model id from hf.co/models.')
        elif data.get("license") == "nonsense":
            errors.append('"license" must be one of [apache-2.0, mit, …]')
        answer = {"errors": [{"message": error} for error in errors], "warnings": []}
        self._json(answer, 400 if errors else 200)

    def _preupload(self, repo_id: str, revision: str, body: bytes) -> None:
        repo = self._repo(repo_id, write=not self.query.get("create_pr"))
        files = repo.commits[self._sha(repo, revision)]
        answer = [
            {
                "path": path,
                "uploadMode": "lfs" if self.hub.is_large(path) else "regular",
                "shouldIgnore": False,
                "oid": self._oid(path, files[path]) if path in files else None,
            }
            for path in (file["path"] for file in json.loads(body)["files"])
        ]
        self._json({"files": answer})

    def _oid(self, path: str, content: bytes) -> str:
        is_large = self.hub.is_large(path)
        return hashlib.sha256(content).hexdigest() if is_large else blob_id(content)

    def _lfs_batch(self, repo_id: str, body: bytes) -> None:
        self._repo(repo_id, write=True)
        objects: list[dict[str, Any]] = []
        for wanted in json.loads(body)["objects"]:
            href = f"{self.hub.url}/objects/{wanted['oid']}"
            actions = {"upload": {"href": href}, "verify": {"href": f"{href}/verify"}}
            new = {} if wanted["oid"] in self.hub.objects else {"actions": actions}
            objects.append(wanted | new)
        self._json({"transfer": "basic", "objects": objects})

    def _put_object(self, oid: str, body: bytes) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.objects[oid] = body
        self._send(200, b"", {})

    def _commit(self, repo_id: str, revision: str, body: bytes) -> None:
        is_pr = bool(self.query.get("create_pr"))
        repo = self._repo(repo_id, write=not is_pr)
        lines = [json.loads(line) for line in body.splitlines()]
        header = lines.pop(0)["value"]
        parent = self._sha(repo, revision)
        if header.get("parentCommit") not in (None, parent):
            raise _RefusedError(412, message="A commit has happened since.")
        files = dict(repo.commits[parent])
        for line in lines:
            match line["key"]:
                case "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                case "lfsFile":
                    files[line["value"]["path"]] = self.hub.objects[line["value"]["oid"]]
                case "deletedFile":
                    del files[line["value"]["path"]]
        branch = "refs/pr/1" if is_pr else revision
        sha = repo.commit(files, branch, header["summary"])
        answer = {"commitOid": sha, "commitUrl": f"{self.hub.url}/{repo_id}/commit/{sha}"}
        if is_pr:
            answer["pullRequestUrl"] = f"{self.hub.url}/{repo_id}/discussions/1"
        self._json(answer)

    def _branch(self, repo_id: str, branch: str, body: bytes) -> None:
        repo = self._repo(repo_id, write=True)
        repo.branches[branch] = repo.branches["main"]
        self._json({})

    # --- downloads -------------------------------------------------------------------------------

    def _search(self) -> None:
        found = []
        for repo_id, repo in self.hub.repos.items():
            card = self.hub.files(repo_id).get("README.md", b"").decode()
            data = yaml.safe_load(card.split("---\n")[1]) if card.startswith("---\n") else {}
            tags = [*data.get("tags", []), f"base_model:{data.get('base_model', '-')}"]
            if not repo.private and set(self.query["filter"]) <= set(tags):
                found.append({"id": repo_id, "tags": tags, "downloads": 7, "likes": 1})
        self._json(found)

    def _info(self, repo_id: str, revision: str = "main") -> None:
        repo = self._repo(repo_id)
        sha = self._sha(repo, revision)
        siblings = [{"rfilename": path} for path in repo.commits[sha]]
        values = {"id": repo_id, "sha": sha, "private": repo.private, "tags": []}
        self._json(values | {"siblings": siblings})

    def _tree(self, repo_id: str, revision: str) -> None:
        repo = self._repo(repo_id)
        entries: list[dict[str, Any]] = []
        for path, content in repo.commits[self._sha(repo, revision)].items():
            entry = {"type": "file", "path": path, "size": len(content), "oid": blob_id(content)}
            if self.hub.is_large(path):
                oid = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 130}
            entries.append(entry)
        self._json(entries)

    def _resolve(self, repo_id: str, revision: str, path: str) -> None:
        repo = self._repo(repo_id)
        sha = self._sha(repo, revision)
        if path not in repo.commits[sha]:
            raise _RefusedError(404, "EntryNotFound", "Entry not found", **{"X-Repo-Commit": sha})
        content = repo.commits[sha][path]
        headers = {"ETag": f'"{self._oid(path, content)}"', "X-Repo-Commit": sha}
        status, start = 200, 0
        if asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            status, start = 206, int(asked[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(status, content[start:], headers)

    # --- answering -------------------------------------------------------------------------------

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        action = self.fault.action if self.fault else None
        if self.command != "HEAD" and action == "truncate":
            body = body[: len(body) // 2]
        if self.command != "HEAD" and action == "corrupt":
            body = bytes(byte ^ 1 for byte in body)
        if action == "headers" and self.fault:
            headers = headers | self.fault.headers
        if action == "body" and self.fault:
            body = self.fault.body
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if action == "close":
            body = body[: len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)


SENT_AS_IS = ("ticket.json", "mask.safetensors", "mlm_head.safetensors")


def ask(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do what HF_ENDPOINT does when huggingface_hub is imported."""
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", url)
