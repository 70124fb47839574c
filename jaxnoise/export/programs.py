"""A sampler with its trained network as one portable program."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import jax
import jax.export
import jax.numpy as jnp

from jaxnoise.errors import ArgumentError
from jaxnoise.objectives.objective import Denoiser
from jaxnoise.sampling.guidance import guided
from jaxnoise.sampling.samplers import Sampler

PLATFORMS = ("cpu", "cuda", "tpu")
"""What an exported program runs on."""

LabelledDenoiser = Callable[[jax.Array | None], Denoiser]
"""`labels int32[B] or None -> the denoiser (x, sigma) -> x0`."""

_KEY_KIND = "threefry2x32"


def argument_names(sampler: Sampler, num_classes: int) -> tuple[str, ...]:
    """The arguments of a sampler's program, in order.

    For code that calls what `export_sampler` wrote.

    Args:
      sampler: the sampler.
      num_classes: 0 for an unconditional network.

    Returns:
      "noise"; then "keys" if the sampler draws further noise; then "labels" if there are classes.

    Example:
      >>> from jaxnoise.export import argument_names
      >>> from jaxnoise.sampling import consistency_samplers
      >>> [argument_names(s, 10) for s in consistency_samplers((0.8,), 0.002, 80.0)]
      [('noise', 'labels'), ('noise', 'keys', 'labels')]
    """
    keys = ("keys",) if _draws_noise(sampler) else ()
    return ("noise", *keys, *(("labels",) if num_classes else ()))


def sampling_program(
    sampler: Sampler, denoiser: LabelledDenoiser, num_classes: int = 0, guidance: float = 1.0
) -> Callable[..., jax.Array]:
    """The function that `export_sampler` exports: from noise to images.

    For exports of another kind, and to compare a program with.

    Args:
      sampler: how images are drawn.
      denoiser: labels -> the denoiser, its parameters bound; label `num_classes` stands for none.
      num_classes: 0 for an unconditional network.
      guidance: scale of classifier-free guidance; 1 for none.

    Returns:
      A function of `argument_names(sampler, num_classes)` by position:
      noise f32[B, H, W, C], standard normal; keys uint32[B, 2], threefry key data, one per image;
      labels int32[B]. It returns images f32[B, H, W, C] in [-1, 1] units, not clipped.

    Raises:
      ArgumentError: guidance without classes.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.export import sampling_program
      >>> from jaxnoise.sampling import heun_sampler
      >>> grey = lambda labels: lambda x, sigma: 0 * x
      >>> sampling_program(heun_sampler(3), grey)(jnp.ones((2, 8, 8, 1))).shape
      (2, 8, 8, 1)
    """
    names = argument_names(sampler, num_classes)
    if guidance != 1 and not num_classes:
        raise ArgumentError("guidance", guidance, "1 for an unconditional network")

    def draw(*arrays: jax.Array) -> jax.Array:
        given = dict(zip(names, arrays, strict=True))
        noise, labels = given["noise"], given.get("labels")
        denoise = denoiser(labels)
        if labels is not None and guidance != 1:
            none = jnp.full_like(labels, num_classes)
            denoise = guided(denoise, denoiser(none), guidance)
        data = given.get("keys", jnp.zeros((noise.shape[0], 2), jnp.uint32))
        return sampler.draw(denoise, noise, jax.random.wrap_key_data(data, impl=_KEY_KIND))

    return draw


def export_sampler(
    sampler: Sampler,
    denoiser: LabelledDenoiser,
    image_shape: tuple[int, int, int],
    num_classes: int = 0,
    guidance: float = 1.0,
) -> bytes:
    """Serialises `sampling_program` as StableHLO, for every platform and every batch size.

    For use where jaxnoise is not installed. The bytes depend on the arguments and on the version of
    jax alone.

    Args:
      sampler: how images are drawn.
      denoiser: labels -> the denoiser; the parameters bound in it become constants of the program.
      image_shape: (H, W, C).
      num_classes: 0 for an unconditional network.
      guidance: scale of classifier-free guidance; 1 for none.

    Returns:
      What `jax.export.deserialize` takes. Needs the package flatbuffers.

    Raises:
      ArgumentError: guidance without classes.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.export import export_sampler
      >>> from jaxnoise.sampling import heun_sampler
      >>> grey = lambda labels: lambda x, sigma: 0 * x
      >>> program = jax.export.deserialize(export_sampler(heun_sampler(3), grey, (8, 8, 1)))
      >>> program.call(jnp.ones((5, 8, 8, 1))).shape
      (5, 8, 8, 1)

    Reference: https://docs.jax.dev/en/latest/export/export.html.
    """
    batch = jax.export.symbolic_shape("b")
    kinds = {
        "noise": jax.ShapeDtypeStruct((*batch, *image_shape), jnp.float32),
        "keys": jax.ShapeDtypeStruct((*batch, 2), jnp.uint32),
        "labels": jax.ShapeDtypeStruct(batch, jnp.int32),
    }
    draw = jax.jit(sampling_program(sampler, denoiser, num_classes, guidance))
    with _no_source_locations():
        exported = jax.export.export(draw, platforms=PLATFORMS)(
            *[kinds[name] for name in argument_names(sampler, num_classes)]
        )
        return bytes(exported.serialize())


def _draws_noise(sampler: Sampler) -> bool:
    """Whether any operation of the sampler takes the keys."""
    noise = jax.ShapeDtypeStruct((1, 1, 1, 1), jnp.float32)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0, impl=_KEY_KIND), 1))
    traced = jax.make_jaxpr(lambda z, k: sampler.draw(lambda x, sigma: x, z, k))(noise, keys).jaxpr
    return any(taken is traced.invars[1] for eqn in traced.eqns for taken in eqn.invars)


@contextmanager
def _no_source_locations() -> Iterator[None]:
    # A program would carry the paths and line numbers of the machine that made it.
    name = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, name)
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)
