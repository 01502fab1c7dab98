"""The contract follows from what the source says of a project."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from drumline_cli import scaffold
from drumline_cli.configuration import documented
from drumline_cli.survey import look
from tests.command.conftest import FIRST_STEPS, write

SETTINGS = dedent(FIRST_STEPS["proj/settings.py"])


@pytest.fixture
def contract(tmp_path: Path) -> Any:
    """The contract of First steps with some files in the place of its own, by variable."""

    def of(files: dict[str, str]) -> dict[str, Any]:
        write(tmp_path, FIRST_STEPS | files)
        return {block.name: block.value for block in scaffold.contract(look(tmp_path))}

    return of


def with_settings(text: str) -> dict[str, str]:
    return {"proj/settings.py": f"{SETTINGS}{text}\n"}


@pytest.mark.parametrize(
    ("settings", "variable", "value"),
    [
        ("DEBUG = True", "app_settings", {"DEBUG": False}),
        ("ALLOWED_HOSTS = []", "app_settings", {"ALLOWED_HOSTS": "{{ app_site_names }}"}),
        ("SECRET_KEY = 'insecure'", "app_settings", {"SECRET_KEY": "{secret_key}"}),
        ("STATIC_ROOT = '/var/www/static'", "app_settings", {"STATIC_ROOT": "{static_root}"}),
        (
            "from pathlib import Path\nBASE = Path(__file__).resolve().parent.parent\nSTATIC_ROOT = BASE / 'out' / 'static'",
            "app_static_root",
            "out/static",
        ),
        (
            "from pathlib import Path\nSTATIC_ROOT = Path(__file__).resolve().parents[1] / 'collected'",
            "app_static_root",
            "collected",
        ),
        (
            "BASE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))\nMEDIA_ROOT = os.path.join(BASE, 'media')",
            "app_media_root",
            "media",
        ),
        ("BROKER = os.environ['MY_BROKER_URL']", "app_environment", {"MY_BROKER_URL": "{broker_url}"}),
        (
            "LOGGING = {'handlers': {'file': {'filename': os.path.join(os.path.dirname(__file__), '..', 'log/a.log')}}}",
            "app_writable",
            ["log"],
        ),
        ("LOGGING = {'handlers': {'file': {'filename': '/var/log/a.log'}}}", "app_writable", None),
        ("HOOK = os.environ['HOOK_NAME']", "app_env", {"HOOK_NAME": None}),
        ("S3 = env.bool('USE_S3', False)\nif S3:\n    BUCKET = env('BUCKET')", "app_env", {}),
        ("S3 = env.bool('USE_S3', True)\nif S3:\n    BUCKET = env('BUCKET')", "app_env", {"BUCKET": None}),
        ("DEBUG = env.bool('DEBUG', True)\nif DEBUG:\n    A = env('A')\nelse:\n    B = env('B')", "app_env", {"B": None}),
        ("if os.environ.get('CACHE_BACKEND'):\n    PREFIX = env('CACHE_PREFIX')", "app_env", {}),
        ("if os.environ.get('CACHE_BACKEND'):\n    A = 1\nelse:\n    B = env('B')", "app_env", {"B": None}),
        ("env = environ.Env(TEAM=(str, 'Ours'), TOP=str)\nTEAM = env('TEAM')\nTOP = env('TOP')", "app_env", {"TOP": None}),
        ("NAME = os.environ['TEST_DB_NAME']", "app_env", {"TEST_DB_NAME": None}),
        ("os.environ['THREADS'] = '1'", "app_env", {}),
        ("ALLOWED_HOSTS = get_list_from_env('SHOP_HOSTS')", "app_environment", {"SHOP_HOSTS": "{hosts}"}),
        ("ALLOWED_HOSTS = [urlparse(SITE).hostname]", "app_settings", {"ALLOWED_HOSTS": "{{ app_site_names }}"}),
        ("ALLOWED_HOSTS = [os.environ['NAME']]", "app_settings", None),
        ("ALLOWED_HOSTS = os.environ.get('HOSTS', '').split(',')", "app_environment", {"HOSTS": "{hosts}"}),
        ("ALLOWED_HOSTS = os.environ['ALLOWED_HOSTS'].split()", "app_settings", {"ALLOWED_HOSTS": "{{ app_site_names }}"}),
        ("DEBUG = bool(os.environ.get('DEBUG', default=0))", "app_environment", {"DEBUG": ""}),
        ("DEBUG = bool(os.environ.get('DEBUG', default=0))", "app_settings", {"DEBUG": False}),
        ("DEBUG = int(os.environ.get('APP_DEBUG', 1))", "app_environment", {"APP_DEBUG": "0"}),
        ("DEBUG = os.environ.get('DEBUG') == '1'", "app_environment", None),
        ("CELERY_RESULT_BACKEND = 'redis://localhost:6379/0'", "app_environment", {"CELERY_RESULT_BACKEND": "{broker_url}"}),
        ("CELERY_RESULT_BACKEND = os.environ.get('RESULTS', 'django-db')", "app_environment", None),
        ("CELERY_RESULT_BACKEND = os.environ.get('RESULTS', None)", "app_environment", None),
        ("CELERY_BROKER_URL = os.environ.get('CELERY_BROKER', 'redis://redis')", "app_environment", {"CELERY_BROKER": "{broker_url}"}),
        ("BACKEND = os.environ['REDIS_URL']", "app_cache_mb", 64),
        ("PAYPAL = os.environ['PAYPAL_BASE_URL']", "app_env", {"PAYPAL_BASE_URL": None}),
        ("MEDIA_ROOT = '/data/uploads'", "app_settings", {"MEDIA_ROOT": "{media_root}"}),
        ("MEDIA_ROOT = os.environ.get('UPLOADS', 'uploads')", "app_media_root", "media"),
        (
            "CHANNEL_LAYERS = {'default': {'BACKEND': 'channels_redis.core.RedisChannelLayer', 'CONFIG': {'hosts': [('127.0.0.1', 6379)]}}}",
            "app_settings",
            {"CHANNEL_LAYERS": {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": ["{cache_url}"]}}}},
        ),
        ("CACHES = {'default': {'BACKEND': 'django_redis.cache.RedisCache', 'LOCATION': REDIS}}", "app_cache_mb", 64),
        ("CACHES = {'default': {'BACKEND': 'django.core.cache.backends.locmem.LocMemCache'}}", "app_cache_mb", None),
        (
            "CACHES = {'default': {'BACKEND': 'django_redis.cache.RedisCache', 'LOCATION': 'redis://127.0.0.1:6379/1', 'TIMEOUT': 60}}",
            "app_settings",
            {"CACHES": {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "{cache_url}", "TIMEOUT": 60}}},
        ),
        ("TOKEN = os.environ['BANK_TOKEN']", "app_secrets", {"BANK_TOKEN": "{{ vault_bank_token }}"}),
        ("TOKEN = os.environ.get('BANK_TOKEN')", "app_secrets", {}),
        ("INSTALLED_APPS += ['drumline']", "app_ledger", "project"),
        ("", "app_ledger", False),
    ],
)  # fmt: skip
def test_a_setting_decides_a_variable(contract: Any, settings: str, variable: str, value: object):
    assert contract(with_settings(settings)).get(variable) == value


def test_a_database_of_the_developer_s_machine_is_replaced(contract: Any):
    found = contract(
        with_settings("DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': 'db.sqlite3'}}")
    )
    assert found["app_settings"]["DATABASES"]["default"]["ENGINE"] == "{database.engine}"


def test_a_database_from_the_environment_is_left_alone(contract: Any):
    assert "DATABASES" not in contract({}).get("app_settings", {})


def test_a_database_that_code_makes_of_the_environment_gets_the_hosts(contract: Any):
    read = "return {'default': {'HOST': os.getenv('SHOP_DBHOST'), 'NAME': os.getenv('SHOP_DBNAME')}}"
    made = contract(
        {
            "proj/settings.py": "DEBUG = False\nROOT_URLCONF = 'proj.urls'\nfrom proj.databases import make\nDATABASES = make()\n",
            "proj/databases.py": f"def make():\n    {read}\n",
        }
    )

    assert made["app_environment"] == {"SHOP_DBHOST": "{database.host}", "SHOP_DBNAME": "{database.name}"}


def test_of_several_celery_applications_the_one_that_reads_the_settings_counts(contract: Any):
    made = contract({"proj/app.py": "from celery import Celery\n\napp = Celery('tasks', broker=BROKER)\n"})

    assert made["app_celery"] == "proj.celery:app"


def test_an_engine_for_postgresql_and_what_a_database_has_besides_are_kept(contract: Any):
    database = "{'ENGINE': 'django_tenants.postgresql_backend', 'NAME': 'shop', 'ATOMIC_REQUESTS': True}"
    default = contract(with_settings(f"DATABASES = {{'default': {database}}}"))["app_settings"]["DATABASES"]["default"]
    assert default["ENGINE"] == "django_tenants.postgresql_backend"
    assert (default["NAME"], default["ATOMIC_REQUESTS"]) == ("{database.name}", True)


def test_variables_with_a_default_are_set_by_what_they_are_for(contract: Any):
    database = "'ENGINE': os.environ.get('SQL_ENGINE', 'sqlite3'), 'NAME': os.environ.get('SQL_DATABASE', 'db.sqlite3')"
    found = contract(with_settings(f"DATABASES = {{'default': {{{database}}}}}"))
    assert found["app_environment"] == {"SQL_ENGINE": "{database.engine}", "SQL_DATABASE": "{database.name}"}
    assert "DATABASES" not in found.get("app_settings", {})


def test_settings_in_a_class_are_read_from_the_one_for_production(contract: Any):
    files = {
        "manage.py": """
            import os
            os.environ.setdefault("DJANGO_SETTINGS_MODULE", "proj.settings")
            os.environ.setdefault("DJANGO_CONFIGURATION", "Dev")
        """,
        "proj/common.py": """
            from configurations import Configuration
            class Common(Configuration):
                ROOT_URLCONF = "proj.urls"
                INSTALLED_APPS = ["demoapp"]
                STATIC_ROOT = "collected"
        """,
        "proj/settings.py": """
            from proj.common import Common
            class Dev(Common):
                DEBUG = True
            class Production(Common):
                INSTALLED_APPS = Common.INSTALLED_APPS
                EMAIL_HOST = "localhost"
        """,
    }
    found = contract(files)
    assert found["app_env"]["DJANGO_CONFIGURATION"] == "Production"
    assert found["app_static_root"] == "collected"
    assert "DEBUG" not in found["app_settings"]
    assert found["app_settings"]["EMAIL_HOST"] == "{{ app_email.host }}"


def test_a_project_without_manage_py_is_managed_by_django_itself(tmp_path: Path):
    files = {f"src/{name}": text for name, text in FIRST_STEPS.items() if name not in {"manage.py", "requirements.txt"}}
    write(tmp_path, files | {"requirements.txt": FIRST_STEPS["requirements.txt"]})
    found = {block.name: block.value for block in scaffold.contract(look(tmp_path))}

    assert (found["app_root"], found["app_manage"]) == ("src", "-m django")
    assert found["app_settings_module"] == "proj.settings"


def test_settings_of_a_dependency_are_read_in_the_virtual_environment(tmp_path: Path):
    files = {
        "settings.py": """
            import os
            ROOT_URLCONF = "tickets.urls"
            WSGI_APPLICATION = "tickets.wsgi.application"
            STATIC_ROOT = os.path.join(os.path.dirname(__file__), "static.dist")
            CONFIG = os.environ["TICKETS_CONFIG"] if "TICKETS_CONFIG" in os.environ else "tickets.cfg"
            DATA = os.environ["TICKETS_DATA"]
            CELERY_TASK_ROUTES = ([("tickets.*", {"queue": "checkout"})],)
        """,
        "__main__.py": "from django.core.management import execute_from_command_line",
        "tasks_app.py": "from celery import Celery\napp = Celery('tickets')\n",
        "locale/de/LC_MESSAGES/django.po": "",
    }
    installed = ".venv/lib/python3.13/site-packages/tickets"
    write(tmp_path, {"requirements.txt": "tickets==1.0\n", ".venv/pyvenv.cfg": "", f"{installed}/__init__.py": ""})
    write(tmp_path, {f"{installed}/{name}": text for name, text in files.items()})
    survey = look(tmp_path, settings="tickets.settings")
    found = {block.name: block.value for block in scaffold.contract(survey)}

    assert (found["app_root"], found["app_manage"]) == (".", "-m tickets")
    assert (found["app_settings_module"], found["app_celery"]) == ("tickets.settings", "tickets.tasks_app:app")
    assert found["app_wsgi"] == "tickets.wsgi:application"
    assert found["app_settings"] == {"STATIC_ROOT": "{static_root}"}
    assert found["app_env"] == {"TICKETS_DATA": None}
    assert set(survey.queues) == {"checkout", "celery"}
    # The environment's own files are not the project's.
    assert "app_build_commands" not in found


def test_a_manage_py_within_a_package_is_one_of_its_modules(tmp_path: Path):
    moved = {"manage.py": "proj/manage.py"}
    write(tmp_path, {moved.get(name, name): text for name, text in FIRST_STEPS.items()})
    found = {block.name: block.value for block in scaffold.contract(look(tmp_path))}

    assert (found["app_root"], found["app_manage"]) == (".", "-m proj.manage")
    assert found["app_settings_module"] == "proj.settings"


def test_a_project_without_a_wsgi_application_has_djangos(tmp_path: Path):
    files = {name: text for name, text in FIRST_STEPS.items() if name != "proj/wsgi.py"}
    write(tmp_path, files | {"proj/settings.py": SETTINGS.replace("WSGI_APPLICATION", "OTHER")})
    found = {block.name: block.value for block in scaffold.contract(look(tmp_path))}

    assert found["app_wsgi"] == "django.core.wsgi:get_wsgi_application()"


@pytest.mark.parametrize(
    "made",
    [
        "app: Celery = Celery('proj')",
        "def make_celery():\n    inner = Celery('proj')\n    return inner\n\napp = make_celery()",
        "from tenant_schemas_celery.app import CeleryApp\napp = CeleryApp('proj')",
        "class ShopCelery(Celery): ...\n\nif True:\n    app = ShopCelery()",
    ],
)
def test_a_celery_application_is_found_however_it_is_made(contract: Any, made: str):
    assert contract({"proj/celery.py": f"from celery import Celery\n{made}\n"})["app_celery"] == "proj.celery:app"


def test_channels_are_served_by_asgi_with_their_websockets(contract: Any):
    found = contract(
        with_settings("INSTALLED_APPS = ['channels']\nASGI_APPLICATION = 'proj.asgi.application'")
        | {
            "proj/asgi.py": "application = None",
            "demoapp/routing.py": "websocket_urlpatterns = [re_path(r'^ws/chat/(?P<room>x)/$', None)]",
            "requirements.txt": "django\ngunicorn\nuvicorn\nchannels\npsycopg2-binary==2.9\n",
        }
    )
    assert (found["app_server"], found["app_asgi"]) == ("asgi", "proj.asgi:application")
    assert found["app_websockets"] == ["/ws/"]
    assert "app_wsgi" not in found


def test_a_project_on_django_tasks_alone_needs_no_celery_application(tmp_path: Path):
    files = {name: text for name, text in FIRST_STEPS.items() if not name.endswith("celery.py")}
    tasks = "from django.tasks import task\n\n@task(queue_name='emails')\ndef send(): ...\n"
    write(tmp_path, files | {"proj/settings.py": "ROOT_URLCONF = 'proj.urls'", "demoapp/tasks.py": tasks})
    survey = look(tmp_path)
    found = {block.name: block.value for block in scaffold.contract(survey)}

    assert (found["app_celery"], found["app_ledger"]) == ("", True)
    assert found["app_settings"]["TASKS"]["default"] == {
        "BACKEND": "drumline.tasks_backend.LedgerBackend",
        "QUEUES": ["emails", "default"],
    }
    assert set(scaffold.processes(survey).value) == {"emails", "default"}


def test_mail_goes_by_the_hosts_way_unless_the_environment_says_it(contract: Any):
    settings = contract(
        with_settings("EMAIL_HOST = ''\nEMAIL_PORT = 587\nEMAIL_HOST_USER = os.environ.get('MAIL_USER')")
    )
    assert settings["app_settings"]["EMAIL_PORT"] == "{{ app_email.port }}"
    assert "EMAIL_HOST_USER" not in settings["app_settings"]
    assert "app_settings" not in contract(with_settings("EMAIL_HOST = os.environ.get('MAIL_HOST')"))


def test_all_that_is_written_is_read_by_the_playbooks(contract: Any):
    assert set(contract({})) <= set(documented())


def test_requirements_that_are_included_count(contract: Any):
    found = contract(
        {
            "proj/asgi.py": "application = None",
            "requirements.txt": "-r requirements/base.txt\n",
            "requirements/base.txt": "-r ../requirements.txt\nuvicorn[standard]==0.52\n",
        }
    )
    assert found["app_server"] == "asgi"


def test_build_steps_processes_and_timers_come_from_the_files_beside_the_code(contract: Any):
    found = contract(
        {
            "package.json": '{"scripts": {"build": "vite build"}}',
            "proj/locale/de/LC_MESSAGES/django.po": "",
            "Procfile": "web: gunicorn proj.wsgi\ntasks: celery -A proj worker\nclock: celery -A proj beat\nbot: python manage.py run_bot\n",
            "crontab": "# every night\n*/5 2 * * 1-5 cd /srv && python manage.py cleanup --days=3 > /dev/null\n",
            ".python-version": "3.12\n",
        }
    )
    assert found["app_build_commands"] == ["npm ci && npm run build", "django-admin compilemessages"]
    assert found["app_build_packages"] == ["npm", "gettext"]
    assert found["app_daemons"] == {"bot": {"command": "python manage.py run_bot"}}
    assert found["app_timers"] == {
        "cleanup": {"command": "python manage.py cleanup --days=3", "calendar": "Mon..Fri *-*-* 2:0/5:00"}
    }
    assert found["app_python"] == "3.12"


@pytest.mark.parametrize(("wanted", "version"), [("3.12.4", "3.12"), (">=3.12,<3.13", "3.12"), ("^3.14", "3.14")])
def test_a_python_that_no_host_has_is_shipped(contract: Any, wanted: str, version: str):
    pyproject = f'[project]\nname = "proj"\nrequires-python = "{wanted}"\n'
    files = {".python-version": wanted} if wanted[0].isdigit() else {"pyproject.toml": pyproject}
    assert contract(files)["app_python"] == version


@pytest.mark.parametrize("version", ["3.11", "3.13.5"])
def test_a_python_that_a_host_has_is_not_shipped(contract: Any, version: str):
    assert "app_python" not in contract({".python-version": version})
