"""The pages in a real browser: what a person sees, moves and points at."""

import json
import shutil
from contextlib import contextmanager

import pytest
import tiny
from playwright.sync_api import sync_playwright
from report.run_folders import CONFIG, make_run

from jaxnoise import experiment
from jaxnoise.commands import train
from jaxnoise.report import write_comparison, write_report
from jaxnoise.training.records import RunFolder

pytestmark = pytest.mark.slow

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
EXECUTABLE = next((path for name in BROWSERS if (path := shutil.which(name))), None)
SIZES = ((1280, 900), (600, 900), (360, 740))


@pytest.fixture(scope="module")
def browser():
    # A browser is no Python package, so `make test` cannot install one; .ci/run does.
    if EXECUTABLE is None:
        pytest.skip(f"no browser on this machine: looked for {', '.join(BROWSERS)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=EXECUTABLE, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = make_run(tmp_path_factory.mktemp("runs") / "a_run_with_a_long_name_of_its_own")
    return write_report(folder, {**CONFIG, "law": {"name": "cosine"}})


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    roots = [
        make_run(root / "laplace" / f"seed_{seed}", {**CONFIG, "seed": seed}).root
        for seed in range(2)
    ]
    roots.append(make_run(root / "cosine", {**CONFIG, "law": {"name": "cosine"}}).root)
    return write_comparison(roots, root)


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "digits")
    train.main(experiment.read(tiny.digits_config(**{"train.sample_every": 4})), folder)
    return folder


@contextmanager
def opened(browser, path, size=SIZES[0]):
    """A page that must say nothing on the console and ask for nothing but itself."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("requestfailed", lambda request: said.append(f"failed: {request.url[:80]}"))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    try:
        yield page
        assert said == []
        assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    finally:
        page.close()


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", ["report", "comparison"])
def test_every_picture_is_there_and_nothing_is_cut_off(browser, request, name, size):
    with opened(browser, request.getfixturevalue(name), size) as page:
        widths = page.eval_on_selector_all("img", "list => list.map((i) => i.naturalWidth)")
        assert widths == ([20] * 4 if name == "report" else [20] * 2)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= size[0]
        beyond = page.eval_on_selector_all(
            "h1, h2, h3, p, dd, svg, img, input, button, .legend li",
            "(list, width) => list.filter((e) => !e.closest('.scroll, .noise')"
            " && e.getBoundingClientRect().right > width + 0.5).map((e) => e.outerHTML)",
            size[0],
        )
        assert beyond == []


@pytest.mark.parametrize("name", ["report", "comparison"])
def test_no_two_texts_of_a_chart_overlap(browser, request, name):
    with opened(browser, request.getfixturevalue(name)) as page:
        overlaps = page.evaluate(
            """() => [...document.querySelectorAll("svg")].flatMap((svg) => {
              const boxes = [...svg.querySelectorAll("text")].map((t) => t.getBoundingClientRect());
              return boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) => a.left < b.right - 1
                && b.left < a.right - 1 && a.top < b.bottom - 4 && b.top < a.bottom - 4));
            }).length"""
        )
        assert overlaps == 0


def visible_step(page):
    shown = page.eval_on_selector_all(
        ".frame img", "list => list.filter((i) => i.offsetWidth > 0).map((i) => i.dataset.step)"
    )
    assert len(shown) == 1
    return shown[0]


def test_the_slider_shows_the_grid_of_its_step(browser, report):
    with opened(browser, report) as page:
        slider = page.locator("input[type=range]")
        assert visible_step(page) == "step 40"
        slider.focus()
        for key, step, seen in (
            ("ArrowLeft", 20, 200),
            ("ArrowLeft", 10, 100),
            ("ArrowLeft", 10, 100),
            ("ArrowRight", 20, 200),
            ("End", 40, 400),
        ):
            page.keyboard.press(key)
            assert visible_step(page) == f"step {step}"
            assert page.locator("p.step").inner_text() == f"step {step}"
            assert page.locator("p.seen").inner_text() == f"{seen} images seen"
        box = slider.bounding_box()
        page.mouse.click(box["x"] + 3, box["y"] + box["height"] / 2)
        assert visible_step(page) == "step 10"


def test_the_page_of_a_digits_run(digits_run, browser):
    path = digits_run.root / "report.html"
    assert path.stat().st_size < 5e6
    result = json.loads(digits_run.result.read_text())
    with opened(browser, path) as page:
        widths = page.eval_on_selector_all("img", "list => list.map((i) => i.naturalWidth)")
        # Two grids of samples and the picture of the noise.
        assert len(widths) == 3
        assert min(widths) > 100
        assert visible_step(page) == "step 8"
        page.locator("input[type=range]").focus()
        page.keyboard.press("ArrowLeft")
        assert visible_step(page) == "step 4"
        text = page.inner_text("body")
        for part in (result["reference_sha256"][:12], f"n = {result['n']}", "EMA", "raw pixels"):
            assert part in text


def test_play_goes_through_all_grids_and_stops_at_the_last(browser, report):
    with opened(browser, report) as page:
        button = page.get_by_role("button", name="Play")
        button.click()
        assert visible_step(page) == "step 10"
        assert page.locator("button").inner_text() == "Pause"
        page.get_by_text("step 40", exact=True).wait_for()
        page.get_by_role("button", name="Play").wait_for()
        assert visible_step(page) == "step 40"


def test_pointing_at_a_chart_reads_out_the_nearest_value(browser, report):
    with opened(browser, report) as page:
        chart = page.locator("figure.chart").first
        readout = chart.locator(".readout")
        assert not readout.is_visible()
        svg = chart.locator("svg")
        svg.scroll_into_view_if_needed()
        box = svg.bounding_box()
        # The data are 54..548 of 560 wide, over 0..404 images: 190 images are nearest to 200.
        at = (54 + (548 - 54) * 190 / 404) / 560
        page.mouse.move(box["x"] + at * box["width"], box["y"] + box["height"] / 3)
        assert readout.inner_text().split("\n") == ["200 images, step 20", "loss 0.4"]
        page.mouse.move(box["x"] + box["width"] - 4, box["y"] + box["height"] / 3)
        assert readout.inner_text().split("\n") == ["400 images, step 40", "loss 0.2"]
        inside = readout.bounding_box()
        assert inside["x"] >= box["x"]
        assert inside["x"] + inside["width"] <= box["x"] + box["width"]
        page.mouse.move(1, 1)
        assert not readout.is_visible()


def test_the_arrow_keys_read_a_chart_out(browser, comparison):
    with opened(browser, comparison) as page:
        chart = page.locator("figure.chart").first
        chart.locator("svg").focus()
        page.keyboard.press("ArrowRight")
        lines = chart.locator(".readout").inner_text().split("\n")
        assert lines == [
            "100 images",
            "laplace, seed 0 0.8",
            "laplace, seed 1 0.8",
            "laplace, mean 0.8",
            "cosine 0.8",
        ]
        page.keyboard.press("ArrowRight")
        assert chart.locator(".readout b").inner_text() == "200 images"


def test_the_dot_of_the_read_out_lies_on_the_line(browser, report):
    with opened(browser, report) as page:
        chart = page.locator("figure.chart").first
        chart.locator("svg").focus()
        page.keyboard.press("ArrowRight")
        dot = chart.locator(".pointer circle")
        start = chart.locator("path.line").get_attribute("d")[1:].split("L")[0].split()
        assert abs(float(dot.get_attribute("cx")) - float(start[0])) < 0.06
        assert abs(float(dot.get_attribute("cy")) - float(start[1])) < 0.06
