import pytest

from jaxnoise.config.overrides import apply, split
from jaxnoise.errors import ConfigError


def test_both_spellings_and_the_last_one_counts():
    argv = ["run.py", "--config.a.b", "1", "--workdir=x", "--config.a.b=2", "--config=c.py"]
    assert split(argv) == (["run.py", "--workdir=x", "--config=c.py"], {"a.b": "2"})


@pytest.mark.parametrize("argv", [["--config.a"], ["--config.a", "--mode=plot"]])
def test_without_a_value(argv):
    with pytest.raises(ConfigError, match=r"config\.a: give a value"):
        split(argv)


@pytest.mark.parametrize(
    "text, value",
    [
        ("3", 3),
        ("1e-4", 1e-4),
        ("True", True),
        ("None", None),
        ("(0.8,)", (0.8,)),
        ("polynomial", "polynomial"),
        ("data/x.tar.gz", "data/x.tar.gz"),
        ("-1.5", -1.5),
        ("{[]: 1}", "{[]: 1}"),
        ("{'name': 'beta'}", {"name": "beta"}),
    ],
)
def test_values_are_literals_or_strings(text, value):
    assert apply({}, {"a.b": text}) == {"a": {"b": value}}


def test_the_config_given_stays_as_it_was():
    config = {"a": {"b": 1}}
    assert apply(config, {"a.b": "2", "c": "x"}) == {"a": {"b": 2}, "c": "x"}
    assert config == {"a": {"b": 1}}


@pytest.mark.parametrize(
    ("config", "key", "value"),
    [({"a": 1}, "a.b", "config.a"), ({"a": {"b": 1}}, "a.b.c", "config.a.b")],
)
def test_a_value_is_no_section(config, key, value):
    with pytest.raises(ConfigError) as caught:
        apply(config, {key: "2"})
    assert str(caught.value) == f"config.{key}: {value} is a value, not a section"
