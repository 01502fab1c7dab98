import pytest

from config import env


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    monkeypatch.setattr(env, "_variables", {})
    monkeypatch.setattr(env, "_fallbacks", {})


def test_a_missing_variable_is_named_with_an_example(monkeypatch):
    monkeypatch.delenv("GREETING", raising=False)
    with pytest.raises(env.EnvironmentProblemError, match=r"GREETING is missing \(example: hello\)"):
        env.string("GREETING", example="hello")


@pytest.mark.parametrize("value", ["", "   "])
def test_an_empty_variable_counts_as_missing(monkeypatch, value):
    monkeypatch.setenv("GREETING", value)
    with pytest.raises(env.EnvironmentProblemError, match="GREETING is missing"):
        env.string("GREETING", example="hello")


def test_several_problems_are_reported_together(monkeypatch):
    monkeypatch.setenv("COUNT", "many")
    with pytest.raises(env.EnvironmentProblemError) as caught, env.together():
        assert env.string("GREETING", example="hello") == "hello"
        assert env.integer("COUNT", example="3") == 3
    assert [problem.split(" ")[0] for problem in caught.value.problems] == ["GREETING", "COUNT"]


def test_a_block_inside_a_block_reports_to_the_outer_one():
    with pytest.raises(env.EnvironmentProblemError) as caught, env.together():
        with env.together():
            env.string("INNER", example="x")
        env.string("OUTER", example="x")
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    ("read", "value", "problem"),
    [
        (lambda: env.integer("V", example="3"), "3.5", "is '3.5', which is not a whole number"),
        (lambda: env.integer("V", example="3", at_least=1), "0", "is 0 and must be at least 1"),
        (lambda: env.integer("V", example="3", at_most=9), "10", "is 10 and must be from 0 to 9"),
        (lambda: env.boolean("V", example="true"), "yes", "is 'yes', which is neither true nor false"),
        (lambda: env.words("V", example="a,b"), "a,,b", "is 'a,,b', which has an empty item"),
        (lambda: env.choice("V", ("A", "B"), example="A"), "C", "is 'C', which is not one of A, B"),
        (lambda: env.url("V", ("redis",), example="redis://h"), "http://h", "has the scheme 'http'"),
        (lambda: env.url("V", ("redis",), example="redis://h"), "redis://h:port", "is not a URL"),
        (lambda: env.url("V", ("redis",), example="redis://h"), "redis:", "names neither a host nor a path"),
        (lambda: env.time_zone("V", example="UTC"), "Europe/Wien", "is 'Europe/Wien', which is no time zone"),
        (lambda: env.time_zone("V", example="UTC"), "../etc/passwd", "which is no time zone"),
        (lambda: env.time_zone("V", example="UTC"), "Europe", "which is no time zone"),
        (lambda: env.string("V", example="x" * 50, at_least=50), "short", "has 5 characters and needs at least 50"),
    ],
)
def test_a_malformed_value_says_what_is_wrong_with_it(monkeypatch, read, value, problem):
    monkeypatch.setenv("V", value)
    with pytest.raises(env.EnvironmentProblemError) as caught:
        read()
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("read", "value", "expected"),
    [
        (lambda: env.integer("V", example="3"), " 42 ", 42),
        (lambda: env.boolean("V", example="true"), "False", False),
        (lambda: env.words("V", example="a"), "a, b", ["a", "b"]),
        (lambda: env.url("V", ("redis",), example="redis://h"), "redis://:p%40ss@h:1/0", "redis://:p%40ss@h:1/0"),
        (lambda: env.time_zone("V", example="UTC"), "Europe/Vienna", "Europe/Vienna"),
        (lambda: env.optional_string("V", example="x"), "", ""),
    ],
)
def test_a_good_value_gets_its_type(monkeypatch, read, value, expected):
    monkeypatch.setenv("V", value)
    assert read() == expected


def test_the_value_of_a_secret_never_reaches_the_message(monkeypatch):
    monkeypatch.setenv("BROKER", "amqp://app:hunter2@host")
    with pytest.raises(env.EnvironmentProblemError) as caught:
        env.url("BROKER", ("redis",), example="redis://h", secret=True)
    assert "hunter2" not in str(caught.value)


def test_the_environment_wins_over_a_provided_value(monkeypatch):
    env.provide(GREETING="provided")
    assert env.string("GREETING", example="x") == "provided"
    monkeypatch.setenv("GREETING", "set")
    assert env.string("GREETING", example="x") == "set"


def test_every_variable_that_was_read_is_remembered(monkeypatch):
    monkeypatch.setenv("B", "1")
    env.integer("B", example="3")
    env.optional_string("A", example="x", secret=True)
    assert [(variable.name, variable.secret) for variable in env.variables()] == [("A", True), ("B", False)]


def test_a_flag_of_a_url_is_taken_out_of_its_parameters():
    parameters = {"pgbouncer": "true", "sslmode": "require"}
    assert env.flag_of_url("DATABASE_URL", parameters, "pgbouncer")
    assert parameters == {"sslmode": "require"}
    assert not env.flag_of_url("DATABASE_URL", parameters, "pgbouncer")
    with pytest.raises(env.EnvironmentProblemError, match="DATABASE_URL has pgbouncer=yes, which is neither true nor"):
        env.flag_of_url("DATABASE_URL", {"pgbouncer": "yes"}, "pgbouncer")
