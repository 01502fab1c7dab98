"""The commit's hooks run this project's own tools and reach nothing else."""

from __future__ import annotations

from tests.support.paths import PROJECT
from tests.support.rendering import load


def test_every_hook_runs_a_locked_tool_of_the_projects_environment() -> None:
    configuration = load(PROJECT / ".pre-commit-config.yaml")

    assert [repository["repo"] for repository in configuration["repos"]] == ["local"], (
        "another repository is downloaded"
    )
    for hook in configuration["repos"][0]["hooks"]:
        assert hook["language"] == "system", f"{hook['id']} would install what it runs"
        assert hook["entry"].split()[0].startswith((".venv/bin/", "make", "sh")), hook["id"]


def test_a_commit_is_checked_file_by_file_and_a_push_as_a_whole() -> None:
    hooks = load(PROJECT / ".pre-commit-config.yaml")["repos"][0]["hooks"]

    assert [hook["id"] for hook in hooks if "pre-push" in hook.get("stages", [])] == ["lint"]
    assert {"ruff-check", "ruff-format", "yamllint"} <= {hook["id"] for hook in hooks}
