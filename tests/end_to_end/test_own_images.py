"""A folder of photographs of any size and kind, from the command line."""

import json
import re
from pathlib import Path

import command_line
import numpy as np
import pytest
import tiny
from PIL import Image

from jaxnoise.cli import main

CONFIG = "--config=configs/digits_cosine.py"
RUN = [
    CONFIG,
    f"--config.model={tiny.MODEL | {'class_conditional': False}}",
    "--config.train.steps=2",
    "--config.train.batch=8",
    "--config.train.log_every=1",
    "--config.train.checkpoint_every=2",
    "--config.train.sample_every=2",
    "--config.sample.count=4",
    "--config.sample.columns=2",
    "--config.sample.batch=4",
    "--config.evaluate.n=8",
    "--config.evaluate.few_samples=True",
]


def photographs(folder: Path) -> None:
    """Sixteen files of all the kinds that are taken, of different sizes, and what lies beside."""
    rng = np.random.default_rng(0)

    def noise(*shape):
        return Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))

    exif = Image.Exif()
    exif[0x0112] = 6
    for i in range(6):
        noise(9 + i, 14 - i, 3).save(folder / f"{i}.jpg", exif=exif)
    noise(8, 20, 4).save(folder / "transparent.png")
    noise(20, 8, 2).save(folder / "transparent_grey.png")
    noise(16, 16).save(folder / "grey.png")
    noise(16, 16, 3).convert("P").save(folder / "palette.gif")
    noise(16, 17, 3).convert("CMYK").save(folder / "print.tif")
    noise(30, 17, 3).save(folder / "phone.webp")
    noise(30, 17, 3).save(folder / "phone.avif")
    noise(12, 12, 3).save(folder / "old.bmp")
    noise(12, 11).convert("1").save(folder / "fax.tiff")
    deep = rng.integers(0, 65536, (10, 10), dtype=np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")
    for name in ("Thumbs.db", "desktop.ini", "captions.json"):
        (folder / name).write_text("{}")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXNOISE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "photographs").mkdir()
    return tmp_path / "photographs"


def of(folder, *more):
    data = ["--config.data.dataset=folder", f"--config.data.data_dir={folder}"]
    return [*data, f"--workdir={folder.parent / 'run'}", *more]


def test_the_pages_snippet_runs():
    page = (command_line.ROOT / "docs" / "own_images.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    ran = {}
    exec(compile(block, "own_images.md", "exec"), ran)
    np.testing.assert_array_equal(ran["pixels"][2], np.full((64, 64, 3), 2))
    assert ran["labels"].shape == (3,)


@pytest.mark.slow
def test_photographs_of_any_kind_train_draw_and_are_scored(folder, capsys):
    photographs(folder)
    given = of(folder, "--config.data.size=8", "--config.data.channels=3")
    assert main([*RUN, *given]) == 0
    out, err = capsys.readouterr()
    assert "passed over 3 files (1 .db, 1 .ini, 1 .json), which are no images" in err
    assert "the data's standard deviation is 0." in err
    assert np.isfinite(json.loads(out.splitlines()[-1])["frechet_heun18"])
    data = json.loads((folder.parent / "run" / "data.json").read_text())
    assert (data["num_examples"], data["image_shape"]) == (16, [8, 8, 3])
    (kept,) = (folder.parent / "cache" / "images").iterdir()
    assert kept.name == data["fingerprint"]
    # The same command resumes from what was decoded then.
    before = (kept / "pixels.npy").stat().st_mtime_ns
    assert main([*RUN, *given, "--config.train.steps=2"]) == 0
    assert (kept / "pixels.npy").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "more, message",
    [
        ([], r"0.jpg is 9x14 and 1.jpg is 10x13 (width x height): set data.size"),
        (["size=8"], r"0.jpg is in colour and deep.png is grey: set data.channels to 1 or 3"),
        (["size=9", "channels=3"], r"2 of 16 images cannot be used: transparent.png is 20x8"),
        (["size=7", "channels=3"], "config.data.size=7: must be at least 8, or None"),
        (
            ["size=8", "channels=3", "channel_mult=(1,1,1,1,1)"],
            "config.model.channel_mult=(1, 1, 1, 1, 1): must be short",
        ),
        (["channels=2"], "config.data.channels=2: must be 1 (grey), 3 (RGB) or None"),
        (["background=whitish"], "config.data.background='whitish': must be a colour's name"),
    ],
)
def test_what_does_not_do_is_one_line(folder, capsys, more, message):
    photographs(folder)
    of_model = "channel_mult"
    settings = [f"--config.{'model' if of_model in one else 'data'}.{one}" for one in more]
    plain = [CONFIG, "--config.model.class_conditional=False", "--config.evaluate.n=0"]
    assert main([*plain, *of(folder, *settings)]) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("error: config.")
    assert message in last


def test_one_picture_cannot_be_scored(folder, capsys):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / "one.png")
    command = [CONFIG, "--config.model.class_conditional=False", *of(folder)]
    why = "a set of 1 has no halves to score with; set evaluate.n=0 for no score, or add images\n"
    for n in (2, None):
        assert main([*command, f"--config.evaluate.n={n}"]) == 2
        assert capsys.readouterr().err.endswith(why)


@pytest.mark.slow
def test_thirty_pictures_of_which_one_is_broken(folder):
    rng = np.random.default_rng(0)
    for i in range(30):
        pixels = rng.integers(0, 256, (10 + i % 4, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    broken = folder / "17.png"
    broken.write_bytes(broken.read_bytes()[:200])
    code, out, err = command_line.run(*RUN, *of(folder, "--config.data.size=8"))
    assert (code, out) == (2, "")
    assert err == (
        f"error: config.data.dataset='folder': {folder}: 1 of 30 images cannot be used: 17.png "
        "cannot be decoded (Truncated File Read): replace it\n"
    )
