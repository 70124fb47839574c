"""Weights of a training example by its noise: of a pair of levels, or of one log SNR."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import jax
import jax.numpy as jnp

from jaxnoise.errors import check_callable, check_numbers, check_positive, one_of
from jaxnoise.noise.logsnr_law import LogSnrLaw, check_law
from jaxnoise.noise.parameters import Number, log_of
from jaxnoise.objectives.prediction import Prediction

SPACES = ("eps", "x0", "v")


def inverse_gap(sigma_lo: jax.Array, sigma_hi: jax.Array) -> jax.Array:
    """iCT's weight of a pair of neighbouring levels, `1 / (sigma_hi - sigma_lo)`.

    The levels are the pair's actual neighbours, so with a predefined table the weight changes when
    the neighbours do.

    For iCT and what builds on it.

    Args:
      sigma_lo: float[...], the lower level of each pair.
      sigma_hi: float[...], the upper level, > sigma_lo.

    Returns:
      float[...] > 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.objectives import inverse_gap
      >>> float(inverse_gap(jnp.float32(1.5), jnp.float32(2.0)))
      2.0

    Reference:
      Song and Dhariwal (arXiv 2310.14189), section 3.2.
    """
    return 1 / (sigma_hi - sigma_lo)


def uniform(sigma_lo: jax.Array, sigma_hi: jax.Array) -> jax.Array:
    """The same weight, 1, for every pair of levels.

    For consistency training as first published, and for comparisons.

    Args:
      sigma_lo: float[...], unused but for its shape.
      sigma_hi: float[...], unused.

    Returns:
      float[...] of ones.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.objectives import uniform
      >>> float(uniform(jnp.float32(1.5), jnp.float32(2.0)))
      1.0
    """
    del sigma_hi
    return jnp.ones_like(sigma_lo)


@dataclass(frozen=True)
class SnrWeight:
    """A weight w(lambda) on the squared error of one declared target.

    `w ||eps - eps^||^2`, `w ||x0 - x0^||^2` and `w ||v - v^||^2` are three different losses: the
    errors differ by `||x0 - x0^||^2 = e^-lambda ||eps - eps^||^2` and
    `||v - v^||^2 = (1 + e^-lambda) ||eps - eps^||^2`. So a weight says which error it means, and
    `log_on` converts it to whatever the network predicts. For a weight of one's own.

    Args:
      space: "eps", "x0" or "v", the error that the weight multiplies.
      log_weight: `lambda float[...] -> ln w float[...]`; -inf is no weight. Logarithms, since S
        overflows in the clean tail before its weighted loss does.

    Raises:
      ArgumentError: an unknown `space`.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.objectives import Prediction, SnrWeight
      >>> weight = SnrWeight("x0", lambda lam: jnp.zeros_like(lam))
      >>> float(weight.log_on(Prediction("eps"), jnp.float32(2.0)))
      -2.0
    """

    space: str
    log_weight: Callable[[jax.Array], jax.Array]

    def __post_init__(self) -> None:
        one_of("space", self.space, SPACES)
        check_callable("log_weight", self.log_weight, "lambda -> ln w(lambda)")

    def log_on(self, prediction: Prediction, lam: jax.Array) -> jax.Array:
        """ln of the weight of the raw network's squared error that gives the same loss.

        Args:
          prediction: what the network predicts.
          lam: float[...], log SNR.

        Returns:
          float[...].
        """
        # The difference first: far out each of the two ratios is huge, and they cancel.
        ratio = prediction.log_x0_ratio(lam) - Prediction(self.space).log_x0_ratio(lam)
        return self.log_weight(lam) + ratio


# Classes instead of closures, so that weights pickle and equal ones compare equal.


@dataclass(frozen=True)
class _MinSnr:
    gamma: Number

    def __call__(self, lam: jax.Array) -> jax.Array:
        return jnp.minimum(log_of(self.gamma), lam)


@dataclass(frozen=True)
class _SoftMinSnr:
    gamma: Number

    def __call__(self, lam: jax.Array) -> jax.Array:
        return -jnp.logaddexp(-lam, -log_of(self.gamma))


@dataclass(frozen=True)
class _P2:
    gamma: Number

    def __call__(self, lam: jax.Array) -> jax.Array:
        return -self.gamma * jax.nn.softplus(lam)


@dataclass(frozen=True)
class _Edm:
    prediction: Prediction

    def __call__(self, lam: jax.Array) -> jax.Array:
        return -self.prediction.log_x0_ratio(lam)


@dataclass(frozen=True)
class _Density:
    law: LogSnrLaw

    def __call__(self, lam: jax.Array) -> jax.Array:
        return self.law.log_prob(lam)


def uniform_weight(space: str = "v") -> SnrWeight:
    """The same weight, 1, at every lambda; on eps it is DDPM's simple loss.

    The default is the error of v, which is of order 1 at both ends of lambda. To predict eps or x0
    name that space, or take `min_snr_weight`: 1 on v is without bound on those (`weight_ess`), and
    on 8x8 digits networks trained so under the cosine law drew no image while v drew good ones. For
    training as DDPM does, and for comparisons.

    Args:
      space: "eps", "x0" or "v".

    Returns:
      The weight.

    Raises:
      ArgumentError: an unknown `space`.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.objectives import Prediction, uniform_weight
      >>> round(float(uniform_weight("eps").log_on(Prediction("x0"), jnp.float32(3.0))), 5)
      3.0

    Reference: DDPM (arXiv 2006.11239), equation 14.
    """
    return SnrWeight(space, jnp.zeros_like)


def min_snr_weight(gamma: Number = 5.0) -> SnrWeight:
    """Min-SNR-gamma: `min(S, gamma)` on x0, `min(S, gamma)/S` on eps, `min(S, gamma)/(S+1)` on v.

    The three are one loss, S = e^lambda.

    For predictions of x0 whose loss nearly clean images would otherwise dominate.

    Args:
      gamma: largest weight on x0, > 0.

    Returns:
      The weight.

    Raises:
      ArgumentError: `gamma` is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.objectives import Prediction, min_snr_weight
      >>> weight, lam = min_snr_weight(5.0), jnp.log(jnp.float32(9.0))
      >>> print(f"{jnp.exp(weight.log_on(Prediction('v'), lam)):.4f}")
      0.5000

    Reference: Hang et al. (arXiv 2303.09556).
    """
    check_positive("gamma", gamma)
    return SnrWeight("x0", _MinSnr(gamma))


def soft_min_snr_weight(gamma: Number = 4.0) -> SnrWeight:
    """Min-SNR without its corner: `S gamma / (S + gamma) = 1 / (sigma^2 + 1/gamma)` on x0.

    For transformers on pixels, as HDiT trains them.

    Args:
      gamma: the weight's limit at high SNR, > 0; 4 is `1 / sigma_data^2` of images.

    Returns:
      The weight.

    Raises:
      ArgumentError: `gamma` is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.objectives import soft_min_snr_weight
      >>> weight = soft_min_snr_weight(4.0)
      >>> print(f"{jnp.exp(weight.log_weight(jnp.log(jnp.float32(4.0)))):.4f}")
      2.0000

    Reference: HDiT, Crowson et al. (arXiv 2401.11605).
    """
    check_positive("gamma", gamma)
    return SnrWeight("x0", _SoftMinSnr(gamma))


def p2_weight(gamma: Number = 1.0) -> SnrWeight:
    """P2: `1 / (1 + S)^gamma` on eps, which takes weight from nearly clean images.

    For training that should not spend itself on imperceptible detail.

    Args:
      gamma: >= 0; 0 is the uniform weight on eps.

    Returns:
      The weight.

    Raises:
      ArgumentError: `gamma` is negative or infinite.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.objectives import p2_weight
      >>> print(f"{jnp.exp(p2_weight(1.0).log_weight(jnp.float32(0.0))):.4f}")
      0.5000

    Reference: Choi et al. (arXiv 2204.00227), with their k = 1.
    """
    check_numbers("gamma", gamma, lambda x: (x >= 0) & (x < inf), "a finite number >= 0")
    return SnrWeight("eps", _P2(gamma))


def edm_weight(sigma_data: float = 0.5) -> SnrWeight:
    """EDM: `(sigma^2 + sd^2) / (sigma sd)^2` on x0, which is 1 on EDM's raw network.

    For EDM, with the target "edm".

    Args:
      sigma_data: standard deviation of the data (sd), > 0.

    Returns:
      The weight.

    Raises:
      ArgumentError: `sigma_data` is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.objectives import Prediction, edm_weight
      >>> float(edm_weight(0.5).log_on(Prediction("edm", 0.5), jnp.float32(1.0)))
      0.0

    Reference: Karras et al. (arXiv 2206.00364), table 1.
    """
    return SnrWeight("x0", _Edm(Prediction("edm", sigma_data)))


def density_weight(law: LogSnrLaw, space: str = "v") -> SnrWeight:
    """The density of a law as the weight: the loss that drawing from `law` would give.

    Drawn from p with compensation w/p, the expected loss is that of a schedule `law` with uniform
    weight, whatever p is.

    For comparing laws at one and the same loss.

    Args:
      law: the law whose loss is wanted.
      space: "eps", "x0" or "v", the error that is uniformly weighted under `law`.

    Returns:
      The weight.

    Raises:
      ArgumentError: an unknown `space`.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.noise import Cosine
      >>> from jaxnoise.objectives import density_weight
      >>> print(f"{jnp.exp(density_weight(Cosine()).log_weight(jnp.float32(0.0))):.4f}")
      0.1592
    """
    check_law("law", law)
    return SnrWeight(space, _Density(law))
