"""Two processes on loopback, one device each, against one process."""

import json
import socket

import command_line
import numpy as np
import pytest

pytestmark = pytest.mark.slow


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def losses(folder):
    return [
        json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]


def finished(*arguments, of_each=((), ())):
    """(code, out, err) of two processes with a device each, and arguments of their own."""
    address = f"127.0.0.1:{free_port()}"
    both = [
        command_line.start(
            *arguments,
            *own,
            "--distributed",
            JAX_COORDINATOR_ADDRESS=address,
            JAX_NUM_PROCESSES="2",
            JAX_PROCESS_ID=str(i),
        )
        for i, own in enumerate(of_each)
    ]
    return [command_line.finish(process) for process in both]


def test_processes_with_other_images_do_not_train(tmp_path):
    for i, count in enumerate((70, 69)):
        (tmp_path / str(i)).mkdir()
        pixels = np.random.RandomState(0).randint(0, 256, (count, 8, 8, 1)).astype(np.uint8)
        np.save(tmp_path / str(i) / "images.npy", pixels)
    results = finished(
        "--config=configs/digits_poly.py",
        *command_line.SHRUNK,
        "--config.data={'dataset': 'arrays'}",
        "--config.model.class_conditional=False",
        "--config.evaluate.n=0",
        f"--workdir={tmp_path / 'run'}",
        of_each=[[f"--config.data.data_dir={tmp_path / str(i)}"] for i in range(2)],
    )
    for code, _, err in results:
        assert code == 2
        assert "config.data.dataset='arrays': process 1 holds other images than process 0" in err
    assert not (tmp_path / "run").exists()


def test_two_processes_train_as_one_does(tmp_path):
    # One sampler, and so one program less for each process.
    one_sampler = "--config.sample.method.sigmas=()"
    arguments = ("--config=configs/digits_poly.py", *command_line.SHRUNK, one_sampler)
    results = finished(*arguments, f"--workdir={tmp_path / 'two'}")
    assert [code for code, _, _ in results] == [0, 0], results
    code, out, err = command_line.run(*arguments, f"--workdir={tmp_path / 'one'}")
    assert code == 0, err
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    # Process 0 alone reports.
    scores = [
        json.loads(line)
        for _, text, _ in results
        for line in text.splitlines()
        if line.startswith("{")
    ]
    assert len(scores) == 1
    assert scores[0]["frechet_1step"] == pytest.approx(
        json.loads(out.splitlines()[-1])["frechet_1step"], rel=1e-2
    )


def test_half_set_environment_is_refused(tmp_path):
    code, _, err = command_line.run(
        "--config=configs/digits_poly.py",
        f"--workdir={tmp_path}",
        "--distributed",
        JAX_COORDINATOR_ADDRESS="127.0.0.1:1",
    )
    assert code == 2
    assert "JAX_NUM_PROCESSES" in err
