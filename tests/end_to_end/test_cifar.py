"""The CIFAR-10 config on real images in a TFDS folder, with a shrunk network."""

import json

import command_line
import jpeg_cifar
import pytest
import tiny

pytestmark = pytest.mark.slow

KILLED = command_line.ROOT / "tests" / "end_to_end" / "killed_run.py"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """cifar10 as a TFDS folder of a few hundred images."""
    folder = tmp_path_factory.mktemp("tfds")
    jpeg_cifar.prepare(jpeg_cifar.find_archive(), folder, num_train=200, num_test=20)
    return folder


def test_cifar_poly_trains_checkpoints_and_resumes(data_dir, tmp_path):
    folder = tmp_path / "run"
    arguments = (
        "--config=configs/cifar_poly.py",
        f"--workdir={folder}",
        f"--config.data.data_dir={data_dir}",
        "--config.model.name=tiny",
        "--config.model.model_channels=8",
        "--config.model.channel_mult=(1,)",
        "--config.model.num_blocks=1",
        "--config.model.attn_resolutions=()",
        "--config.sample.method.sigmas=()",
        "--config.train.steps=4",
        "--config.train.batch=8",
        "--config.train.steps_per_dispatch=1",
        "--config.train.log_every=1",
        "--config.train.checkpoint_every=2",
        "--config.train.sample_every=4",
        "--config.sample.count=4",
        "--config.sample.batch=16",
        "--config.evaluate.n=0",
    )
    code, _, err = command_line.run(
        str(folder / "checkpoints" / "2"), "2", *arguments, script=KILLED
    )
    assert code == -9, err
    code, out, err = command_line.run(*arguments)
    assert code == 0, err
    assert "resuming from step 2" in err
    assert out == ""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["images_seen"] for row in rows] == [8, 16, 24, 32]
    assert (folder / "checkpoints" / "4").is_dir()
    # 2 x 2 images of 32 x 32 in colour.
    assert tiny.read_png(folder / "samples" / "step_0000004.png").shape[2] == 3
