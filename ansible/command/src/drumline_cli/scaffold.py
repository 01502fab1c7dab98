"""The folder deploy/ of a project: what init writes, and what a later init would change."""

from __future__ import annotations

import difflib
import re
import shutil
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from drumline_cli import bundle, project, vault
from drumline_cli.errors import Failure
from drumline_cli.source import FromEnvironment, Unknown
from drumline_cli.variables import read_yaml

if TYPE_CHECKING:
    from drumline_cli.survey import Queue, Survey


ENVIRONMENT = "production"
GROUPS = ("web", "worker", "beat", "flower", "redis", "postgresql")
PLACEHOLDER_HOST = "app1.example.com"
# What the checkout says. The rest of the contract is the user's, and a later init leaves it alone.
_READ = {
    "app_root",
    "app_dependencies",
    "app_wsgi",
    "app_asgi",
    "app_celery",
    "app_settings_module",
}
_LONGEST_KEY = 20
# Of Debian 12 and 13.
DEBIAN_PYTHONS = ("3.11", "3.13")
# What a variable of the environment holds, by its name.
_FIELDS = (
    (r"(DB|DATABASE|SQL)_?ENGINE$", "django.db.backends.postgresql"),
    (r"(DB|DATABASE|POSTGRES\w*|PG|SQL)_?(NAME|DB|DATABASE)$", "{database.name}"),
    (r"(DB|DATABASE|POSTGRES\w*|PG|SQL)_?(HOST|SERVER)$", "{database.host}"),
    (r"(DB|DATABASE|POSTGRES\w*|PG|SQL)_?PORT$", "{database.port}"),
    (r"(DB|DATABASE|POSTGRES\w*|PG|SQL)_?(USER|USERNAME)$", "{database.user}"),
    (r"(DB|DATABASE|POSTGRES\w*|PG|SQL)_?(PASS|PASSWORD|PW)$", "{database.password}"),
    (r"(DB|DATABASE|POSTGRES\w*|PG|SQL)_?(URL|URI|DSN)$", "{database.url}"),
    (r"(BROKER|AMQP|CELERY)_?\w*(URL|URI)$", "{broker_url}"),
    (r"SECRET_KEY$", "{secret_key}"),
    (r"ALLOWED_HOSTS$", "{hosts}"),
    (r"(CSRF_)?TRUSTED_ORIGINS$", "{origins}"),
    (r"^(DJANGO_|APP_)?(SITE|BASE|PUBLIC)_URL$", "{site_url}"),
    (r"STATIC_ROOT$", "{static_root}"),
    (r"MEDIA_ROOT$", "{media_root}"),
    (r"(TIME_ZONE|^TZ)$", "{time_zone}"),
)
# Another database than the project's.
_ANOTHER = re.compile(r"(^|_)(TEST|REPLICA|READ|READONLY|LEGACY|OLD)_")
# What a setting holds on the hosts, whatever the project calls the variable of the environment that it is read from.
_SETTINGS = {
    "SECRET_KEY": "{secret_key}",
    "ALLOWED_HOSTS": "{hosts}",
    "CSRF_TRUSTED_ORIGINS": "{origins}",
    "EMAIL_HOST": "{email.host}",
    "EMAIL_PORT": "{email.port}",
    "EMAIL_USE_TLS": "{email.use_tls}",
    "EMAIL_HOST_USER": "{email.user}",
    "EMAIL_HOST_PASSWORD": "{email.password}",
    "DEFAULT_FROM_EMAIL": "{email.from}",
    "CELERY_BROKER_URL": "{broker_url}",
}
# Programs of build steps, and the packages that they need.
_BUILD_TOOLS = {"npm": "npm", "django-admin compilemessages": "gettext"}
_CACHE_MB = 64
_DATABASE = ("ENGINE", "HOST", "PORT", "NAME", "USER", "PASSWORD")
# An engine that adds to Django's for PostgreSQL stays.
_POSTGRESQL = re.compile(r"postg|psql")
# What settings hold as long as nobody has chosen a mail server.
_NO_MAIL_SERVER = ("", "localhost", "127.0.0.1")
_EMAIL = {
    "EMAIL_HOST": "{{ app_email.host }}",
    "EMAIL_PORT": "{{ app_email.port }}",
    "EMAIL_USE_TLS": "{{ app_email.use_tls }}",
    "EMAIL_HOST_USER": "{{ app_email.user }}",
    "EMAIL_HOST_PASSWORD": "{email.password}",
    "DEFAULT_FROM_EMAIL": "{email.from}",
}
# What a queue's name says of its share of the CPU; 100 is the usual one.
_WEIGHTS = (
    ({"high", "urgent", "priority", "critical", "fast", "interactive"}, 400),
    ({"low", "bulk", "slow", "long", "background", "batch", "maintenance"}, 25),
)


@dataclass(slots=True)
class Answers:
    """What the checkout does not say."""

    hosts: list[str] = field(default_factory=lambda: [PLACEHOLDER_HOST])
    user: str = "admin"
    site_names: list[str] = field(default_factory=list)
    admin_email: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """One variable of a file, with the sentence above it."""

    name: str
    value: Any
    comment: str = ""

    def text(self) -> str:
        """Return it as YAML."""
        dumped = yaml.safe_dump({self.name: self.value}, sort_keys=False, width=1000, allow_unicode=True)
        return (f"# {self.comment}\n" if self.comment else "") + dumped


def contract(survey: Survey) -> list[Block]:
    """Return the contract of a project: a dozen variables, and those in which it differs from most."""
    title = re.sub(r"[_-]+", " ", survey.name).title()
    return [
        Block("app_name", title, "Display name."),
        Block("app_source", "{{ inventory_dir | dirname }}", "This checkout."),
        Block("app_root", survey.root, "The folder that ships to the hosts, where imports begin."),
        *(
            []
            if survey.manage == "manage.py"
            else [Block("app_manage", survey.manage, "What runs management commands.")]
        ),
        Block("app_dependencies", survey.dependencies[0].value),
        *_packages(survey),
        Block("app_settings_module", survey.settings[0].value),
        _celery(survey),
        *_server(survey),
        Block(
            "app_ledger",
            # Without the ledger Django's own tasks have nothing that runs them.
            "project" if survey.has("drumline") else not survey.celery,
            "true adds drumline to the settings at deploy, which makes tasks durable; project: they have it themselves.",
        ),
        *_health(survey),
        *_files(survey),
        *_overrides(survey),
        *_environment(survey),
        *_others(survey),
        Block("app_large_bodies_kb", {}, "Paths that accept uploads above 1 MB, with their limit in KB."),
        Block("fleet_artefacts", "{{ inventory_dir }}/.artefacts", "Builds are kept here."),
    ]


def _celery(survey: Survey) -> Block:
    if survey.celery:
        return Block("app_celery", survey.celery[0].value)
    return Block("app_celery", "", "The project has none; Drumline's runs the tasks of django.tasks.")


def _packages(survey: Survey) -> list[Block]:
    blocks = []
    if survey.python and (version := _python(survey.python.value)):
        blocks.append(Block("app_python", version, "Version of Python, shipped with each release."))
    if survey.builds:
        steps = ["npm ci && npm run build" if step.value.startswith("npm") else step.value for step in survey.builds]
        tools = [package for name, package in _BUILD_TOOLS.items() if any(step.startswith(name) for step in steps)]
        blocks.append(Block("app_build_packages", tools, "Debian packages that this machine needs for it."))
        blocks.append(Block("app_build_commands", steps, "Run once on this machine; what they make is deployed."))
    return blocks


def _python(wanted: str) -> str:
    """Return the newest Python that a project accepts, or nothing if it accepts one of the hosts'."""
    # A bare version is a pin, and ^ is Poetry's.
    text = re.sub(r"^(\d+\.\d+)(\.\d+)?$", r"==\1.*", wanted.replace("^", ">=").strip())
    try:
        accepted = SpecifierSet(text)
    except InvalidSpecifier:
        return ""
    if any(accepted.contains(f"{version}.99") for version in DEBIAN_PYTHONS):
        return ""
    return next((f"3.{minor}" for minor in range(14, 8, -1) if accepted.contains(f"3.{minor}.99")), "")


def _server(survey: Survey) -> list[Block]:
    if survey.asynchronous:
        blocks = [Block("app_server", "asgi"), Block("app_asgi", survey.asgi[0].value)]
        if survey.websockets:
            blocks.append(Block("app_websockets", survey.sockets or ["/ws/"], "Paths of websockets, as prefixes."))
        return blocks
    if not survey.wsgi:
        return [Block("app_wsgi", "django.core.wsgi:get_wsgi_application()", "The project has none of its own.")]
    return [Block("app_wsgi", survey.wsgi[0].value)]


def _health(survey: Survey) -> list[Block]:
    if survey.health:
        return [Block("app_health_path", survey.health.value, "Path that answers 200 when the site works.")]
    # With a ledger the playbooks know a path of their own; without one they look at /.
    return []


def _files(survey: Survey) -> list[Block]:
    blocks = []
    static, media = survey.folder("STATIC_ROOT"), survey.folder("MEDIA_ROOT")
    if "STATIC_ROOT" not in survey.values:
        # Drumline sets it at deploy, unless the settings are the project's alone.
        if survey.has("drumline"):
            blocks.append(Block("app_static_root", "", "The settings have no STATIC_ROOT; nothing is collected."))
        elif (survey.top / "static").is_dir():
            blocks.append(Block("app_static_root", "staticfiles", "Folder that collectstatic fills."))
    elif static and static != "static":
        blocks.append(Block("app_static_root", static, "Folder that collectstatic fills."))
    elif not static and (survey.top / "static").is_dir():
        blocks.append(Block("app_static_root", "staticfiles", "Folder that collectstatic fills."))
    if media or _is_elsewhere(survey, "MEDIA_ROOT"):
        blocks.append(
            Block("app_media_root", media or "media", "Folder of uploaded files, kept through every release.")
        )
    logs = [path.parent for path in survey.log_files()]
    if folders := [path for path in dict.fromkeys(logs) if survey.ships(path)]:
        names = [str(path.relative_to(survey.top)) for path in folders]
        blocks.append(
            Block("app_writable", names, "Folders that the project writes; the rest of a release is read-only.")
        )
    return blocks


def _is_elsewhere(survey: Survey, setting: str) -> bool:
    """Whether a folder is set, and not to one of the checkout."""
    named = survey.values.get(setting)
    return named is not None and named.value not in ("", None) and survey.folder(setting) is None


def _overrides(survey: Survey) -> list[Block]:
    """Settings that are right on a developer's machine and wrong on a host."""
    caches = _caches(survey)
    overrides = {**_site(survey), **_database(survey), **_mail(survey)}
    if not survey.celery and not survey.has("drumline"):
        overrides["TASKS"] = {
            "default": {"BACKEND": "drumline.tasks_backend.LedgerBackend", "QUEUES": list(survey.queues)}
        }
    for setting in ("STATIC_ROOT", "MEDIA_ROOT"):
        if _is_elsewhere(survey, setting):
            overrides[setting] = f"{{{setting.lower()}}}"
    if caches and all(str(cache.get("LOCATION")).startswith("redis") for cache in caches.values()):
        overrides["CACHES"] = {name: _literal(cache) | {"LOCATION": "{cache_url}"} for name, cache in caches.items()}
    if layers := _layers(survey):
        overrides["CHANNEL_LAYERS"] = layers
    cached = [Block("app_cache_mb", _CACHE_MB, "Memory of a Redis for the cache, apart from the broker's.")]
    wanted = (
        caches
        or layers
        or {"REDIS_URL", "CACHE_URL"} & set(survey.environment)
        or "{cache_url}" in _provided(survey).values()
    )
    return [
        *(cached if wanted else []),
        *([Block("app_settings", overrides, "Settings that differ on the hosts.")] if overrides else []),
    ]


def _site(survey: Survey) -> dict[str, Any]:
    overrides: dict[str, Any] = {}
    debug = survey.values.get("DEBUG")
    # bool() of any text but the empty one is true.
    if debug and (debug.value is True or getattr(debug.value, "made", "") == "bool"):
        overrides["DEBUG"] = False
    for setting, value in (
        ("ALLOWED_HOSTS", "{{ app_site_names }}"),
        ("CSRF_TRUSTED_ORIGINS", "{{ app_site_names | map('regex_replace', '^', 'https://') | list }}"),
    ):
        found = survey.values[setting].value if setting in survey.values else None
        if isinstance(found, FromEnvironment):
            # The hosts' names come with commas between them.
            replaced = found.made not in ("", ",")
        elif isinstance(found, list):
            replaced = "*" not in found and not _from_environment(found)
        else:
            replaced = isinstance(found, Unknown) and setting == "ALLOWED_HOSTS"
        if replaced:
            overrides[setting] = value
    if str(survey.fixed("SITE_URL")).startswith("http"):
        overrides["SITE_URL"] = "{site_url}"
    if isinstance(survey.fixed("SECRET_KEY"), str):
        overrides["SECRET_KEY"] = "{secret_key}"  # noqa: S105 - a field of the playbooks'
    return overrides


def _database(survey: Survey) -> dict[str, Any]:
    default = _default_database(survey)
    if not default or not all(isinstance(default.get(key, ""), (str, Path)) for key in ("ENGINE", "NAME", "HOST")):
        return {}
    databases = {key: f"{{database.{key.lower()}}}" for key in _DATABASE}
    kept = _literal(default)
    engine = str(default.get("ENGINE", ""))
    if _POSTGRESQL.search(engine):
        databases["ENGINE"] = engine
    else:
        kept.pop("OPTIONS", None)
    return {"DATABASES": {"default": kept | databases}}


def _default_database(survey: Survey) -> dict[str, Any]:
    databases = survey.fixed("DATABASES")
    default = databases.get("default") if isinstance(databases, dict) else None
    return default if isinstance(default, dict) else {}


def _literal(values: dict[str, Any]) -> dict[str, Any]:
    """The entries of a setting that its text states."""
    return {
        key: inner
        for key, value in values.items()
        if isinstance(inner := _literal(value) if isinstance(value, dict) else value, (str, int, float, dict))
    }


def _mail(survey: Survey) -> dict[str, Any]:
    if survey.fixed("EMAIL_HOST") not in _NO_MAIL_SERVER:
        return {}
    return {
        name: value
        for name, value in _EMAIL.items()
        if name not in survey.values
        or (survey.fixed(name) is not None and not (name == "DEFAULT_FROM_EMAIL" and survey.fixed(name)))
    }


def _from_environment(values: list[Any]) -> bool:
    return any(isinstance(value, FromEnvironment) for value in values)


def _layers(survey: Survey) -> dict[str, Any]:
    """Return CHANNEL_LAYERS with the hosts' Redis if all of them are kept in another one."""
    layers = survey.fixed("CHANNEL_LAYERS")
    found = {}
    for name, layer in layers.items() if isinstance(layers, dict) else ():
        config = layer.get("CONFIG") if isinstance(layer, dict) else None
        if "channels_redis" not in str(layer) or not isinstance(config, dict):
            return {}
        hosts = config.get("hosts")
        if not isinstance(hosts, list) or _from_environment(hosts):
            return {}
        found[name] = {"BACKEND": layer["BACKEND"], "CONFIG": _literal(config) | {"hosts": ["{cache_url}"]}}
    return found


def _caches(survey: Survey) -> dict[str, Any]:
    """Return CACHES if all of them are kept in Redis."""
    caches = survey.fixed("CACHES")
    named = caches if isinstance(caches, dict) else {}
    in_redis = [isinstance(cache, dict) and "redis" in str(cache.get("BACKEND")).lower() for cache in named.values()]
    return named if all(in_redis) else {}


def _environment(survey: Survey) -> list[Block]:
    provided = _provided(survey)
    unknown = [name for name in survey.required if name not in _usual() and name not in provided]
    mapped = provided | {name: field for name in [*unknown, *_of_database(survey)] if (field := _field(name))}
    rest = [name for name in unknown if name not in mapped]
    hidden = [name for name in rest if vault.is_secret(name)]
    plain: dict[str, str | None] = {name: None for name in rest if name not in hidden}
    if survey.configuration:
        plain["DJANGO_CONFIGURATION"] = survey.configuration.value
    names = "Names under which the project reads what the hosts provide."
    return [
        *([Block("app_environment", mapped, names)] if mapped else []),
        Block("app_env", plain, "Further variables of the environment; those that are null must be set."),
        Block(
            "app_secrets",
            {name: f"{{{{ vault_{name.lower()} }}}}" for name in hidden},
            "The same, secret. Values belong in the vault: drumline secrets edit",
        ),
    ]


def _usual() -> dict[str, str]:
    """Return the variables of the environment that hosts always set."""
    return read_yaml(bundle.ansible() / "group_vars" / "all" / "wiring.yml").get("fleet_environment") or {}


def _provided(survey: Survey) -> dict[str, str]:
    """Return the templates of those variables of the environment from which a setting is read that the hosts know."""
    found: dict[str, str] = {}

    def add(value: Any, template: str) -> None:
        if isinstance(value, FromEnvironment) and value.name not in _usual():
            found[value.name] = template

    for setting, template in _SETTINGS.items():
        if setting in survey.values:
            add(survey.values[setting].value, template)
    for key in _DATABASE:
        add(_default_database(survey).get(key), f"{{database.{key.lower()}}}")
    for cache in _caches(survey).values():
        add(cache.get("LOCATION"), "{cache_url}")
    results = survey.values["CELERY_RESULT_BACKEND"].value if "CELERY_RESULT_BACKEND" in survey.values else None
    if isinstance(results, FromEnvironment):
        if not results.has_default or str(results.default).startswith("redis"):
            add(results, "{broker_url}")
    elif str(results).startswith("redis"):
        # This variable beats what the settings say.
        found["CELERY_RESULT_BACKEND"] = "{broker_url}"
    return found | _debug(survey)


def _debug(survey: Survey) -> dict[str, str]:
    debug = survey.values["DEBUG"].value if "DEBUG" in survey.values else None
    if not isinstance(debug, FromEnvironment):
        return {}
    # What is no number would end the process, and what is not empty would count as true.
    text = {"int": "0", "bool": ""}.get(debug.made, "{debug}")
    return {} if debug.name in _usual() and text == "{debug}" else {debug.name: text}


def _of_database(survey: Survey) -> list[str]:
    """Return the variables that are about a database, where code makes DATABASES of them that only running would tell."""
    if _default_database(survey) or any("database" in _usual().get(name, "") for name in survey.environment):
        return []
    return [name for name in survey.environment if _field(name).startswith("{database.")]


def _field(name: str) -> str:
    """Return the template for a variable of the environment, by what its name says."""
    if _ANOTHER.search(name):
        return ""
    return next((template for pattern, template in _FIELDS if re.search(pattern, name)), "")


def _others(survey: Survey) -> list[Block]:
    blocks = []
    daemons = {key_of(choice.name or "process"): {"command": choice.value} for choice in survey.processes}
    if daemons:
        blocks.append(Block("app_daemons", daemons, "Processes that always run, beside web, workers and beat."))
    timers: dict[str, Any] = {}
    for choice in survey.crons:
        if entry := timer(choice.value):
            name, command, calendar = entry
            timers[key_of(name)] = {"command": command, "calendar": calendar}
    if timers:
        blocks.append(Block("app_timers", timers, "Commands that run at set times, as systemd.time(7) writes them."))
    return blocks


def timer(line: str) -> tuple[str, str, str] | None:
    """Return name, command and systemd's calendar of a crontab's line that runs a management command."""
    match = re.match(r"(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s.*manage\.py\s+([\w-]+)((?:\s+[\w./=:-]+)*)", line)
    if not match:
        return None
    minute, hour, day, month, weekday = (_calendar(part) for part in match.groups()[:5])
    days = ",".join(_weekdays(weekday)) if weekday != "*" else ""
    arguments = match[7].split(" >")[0].rstrip()
    command = f"python manage.py {match[6]}{arguments}"
    return match[6], command, f"{days} *-{month}-{day} {hour}:{minute}:00".strip()


def _calendar(part: str) -> str:
    return re.sub(r"^\*/", "0/", part).replace("-", "..")


def _weekdays(part: str) -> list[str]:
    names = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    return [
        ".".join(names[int(one)] if one.isdigit() else one.title() for one in each.split("."))
        for each in part.split(",")
    ]


def key_of(queue: str) -> str:
    """Return the name of a queue's units: lower-case letters, digits and _."""
    return re.sub(r"[^a-z0-9]+", "_", queue.lower()).strip("_0123456789")[:_LONGEST_KEY] or "queue"


def queue_entry(key: str, queue: Queue, count: int) -> dict[str, Any]:
    """Return a queue's numbers: the project's own limits where it states them, and a memory that fits many queues."""
    soft = queue.soft_time_limit or (max(queue.time_limit - 60, queue.time_limit // 2) if queue.time_limit else 300)
    hard = queue.time_limit if queue.time_limit > soft else soft + max(30, soft // 5)
    crowded = count > 3  # noqa: PLR2004 - more queues than the example has
    return {
        **({"queue": queue.name} if key != queue.name else {}),
        "instances": 2,
        "concurrency": 1 if crowded else 2,
        "prefetch": 1,
        "soft_time_limit": soft,
        "time_limit": hard,
        "drain_timeout": hard + 60,
        "memory_mb": 256 if crowded else 384,
        "cpu_weight": next((weight for names, weight in _WEIGHTS if names & set(key.split("_"))), 100),
    }


def processes(survey: Survey) -> Block:
    """Return the process model of a project's queues."""
    entries: dict[str, Any] = {}
    for queue in survey.queues.values():
        key, number = key_of(queue.name), 1
        while key in entries:
            number += 1
            key = f"{key_of(queue.name)}_{number}"
        entries[key] = queue_entry(key, queue, len(survey.queues))
    return Block(
        "app_queues",
        entries,
        "Queues, each with its own workers. soft_time_limit < time_limit < drain_timeout, in seconds; memory_mb is per instance.",
    )


def inventory(environment: str, groups: dict[str, list[str]], comment: str) -> str:
    """Return the file of an inventory's hosts."""
    children = {group: {"hosts": dict.fromkeys(hosts)} for group, hosts in groups.items()}
    lines = ["---", f"# {comment}", "project:", "  children:", f"    {environment}:", "      children:"]
    for group, entry in children.items():
        hosts = ", ".join(f"{host}: " for host in entry["hosts"])
        lines.append(f"        {group}: {{hosts: {{{hosts}}}}}")
    return "\n".join(lines) + "\n"


def local_host(survey: Survey) -> str:
    """Return the name of the project's own test host."""
    return re.sub(r"[^a-z0-9]+", "-", survey.name.lower()).strip("-")[:40] + "-local"


def files(survey: Survey, answers: Answers) -> dict[str, str]:
    """Return the text of every file of deploy/ but the vault and its password."""
    sites = answers.site_names or [answers.hosts[0]]
    beat = answers.hosts[:1]
    production = [
        Block("ansible_user", answers.user, "User who may use sudo on the hosts."),
        Block("app_site_names", sites, "Names that the site answers to; the first is its canonical name."),
        Block(
            "app_admin_email",
            answers.admin_email,
            "Who may sign in first, with vault_admin_password; empty creates nobody.",
        ),
        Block(
            "app_email",
            {"host": "127.0.0.1", "port": 25, "use_tls": False, "user": "", "from": f"noreply@{sites[0]}"},
            "How the application sends e-mail; the password is vault_email_password.",
        ),
    ]
    name = local_host(survey)
    one = dict.fromkeys(("web", "worker"), answers.hosts) | dict.fromkeys(GROUPS[2:], beat)
    return {
        f"{ENVIRONMENT}.yml": inventory(
            ENVIRONMENT,
            one,
            "The hosts, by what they run. A group may hold several; beat, redis and postgresql hold one.",
        ),
        f"{project.LOCAL}.yml": inventory(
            project.LOCAL, {group: [name] for group in (*GROUPS, "mail_catcher")}, "The test host of `drumline up`."
        ),
        "group_vars/project/contract.yml": _text("The project to deploy, on every inventory.", contract(survey)),
        "group_vars/project/processes.yml": _text("The processes, on every inventory.", [processes(survey)]),
        f"group_vars/{ENVIRONMENT}/main.yml": _text("What differs from other inventories.", production),
        f"group_vars/{project.LOCAL}/main.yml": LOCAL_VARIABLES,
        ".gitignore": GITIGNORE,
    }


def _text(first: str, blocks: list[Block]) -> str:
    return "\n".join(["---", f"# {first}", "", *(block.text() for block in blocks)]).rstrip("\n") + "\n"


GITIGNORE = """\
# What must never be in git.
/.vault-password
/secrets/
/.local/
# What can be built again.
/.artefacts/
*.retry
"""

LOCAL_VARIABLES = """\
---
# The test host of `drumline up`: a container on this machine that stands in for a server.
ansible_host: 127.0.0.1
ansible_port: 2222
ansible_user: admin
ansible_private_key_file: "{{ inventory_dir }}/.local/ssh/id_ed25519"
ansible_ssh_common_args: >-
  -o UserKnownHostsFile="{{ inventory_dir }}/.local/ssh/known_hosts" -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes

app_site_names: [127.0.0.1, localhost, "{{ inventory_hostname }}"]
app_admin_email: admin@localhost.test
nginx_public_https_port: 8443
verify_url: "https://127.0.0.1:{{ nginx_public_https_port }}"

# E-mail stays on the host, in the mailbox of the mail catcher.
app_email: {host: 127.0.0.1, port: 1025, use_tls: false, user: "", from: noreply@localhost.test}

# Generated when they are first used.
fleet_secrets_directory: "{{ inventory_dir }}/.local/secrets"
vault_django_secret_key: "{{ lookup('ansible.builtin.password', fleet_secrets_directory ~ '/django_secret_key', length=64, chars=['ascii_letters', 'digits']) }}"
vault_postgresql_password: "{{ lookup('ansible.builtin.password', fleet_secrets_directory ~ '/postgresql_password', length=32, chars=['ascii_letters', 'digits']) }}"
vault_redis_app_password: "{{ lookup('ansible.builtin.password', fleet_secrets_directory ~ '/redis_app_password', length=32, chars=['ascii_letters', 'digits']) }}"
vault_redis_flower_password: "{{ lookup('ansible.builtin.password', fleet_secrets_directory ~ '/redis_flower_password', length=32, chars=['ascii_letters', 'digits']) }}"
vault_flower_password: "{{ lookup('ansible.builtin.password', fleet_secrets_directory ~ '/flower_password', length=32, chars=['ascii_letters', 'digits']) }}"
vault_admin_password: "{{ lookup('ansible.builtin.password', fleet_secrets_directory ~ '/admin_password', length=24, chars=['ascii_letters', 'digits']) }}"
vault_email_password: ""
"""


def write_all(checkout: Path, texts: dict[str, str]) -> list[Path]:
    """Write a new deploy/ with a new vault, as a whole or not at all. Returns the files."""
    target, unfinished = checkout / project.FOLDER, checkout / f".{project.FOLDER}.partial"
    shutil.rmtree(unfinished, ignore_errors=True)
    password = vault.new_password()
    try:
        for name, text in texts.items():
            (unfinished / name).parent.mkdir(parents=True, exist_ok=True)
            (unfinished / name).write_text(text)
        others = re.findall(r"\{\{ (vault_\w+) \}\}", texts["group_vars/project/contract.yml"])
        encrypted = vault.encrypt(vault.new_vault(others), password)
        vault.replace(unfinished / "group_vars" / ENVIRONMENT / "vault.yml", encrypted, 0o600)
        vault.replace(unfinished / project.PASSWORD_FILE, f"{password}\n", 0o600)
        if target.exists():
            _move_into(unfinished, target)
        else:
            unfinished.rename(target)
    except OSError as error:
        raise Failure(f"deploy/ cannot be written: {error.strerror}.", where=target, fix=f"ls -ld {checkout}") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    names = [*texts, f"group_vars/{ENVIRONMENT}/vault.yml", project.PASSWORD_FILE]
    return sorted(target / name for name in names)


def _move_into(folder: Path, target: Path) -> None:
    """Move files into a folder of the user's, which holds none of that name."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    taken = [target / path.relative_to(folder) for path in files if (target / path.relative_to(folder)).exists()]
    if taken:
        raise Failure(
            f"{project.FOLDER}/ holds {taken[0].relative_to(target)}, which is not an inventory of Drumline.",
            where=taken[0],
            fix=f"Rename it: git mv {project.FOLDER}/{taken[0].relative_to(target)} {project.FOLDER}/OTHER-NAME",
        )
    for path in files:
        place = target / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)


def proposals(checkout: Path, texts: dict[str, str]) -> dict[Path, str]:
    """Return the files of deploy/ that a new look at the checkout would change, with their new text.

    Values that the checkout does not say, and numbers of queues, are the user's.
    """
    changed = {}
    for name, text in texts.items():
        path = checkout / project.FOLDER / name
        before = path.read_text() if path.exists() else ""
        if not path.exists():
            after = text
        elif name.endswith("contract.yml"):
            after = _with_contract(before, text)
        elif name.endswith("processes.yml"):
            after = _with_queues(before, text)
        elif name == ".gitignore":
            missing = [line for line in text.splitlines() if line.startswith("/") and line not in before.splitlines()]
            after = before.rstrip("\n") + "\n" + "".join(f"{line}\n" for line in missing) if missing else before
        else:
            after = before
        if after != before:
            changed[path] = after
    return changed


def difference(path: Path, after: str, checkout: Path) -> str:
    """Return a change as a unified diff."""
    before = path.read_text().splitlines() if path.exists() else []
    name = str(path.relative_to(checkout))
    return "\n".join(
        difflib.unified_diff(before, after.splitlines(), name if before else "/dev/null", name, lineterm="")
    )


def _parts(text: str) -> dict[str, str]:
    """The variables of a file by name, each with its own lines and the comment above it."""
    parts: dict[str, str] = {}
    held: list[str] = []
    name = ""
    for line in text.splitlines(keepends=True):
        match = re.match(r"([A-Za-z_]\w*):", line)
        if match:
            name = match[1]
            parts[name] = "".join([*held, line])
            held = []
        elif line.startswith("#") or not line.strip():
            held.append(line)
        elif name:
            parts[name] += "".join([*held, line])
            held = []
    return parts


def _with_contract(before: str, text: str) -> str:
    wanted, held = _parts(text), _parts(before)
    after = before
    for name, block in wanted.items():
        if name not in held:
            after = after.rstrip("\n") + "\n\n" + block.strip("\n") + "\n"
        elif name in _READ and yaml.safe_load(held[name]) != yaml.safe_load(block):
            # A function, since a replacement's backslashes mean something.
            line = block.strip("\n").splitlines()[-1]
            after = re.sub(rf"(?m)^{name}:.*(\n[ -].*)*$", partial(_same, line), after)
    return after


def _same(text: str, _: re.Match[str]) -> str:
    return text


def _with_queues(before: str, text: str) -> str:
    wanted = (yaml.safe_load(text) or {}).get("app_queues", {})
    held = (yaml.safe_load(before) or {}).get("app_queues") or {}
    served = {str(entry.get("queue", key)) for key, entry in held.items() if isinstance(entry, dict)}
    missing = {key: entry for key, entry in wanted.items() if entry.get("queue", key) not in served and key not in held}
    if not missing:
        return before
    added = "".join(f"  {line}\n" for line in yaml.safe_dump(missing, sort_keys=False, width=1000).splitlines())
    part = _parts(before).get("app_queues")
    if part is None:
        return before.rstrip("\n") + "\n\napp_queues:\n" + added
    return before.replace(part, part.rstrip("\n") + "\n" + added)


def answers_of(checkout: Path) -> Answers:
    """Return the answers that an existing deploy/ holds."""
    answers = Answers()
    folder = checkout / project.FOLDER
    try:
        hosts = yaml.safe_load((folder / f"{ENVIRONMENT}.yml").read_text())
        web = hosts["project"]["children"][ENVIRONMENT]["children"]["web"]["hosts"]
        answers.hosts = [str(name) for name in web] or answers.hosts
        main = yaml.safe_load((folder / "group_vars" / ENVIRONMENT / "main.yml").read_text())
        answers.site_names = [str(name) for name in main.get("app_site_names") or []]
    except (OSError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        # Files of the user's own making hold no answers to take over.
        pass
    return answers
