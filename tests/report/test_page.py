"""The page of one run, read back."""

import base64
import json
import re
import shutil

import numpy as np
import pytest
from report.run_folders import CONFIG, RESULT, ROWS, SHA, make_run, png, read_page

from jaxnoise.report import write_report
from jaxnoise.training.records import RunFolder

HOSTILE = "</script><img src=x onerror=alert(1)>&\"'\u2028"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return read_page(write_report(make_run(tmp_path_factory.mktemp("runs") / "laplace")))


def test_the_summary_says_what_the_run_is(page):
    facts = page.all("dl", "facts")[0].text
    assert page.all("h1")[0].text == "laplacefinished, 40 steps"
    for part in (
        "denoising",
        "target v, weight uniform (space v)",
        "laplacemu 0.0, b 0.5",
        "Pacing of noisenone",
        "tinymodel_channels 8",
        "40 steps of 10 images400 images seen, seed 0",
        # 50, 100, 150, 200 images/s: the first holds the compilation; 100 images at each rate.
        "150 images/smedian, 4 s in all",
    ):
        assert part in facts


def test_the_score_stands_with_its_whole_protocol(page):
    lines = dict(
        zip(
            (e.text for e in page.all("th") if e.inside("protocol")),
            (e.text for e in page.all("td") if e.inside("protocol")),
            strict=True,
        )
    )
    assert lines == {
        "Distance": "Fréchet, raw pixels in [-1, 1]",
        "Extractor": "raw pixels",
        "Generated images": "n = 898",
        "Reference": "digits train, first half (899 images)",
        "Reference SHA-256": SHA,
        "Network evaluations per image (NFE)": "heun18 35",
        "Weights": "EMA",
        "Images seen": "400",
        "Seed of the generated images": "1",
        "Seed of the training": "0",
    }
    assert page.all("div", "numbers")[0].text == "heun180.75real images (floor)0.5untrained48"


def test_the_protocol_is_told_in_words_and_without_empty_rows(tmp_path):
    sigmas = [80.0, 30.0, 8.0, 2.0, 0.5, 0.002]
    result = {**RESULT, "extractor_sha256": "", "levels": {"1step": [80.0], "heun18": sigmas}}
    result |= {
        "devices": {"platform": "cpu", "kind": "cpu", "count": 2},
        "denoised": {"sigma": [1]},
    }
    page = read_page(write_report(make_run(tmp_path / "run", result=result)))
    rows = {e.text: i for i, e in enumerate(e for e in page.all("th") if e.inside("protocol"))}
    said = [e.text for e in page.all("td") if e.inside("protocol")]
    assert all(said)
    assert "extractor_sha256" not in rows
    assert said[rows["Noise levels of 1step"]] == "sigma 80"
    assert said[rows["Noise levels of heun18"]] == "6, sigma from 80 to 0.002"
    assert said[rows["Devices"]] == "2 x cpu"
    assert said[rows["Estimates in one step"]] == "measured at 1 level of noise"


def test_a_key_of_the_result_that_the_page_does_not_know_is_shown(tmp_path):
    result = {**RESULT, "precision": 0.123456, "seed": 7}
    text = read_page(write_report(make_run(tmp_path / "run", result=result))).section("score")
    assert "precision0.1235" in text
    assert "Seed of the generated images7" in text


def test_the_marks_of_the_strip_are_where_the_values_are(page):
    strip = page.all("svg", "strip")[0]
    before, after = [float(e.attributes["cx"][:-1]) for e in page.all("circle") if strip in e.path]
    level = next(e for e in page.all("line", "level") if strip in e.path)
    at = float(level.attributes["x1"][:-1])
    # On a log axis equal distances are equal ratios.
    ratio = np.log(48 / 0.5) / np.log(0.75 / 0.5)
    np.testing.assert_allclose((before - at) / (after - at), ratio, rtol=1e-2)


def test_grids_are_embedded_in_order_and_the_last_is_shown(page, tmp_path):
    pictures = [e.attributes for e in page.all("img") if e.inside("frame")]
    assert [p["data-step"] for p in pictures] == ["step 10", "step 20", "step 40"]
    assert [p["data-seen"] for p in pictures] == [f"{n} images seen" for n in (100, 200, 400)]
    assert ["hidden" in p for p in pictures] == [True, True, False]
    for picture, step in zip(pictures, (10, 20, 40), strict=True):
        head, data = picture["src"].split(",")
        assert head == "data:image/png;base64"
        assert base64.b64decode(data) == png(step)
    slider = page.all("input")[0].attributes
    assert (slider["max"], slider["value"]) == ("2", "2")
    assert page.all("p", "step")[0].text == "step 40"


def test_charts_hold_the_recorded_values(page):
    charts = page.charts()
    assert list(charts) == [
        "Loss",
        "Loss by noise level σ",
        "Fréchet distance",
        "Gradient norm",
        "Number of noise levels",
        "Throughput",
    ]
    loss = charts["Loss"]["lines"][0]
    assert loss["x"] == [100, 200, 300, 400]
    np.testing.assert_allclose(loss["y"], [row["loss"] for row in ROWS], rtol=1e-4)
    assert charts["Loss"]["log"]
    # A band without a number in any row has no line.
    assert [line["name"] for line in charts["Loss by noise level σ"]["lines"]] == ["σ < 0.1"]
    assert charts["Fréchet distance"]["lines"][0]["y"] == [4.0, 2.0, 1.3333, 1.0]
    assert charts["Throughput"]["lines"][0]["y"] == [100, 150, 200]


def test_the_lines_are_drawn_where_the_values_are(page):
    figure = page.all("figure", "chart")[0]
    chart = page.charts()["Loss"]
    path = next(e for e in page.all("path") if figure in e.path).attributes["d"]
    places = np.array(re.findall(r"([\d.]+) ([\d.]+)", path), float)
    left, right, top, bottom = chart["box"]
    x = left + (right - left) * np.array([100, 200, 300, 400]) / chart["x"][1]
    y = np.log([0.8, 0.4, 0.8 / 3, 0.2])
    low, high = np.log(chart["y"])
    np.testing.assert_allclose(places[:, 0], x, atol=0.06)
    np.testing.assert_allclose(
        places[:, 1], bottom - (bottom - top) * (y - low) / (high - low), atol=0.06
    )


def test_the_floor_of_the_distances_is_a_level(page):
    figure = page.all("figure", "chart")[2]
    levels = [e for e in page.all("line", "level") if figure in e.path]
    dots = [float(e.attributes["cy"]) for e in page.all("circle", "dot") if figure in e.path]
    assert len(dots) == 4
    # 4, 2, 4/3 and 1 over 0.5: the floor is as far under the last as the second under the first.
    step = float(levels[0].attributes["y1"]) - dots[3]
    np.testing.assert_allclose(step, dots[1] - dots[0], atol=0.2)


def test_a_key_without_a_chart_of_its_own_gets_a_plain_one(tmp_path):
    rows = [{**row, "new <key>": 3.0, "stage": i, "window_low": 0.5} for i, row in enumerate(ROWS)]
    charts = read_page(write_report(make_run(tmp_path / "run", rows=rows))).charts()
    assert charts["new <key>"]["lines"][0]["y"] == [3.0] * 4
    assert charts["Pacing"]["lines"][0]["y"] == [0, 1, 2, 3]
    assert charts["Share of noise left out"]["percent"]


def test_the_config_without_a_twin_is_plain(page):
    text = page.section("config")
    assert "lawb0.5" in text
    assert "method.sigmas(0.8,)" in text
    assert not page.all("tr", "changed")
    assert "twin" not in text


def test_what_differs_from_the_twin_is_marked_with_both_values(tmp_path):
    twin = {
        **CONFIG,
        "law": {"name": "cosine", "mu": 0.0, "low": None},
        "sample": {**CONFIG["sample"], "method": {"name": "heun", "sigmas": (0.8,)}},
        "ema": {"rate": 0.9},
    }
    page = read_page(write_report(make_run(tmp_path / "run"), twin))
    assert [row.text for row in page.all("tr", "changed")] == [
        "ratenot settwin: 0.9",
        "b0.5twin: not set",
        "namelaplacetwin: cosine",
    ]
    assert "Differs from its twin in ema.rate, law.b, law.name." in page.section("config")
    same = read_page(write_report(RunFolder(tmp_path / "run"), CONFIG))
    assert "Equal to its twin." in same.section("config")


def test_nothing_of_the_run_becomes_markup(tmp_path):
    config = {**CONFIG, HOSTILE: {"name": HOSTILE}, "law": {"name": HOSTILE}}
    rows = [{**row, f"loss_band/<{HOSTILE}": 1.0, HOSTILE: 2.0} for row in ROWS]
    result = {**RESULT, f"frechet_{HOSTILE}": 1.0, "reference": HOSTILE, HOSTILE: HOSTILE}
    root = tmp_path / "<b>&run"
    page = read_page(write_report(make_run(root, config, rows, result), {"law": HOSTILE}))
    assert len(page.all("script")) == 1 + len(page.charts())
    assert not any("onerror" in e.attributes for e in page.elements)
    assert page.all("h1")[0].text.startswith("<b>&run")
    assert HOSTILE in page.section("config")
    assert page.charts()[HOSTILE]["lines"][0]["name"] == HOSTILE


def test_the_page_refers_to_nothing_outside(page, tmp_path):
    for element in page.elements:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            assert element.attributes.get(name, "data:").startswith("data:"), element
    policy = page.all("meta")[1].attributes["content"]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "url(" not in page.all("style")[0].text
    assert "@import" not in page.all("style")[0].text


def test_the_same_folder_gives_the_same_page(tmp_path):
    first = write_report(make_run(tmp_path / "a" / "run")).read_bytes()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "run" / "report.html").unlink()
    assert write_report(RunFolder(tmp_path / "b" / "run")).read_bytes() == first


def test_an_empty_folder_gives_a_page_of_sentences(tmp_path):
    page = read_page(write_report(RunFolder(tmp_path / "new")))
    assert page.all("h1")[0].text == "newnot started"
    sections = [e.attributes["id"] for e in page.all("section")]
    assert sections == ["score", "samples", "training", "noise", "config"]
    assert len(page.all("p", "absent")) == 5
    assert not page.all("svg")
    assert not page.all("img")


@pytest.mark.parametrize(
    "missing, section",
    [
        ("config.json", "config"),
        ("metrics.jsonl", "training"),
        ("result.json", "score"),
        ("samples", "samples"),
        ("noise.png", "noise"),
    ],
)
def test_a_missing_file_takes_away_its_section_only(tmp_path, missing, section):
    folder = make_run(tmp_path / "run")
    path = folder.root / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = read_page(write_report(folder))
    absent = page.all("p", "absent")
    assert [e.path[-1].attributes["id"] for e in absent] == [section]


@pytest.mark.parametrize(
    "lines, damaged",
    [
        (['{"step": 1, "loss": 2.0}', "\x00\x00", '{"step": 2, "loss": 1.0}'], True),
        (["not a row"] * 3, True),
        (['{"step": 1, "loss": 2.0}', '{"step": 2, "lo'], False),
        ([], False),
    ],
)
def test_a_damaged_record_is_named_and_a_line_cut_by_a_kill_is_not(tmp_path, lines, damaged):
    folder = make_run(tmp_path / "run")
    folder.metrics.write_text("\n".join(lines))
    write_report(folder)
    warnings = [e.text for e in read_page(folder.report).all("p", "warning")]
    expected = "metrics.jsonl is damaged; lines that are no rows are left out."
    assert (expected in warnings) == damaged


def test_how_a_law_moves_is_no_chart_for_each_of_its_parts(tmp_path):
    law = {f"law/{lam}": 0.1 for lam in range(-12, 13)}
    folder = make_run(tmp_path / "run", rows=[{**row, **law} for row in ROWS])
    write_report(folder)
    titles = list(read_page(folder.report).charts())
    assert "Loss" in titles
    assert not any(title.startswith("law/") for title in titles)


def test_damaged_files_are_named(tmp_path):
    folder = make_run(tmp_path / "run")
    folder.config.write_text("[1]")
    folder.result.write_bytes(b"\xff{")
    folder.noise.write_bytes(png(1)[:-8])
    (folder.samples / "step_0000040.png").write_bytes(b"")
    (folder.samples / "step_last.png").write_bytes(png(1))
    with folder.metrics.open("a") as file:
        file.write('{"step": 50, "lo')
    page = read_page(write_report(folder))
    assert [e.text for e in page.all("p", "warning")] == [
        "config.json is damaged and left out.",
        "step_0000040.png is damaged and left out.",
        "noise.png is damaged and left out.",
        "result.json is damaged and left out.",
    ]
    # Without the config, the images seen are those of the row of the same step.
    seen = [e.attributes["data-seen"] for e in page.all("img") if e.inside("frame")]
    assert seen == ["100 images seen", "200 images seen"]


def test_odd_values_are_no_points(tmp_path):
    text = '{"step": 1, "images_seen": 10, "loss": NaN, "grad_norm": "high", "b": true}\n'
    folder = make_run(tmp_path / "run", rows=[])
    folder.metrics.write_text(text + '{"step": 2, "images_seen": 20, "loss": 0.0}\n')
    charts = read_page(write_report(folder)).charts()
    assert list(charts) == ["Loss"]
    assert charts["Loss"]["lines"][0]["y"] == [0.0]


def test_an_unfinished_run_says_where_it_is(tmp_path):
    folder = make_run(tmp_path / "run", rows=ROWS[:2], result=None, steps=(10,))
    page = read_page(write_report(folder))
    assert page.all("h1")[0].text == "runat step 20 of 40"
    assert not page.all("input")
    assert "no score yet" in page.section("score")


def test_a_run_with_further_steps_is_finished_after_them(tmp_path):
    config = {**CONFIG, "train": {**CONFIG["train"], "steps": 30, "further_steps": 20}}
    folder = make_run(tmp_path / "run", config=config)
    page = read_page(write_report(folder))
    assert page.all("h1")[0].text == "runat step 40 of 30 and 20 further ones"
    config["train"]["further_steps"] = 10
    folder.config.write_text(json.dumps(config))
    assert read_page(write_report(folder)).all("h1")[0].text == "runfinished, 40 steps"


def test_a_seed_folder_is_named_with_its_parent(tmp_path):
    page = read_page(write_report(make_run(tmp_path / "cosine" / "seed_3")))
    assert page.all("h1")[0].text.startswith("cosine/seed_3")


@pytest.mark.takes_a_second
def test_the_page_stays_under_five_megabytes(tmp_path):
    folder = make_run(tmp_path / "run", steps=())
    rng = np.random.RandomState(0)
    big = png(0)[:-12] + rng.bytes(400_000) + png(0)[-12:]
    for step in range(1, 21):
        (folder.samples / f"step_{step:07d}.png").write_bytes(big)
    folder.noise.write_bytes(png(0)[:-12] + rng.bytes(1_000_000) + png(0)[-12:])
    rows = [{**ROWS[i % 4], "step": i, "images_seen": 10 * i} for i in range(1, 20_001)]
    folder.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = write_report(folder)
    assert path.stat().st_size < 5_000_000
    page = read_page(path)
    kept = [e.attributes["data-step"] for e in page.all("img") if e.inside("frame")]
    # 533,3xx characters each: six fit into 3.5 million.
    assert kept == [f"step {step}" for step in (1, 5, 9, 12, 16, 20)]
    assert "6 of 20 grids, evenly spaced" in page.section("samples")
    assert "too large" in page.section("noise")
    assert all(len(line["x"]) <= 600 for c in page.charts().values() for line in c["lines"])


def test_grids_of_which_not_one_fits_are_named(tmp_path):
    folder = make_run(tmp_path / "run", steps=())
    big = png(0)[:-12] + bytes(3_000_000) + png(0)[-12:]
    (folder.samples / "step_0000001.png").write_bytes(big)
    assert "too large" in read_page(write_report(folder)).section("samples")
