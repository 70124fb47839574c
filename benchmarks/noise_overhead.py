"""What drawing noise costs: a training step under each law and curriculum, over a fixed level.

    python benchmarks/noise_overhead.py [--steps 60]

Each row is a whole training step of a digits config (network, gradient, optimizer, EMA) divided by
the same step with every noise level a constant; both run in turn in one process, and the ratio is
the median over pairs. The second ratio is the same for XLA's operation count.
"""

import argparse
import importlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from jaxnoise import experiment  # noqa: E402
from jaxnoise.objectives import ConsistencyObjective, LogSnrLevels, Pairs  # noqa: E402
from jaxnoise.run.model import OpenModel, open_model  # noqa: E402
from jaxnoise.training.drawing import AXIS, Batch  # noqa: E402
from jaxnoise.training.step import make_step  # noqa: E402

CONFIGS = {
    "digits_lognormal": {},
    "digits_poly": {},
    "digits_cosine": {},
    "digits_laplace": {},
    "digits_laplace with 10% cosine": {"law": {"mixed": {"name": "cosine", "share": 0.1}}},
    "digits_adaptive": {},
    "digits_anneal": {},
    "digits_difficulty": {},
    "digits_clts_lrdecay": {},
}


@dataclass(frozen=True)
class FixedLevel:
    """An objective whose every example has the same noise."""

    objective: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.objective, name)

    def draw(self, key: Any, fixed_key: Any, step: Any, count: int, pace: Any = ()) -> Any:
        ones = jnp.ones(count, jnp.float32)
        if isinstance(self.objective, ConsistencyObjective):
            return Pairs(sigma_lo=0.9 * ones, sigma_hi=ones)
        return LogSnrLevels(lam=0 * ones, log_prob=0 * ones)

    def metrics(self, step: Any, pace: Any = ()) -> dict[str, Any]:
        return {}


class Job:
    """A compiled training step and its state."""

    def __init__(self, prepared: OpenModel, objective: Any):
        self.checked = prepared.run
        step = make_step(
            prepared.apply,
            objective,
            self.checked.optimizer,
            ema_rate=self.checked.ema_rates,
            global_batch=self.checked.train.batch,
            num_classes=prepared.network.num_classes,
            dropout=False,
            flip=False,
        )
        images, labels = prepared.images.load(np.arange(self.checked.train.batch))
        batch = Batch(index=None, images=jnp.asarray(images), labels=jnp.asarray(labels))
        mapped = jax.pmap(step, axis_name=AXIS, in_axes=(None, 0, None), out_axes=(None, None))
        self.state = prepared.initial_state()
        batch = jax.tree.map(lambda x: x[None], batch)
        compiled = mapped.lower(self.state, batch, prepared.key).compile()
        self.operations = compiled.cost_analysis()["flops"]
        self.run = lambda: compiled(self.state, batch, prepared.key)
        self.seconds: list[float] = []

    def time(self) -> None:
        start = time.perf_counter()
        self.state, _ = jax.block_until_ready(self.run())
        self.seconds.append(time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60, help="timed steps of each")
    steps = parser.parse_args().steps
    print(f"{'config':<34}{'ms a step':>10}{'time':>8}{'operations':>12}")
    for name, settings in CONFIGS.items():
        config = importlib.import_module(f"configs.{name.split()[0]}").get_config().to_dict()
        for section, keys in settings.items():
            config[section] |= keys
        prepared = open_model(experiment.read(config))
        objective = prepared.run.objective
        own, fixed = Job(prepared, objective), Job(prepared, FixedLevel(objective))
        for _ in range(steps + 3):
            own.time()
            fixed.time()
        ratio = np.median(np.array(own.seconds[3:]) / np.array(fixed.seconds[3:]))
        print(
            f"{name:<34}{1e3 * np.median(own.seconds[3:]):>10.1f}{ratio:>8.3f}"
            f"{own.operations / fixed.operations:>12.5f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
