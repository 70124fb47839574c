"""How many examples of a batch a weight leaves, where a few outweigh all others."""

from math import exp, inf, isfinite, log

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from jaxnoise.errors import ArgumentError
from jaxnoise.noise.logsnr_law import LogSnrLaw
from jaxnoise.objectives.prediction import Prediction
from jaxnoise.objectives.weighting import SnrWeight

COMMON = Prediction("v")
"""The target on whose error w/p is judged and clipped: the loss of v is of order 1 at both ends of
lambda, while that of eps vanishes in noise and that of x0 in clean images. So w/p on v is the size
of an example's share of the loss, and does not depend on what the network predicts."""

# Each tail is a half of the law at probability e^-y / 2; e^-60 leaves float64 room beside an end.
_DEEPEST = 60.0
_PANELS = 1024
_NODES = 8
# E[(w/p)^2] converges if its integrand falls exponentially in y. Slower than this counts as not: a
# normal law approaches its limit like ln(y) / y, which cannot be told from 0 any closer.
_SLOWEST_DECAY = 2e-3
# Some training's worth of draws; halves and 1 / 2^17 are exact in float32.
_DRAWS = 2**16


def compensation_ess(law: LogSnrLaw, weight: SnrWeight, max_ratio: float | None = None) -> float:
    """The effective sample size of the compensation r = w/p, as a fraction of the batch.

      ESS = (E_p r)^2 / E_p r^2 = 1 / (1 + Var_p(r) / (E_p r)^2),    r = min(w/p, max_ratio)

    By quadrature over `y = -ln(2 t)`, t the mass of either tail, with the tail beyond the last
    node from the rate at which the integrand falls. Where it does not fall, E_p r^2 is infinite and
    the result is 0: e.g. for a Laplace proposal of b <= 1 under the weight of a cosine law.

    To judge a proposal, and a `max_ratio`, before training with it.

    Args:
      law: the proposal p.
      weight: w, taken on the error of v whatever its declared space.
      max_ratio: where r is clipped, > 0, or None.

    Returns:
      A number in [0, 1]; 0 if the variance is infinite.

    Raises:
      ArgumentError: `max_ratio` is not positive.

    Example:
      >>> from jaxnoise.noise import Cosine, Laplace
      >>> from jaxnoise.objectives import compensation_ess, density_weight
      >>> cosine = density_weight(Cosine(), space="v")
      >>> compensation_ess(Laplace(0.0, 1.0), cosine)
      0.0
      >>> print(f"{compensation_ess(Laplace(0.0, 2.0), cosine):.3f}")
      0.960

    Reference: Kong (1992), "A note on importance sampling using standardized weights".
    """
    if max_ratio is not None and not max_ratio > 0:
        raise ArgumentError("max_ratio", max_ratio, "a number > 0, or None")
    y, measure = _nodes()
    probes = _DEEPEST * np.array([0.375, 0.625, 0.75, 1.0])
    log_ratio = _log_ratio_in_tails(law, weight, np.concatenate([y, probes]))
    if max_ratio is not None:
        log_ratio = np.minimum(log_ratio, log(max_ratio))
    nodes, ends = log_ratio[:, : len(y)], log_ratio[:, len(y) :]
    # A shift that keeps the squares within float64; it cancels in the end.
    top = float(np.max(nodes))
    if not isfinite(top):
        return 0.0
    mean = float(np.sum(measure * np.exp(nodes - top)))
    square = float(np.sum(measure * np.exp(2 * (nodes - top))))
    for tail in ends:
        mean += _beyond(tail - top - probes, probes) / 2
        square += _beyond(2 * (tail - top) - probes, probes) / 2
    return 0.0 if inf in (mean, square) else mean**2 / square


def weight_ess(law: LogSnrLaw, weight: SnrWeight, prediction: Prediction) -> float:
    """The effective sample size of a weight on what the network predicts, as a fraction of draws.

      ESS = (sum f)^2 / (n sum f^2),   f = exp(weight.log_on(prediction, lambda_i))
      lambda_i = law.inverse_survival((i + 1/2) / n),   n = 65,536

    f multiplies the squared error of the raw network, which is of order 1 at every lambda until it
    has learned, and so says which draws rule the gradient. A weight is bounded on one error and may
    have no bound on another: 1 on the error of v is `1 / alpha^2` on that of eps, huge where noise
    is high, and `1 / sigma^2` on that of x0, huge where it is low. The draws are stratified, as
    many as a short training has, so that what is out of its reach does not count.

    To judge a weight and a target before training with them: under a twentieth, few draws rule.

    Args:
      law: the law that is drawn from.
      weight: the weight, with the error that it is declared for.
      prediction: what the network predicts.

    Returns:
      A number in [0, 1], 0 for a weight of 0 everywhere; nan where the weight is not a number.

    Example:
      >>> from jaxnoise.noise import Cosine
      >>> from jaxnoise.objectives import Prediction, min_snr_weight, uniform_weight, weight_ess
      >>> print(f"{weight_ess(Cosine(), uniform_weight('v'), Prediction('eps')):.1e}")
      2.3e-05
      >>> print(f"{weight_ess(Cosine(), min_snr_weight(5.0), Prediction('eps')):.4f}")
      0.8538

    Reference: as of `compensation_ess`.
    """
    with jax.ensure_compile_time_eval():
        return ess_of(weight.log_on(prediction, drawn_levels(law)))


def drawn_levels(law: LogSnrLaw) -> jax.Array:
    """lambda of `weight_ess`, float[n + 2]: between the two ends of the law, its noisy one last."""
    draws = (np.arange(_DRAWS) + 0.5) / _DRAWS
    return law.inverse_survival(jnp.asarray(np.concatenate([[0.0], draws, [1.0]])))


def ess_of(log_factors: jax.Array) -> float:
    """`weight_ess` of any factors, given as their logarithms at `drawn_levels`; the ends are not
    drawn."""
    factors = np.asarray(log_factors, np.float64)[1:-1]
    top = float(np.max(factors))
    if top == -inf:
        return 0.0
    # A shift that keeps the squares within float64; it cancels in the end.
    shifted = np.exp(factors - top)
    return float(np.mean(shifted) ** 2 / np.mean(shifted**2))


def _nodes() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Nodes y in (0, _DEEPEST) and their measure `e^-y dy / 2`, finest at the law's median."""
    edges = _DEEPEST * np.linspace(0, 1, _PANELS + 1) ** 2
    place, share = np.polynomial.legendre.leggauss(_NODES)
    half = np.diff(edges)[:, None] / 2
    y = ((edges[:-1] + edges[1:])[:, None] / 2 + half * place[None, :]).ravel()
    return y, (half * share[None, :]).ravel() * np.exp(-y) / 2


def _log_ratio_in_tails(
    law: LogSnrLaw, weight: SnrWeight, y: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """ln(w/p) where the clean and the noisy tail hold `e^-y / 2`: [2, n], in float64."""

    @jax.jit
    def log_ratio(y: jax.Array) -> jax.Array:
        small = jnp.exp(-y) / 2
        lam = jnp.stack([law.from_tails(small, 1 - small), law.from_tails(1 - small, small)])
        return weight.log_on(COMMON, lam) - law.log_prob(lam)

    # The tails need doubles, whatever the caller computes in; nothing here is traced outside.
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        return np.asarray(log_ratio(jnp.asarray(y)))


def _beyond(log_integrand: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float:
    """The integral from y[3] to infinity of a function that is given at four depths y.

    It is taken as `e^(-decay y) y^-power`, which is right for exponential and for normal tails; inf
    if the decay is none.
    """
    if log_integrand[3] == -inf:
        return 0.0
    slopes = (log_integrand[[1, 3]] - log_integrand[[0, 2]]) / (y[[1, 3]] - y[[0, 2]])
    middles = (y[[1, 3]] + y[[0, 2]]) / 2
    decay = -float(np.diff(slopes * middles)[0] / np.diff(middles)[0])
    if not decay > _SLOWEST_DECAY:
        return inf
    power = -float((slopes[1] + decay) * middles[1])
    z, share = np.polynomial.laguerre.laggauss(32)
    beyond = float(np.sum(share * (1 + z / (decay * y[3])) ** -power)) / decay
    return exp(float(log_integrand[3])) * beyond
