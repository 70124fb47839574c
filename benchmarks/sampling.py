"""What drawing images costs over the network's forward passes that it is made of.

    python -m benchmarks.sampling

`over forward` is the time of a batch of images, as uint8 on the host, over NFE (evaluations of the
network) times that of one compiled forward pass of the same batch; 1 means that noise, the
sampler's own arithmetic and the way back cost nothing.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import frame, steps


def main(arguments: list[str] | None = None) -> None:
    flags = frame.parser(__doc__).parse_args(arguments)
    cpu = jax.default_backend() == "cpu"
    known = steps.QUICK if flags.quick else steps.SETTINGS
    names = ("dit 4x4",) if flags.quick else ("tiny 8x8", "small 32x32")
    report, rounds = frame.Report("sampling", flags), frame.rounds_of(flags, 5)
    batch = 4 if flags.quick else 32 if cpu else 512
    for name in names:
        for objective in ("consistency",) if flags.quick else steps.OBJECTIVES:
            setting = known[name]
            config = setting.config(objective)
            config["sample"] = {**config["sample"], "batch": batch}
            model = steps.opened(config, setting)
            params = model.new_state().params
            apply = jax.jit(lambda p, x, c, model=model: model.apply(p["network"], x, c))
            x = jnp.zeros((batch, *model.images.image_shape), jnp.float32)
            c_noise = jnp.zeros(batch, jnp.float32)
            jobs = {
                "forward": frame.here(
                    lambda apply=apply, given=(params, x, c_noise): jax.block_until_ready(
                        apply(*given)
                    )
                )
            }
            for sampler in model.run.samplers:
                jobs[sampler.name] = frame.here(
                    lambda s=sampler, m=model, p=params: np.asarray(m.generator(p, batch, 0, s))
                )
            times = frame.in_turns(jobs, rounds)
            for sampler in model.run.samplers:
                over = times[sampler.name].over(times["forward"])
                report.row(
                    f"{name} {objective}, {sampler.name}",
                    nfe=sampler.nfe,
                    images_per_second=batch / times[sampler.name].seconds,
                    over_forward=frame.Spread(*(x / sampler.nfe for x in over)),
                )


if __name__ == "__main__":
    main()
