"""Packages that tests make themselves, and an index on the loopback that serves them."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# Builds a wheel with nothing but the standard library, so that no index is asked for a build tool.
BACKEND = """\
import pathlib, zipfile
NAME, VERSION, TAG = {name!r}, {version!r}, {tag!r}
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    {before}
    file = f"{{NAME}}-{{VERSION}}-{{TAG}}.whl"
    info = f"{{NAME}}-{{VERSION}}.dist-info"
    with zipfile.ZipFile(pathlib.Path(wheel_directory, file), "w") as wheel:
        wheel.writestr(f"{{NAME}}.py", f"VERSION = '{{VERSION}}'\\n")
        wheel.writestr(f"{{info}}/METADATA", f"Metadata-Version: 2.1\\nName: {{NAME}}\\nVersion: {{VERSION}}\\n")
        wheel.writestr(f"{{info}}/WHEEL", f"Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: {{TAG}}\\n")
        wheel.writestr(f"{{info}}/RECORD", "")
    return file
"""
PROJECT_FILE = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "{name}"
version = "{version}"
"""


def source(folder: Path, name: str, version: str = "1.0", *, tag: str = "py3-none-any", before: str = "pass") -> Path:
    """A package's source in a folder; `before` is a line that its build runs first."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "backend.py").write_text(BACKEND.format(name=name, version=version, tag=tag, before=before))
    (folder / "pyproject.toml").write_text(PROJECT_FILE.format(name=name, version=version))
    return folder


def wheel(name: str, version: str, *requires: str, tag: str = "py3-none-any", python: str = "") -> tuple[str, bytes]:
    """A wheel's file name and content."""
    stream = io.BytesIO()
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
    needs += f"Requires-Python: {python}\n" if python else ""
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr(zipfile.ZipInfo(f"{name}.py"), f"VERSION = {version!r}\n")
        file.writestr(
            zipfile.ZipInfo(f"{info}/METADATA"), f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
        )
        file.writestr(
            zipfile.ZipInfo(f"{info}/WHEEL"),
            f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\nGenerator: tests\n",
        )
        file.writestr(zipfile.ZipInfo(f"{info}/RECORD"), "")
    return f"{name}-{version}-{tag}.whl", stream.getvalue()


def sdist(folder: Path, name: str, version: str) -> tuple[str, bytes]:
    """A source distribution's file name and content, from a package's source."""
    stream = io.BytesIO()
    metadata = f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n".encode()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, arcname=f"{name}-{version}/{path.name}")
        entry = tarfile.TarInfo(f"{name}-{version}/PKG-INFO")
        entry.size = len(metadata)
        tar.addfile(entry, io.BytesIO(metadata))
    return f"{name}-{version}.tar.gz", stream.getvalue()


class Index:
    """An index: its files by package, its address, and the login that it asks for, if any."""

    def __init__(self, port: int, login: str) -> None:
        self.url = f"http://127.0.0.1:{port}/simple/"
        self.login = login
        self.files: dict[str, dict[str, bytes]] = {}

    def add(self, file: tuple[str, bytes]) -> str:
        """Serve a file, and return its hash as a lock writes it."""
        name, content = file
        self.files.setdefault(name.partition("-")[0].replace("_", "-"), {})[name] = content
        return f"sha256:{hashlib.sha256(content).hexdigest()}"

    def at(self, path: str) -> bytes | None:
        """What the index answers at a path."""
        match [part for part in path.split("/") if part]:
            case ["files", package, name]:
                return self.files[package][name]
            case ["simple", package] if package in self.files:
                lines = []
                for name, content in self.files[package].items():
                    digest = hashlib.sha256(content).hexdigest()
                    lines.append(f'<a href="/files/{package}/{name}#sha256={digest}">{name}</a>')
                return f"<!DOCTYPE html><html><body>{''.join(lines)}</body></html>".encode()
        return None


@contextmanager
def index(login: str = "") -> Iterator[Index]:
    """Serve packages on a free port of the loopback; `login` is user:password."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = f"Basic {base64.b64encode(login.encode()).decode()}"
            if login and self.headers.get("Authorization") != wanted:
                self.answer(401, b"")
            else:
                content = served.at(self.path)
                self.answer(404 if content is None else 200, content or b"")

        do_HEAD = do_GET  # noqa: N815

        def answer(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header(
                "Content-Type", "text/html" if self.path.startswith("/simple") else "application/octet-stream"
            )
            self.send_header("Content-Length", str(len(content)))
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="packages"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_request(self, code: object = "-", size: object = "-") -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Index(server.server_address[1], login)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
