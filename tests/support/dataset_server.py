"""A data set on the loopback interface, for the unmodified client libraries."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from threading import Thread
from typing import Any

import processes
from hub_commands import hub_environment

SHA = "a" * 40


@contextmanager
def serve(repo_id: str, files: Mapping[str, bytes]) -> Iterator[str]:
    """Answer what the libraries ask about one data set; yield the address to ask.

    Args:
        repo_id: Owner and name.
        files: Path → content.
    """

    class Handler(_Handler):
        repo, content = repo_id, files

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def environment(endpoint: str, home: Path) -> dict[str, str]:
    """Return the environment of a process that asks this address, which is read at import."""
    return hub_environment(home, HF_ENDPOINT=endpoint)


def run(script: str, endpoint: str, home: Path, *arguments: str) -> Any:
    """Run a script that prints one line of JSON, and return its value."""
    done = processes.run_script(script, *arguments, environment=environment(endpoint, home))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


class _Handler(BaseHTTPRequestHandler):
    repo: str
    content: Mapping[str, bytes]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if f"/{self.repo}" not in path:
            return self.answer(404, b"{}", "RepoNotFound")
        if "/tree/" in path:
            folder = path.partition(f"/tree/{SHA}")[2].strip("/")
            return self.answer(200, json.dumps(self.listing(folder)).encode())
        if path.startswith("/api/datasets/"):
            siblings = [{"rfilename": name} for name in self.content]
            info = {"id": self.repo, "sha": SHA, "private": False, "tags": []}
            return self.answer(200, json.dumps({**info, "siblings": siblings}).encode())
        for name, data in self.content.items():
            if path.endswith(f"/{name}"):
                return self.answer(200, data)
        return self.answer(404, b"", "EntryNotFound")

    def listing(self, folder: str) -> list[dict[str, Any]]:
        entries: dict[str, dict[str, Any]] = {}
        for name, data in self.content.items():
            path = PurePosixPath(name)
            for parent in path.parents[:-1]:
                entries[str(parent)] = {"type": "directory", "path": str(parent), "oid": "d"}
            entries[name] = {"type": "file", "path": name, "size": len(data), "oid": name}
        return [
            e for path, e in entries.items() if str(PurePosixPath(path).parent) == (folder or ".")
        ]

    def answer(self, status: int, body: bytes, error: str | None = None) -> None:
        first, last = self.wanted_range(len(body))
        is_part = status == 200 and (first, last) != (0, len(body))
        self.send_response(206 if is_part else status)
        if is_part:
            self.send_header("Content-Range", f"bytes {first}-{last - 1}/{len(body)}")
        self.send_header("Content-Length", str(last - first))
        self.send_header("X-Repo-Commit", SHA)
        self.send_header("ETag", f'"{len(body)}"')
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[first:last])

    def wanted_range(self, size: int) -> tuple[int, int]:
        header = self.headers.get("Range", "")
        if not header.startswith("bytes="):
            return 0, size
        first, _, last = header.removeprefix("bytes=").partition("-")
        return int(first), min(int(last) + 1, size) if last else size

    def log_message(self, *_: object) -> None:
        """Say nothing."""
