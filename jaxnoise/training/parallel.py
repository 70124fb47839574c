"""The one place that maps a step over devices.

In one process `jax.pmap` maps it; with several processes `shard_map` over a global mesh does, since
there pmap hands back arrays that are local to a host. The step body is the same, and so are the
numbers.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnoise.compilation import quick_options
from jaxnoise.errors import ArgumentError, ConfigError, one_of
from jaxnoise.training.drawing import AXIS, Batch
from jaxnoise.training.state import State
from jaxnoise.training.step import Metrics

Step = Callable[[State, Batch, jax.Array], tuple[State, Metrics]]
MAPPINGS = ("auto", "pmap", "shard_map")


def to_host(array: Any) -> np.ndarray:
    """A replicated array, or one of numpy's, as numpy's."""
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return np.asarray(array.addressable_data(0))
    return np.asarray(array)


@dataclass(frozen=True)
class Devices:
    """A one-dimensional set of devices and how a step is mapped over them.

    Attributes:
      mapping: "pmap", "shard_map", or "auto": pmap in one process, shard_map in several.
      count: how many of the devices to use; None for all (several processes always use all).
    """

    mapping: str = "auto"
    count: int | None = None

    def __post_init__(self) -> None:
        one_of("mapping", self.mapping, MAPPINGS)
        if self.count is not None and self.count < 1:
            raise ArgumentError("count", self.count, "at least 1, or None for all")

    @cached_property
    def mesh(self) -> Mesh:
        """The devices as a mesh with the one axis "data"."""
        found = jax.devices()
        if self.count is not None and self.count > len(found):
            raise ArgumentError("count", self.count, f"at most {len(found)}, the devices here")
        return Mesh(np.array(found[: self.count]), (AXIS,), axis_types=(AxisType.Auto,))

    @property
    def size(self) -> int:
        """How many devices there are, over all processes."""
        return self.mesh.size

    @property
    def description(self) -> dict[str, Any]:
        """What and how many they are, for a record."""
        first = self.mesh.devices.flat[0]
        return {"platform": first.platform, "kind": first.device_kind, "count": self.size}

    @property
    def uses_pmap(self) -> bool:
        """Whether the step is mapped by pmap."""
        if self.mapping == "auto":
            return jax.process_count() == 1
        return self.mapping == "pmap"

    @property
    def replicated(self) -> NamedSharding:
        """The sharding of arrays that lie whole on every device."""
        return NamedSharding(self.mesh, P())

    def replicate(self, tree: Any) -> Any:
        """Puts a pytree of host arrays, the same on every process, whole on every device."""

        def put(leaf: Any) -> jax.Array:
            if jax.process_count() == 1:
                return jax.device_put(leaf, self.replicated)
            local = np.asarray(leaf)
            return jax.make_array_from_callback(local.shape, self.replicated, lambda i: local[i])

        return jax.tree.map(put, tree)

    def program(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function as one program, whose results lie whole on every device.

        What no result depends on is left out: a network's `init` runs no forward pass.
        """
        options = quick_options()
        return jax.jit(function, out_shardings=self.replicated, compiler_options=options)

    def split(self, array: np.ndarray, axis: int = 0) -> jax.Array:
        """Puts a global host array on the devices, cut along `axis` (its examples).

        Args:
          array: the GLOBAL array, or on several processes at least a view of it.
          axis: the axis of examples; its size is divisible by the number of devices.
        """
        if self.uses_pmap:
            pieces = np.stack(np.split(array, self.size, axis=axis))
            return jax.device_put(pieces, NamedSharding(self.mesh, P(AXIS)))
        sharding = NamedSharding(self.mesh, P(*[None] * axis, AXIS))
        return jax.make_array_from_callback(array.shape, sharding, lambda i: array[i])

    def local_rows(self, batch: int) -> np.ndarray:
        """The rows of a global batch that this process's devices hold: int[rows], ascending."""
        placed = NamedSharding(self.mesh, P(AXIS)).addressable_devices_indices_map((batch,))
        return np.unique(np.concatenate([np.arange(batch)[index] for index in placed.values()]))

    def map(
        self, step: Step[State], steps_per_dispatch: int, resident: bool, *, donate: bool = True
    ) -> Step[State]:
        """Compiles `steps_per_dispatch` steps into one call over all devices.

        Args:
          step: the per-device step.
          steps_per_dispatch: how many steps one call makes, at least 1.
          resident: whether the batch's images are the whole data set, replicated, and `index`
            int32[steps, batch] says what to train on; else images carry the leading axes
            [steps, batch].
          donate: whether the call may use the memory of the state that it is given.

        Returns:
          `(state, batch, key) -> (state, metrics)`; batch leaves come from `split(..., axis=1)`,
          metrics have a leading axis [steps].
        """
        many = _several(step, steps_per_dispatch)
        if self.uses_pmap:
            cut, whole = 0, None
            return jax.pmap(
                many,
                axis_name=AXIS,
                in_axes=(None, _specs(cut, whole, resident), None),
                out_axes=(None, None),
                donate_argnums=(0,) if donate else (),
                devices=self.mesh.devices.tolist(),
            )
        return jax.jit(
            jax.shard_map(
                many,
                mesh=self.mesh,
                in_specs=(P(), _specs(P(None, AXIS), P(), resident), P()),
                out_specs=(P(), P()),
                # Tracking would sum gradients by itself and so be another step than pmap's; that
                # copies agree is tested instead.
                check_vma=False,
            ),
            donate_argnums=(0,) if donate else (),
        )


def _specs(cut: Any, whole: Any, resident: bool) -> Batch:
    if resident:
        return Batch(index=cut, images=whole, labels=whole)
    return Batch(index=None, images=cut, labels=cut)


def _several(step: Step[State], count: int) -> Step[State]:
    def pick(batch: Batch, i: Any) -> Batch:
        if batch.index is not None:
            return batch.replace(index=batch.index[i])
        return batch.replace(images=batch.images[i], labels=batch.labels[i])

    def single(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
        state, metrics = step(state, pick(batch, 0), key)
        return state, jax.tree.map(lambda x: x[None], metrics)

    def many(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
        return jax.lax.scan(
            lambda carry, i: step(carry, pick(batch, i), key), state, jnp.arange(count)
        )

    return single if count == 1 else many


def use_all_cores(batch: int) -> None:
    """Asks for one host device for each core, as far as they divide the batch.

    XLA's convolutions on a CPU use one core before jax 0.11, so that a device for each core is
    faster there (1.28 times on two cores); later they use all, and it is not. It does nothing where
    $XLA_FLAGS already says how many there are, and must be called before anything asks for devices.

    Args:
      batch: examples of a step, at least 1.
    """
    flags, option = os.environ.get("XLA_FLAGS", ""), "xla_force_host_platform_device_count"
    if jax.__version_info__ >= (0, 11) or option in flags:
        return
    can_tell = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if can_tell else os.cpu_count() or 1
    count = max(n for n in range(1, cores + 1) if batch % n == 0)
    os.environ["XLA_FLAGS"] = f"{flags} --{option}={count}".strip()


def check_devices() -> None:
    """Asks for the devices, so that those that are not there are named in one line.

    Raises:
      ConfigError: there are none of the platforms that $JAX_PLATFORMS names.
    """
    try:
        jax.devices()
    except RuntimeError as error:
        named = f"JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')}"
        raise ConfigError(f"{named}: must name what can be used here ({error})") from error


def connect() -> None:
    """Joins the processes of one run; call before anything asks for devices.

    On a TPU pod or under Slurm jax finds the others by itself. Elsewhere JAX_COORDINATOR_ADDRESS
    ("host:port"), JAX_NUM_PROCESSES and JAX_PROCESS_ID say who they are.

    Raises:
      ConfigError: the variables are set in part, or not to an address and numbers.
    """
    names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    found = [os.environ.get(name) for name in names]
    if not any(found):
        try:
            jax.distributed.initialize()
        except ValueError as error:
            raise ConfigError(
                f"--distributed: no TPU pod and no Slurm here ({error}); set {', '.join(names)}"
            ) from error
        return
    address, processes, process = found
    if not (address and processes and process and processes.isdigit() and process.isdigit()):
        raise ConfigError(f"--distributed: set {names[0]}=host:port and the numbers {names[1:]}")
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit()):
        raise ConfigError(f"{names[0]}={address}: must be host:port")
    if not int(process) < int(processes):
        raise ConfigError(f"{names[2]}={process}: must be from 0 to {names[1]}={processes} less 1")
    jax.distributed.initialize(address, int(processes), int(process))
