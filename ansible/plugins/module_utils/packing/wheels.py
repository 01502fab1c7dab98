"""Wheels of all that a host installs: downloaded where they exist, built once where they do not."""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from ansible.module_utils.packing.checkout import entries, lay_out
from ansible.module_utils.packing.programs import PackingError, run
from packaging.pylock import PackageArchive, PackageDirectory, PackageSdist, PackageVcs, PackageWheel
from packaging.utils import parse_wheel_filename

if TYPE_CHECKING:
    from packaging.pylock import Package

    from .checkout import Tree
    from .dependencies import Artifact, Resolver, Selection, Target
    from .workplace import Workplace

# What compilers and build scripts say when a Debian package is missing, and its name.
_DEBIAN_PACKAGES = {
    r"pg_config|libpq-fe\.h|-lpq\b": "libpq-dev",
    r"mysql_config|mysql\.h|mariadb_config|valid pkg-config name": "default-libmysqlclient-dev pkg-config",
    r"[Pp]kg-config.*(?:not found|No such file)": "pkg-config",
    r"Python\.h": "python3-dev",
    r"ffi\.h": "libffi-dev",
    r"openssl/": "libssl-dev",
    r"xmlsec": "libxmlsec1-dev pkg-config",
    r"libxml|libxslt|xslt-config": "libxml2-dev libxslt1-dev",
    r"ldap\.h|lber\.h|sasl\.h": "libldap-dev libsasl2-dev",
    r"jpeglib\.h|headers or library files could not be found for jpeg": "libjpeg-dev zlib1g-dev",
    r"zlib\.h": "zlib1g-dev",
    r"gdal-config|gdal\.h": "libgdal-dev",
    r"acl/libacl\.h|sys/acl\.h": "libacl1-dev",
    r"cairo\.h|'cairo'": "libcairo2-dev pkg-config",
    r"girepository|gobject": "libgirepository1.0-dev pkg-config",
    r"magic\.h": "libmagic-dev",
    r"unable to execute '[\w-]*(?:gcc|cc)'|command '[\w/-]*(?:gcc|cc)' failed: No such file": "build-essential",
    r"unable to execute '[\w-]*\+\+'|command '[\w/-]*\+\+' failed: No such file": "build-essential",
    r"[Rr]ust(?:c)? .*(?:not found|not installed)|cargo.*not (?:found|installed)|can't find Rust compiler": "rustc cargo",
    r"cmake.*not found|CMake must be installed": "cmake",
}
_OLD_SETUPTOOLS = re.compile(r"No module named '?(?:pkg_resources|distutils|imp)\b")


class Wheels:
    """Collects the wheels of a selection into a folder."""

    def __init__(self, tree: Tree, resolver: Resolver, place: Workplace) -> None:
        """Built wheels are kept and used again."""
        self.tree, self.resolver, self.place = tree, resolver, place
        self.indexes, self.work, self.kept = place.indexes, place.work, place.dest / "wheels"
        self._constraints = self.work / "build-constraints.txt"
        self._constraints.write_text("".join(f"{line}\n" for line in place.build_constraints))

    def collect(self, selection: Selection, target: Target, wheels: Path) -> str:
        """Fill the folder, and return the requirements that install from it, with hashes."""
        wheels.mkdir(parents=True, exist_ok=True)
        lines, downloads = [], []
        for package, artifact in selection:
            match artifact:
                case PackageWheel() if artifact.path:
                    lines.append(_requirement(self._copied(artifact.path, wheels)))
                case PackageWheel():
                    _, version, _, _ = parse_wheel_filename(artifact.filename)
                    line = f"{package.name}=={version} {_hashes(artifact)}"
                    lines.append(line)
                    downloads.append(line)
                case PackageArchive() if artifact.url and urlsplit(artifact.url).path.endswith(".whl"):
                    _, version, _, _ = parse_wheel_filename(unquote(urlsplit(artifact.url).path.rpartition("/")[2]))
                    lines.append(f"{package.name}=={version} {_hashes(artifact)}")
                    downloads.append(f"{package.name} @ {artifact.url} {_hashes(artifact)}")
                case PackageDirectory():
                    lines.append(_requirement(self._built_directory(package, artifact, target, wheels)))
                case _:
                    lines.append(_requirement(self._built(package, artifact, target, wheels)))
        self._download(downloads, target, wheels)
        return "\n".join(sorted(set(lines))) + "\n"

    def _download(self, lines: list[str], target: Target, wheels: Path) -> None:
        if not lines:
            return
        requirements = self.work / "downloads.txt"
        requirements.write_text("\n".join(lines) + "\n")
        run(
            [
                *[sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"],
                *["--require-hashes", "--implementation=cp", f"--python-version={target.short}"],
                *[f"--platform={name}" for name in target.platforms],
                *[f"--dest={wheels}", f"--requirement={requirements}"],
            ],
            env=self.indexes.env,
            failed="The wheels of the dependencies cannot be downloaded",
            advice="If the index is another one than PyPI: app_index_url and app_extra_index_urls, with vault_index_logins.",
        )

    def _copied(self, path: str, wheels: Path) -> Path:
        return Path(shutil.copy2(self.tree.path / path, wheels))

    # ---- what has no wheel

    def _built_directory(self, package: Package, artifact: PackageDirectory, target: Target, wheels: Path) -> Path:
        folder = self.resolver.directory(artifact)
        if artifact.subdirectory:
            folder = folder / artifact.subdirectory
        source = folder
        if self.tree.git and folder.is_relative_to(self.tree.path.resolve()):
            # A build leaves files behind, which the next one would pack: it gets a copy.
            copy = Path(tempfile.mkdtemp(prefix="package-", dir=self.work))
            lay_out(entries(self.tree, self.tree.path), copy)
            # For versions that are read from git.
            (copy / ".git").write_text(f"gitdir: {self.tree.git}\n")
            source = copy / folder.relative_to(self.tree.path.resolve())
        with tempfile.TemporaryDirectory(dir=self.work) as out:
            run(
                [
                    *[self.place.uv, "build", "--quiet", "--wheel", f"--out-dir={out}", "--no-create-gitignore"],
                    *[f"--python={self._interpreter(target)}", f"--build-constraints={self._constraints}", source],
                ],
                env={**self.indexes.env, "GIT_OPTIONAL_LOCKS": "0", "UV_PYTHON_DOWNLOADS": "never"},
                failed=f"The package {package.name} of the checkout ({artifact.path}) cannot be built",
            )
            [wheel] = Path(out).glob("*.whl")
            self._refuse_foreign(package.name, wheel, target)
            return Path(shutil.copy2(wheel, wheels))

    def _built(self, package: Package, artifact: Artifact, target: Target, wheels: Path) -> Path:
        kept = self.kept / _key(artifact, target, self.place.distribution, self._constraints.read_text())
        if not list(kept.glob("*.whl")):
            self._build(package, artifact, target, kept)
        [wheel] = kept.glob("*.whl")
        return Path(shutil.copy2(wheel, wheels))

    def _build(self, package: Package, artifact: Artifact, target: Target, kept: Path) -> None:
        self.place.require_packages()
        name = f"{package.name} {package.version or ''}".strip()
        requirements = self.work / "build.txt"
        match artifact:
            case PackageSdist() if artifact.path:
                line = f"{package.name} @ {(self.tree.path / artifact.path).resolve().as_uri()} {_hashes(artifact)}"
            case PackageSdist():
                line = f"{package.name}=={package.version} {_hashes(artifact)}"
            case PackageArchive():
                url = artifact.url or (self.tree.path / str(artifact.path)).resolve().as_uri()
                line = f"{package.name} @ {url} {_hashes(artifact)}"
            case PackageVcs():
                folder = f"#subdirectory={artifact.subdirectory}" if artifact.subdirectory else ""
                line = f"{package.name} @ {artifact.type}+{artifact.url}@{artifact.commit_id}{folder}"
            case _:
                raise PackingError(f"{name} comes in a form that cannot be built: {type(artifact).__name__}.")
        requirements.write_text(line + "\n")
        with tempfile.TemporaryDirectory(dir=self.work) as out:
            try:
                run(
                    [
                        *[sys.executable, "-m", "pip", f"--python={self._interpreter(target)}", "wheel"],
                        *["--no-deps", f"--no-binary={package.name}", f"--wheel-dir={out}"],
                        *[f"--build-constraint={self._constraints}", f"--requirement={requirements}"],
                    ],
                    env=self.indexes.env,
                    failed=f"{name} has no wheel for Python {target.short} on {target.machine}, and building it from source failed",
                )
            except PackingError as error:
                raise PackingError(f"{error}\n{self._advice(error.output, target)}", error.output) from None
            [wheel] = Path(out).glob("*.whl")
            self._refuse_foreign(package.name, wheel, target)
            kept.mkdir(parents=True, exist_ok=True)
            shutil.copy2(wheel, kept)

    def _interpreter(self, target: Target) -> Path:
        return self.place.interpreters.get(target.short, Path(sys.executable))

    def _advice(self, output: str, target: Target) -> str:
        """What to do about a failed build."""
        packages = [names for pattern, names in _DEBIAN_PACKAGES.items() if re.search(pattern, output)]
        advice = []
        if packages:
            listed = " ".join(dict.fromkeys(" ".join(packages).split()))
            advice.append(
                f"The controller lacks what it is compiled with. Type: sudo apt-get install {listed}\n"
                f"and write it down: app_build_packages: [{', '.join(listed.split())}]"
            )
        if _OLD_SETUPTOOLS.search(output):
            advice.append('It needs an older setuptools to be built: app_build_constraints: ["setuptools<81"]')
        if target.short not in self.place.interpreters:
            advice.append(
                f"It was tried with the controller's Python {platform.python_version()}; "
                f"the hosts have {target.short}, which the controller lacks. Type: uv python install {target.short}"
            )
        return "\n".join(advice) or (
            "Name the Debian packages that it is built with in app_build_packages, or depend on a release of it that has wheels."
        )

    def _refuse_foreign(self, name: str, wheel: Path, target: Target) -> None:
        """Refuse a compiled wheel from another system than the hosts': it would fail when it is imported."""
        *_, found = parse_wheel_filename(wheel.name)
        if all(tag.platform == "any" for tag in found) and found & set(target.tags):
            return
        here = f"{_distribution()} {platform.machine()}"
        hosts = f"{self.place.distribution} {target.machine}"
        if here == hosts and found & set(target.tags):
            return
        if here == hosts:
            what = f"the controller lacks the hosts' Python {target.short}. Type: uv python install {target.short}"
        else:
            what = f"the controller ({here}) is not like the hosts ({hosts}). Deploy from a controller that is"
        raise PackingError(
            f"{name} has no wheel for Python {target.short} and is compiled from source, but {what}.\n"
            f"Or depend on a variant of {name} that has wheels, such as psycopg[binary] for psycopg[c]."
        )


def _distribution() -> str:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return platform.system()
    return f"{release.get('NAME', '').partition(' ')[0]} {release.get('VERSION_ID', '').partition('.')[0]}"


def _hashes(artifact: PackageWheel | PackageSdist | PackageArchive) -> str:
    return " ".join(f"--hash={algorithm}:{value}" for algorithm, value in sorted(artifact.hashes.items()))


def _requirement(wheel: Path) -> str:
    """The requirement that installs exactly this file."""
    name, version, _, _ = parse_wheel_filename(wheel.name)
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"


def _key(artifact: Artifact, target: Target, distribution: str, constraints: str) -> str:
    """Where the wheel that was built from a source is kept."""
    match artifact:
        case PackageVcs():
            source = f"{artifact.url}@{artifact.commit_id}#{artifact.subdirectory}"
        case PackageSdist() | PackageArchive():
            source = str(sorted(artifact.hashes.items()))
        case _:
            source = repr(artifact)
    digest = hashlib.sha256(f"{source}\0{constraints}".encode()).hexdigest()[:16]
    return f"{digest}-{target.short}-{target.machine}-{distribution.replace(' ', '').lower()}"
