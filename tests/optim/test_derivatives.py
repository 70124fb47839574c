import optax
import pytest

from jaxnoise.optim import follows_gradient, momentum_decay


@pytest.mark.parametrize(
    ("optimizer", "follows"),
    [
        (optax.sgd(0.1), True),
        (optax.adamw(1e-3, weight_decay=0.1), True),
        (optax.chain(optax.clip_by_global_norm(0.5), optax.radam(1e-3)), True),
        (momentum_decay(1e-3, total_steps=10), True),
        (optax.MultiSteps(optax.adam(1e-3), 8), True),
        (optax.MultiSteps(optax.lion(1e-3), 8), False),
        (optax.lion(1e-3, weight_decay=0.1), False),
        (optax.sign_sgd(1e-3), False),
        (optax.chain(optax.clip(1.0), optax.scale_by_sign(), optax.scale(-1e-3)), False),
    ],
)
def test_a_sign_has_no_derivative(optimizer, follows):
    assert follows_gradient(optimizer) is follows
