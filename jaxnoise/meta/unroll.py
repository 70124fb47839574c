"""Exact gradients of the outcome of training with respect to how its examples are weighted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxnoise.errors import ArgumentError, Described, check_callable, describe, one_of
from jaxnoise.meta.checks import check_floats, check_result, one_axis, shapes_of
from jaxnoise.meta.finite_derivatives import with_finite_derivatives

MODES = ("mixed", "first_order", "reverse")

_INNER_LOSS = "(theta, batch) -> float[B]"
_WEIGHTS = "(eta, batch) -> float[B]"
_OUTER_LOSS = "(theta, outer_batch) -> float[]"

PyTree = Any
PerExample = Callable[[PyTree, PyTree], jax.Array]
"""`(parameters, batch) -> float[B]`."""


class InnerState(NamedTuple):
    """What inner training carries from step to step.

    Attributes:
      params: pytree of float arrays, theta.
      opt_state: the optimizer's state, as made by its `init(params)`.

    Example:
      >>> import jax.numpy as jnp
      >>> import optax
      >>> from jaxnoise.meta import InnerState
      >>> theta = {"w": jnp.zeros(3)}
      >>> inner = InnerState(params=theta, opt_state=optax.adam(1e-3).init(theta))
    """

    params: PyTree
    opt_state: PyTree


class MetaResult(NamedTuple):
    """A meta-gradient and what comes with it at no cost; made by `meta_gradient`.

    Attributes:
      value: float[], the outer loss at theta_T.
      gradient: pytree like eta, the derivative of `value`.
      inner: the inner state after T steps.
      weights: float[T, B], w_ki.
      losses: float[T, B], the unweighted inner losses l_i(theta_k).
      weight_gradients: float[T, B], d value / d w_ki.

    Example:
      >>> import jax.numpy as jnp
      >>> import optax
      >>> from jaxnoise.meta import InnerState, meta_gradient
      >>> square, theta, sgd = lambda theta, x: (theta - x) ** 2, jnp.array(0.0), optax.sgd(0.5)
      >>> solve = meta_gradient(square, lambda eta, x: eta * x, square, sgd)
      >>> inner = InnerState(theta, sgd.init(theta))
      >>> result = solve(jnp.array(1.0), inner, jnp.array([[1.0, 3.0]]), jnp.array(9.0))
      >>> result.losses.tolist(), result.weights.tolist(), result.weight_gradients.tolist()
      ([[1.0, 9.0]], [[1.0, 3.0]], [[2.0, 6.0]])
    """

    value: jax.Array
    gradient: PyTree
    inner: InnerState
    weights: jax.Array
    losses: jax.Array
    weight_gradients: jax.Array


class _Record(NamedTuple):
    """What is kept of one inner step: never the activations."""

    inner: InnerState
    gradient: PyTree
    weights: jax.Array
    losses: jax.Array


@dataclass(frozen=True)
class _Problem:
    """Inner and outer problem, as one of the devices along `axis_name` sees them."""

    inner_loss: PerExample
    weights: PerExample
    outer_loss: Callable[[PyTree, PyTree], jax.Array]
    optimizer: optax.GradientTransformation
    axis_name: str | None

    def local(self, tree: PyTree) -> PyTree:
        """Replicated values, marked as differing between devices.

        Where shard_map tracks this, it sums the gradient of a replicated value over devices by
        itself; with the mark, sums are ours to take in every mapping.
        """
        name = self.axis_name
        if name is None or name not in _varying(lax.axis_index(name)):
            return tree
        return jax.tree.map(
            lambda x: x if name in _varying(x) else lax.pcast(x, name, to="varying"), tree
        )

    def sum(self, tree: PyTree) -> PyTree:
        return tree if self.axis_name is None else lax.psum(tree, self.axis_name)

    def weigh(self, eta: PyTree, batch: PyTree) -> jax.Array:
        """The weights w."""
        w = self.weights(eta, batch)
        check_result("weights", w, one_axis(w), _WEIGHTS)
        return w

    def outer(self, theta: PyTree, batch: PyTree) -> jax.Array:
        """This device's share of the outer loss, whose mean over devices counts."""
        loss = self.outer_loss(theta, batch)
        check_result("outer_loss", loss, (), _OUTER_LOSS)
        return loss if self.axis_name is None else loss / lax.axis_size(self.axis_name)

    def gradients(self, theta: PyTree, w: jax.Array, batch: PyTree) -> tuple[PyTree, jax.Array]:
        """The derivatives of `sum_i w_i l_i` by theta and by w; the latter is l."""

        def weighted(theta: PyTree, w: jax.Array) -> jax.Array:
            losses = self.inner_loss(theta, batch)
            check_result("inner_loss", losses, one_axis(losses), _INNER_LOSS)
            check_result("weights", w, losses.shape, f"{_WEIGHTS}, a weight for each loss")
            return jnp.sum(w * losses)

        return jax.grad(weighted, argnums=(0, 1))(theta, w)

    def advance(self, inner: InnerState, gradient: PyTree) -> InnerState:
        """The optimizer's step."""

        def update(inner: InnerState, gradient: PyTree) -> InnerState:
            # optax raises floats to integer step counts, which strict promotion would refuse.
            with jax.numpy_dtype_promotion("standard"):
                updates, opt_state = self.optimizer.update(gradient, inner.opt_state, inner.params)
            return InnerState(optax.apply_updates(inner.params, updates), opt_state)

        return with_finite_derivatives(update)(inner, gradient)

    def step(self, inner: InnerState, w: jax.Array, batch: PyTree) -> tuple[InnerState, _Record]:
        """An inner step."""
        gradient, losses = self.gradients(self.local(inner.params), w, batch)
        gradient = self.sum(gradient)
        return self.advance(inner, gradient), _Record(inner, gradient, w, losses)


def _check_state(inner: object, optimizer: optax.GradientTransformation) -> None:
    """Raises ArgumentError unless `inner` is a state of inner training with this optimizer."""
    if not isinstance(inner, InnerState):
        name = type(inner).__name__
        raise ArgumentError("inner", Described(name), "an InnerState(params, opt_state)")
    check_floats("inner", inner.params, "an InnerState with params a pytree of float arrays")
    found: Any = jax.tree.structure(inner.opt_state)
    made = jax.tree.structure(jax.eval_shape(optimizer.init, shapes_of(inner.params)))
    if found != made:
        allowed = f"an InnerState with opt_state of the optimizer's init(params): {made}"
        raise ArgumentError("inner", Described(f"InnerState with opt_state {found}"), allowed)


def _varying(x: jax.Array) -> frozenset[str]:
    return jax.typeof(x).manual_axis_type.varying


def _floats(tree: PyTree) -> tuple[list[jax.Array], Callable[[Sequence[jax.Array]], PyTree]]:
    """The float leaves (not counters and keys), and how to put others in their place."""
    leaves, structure = jax.tree.flatten(tree)
    chosen = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.floating)]

    def replace(floats: Sequence[jax.Array]) -> PyTree:
        filled = dict(enumerate(leaves)) | dict(zip(chosen, floats, strict=True))
        return jax.tree.unflatten(structure, filled.values())

    return [leaves[i] for i in chosen], replace


class _Steps:
    """Inner steps 0..T-1, as a Python loop (outputs are lists) or as `lax.scan`."""

    def __init__(self, batches: PyTree, unroll: bool | None):
        shapes = [getattr(leaf, "shape", ()) for leaf in jax.tree.leaves(batches)]
        counts = {shape[0] if shape else 0 for shape in shapes}
        if len(counts) != 1 or 0 in counts:
            allowed = "arrays with one leading axis, of T >= 1 inner steps"
            raise ArgumentError("batches", shapes, allowed)
        # An index that is traced, as in a scan, cannot be taken of numpy's.
        self.batches = jax.tree.map(jnp.asarray, batches)
        self.count = counts.pop()
        # XLA's CPU backend is slow on convolutions in loops; elsewhere a loop compiles faster.
        self.unroll = jax.default_backend() == "cpu" if unroll is None else unroll

    def run(
        self,
        body: Callable[[Any, Any], tuple[Any, Any]],
        carry: Any,
        *,
        first: int = 0,
        reverse: bool = False,
    ) -> tuple[Any, Any]:
        """`carry, outputs[k] = body(carry, k)` for k = first..T-1, or back from T-1 to first."""
        if not self.unroll:
            return lax.scan(body, carry, jnp.arange(first, self.count), reverse=reverse)
        indices = range(first, self.count)
        outputs: dict[int, Any] = {}
        for k in reversed(indices) if reverse else indices:
            carry, outputs[k] = body(carry, k)
        return carry, [outputs[k] for k in indices]

    def batch(self, k: Any) -> PyTree:
        return jax.tree.map(lambda x: x[k], self.batches)

    def output(self, outputs: Any, k: Any) -> Any:
        return outputs[k] if self.unroll else jax.tree.map(lambda x: x[k], outputs)

    def stack(self, outputs: Any) -> Any:
        return jax.tree.map(lambda *x: jnp.stack(x), *outputs) if self.unroll else outputs


def _reverse(
    problem: _Problem, steps: _Steps, eta: PyTree, inner: InnerState, outer_batch: PyTree
) -> MetaResult:
    """Reverse mode through everything."""

    def outcome(eta: PyTree, shift: jax.Array) -> tuple[jax.Array, Any]:
        def body(inner: InnerState, k: Any) -> tuple[InnerState, tuple[jax.Array, jax.Array]]:
            batch = steps.batch(k)
            inner, record = problem.step(inner, problem.weigh(eta, batch) + shift[k], batch)
            return inner, (record.weights, record.losses)

        last, outputs = steps.run(body, inner)
        return problem.outer(problem.local(last.params), outer_batch), (last, steps.stack(outputs))

    w = jax.eval_shape(problem.weigh, eta, steps.batch(0))
    # The derivative by a shift of the weights is the derivative by the weights.
    shift = jnp.zeros((steps.count, *w.shape), w.dtype)
    differentiate = jax.value_and_grad(outcome, argnums=(0, 1), has_aux=True)
    (value, (last, (weights, losses))), (gradient, slopes) = differentiate(
        problem.local(eta), problem.local(shift)
    )
    value, gradient = problem.sum((value, gradient))
    return MetaResult(value, gradient, last, weights, losses, slopes)


def _adjoint(
    problem: _Problem,
    steps: _Steps,
    eta: PyTree,
    inner: InnerState,
    outer_batch: PyTree,
    first_order: bool,
) -> MetaResult:
    """The adjoint recursion, with one `jvp` of the inner gradient per step."""

    def forward(inner: InnerState, k: Any) -> tuple[InnerState, _Record]:
        batch = steps.batch(k)
        return problem.step(inner, problem.weigh(eta, batch), batch)

    last, records = steps.run(forward, inner)
    value, adjoint = jax.value_and_grad(problem.outer)(problem.local(last.params), outer_batch)
    value, adjoint = problem.sum((value, adjoint))
    carry = (
        adjoint,
        [jnp.zeros_like(x) for x in _floats(last.opt_state)[0]],
        problem.local(jax.tree.map(jnp.zeros_like, eta)),
    )

    def backward(carry: Any, k: Any, curved: bool = not first_order) -> tuple[Any, jax.Array]:
        adjoint, moments_adjoint, gradient = carry
        (theta, opt_state), inner_gradient, w, _ = steps.output(records, k)
        batch = steps.batch(k)
        moments, with_moments = _floats(opt_state)

        def advance(theta: PyTree, moments: list[jax.Array], g: PyTree) -> tuple[PyTree, Any]:
            after = problem.advance(InnerState(theta, with_moments(moments)), g)
            return after.params, _floats(after.opt_state)[0]

        _, pull = jax.vjp(advance, theta, moments, inner_gradient)
        adjoint, moments_adjoint, u = pull((adjoint, moments_adjoint))
        # Depends on u, or XLA would keep the forward pass's activations, or recompute them early.
        theta = jax.tree.map(lambda p, v: p + 0 * v, theta, u)
        theta, u = problem.local((theta, u))
        # A jvp of the gradient, since rules of custom_vjp allow none of the loss itself.
        _, (product, slopes) = jax.jvp(lambda p: problem.gradients(p, w, batch), (theta,), (u,))
        if curved:
            adjoint = jax.tree.map(jnp.add, adjoint, problem.sum(product))
        _, pull = jax.vjp(lambda eta: problem.weigh(eta, batch), problem.local(eta))
        gradient = jax.tree.map(jnp.add, gradient, *pull(slopes))
        return (adjoint, moments_adjoint, gradient), slopes

    carry, later = steps.run(backward, carry, first=1, reverse=True)
    # Nothing needs the adjoint of theta_0, and with it no second derivative.
    (_, _, gradient), slopes = backward(carry, 0, curved=False)
    slopes = slopes[None]
    if steps.count > 1:
        slopes = jnp.concatenate([slopes, steps.stack(later)])
    if steps.unroll:
        weights, losses = (jnp.stack(x) for x in zip(*[r[2:] for r in records], strict=True))
    else:
        weights, losses = records.weights, records.losses
    return MetaResult(value, problem.sum(gradient), last, weights, losses, slopes)


def meta_gradient(
    inner_loss: PerExample,
    weights: PerExample,
    outer_loss: Callable[[PyTree, PyTree], jax.Array],
    optimizer: optax.GradientTransformation,
    *,
    mode: str = "mixed",
    unroll: bool | None = None,
    axis_name: str | None = None,
) -> Callable[[PyTree, InnerState, PyTree, PyTree], MetaResult]:
    """Gradient of the loss after T weighted training steps, by the weights' parameters eta.

      g_k = sum_i w_i(eta, batch_k) grad l_i(theta_k),   (theta, s)_{k+1} = U(theta_k, s_k, g_k)
      u_k = the adjoint of g_k, by the vjp of U at step k, from the adjoint of (theta, s)_{k+1}
      d value / d w_ki = <grad l_i(theta_k), u_k>,   adjoint of theta_k += (Hessian of sum w l) u_k

    Exact, whatever the optimizer; 0 where an update is a sign, such as Lion's, which
    `jaxnoise.optim.follows_gradient` tells. One `jvp` of the inner gradient along u_k gives the
    Hessian product and, as the inner loss is linear in w, d value / d w_ki for all i. Step 0 needs
    no Hessian. What is kept per step is theta, s and g; activations are recomputed, so memory
    hardly grows with T. In units of one plain gradient, "mixed" costs (11 T - 2) / 3 and needs the
    memory of a step; "reverse" 3 T - 1/3 and the memory of T steps. Where a gradient is exactly 0,
    Adam's square root and what is divided by a norm have derivative 0 (see
    `with_finite_derivatives`), so nothing turns to NaN; close to 0 Adam's own slope, up to lr /
    eps, is part of the gradient.

    Args:
      inner_loss: `(theta, batch) -> float[B]`, the losses l_i. Batches may hold anything,
        integers and keys too. Layers with a custom_vjp are fine, with a custom jvp too.
      weights: `(eta, batch) -> float[B]`, the weights w_i; any normalisation is done in here.
      outer_loss: `(theta, outer_batch) -> float[]`.
      optimizer: the inner optimizer, from optax; called as `update(gradient, state, params)`.
      mode: "mixed"; "first_order", which leaves the Hessian product out, so that earlier steps
        reach the outcome through the optimizer alone: not exact for T > 1; or "reverse", plain
        reverse mode through everything, to compare with.
      unroll: whether steps are a Python loop; False for `lax.scan`; None for a loop on CPU.
      axis_name: name of the axis of devices to sum over, inside pmap, shard_map or vmap. The inner
        objective is then the sum over the examples of ALL devices, so `weights` normalises over
        the global batch, with collectives of its own; the outer loss is the mean over devices.

    Returns:
      `(eta, inner, batches, outer_batch) -> MetaResult`; leaves of `batches` have a leading axis
      of T >= 1 steps. Pure: safe under jit, vmap (a population of inner states) and scan (over
      meta-steps).

    Raises:
      ArgumentError: an argument of another kind, or no such mode. The function that is returned
        raises it where `inner` is no `InnerState` of this optimizer, `eta` no pytree of float
        arrays, `batches` are without a common leading axis, or one of the functions gives another
        shape than it says here.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import optax
      >>> from jaxnoise.meta import InnerState, meta_gradient
      >>> loss = lambda theta, batch: (theta - batch) ** 2
      >>> weigh = lambda eta, batch: jax.nn.softmax(eta * batch)
      >>> optimizer = optax.sgd(0.5)
      >>> solve = meta_gradient(loss, weigh, lambda theta, target: (theta - target) ** 2, optimizer)
      >>> inner = InnerState(jnp.array(0.0), optimizer.init(jnp.array(0.0)))
      >>> result = solve(jnp.array(0.0), inner, jnp.array([[1.0, 3.0]]), jnp.array(5.0))
      >>> [round(float(x), 3) for x in (result.inner.params, result.value, result.gradient)]
      [2.0, 9.0, -6.0]

    Reference: the setting is that of DataRater (arXiv 2505.17895); forward-over-reverse as in
    MixFlow-MG (arXiv 2505.00793). The recursion written out is ours.
    """
    check_callable("inner_loss", inner_loss, _INNER_LOSS)
    check_callable("weights", weights, _WEIGHTS)
    check_callable("outer_loss", outer_loss, _OUTER_LOSS)
    if not all(callable(getattr(optimizer, name, None)) for name in ("init", "update")):
        raise ArgumentError("optimizer", optimizer, "an optax.GradientTransformation")
    one_of("mode", mode, MODES)
    if not isinstance(unroll, bool | None):
        raise ArgumentError("unroll", describe(unroll), "True, False or None")
    if not isinstance(axis_name, str | None):
        raise ArgumentError("axis_name", axis_name, "the name of an axis of devices, or None")
    problem = _Problem(inner_loss, weights, outer_loss, optimizer, axis_name)

    def differentiate(
        eta: PyTree, inner: InnerState, batches: PyTree, outer_batch: PyTree
    ) -> MetaResult:
        check_floats("eta", eta, "a pytree of float arrays")
        _check_state(inner, optimizer)
        steps = _Steps(batches, unroll)
        if mode == "reverse":
            return _reverse(problem, steps, eta, inner, outer_batch)
        return _adjoint(problem, steps, eta, inner, outer_batch, mode == "first_order")

    return differentiate
