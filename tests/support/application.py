"""Real processes of the application, each with its log in a file and gone after the test."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.support.paths import BIN, PROJECT, PYTHON
from tests.support.ports import free_port
from tests.support.waiting import wait_until

# What `make coverage` leaves for child processes, which have an environment of their own here.
MEASURED = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_PROCESS_")}
# The web server as a host starts it.
WEB = (str(BIN / "gunicorn"), "--config=python:drumline.hosting.gunicorn", "config.wsgi:application")
PROBE = PROJECT / "tests" / "integration" / "probe"


class Process:
    """One process of the application, with its log in a file."""

    def __init__(self, args: list[str], env: dict[str, str], cwd: Path, log: Path) -> None:
        self.args = args
        self.log = log
        with log.open("wb") as output:
            # A session of its own: stopping it must not reach the test, nor miss its children.
            self.popen = subprocess.Popen(args, env=env, cwd=cwd, stdout=output, stderr=output, start_new_session=True)

    def alive(self) -> bool:
        return self.popen.poll() is None

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def lines(self) -> list[dict[str, Any]]:
        """Return the structured lines; banners are none."""
        return [json.loads(line) for line in self.text().splitlines() if line.startswith("{") and line.endswith("}")]

    def said(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        wanted = {"event": event, **fields}
        return [line for line in self.lines() if all(line.get(key) == value for key, value in wanted.items())]

    def wait_for(self, text: str, *, seconds: float = 30) -> None:
        def seen() -> bool:
            if text in self.text():
                return True
            assert self.alive(), f"{self.args} ended with {self.popen.returncode}:\n{self.text()}"
            return False

        try:
            wait_until(seen, f"{text!r} in the log", seconds=seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text()}") from None

    def stop(self) -> None:
        """End the whole session: no child may outlive a test, and nothing but its coverage is left to save."""
        if MEASURED and self.alive():
            self.popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()


class Answer:
    """What the web process answered."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    def json(self) -> Any:
        return json.loads(self.body)


class Application:
    """The application under its production settings, as processes."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.cwd = PROJECT / "app"
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(PROBE),
            "DJANGO_SETTINGS_MODULE": "config.settings.production",
            "DJANGO_ALLOWED_HOSTS": "testserver",
            "DJANGO_SECRET_KEY": "an integration test's key, worthless anywhere else, and long enough",
            "DJANGO_TIME_ZONE": "UTC",
            "LOG_LEVEL": "INFO",
            "ADMIN_SECOND_FACTOR": "optional",
            "SITE_URL": "https://testserver",
            "EMAIL_HOST": "127.0.0.1",
            "EMAIL_PORT": "1",
            "EMAIL_USE_TLS": "false",
            "DEFAULT_FROM_EMAIL": "Drumline <no-reply@test.example>",
            "CELERY_TASK_SOFT_TIME_LIMIT": "1500",
            "CELERY_TASK_TIME_LIMIT": "1800",
            "CELERY_VISIBILITY_TIMEOUT": "7200",
            "WEB_CONCURRENCY": "1",
            "WEB_THREADS": "8",
            "WEB_TIMEOUT": "30",
            "WEB_GRACEFUL_TIMEOUT": "5",
            **MEASURED,
            **env,
        }
        self.processes: list[Process] = []
        self.web_port = 0

    def with_probe(self) -> None:
        """Add the tasks in probe/ to every process started from now on."""
        self.env["DJANGO_SETTINGS_MODULE"] = "probe_settings"

    def start(self, *args: str, **env: str) -> Process:
        log = self.folder / f"{len(self.processes)}.log"
        process = Process(list(args), {**self.env, **env}, self.cwd, log)
        self.processes.append(process)
        return process

    def worker(
        self,
        queues: str = "high,default,low",
        *,
        concurrency: int = 1,
        instance: int = 1,
        pool: str = "prefork",
        ready: bool = True,
        **env: str,
    ) -> Process:
        process = self.start(
            *(str(BIN / "celery"), "-A", "config", "worker", "--queues", queues),
            *("--hostname", f"{queues.replace(',', '-')}-{instance}@%h", "--concurrency", str(concurrency)),
            *("--pool", pool),
            **env,
        )
        if ready:
            process.wait_for(" ready.")
        return process

    def beat(self, **env: str) -> Process:
        return self.start(str(BIN / "celery"), "-A", "config", "beat", **env)

    def relay(self, **env: str) -> Process:
        return self.start(PYTHON, "manage.py", "relay", **env)

    def web(self, served: str = WEB[-1]) -> Process:
        self.web_port = free_port()
        process = self.start(*WEB[:-1], served, "--bind", f"127.0.0.1:{self.web_port}")
        process.wait_for("Booting worker")
        wait_until(self._listens, "the web process answers")
        return process

    def _listens(self) -> bool:
        try:
            return self.get("/livez").status == 200
        except OSError:
            return False

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.web_port, timeout=30)
        sent = {"Host": "testserver", "X-Forwarded-Proto": "https", "Content-Type": "application/json", **headers}
        try:
            data = body if isinstance(body, (bytes, str, type(None))) else json.dumps(body)
            connection.request(method, path, data, sent)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, **headers)

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        return self.request("POST", path, body, **headers)

    def sign_up(self, email: str, password: str = "difference engine no. 2", **fields: str) -> dict[str, Any]:
        """Create an account and prove its address, as its owner does with the link in the e-mail."""
        account: dict[str, Any] = self.post("/api/users/", {"email": email, "password": password, **fields}).json()
        code = f"""
from apps.users.models import User
from apps.users.verification import token_make
print(token_make(User.objects.get(pk={account["id"]})))
"""
        token = self.manage("shell", "-v", "0", "-c", code).stdout.strip()
        assert self.post("/api/users/verify/", {"token": token}).status == 200
        return account

    def sign_in(self, email: str) -> dict[str, str]:
        """Return the headers of a browser that is signed in."""
        code = f"""
from django.contrib.auth import SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY, get_user_model
from django.contrib.sessions.backends.db import SessionStore
user = get_user_model().objects.get(email={email!r})
session = SessionStore()
session[SESSION_KEY], session[HASH_SESSION_KEY] = str(user.pk), user.get_session_auth_hash()
session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session.create()
print(session.session_key)
"""
        key, token = self.manage("shell", "-v", "0", "-c", code).stdout.strip(), "t" * 32
        cookie = f"sessionid={key}; csrftoken={token}"
        return {"Cookie": cookie, "X-CSRFToken": token, "Referer": "https://testserver/"}

    def manage(
        self, *args: str, check: bool = True, seconds: float = 120, text: str | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            [PYTHON, "manage.py", *args],
            cwd=self.cwd,
            env={**self.env, **env},
            input=text,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert not check or result.returncode == 0, result.stdout + result.stderr
        return result

    def enqueue(self, *args: str) -> Any:
        """Send a task and return the report on its end."""
        return json.loads(self.manage("enqueue", *args, "--wait", "30").stdout.splitlines()[-1])

    def stop(self) -> None:
        for process in self.processes:
            process.stop()
