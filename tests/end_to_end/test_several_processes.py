"""Two processes on loopback, one device each, against one process."""

import json
import socket

import command_line
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


def test_two_processes_train_as_one_does(tmp_path):
    # One sampler, and so one program less for each process.
    one_sampler = "--config.sample.method.sigmas=()"
    arguments = ("--config=configs/digits_poly.py", *command_line.SHRUNK, one_sampler)
    address = f"127.0.0.1:{free_port()}"
    both = [
        command_line.start(
            *arguments,
            f"--workdir={tmp_path / 'two'}",
            "--distributed",
            JAX_COORDINATOR_ADDRESS=address,
            JAX_NUM_PROCESSES="2",
            JAX_PROCESS_ID=str(i),
        )
        for i in range(2)
    ]
    results = [command_line.finish(process) for process in both]
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
