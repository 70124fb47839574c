import pytest

from jaxnoise.config.sections import Sections
from jaxnoise.errors import ArgumentError, ConfigError


def make(size: int, scale: float = 1.0, sigmas: tuple[float, ...] = (), name: str | None = None):
    if size < 1:
        raise ArgumentError("size", size, "at least 1")
    return size, scale, sigmas, name


def line(config, act):
    with pytest.raises(ConfigError) as error:
        act(Sections(config))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_defaults_are_filled_in_and_recorded():
    sections = Sections({"part": {"size": 2, "scale": 3}})
    assert sections.build("part", make) == (2, 3.0, (), None)
    assert sections.resolved == {"part": {"size": 2, "scale": 3.0, "sigmas": (), "name": None}}


def test_unknown_key_names_the_nearest():
    message = line({"part": {"size": 1, "scael": 2.0}}, lambda s: s.build("part", make))
    assert message.startswith("config.part.scael: unknown key; did you mean config.part.scale?")


def test_missing_key():
    assert line({"part": {}}, lambda s: s.build("part", make)) == "config.part.size: must be set"


@pytest.mark.parametrize(
    "key, value, wanted",
    [
        ("size", 1.5, "an integer"),
        ("size", True, "an integer"),
        ("scale", "1", "a number"),
        ("sigmas", (1.0, "a"), "a number"),
        ("sigmas", 1.0, "a tuple, each entry a number"),
        ("name", 3, "a string or None"),
    ],
)
def test_wrong_types(key, value, wanted):
    message = line({"part": {"size": 1, key: value}}, lambda s: s.build("part", make))
    assert message.endswith(f"must be {wanted}")
    assert f"config.part.{key}" in message


def test_range_errors_become_keys():
    message = line({"part": {"size": 0}}, lambda s: s.build("part", make))
    assert message == "config.part.size=0: must be at least 1"


def test_choices():
    config = {"part": {"name": "big", "scale": 2}}
    choices = {"big": lambda scale, size: (scale, size), "small": make}
    assert Sections(config).choose("part", choices, size=7, unused=1) == (2, 7)
    message = line({"part": {"name": "bgi"}}, lambda s: s.choose("part", choices))
    assert message == "config.part.name='bgi': must be one of big, small (did you mean 'big'?)"


def test_nested_sections_are_read_apart():
    config = {"part": {"size": 1, "inner": {"size": 2}}}
    sections = Sections(config)
    assert sections.build("part.inner", make)[0] == 2
    assert sections.build("part", make)[0] == 1
    assert sections.resolved["part"]["inner"]["size"] == 2


def test_a_section_must_be_a_mapping():
    assert "must be a section" in line({"part": 3}, lambda s: s.build("part", make))


def test_top_level():
    message = line({"lwa": {}}, lambda s: s.check_names(["law", "grid"]))
    assert "did you mean config.law?" in message
    assert Sections({"seed": 3}).value("seed", int, 0) == 3
    assert "config.seed='a': must be an integer" in line(
        {"seed": "a"}, lambda s: s.value("seed", int, 0)
    )


def test_a_nested_section_that_nothing_reads():
    config = {"part": {"size": 1, "inenr": {"size": 2}, "inner": {"size": 2}}}

    def read(sections):
        sections.build("part", make)
        sections.build("part.inner", make)
        sections.check_all_read()

    assert line(config, read).startswith(
        "config.part.inenr: unknown key; did you mean config.part.i"
    )
