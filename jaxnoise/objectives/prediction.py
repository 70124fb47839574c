"""What a denoising network predicts: the noise, the clean image, v, or EDM's residual.

The variance-preserving form is `x = alpha x0 + s eps` with `alpha^2 = sigmoid(lambda)`,
`s^2 = sigmoid(-lambda)`; the variance-exploding one is the same image over alpha,
`x0 + sigma eps` with `sigma = s / alpha = exp(-lambda / 2)`.

Every target is linear in (x0, eps), so that the squared errors of one network, read as errors of
different targets, differ by a factor that depends on lambda alone.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxnoise.errors import one_of
from jaxnoise.noise.parameters import log_of
from jaxnoise.objectives.parameterization import (
    Preconditioning,
    check_sigma_data,
    edm_preconditioning,
    over_pixels,
)

TARGETS = ("eps", "x0", "v", "edm")


def vp_coefficients(lam: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`alpha = sqrt(sigmoid(lambda))` and `s = sqrt(sigmoid(-lambda))`, so `alpha^2 + s^2 = 1`.

    For images of the variance-preserving form, `alpha x0 + s eps`.

    Args:
      lam: float[...], log SNR.

    Returns:
      Two float[...] in [0, 1], each with full relative accuracy.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.objectives import vp_coefficients
      >>> alpha, s = vp_coefficients(jnp.float32(0.0))
      >>> print(f"{alpha:.4f} {s:.4f}")
      0.7071 0.7071
    """
    return jnp.exp(-jax.nn.softplus(-lam) / 2), jnp.exp(-jax.nn.softplus(lam) / 2)


@dataclass(frozen=True)
class Prediction:
    """The target of the raw network F and how F becomes a denoiser.

      eps   the noise                     x0   the clean image           v   alpha eps - s x0
      edm   (x0 - c_skip x) / c_out = (sigma x0 / sd - sd eps) / sqrt(sigma^2 + sd^2)

    The first three are the variance-preserving form, the last is EDM's. The network always sees
    `(x0 + sigma eps) / sqrt(sigma^2 + sd^2)`, the noisy image at unit variance: for "eps", "x0" and
    "v" that is `(alpha x0 + s eps) / sqrt(alpha^2 sd^2 + s^2)`, and with `sigma_data=1` the plain
    variance-preserving image. The scaling is our choice: images in [-1, 1] have a standard
    deviation near 0.5, and without it the input would shrink by half as the noise goes.

    The network is told lambda, never a time: `c_noise = -lambda / 4`, and for "edm" EDM's own
    `ln(sigma) / 4 = -lambda / 8`.

    Args:
      target: "eps", "x0", "v" or "edm".
      sigma_data: standard deviation of the data (sd), > 0.

    Raises:
      ArgumentError: an unknown `target`, or `sigma_data` is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.objectives import Prediction
      >>> x0, eps, lam = jnp.ones((1, 2, 2, 1)), jnp.zeros((1, 2, 2, 1)), jnp.array([0.0])
      >>> print(f"{Prediction('v').wanted(x0, eps, lam)[0, 0, 0, 0]:.4f}")
      -0.7071

    Reference:
      Salimans and Ho (arXiv 2202.00512), appendix D, for v; Karras et al. (arXiv 2206.00364),
      equation 8, for EDM's target.
    """

    target: str = "v"
    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        one_of("target", self.target, TARGETS)
        check_sigma_data(self.sigma_data)

    def network_input(self, x0: jax.Array, eps: jax.Array, lam: jax.Array) -> jax.Array:
        """The noisy image as the network sees it, at unit variance.

        Args:
          x0: float[B, ...], clean images.
          eps: float[B, ...], standard normal.
          lam: float[B], log SNR.

        Returns:
          float[B, ...].
        """
        alpha, s = vp_coefficients(lam)
        total = self._total(alpha, s)
        return over_pixels(alpha / total, x0) * x0 + over_pixels(s / total, x0) * eps

    def c_noise(self, lam: jax.Array) -> jax.Array:
        """What the network is told of the noise level, a multiple of lambda.

        Args:
          lam: float[B], log SNR.

        Returns:
          float[B].
        """
        return -lam / (8 if self.target == "edm" else 4)

    def wanted(self, x0: jax.Array, eps: jax.Array, lam: jax.Array) -> jax.Array:
        """The value that the raw network should have, as a combination of x0 and eps.

        Args:
          x0: float[B, ...], clean images.
          eps: float[B, ...], standard normal.
          lam: float[B], log SNR.

        Returns:
          float[B, ...].
        """
        if self.target == "eps":
            return eps
        if self.target == "x0":
            return x0
        alpha, s = vp_coefficients(lam)
        if self.target == "v":
            return over_pixels(alpha, x0) * eps - over_pixels(s, x0) * x0
        total = self._total(alpha, s)
        of_x0, of_eps = s / (self.sigma_data * total), self.sigma_data * (alpha / total)
        return over_pixels(of_x0, x0) * x0 - over_pixels(of_eps, x0) * eps

    def preconditioning(self, sigma: jax.Array) -> Preconditioning:
        """`D(x, sigma) = c_skip x + c_out F(c_in x, c_noise)` for `x = x0 + sigma eps`.

        Args:
          sigma: float[B], noise levels > 0, in data units.

        Returns:
          Four float[B].
        """
        edm = edm_preconditioning(sigma, self.sigma_data)
        if self.target == "edm":
            return edm
        if self.target == "eps":
            c_skip, c_out = jnp.ones_like(sigma), -sigma
        elif self.target == "x0":
            c_skip, c_out = jnp.zeros_like(sigma), jnp.ones_like(sigma)
        else:
            alpha = 1 / jnp.sqrt(1 + sigma**2)
            c_skip, c_out = alpha**2, -sigma * alpha
        return Preconditioning(c_skip, c_out, edm.c_in, self.c_noise(-2 * jnp.log(sigma)))

    def log_x0_ratio(self, lam: jax.Array) -> jax.Array:
        """`ln(||x0 - x0^||^2 / ||F - F^||^2)` of one network, the same for every image.

          eps   -lambda        x0   0        v   -ln(1 + e^lambda)
          edm   ln(c_out^2) = 2 ln(sd) - ln(1 + sd^2 e^lambda)

        Args:
          lam: float[...], log SNR.

        Returns:
          float[...], finite for every finite lambda.
        """
        if self.target == "eps":
            return -lam
        if self.target == "x0":
            return jnp.zeros_like(lam)
        log_variance = 0.0 if self.target == "v" else 2 * log_of(self.sigma_data)
        return log_variance - jax.nn.softplus(lam + log_variance)

    def _total(self, alpha: jax.Array, s: jax.Array) -> jax.Array:
        """Standard deviation of `alpha x0 + s eps`."""
        return jnp.sqrt((alpha * self.sigma_data) ** 2 + s**2)
