from math import nan
from typing import Any

import numpy as np
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
        ("scale", nan, "a number, and not nan"),
        ("scale", np.float32(nan), "a number, and not nan"),
        ("sigmas", (1.0, nan), "a number, and not nan"),
        ("size", {"a": 1}, "an integer"),
        ("scale", {"a": 1}, "a number"),
    ],
)
def test_wrong_types(key, value, wanted):
    message = line({"part": {"size": 1, key: value}}, lambda s: s.build("part", make))
    assert message.endswith(f"must be {wanted}")
    assert f"config.part.{key}" in message


def untyped(pair: Any = (1.0, 2.0), drift=nan):
    return pair, drift


@pytest.mark.parametrize(
    "value, allowed",
    [
        ((1.0, (nan,)), "a number, a string, True, False, None or a tuple of them, and not nan"),
        ({"a": 1}, "a number, a string, True, False, None or a tuple of them"),
    ],
)
def test_what_an_untyped_key_cannot_hold(value, allowed):
    given = {"part": {"pair": value, "drift": 0.0}}
    message = line(given, lambda s: s.build("part", untyped))
    assert message == f"config.part.pair={value}: must be {allowed}"


def test_a_default_that_is_not_a_number_must_be_set():
    message = line({"part": {}}, lambda s: s.build("part", untyped))
    assert message == "config.part.drift: must be set, since its default is nan"


def test_numbers_of_numpy_are_kept_as_pythons():
    part = {"size": np.int64(2), "scale": np.float32(0.5), "sigmas": [np.float64(1), np.int32(2)]}
    sections = Sections(
        {"part": part, "other": {"pair": (np.int8(1), [np.bool_(True)]), "drift": 0}}
    )
    assert sections.build("part", make) == (2, 0.5, (1.0, 2.0), None)
    assert sections.build("other", untyped) == ((1, [True]), 0)
    held = [*sections.resolved["part"].values(), *sections.resolved["part"]["sigmas"]]
    held += [sections.resolved["other"]["pair"][0], sections.resolved["other"]["pair"][1][0]]
    assert not any(isinstance(value, np.generic) for value in held)


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


@pytest.mark.parametrize(
    "config, act, said",
    [
        ({"part": 3}, lambda s: s.build("part", make), "part=3"),
        ({"part": "big"}, lambda s: s.build("part", make), "part='big'"),
        ({"part": 3}, lambda s: s.build("part.inner", make), "part=3"),
        ({"part": "big"}, lambda s: s.choose("part.inner", {"big": make}), "part='big'"),
        ({"part": None}, lambda s: s.choose("part", {"big": make}), "part=None"),
        ({"part": None}, lambda s: s.has("part"), "part=None"),
    ],
)
def test_a_section_must_be_a_mapping(config, act, said):
    assert line(config, act) == f"config.{said}: must be a section (a mapping of keys)"


@pytest.mark.parametrize("act", [lambda s: s.choose("a.b", {"big": make}), lambda s: s.has("a.b")])
def test_a_name_in_the_place_of_its_section_is_shown_where_it_belongs(act):
    assert line({"a": {"b": "big"}}, act) == (
        "config.a.b='big': must be a section (a mapping of keys), as in --config.a.b.name='big'"
    )
    assert not Sections({"a": {}}).has("a.b")


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
