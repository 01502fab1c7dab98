"""Where packages come from. Logins reach uv, pip and git's HTTP in a file of their own, never in an argument or a log."""

from __future__ import annotations

import netrc
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from ansible.module_utils.packing.programs import PackingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def without_login(url: str) -> str:
    """The URL without its user and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


class Indexes:
    """The indexes of a build: the environment in which uv and pip find them."""

    def __init__(self, default: str, extra: list[str], logins: Mapping[str, Mapping[str, str]], work: Path) -> None:
        """The default takes the place of PyPI, the extra ones come beside it; logins by host name."""
        for name, urls in (("app_index_url", [default] if default else []), ("app_extra_index_urls", extra)):
            for url in urls:
                if urlsplit(url).scheme not in {"http", "https", "file"}:
                    raise PackingError(
                        f"{name} has {url}, which is no URL. Write https://packages.example.com/simple/."
                    )
        for host, login in logins.items():
            if "/" in host or not {"user", "password"} <= set(login):
                raise PackingError(
                    f"vault_index_logins has {host}. Write the host's name alone, with user and password below it."
                )
        self._netrc = work / "netrc"
        self._logins: dict[str, tuple[str, str]] = {
            host: (str(login["user"]), str(login["password"])) for host, login in logins.items()
        }
        self._default = self._cleaned(default) if default else ""
        self._extra = [self._cleaned(url) for url in extra]
        self._links: list[str] = []
        self._write()

    def add(self, default: str, extra: Iterable[str], links: Iterable[str]) -> None:
        """Use the indexes and the pages with links that the project names itself; the operator's default stays."""
        # A requirements file may hold ${VARIABLE} in the place of a login.
        self._default = self._default or (self._cleaned(os.path.expandvars(default)) if default else "")
        cleaned = [self._cleaned(os.path.expandvars(url)) for url in extra]
        self._extra += [url for url in cleaned if url not in self._extra]
        self._links += [url for url in links if url not in self._links]
        self._write()

    @property
    def env(self) -> dict[str, str]:
        """The environment for uv and pip."""
        found = {
            "NETRC": str(self._netrc),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INPUT": "1",
            "GIT_TERMINAL_PROMPT": "0",
            # The programs' own colours and bars have no place in a message.
            "NO_COLOR": "1",
            "UV_NO_PROGRESS": "1",
        }
        if self._default:
            found |= {"UV_DEFAULT_INDEX": self._default, "PIP_INDEX_URL": self._default}
        if self._extra:
            found["UV_INDEX"] = " ".join(self._extra)
            found["PIP_EXTRA_INDEX_URL"] = " ".join([*self._extra, os.environ.get("PIP_EXTRA_INDEX_URL", "")]).strip()
        if self._links:
            found |= {"PIP_FIND_LINKS": " ".join([*self._links, os.environ.get("PIP_FIND_LINKS", "")]).strip()}
        return found

    def _cleaned(self, url: str) -> str:
        parts = urlsplit(url)
        if parts.username and parts.hostname:
            self._logins[parts.hostname] = (unquote(parts.username), unquote(parts.password or ""))
        return without_login(url)

    def _write(self) -> None:
        own = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
        lines = [f"machine {host} login {user} password {password}" for host, (user, password) in self._logins.items()]
        if own.is_file() and own != self._netrc:
            try:
                netrc.netrc(str(own))
            except (netrc.NetrcParseError, OSError) as error:
                raise PackingError(f"{own} cannot be read: {error}") from None
            lines.append(own.read_text())
        self._netrc.touch(mode=0o600)
        self._netrc.write_text("\n".join(lines) + "\n")
