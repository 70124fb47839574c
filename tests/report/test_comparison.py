"""The page of several runs, read back."""

import numpy as np
import pytest
from report.run_folders import CONFIG, RESULT, ROWS, make_run, png, read_page

from jaxnoise.commands import compare
from jaxnoise.errors import ConfigError
from jaxnoise.report import write_comparison
from jaxnoise.report.scores import PROTOCOL_KEYS

COSINE = {**CONFIG, "law": {"name": "cosine", "scale": 1.0}}


def seeded(config, seed):
    return {**config, "seed": seed, "evaluate": {**config["evaluate"], "seed": seed + 1}}


def make_runs(root):
    """Three seeds of one config and one of another."""
    roots = []
    for seed, distance in enumerate((0.6, 0.7, 0.8)):
        folder = make_run(
            root / "laplace" / f"seed_{seed}",
            config=seeded(CONFIG, seed),
            rows=[{**row, "loss": row["loss"] + 0.1 * seed} for row in ROWS],
            result={**RESULT, "frechet_heun18": distance},
        )
        roots.append(folder.root)
    roots.append(make_run(root / "cosine", config=COSINE).root)
    return roots


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    return read_page(write_comparison(make_runs(root), root / "out"))


def table(page, number):
    """Rows of cell texts of a table."""
    held = page.all("table", "runs")[number]
    rows = [e for e in page.all("tr") if held in e.path]
    cells = [e for e in page.elements if e.tag in ("th", "td")]
    return [[c.text for c in cells if row in c.path] for row in rows]


def test_runs_of_one_config_are_a_row_with_mean_and_spread(page):
    head, laplace, cosine = table(page, 0)
    keys = ["law.name", "law.b", "law.low", "law.mu", "law.scale"]
    assert head == ["config", "runs", "images seen", "heun18", "floor", *keys]
    assert laplace[:5] == ["laplace", "3", "400", "0.70 ± 0.10 3 runs", "0.5"]
    assert laplace[5:] == ["laplace", "0.5", "None", "0.0", "not set"]
    assert cosine[:5] == ["cosine", "1", "400", "0.75 1 run", "0.5"]
    assert cosine[5:] == ["cosine", "not set", "not set", "not set", "1.0"]
    assert not page.all("p", "warning")


def test_seeds_with_raters_of_their_own_are_one_row(tmp_path):
    roots = []
    for seed in range(2):
        file = f"/somewhere/rater/seed_{seed}/rater.npz"
        config = {**seeded(CONFIG, seed), "selection": {"name": "rater", "file": file}}
        roots.append(make_run(tmp_path / "runs" / f"seed_{seed}", config=config).root)
    page = read_page(write_comparison(roots, tmp_path / "out"))
    assert [row[1] for row in table(page, 0)] == ["runs", "2"]


def test_each_run_is_listed_with_its_seeds(page):
    rows = table(page, 1)[1:]
    assert [row[:2] for row in rows] == [
        ["laplace/seed_0", "0 / 1 / 0"],
        ["laplace/seed_1", "1 / 2 / 0"],
        ["laplace/seed_2", "2 / 3 / 0"],
        ["cosine", "0 / 1 / 0"],
    ]
    assert rows[1][2:] == ["finished", "heun18 0.7", "150 images/s"]


def test_the_scores_protocol_is_told(page):
    text = page.section("scores")
    for part in ("n = 898", "(899 images)", RESULT["reference_sha256"], "heun18 35", "EMA", "400"):
        assert part in text


def test_the_overlay_has_a_line_for_each_seed_and_their_mean(page):
    loss = page.charts()["Loss"]["lines"]
    assert [line["name"] for line in loss] == [
        "laplace, seed 0",
        "laplace, seed 1",
        "laplace, seed 2",
        "laplace, mean",
        "cosine",
    ]
    np.testing.assert_allclose(loss[3]["y"], np.array(loss[0]["y"]) + 0.1, rtol=1e-4)
    assert len({line["color"] for line in loss}) == 2
    assert loss[4]["y"] == loss[0]["y"]
    figure = page.all("figure", "chart")[0]
    thin = [e for e in page.all("path", "thin") if figure in e.path]
    assert len(thin) == 3
    assert page.charts()["Fréchet distance, heun18"]["lines"][0]["y"] == [4.0, 2.0, 1.3333, 1.0]


def test_a_dot_for_each_run_and_a_bar_for_the_mean(page):
    strip = page.all("svg", "strip")[0]
    dots = [float(e.attributes["cx"][:-1]) for e in page.all("circle") if strip in e.path]
    mean = next(e for e in page.all("line", "mean") if strip in e.path)
    np.testing.assert_allclose(np.diff(dots), dots[1] - dots[0], atol=0.02)
    np.testing.assert_allclose(float(mean.attributes["x1"][:-1]), dots[1], atol=0.02)


def test_the_last_grid_of_each_config_is_shown(page):
    alts = [e.attributes["alt"] for e in page.all("img")]
    assert alts == [
        "samples of laplace/seed_0, step 40, 400 images seen",
        "samples of cosine, step 40, 400 images seen",
    ]


@pytest.mark.parametrize(
    "change, part",
    [
        ({"n": 500}, "different numbers of generated images (n): 898 (a); 500 (b)"),
        ({"extractor": "Inception"}, "different extractors: raw pixels (a); Inception (b)"),
        ({"reference_sha256": "f" * 64}, "different reference images (SHA-256): 0123456789ab..."),
        ({"images_seen": 300}, "The scores are of different numbers of images seen: 400 (a)"),
        ({"weights": "raw"}, "The scores are of different weights: ema (a); raw (b)"),
    ],
)
def test_another_protocol_is_a_warning_with_the_reason(tmp_path, change, part):
    roots = [
        make_run(tmp_path / "a").root,
        make_run(tmp_path / "b", config=COSINE, result={**RESULT, **change}).root,
    ]
    page = read_page(write_comparison(roots, tmp_path))
    warnings = [e.text for e in page.all("p", "warning")]
    assert len(warnings) == 1
    assert part in warnings[0]
    # The numbers are still there.
    assert page.section("scores").count("0.75 1 run") == 2


@pytest.mark.parametrize("key", PROTOCOL_KEYS)
def test_any_part_of_the_protocol_may_differ_or_be_missing_in_an_older_record(tmp_path, key):
    without = {name: value for name, value in RESULT.items() if name != key}
    for place, other in (("other", RESULT | {key: "x"}), ("older", without)):
        made = [RESULT | {key: "y"}, other]
        roots = [
            make_run(tmp_path / place / str(seed), seeded(CONFIG, seed), result=result).root
            for seed, result in enumerate(made)
        ]
        page = read_page(write_comparison(roots, tmp_path / place))
        (warning,) = [e.text for e in page.all("p", "warning")]
        assert warning.startswith("The scores are not comparable: they were taken with different")


def test_numbers_of_one_config_that_are_not_comparable_have_no_mean(tmp_path):
    other = {**RESULT, "frechet_heun18": 0.25, "reference_sha256": "f" * 64}
    roots = [
        make_run(tmp_path / "x_seed0").root,
        make_run(tmp_path / "x_seed1", seeded(CONFIG, 1), result=other).root,
    ]
    page = read_page(write_comparison(roots, tmp_path))
    assert table(page, 0)[1][3] == "0.75 / 0.25 not comparable"
    assert not page.all("line", "mean")


def test_groups_whose_folders_have_one_name_have_two(tmp_path):
    """Also where the name looks like one that was numbered."""
    made = {}
    for place, name, config, distance in (
        ("x", "edm (lr 1e-3)", CONFIG, 0.75),
        ("y", "edm (lr 1e-3)", COSINE, 30.0),
        ("z", "edm (lr 1e-3) (2)", {**COSINE, "seed": 5, "extra": 1}, 7.0),
    ):
        result = {**RESULT, "frechet_heun18": distance}
        made[distance] = make_run(tmp_path / place / name, config=config, result=result).root
    page = read_page(write_comparison(list(made.values()), tmp_path / "out"))
    rows = table(page, 0)[1:]
    assert len({row[0] for row in rows}) == 3
    assert [row[3] for row in rows] == ["0.75 1 run", "30 1 run", "7 1 run"]
    for distance in ("0.75", "30", "7"):
        assert page.section("scores").count(f"{distance} 1 run") == 1


def test_repeats_with_one_seed_are_a_warning(tmp_path):
    roots = [make_run(tmp_path / name).root for name in "ab"]
    page = read_page(write_comparison(roots, tmp_path))
    assert page.all("h1")[0].text == "a, b"
    assert "no independent repeats" in page.all("p", "warning")[0].text


def test_many_settings_that_differ_have_a_table_of_their_own(tmp_path):
    other = {**CONFIG, "law": {f"key{i}": i for i in range(9)}}
    roots = [make_run(tmp_path / "a").root, make_run(tmp_path / "b", config=other).root]
    page = read_page(write_comparison(roots, tmp_path))
    assert table(page, 0)[0] == ["config", "runs", "images seen", "heun18", "floor"]
    rows = table(page, 1)
    assert rows[0] == ["", "a", "b"]
    assert ["law.b", "0.5", "not set"] in rows
    assert ["law.key8", "not set", "8"] in rows


def test_runs_that_lack_everything_else_are_shown(tmp_path):
    a = make_run(tmp_path / "a", rows=[], result=None, steps=(), noise=False)
    b = make_run(tmp_path / "b", rows=[], result=None, steps=(), noise=False)
    b.config.unlink()
    b.metrics.write_text("")
    page = read_page(write_comparison([a.root, b.root], tmp_path))
    assert [e.text for e in page.all("p", "warning")] == ["Without a score: a, b."]
    assert len(page.all("p", "absent")) == 3


def test_the_columns_that_differ_least_come_last(tmp_path):
    roots = []
    for place, (target, width) in enumerate([("eps", 8), ("v", 8), ("x0", 16)]):
        model = CONFIG["model"] | {"model_channels": width}
        config = {**CONFIG, "model": model, "objective": CONFIG["objective"] | {"target": target}}
        roots.append(make_run(tmp_path / f"run_{place}", config=config).root)
    page = read_page(write_comparison(roots, tmp_path))
    head = [e.text for e in page.all("th") if "mono" in e.attributes.get("class", "")]
    assert head == ["objective.target", "model.model_channels"]


def test_where_a_place_of_a_file_differs_the_config_is_the_same(tmp_path):
    moved = {**seeded(CONFIG, 1), "data": {**CONFIG["data"], "data_dir": "/elsewhere"}}
    roots = [make_run(tmp_path / "x_seed0").root, make_run(tmp_path / "x_seed1", moved).root]
    page = read_page(write_comparison(roots, tmp_path))
    assert page.all("h1")[0].text == "x"
    assert page.all("p", "lead")[0].text.endswith("They differ in seeds only.")


def test_nothing_of_the_runs_becomes_markup(tmp_path):
    name = "<img src=x onerror=alert(1)>"
    config = {**CONFIG, "law": {"name": name, name: 1}}
    result = {**RESULT, f"frechet_{name}": 1.0, "reference": name}
    rows = [{**row, f"frechet_{name}": 1.0} for row in ROWS]
    roots = [make_run(tmp_path / name, config, rows, result).root, make_run(tmp_path / "b").root]
    page = read_page(write_comparison(roots, tmp_path))
    assert page.all("h1")[0].text == f"{name} / b"
    assert not any("onerror" in e.attributes for e in page.elements)


def test_the_page_stays_under_five_megabytes(tmp_path):
    big = png(0)[:-12] + bytes(900_000) + png(0)[-12:]
    roots = []
    for i in range(4):
        config = {**CONFIG, "law": {"name": f"law{i}"}}
        folder = make_run(tmp_path / f"run{i}", config, steps=())
        (folder.samples / "step_0000040.png").write_bytes(big if i else png(1))
        roots.append(folder.root)
    path = write_comparison(roots, tmp_path)
    assert path.stat().st_size < 5_000_000
    page = read_page(path)
    assert len(page.all("img")) == 1
    assert page.section("samples").count("too large") == 3


def test_the_command_prints_the_path(tmp_path, capsys):
    compare.main(make_runs(tmp_path), tmp_path / "new" / "folder")
    path = tmp_path / "new" / "folder" / "compare.html"
    assert capsys.readouterr().out == f"{path}\n"
    assert path.stat().st_size > 10_000


def test_bad_input_is_one_line_that_names_it(tmp_path):
    run = make_run(tmp_path / "run").root
    empty = tmp_path / "empty"
    file = tmp_path / "file"
    file.write_text("")
    for roots, out, part in (
        ([run], tmp_path, "at least two run folders, got 1"),
        ([run, empty], tmp_path, f"{empty} holds no run"),
        ([run, run / ".." / "run"], tmp_path, "is given twice"),
        ([run, make_run(tmp_path / "other").root], file, f"{file}: is no folder"),
    ):
        with pytest.raises(ConfigError) as error:
            compare.main(roots, out)
        assert part in str(error.value)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "compare.html").exists()
