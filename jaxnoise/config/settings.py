"""Settings of a run that are numbers and names rather than objects, checked."""

from dataclasses import dataclass
from math import isfinite

from jaxnoise import data
from jaxnoise.data.augmentation import check_probability
from jaxnoise.data.decoding import check_decoding
from jaxnoise.data.images import Images
from jaxnoise.data.tfds_images import check_name
from jaxnoise.errors import ArgumentError, ConfigError, check_positive, one_of
from jaxnoise.evaluation.reference import METRICS
from jaxnoise.meta.neutral import check_floor
from jaxnoise.meta.unroll import MODES
from jaxnoise.noise_rater.population import Population, outer_columns
from jaxnoise.noise_rater.step import AVERAGING
from jaxnoise.optim.ema import check_rate


@dataclass(frozen=True)
class DataSettings:
    """Where images come from.

    Attributes:
      dataset: "digits", "fashion_mnist", "folder" (image files), "arrays" (a folder of
        images.npy or latents) or any image data set that TensorFlow Datasets knows.
      split: which part to train on.
      data_dir: folder of prepared data sets, None for the TFDS default; for "folder" and "arrays"
        the folder itself.
      archive: a local copy of the data set's original file, or a folder of its files, for cifar10,
        cifar100, mnist, fashion_mnist and svhn_cropped; None to download them.
      size: side of square images in pixels, from 8 to their own: the middle squares of images are
        made smaller, by a box filter where it divides theirs; None leaves them.
      channels: 1 makes the images of a "folder" grey, 3 makes them RGB; None leaves them.
      background: what shows through transparent pixels in a "folder": a colour's name or "#rrggbb".
      scale: what float "arrays" are multiplied by; 1 trains on any data as they are. None does too,
        but refuses data whose standard deviation is more than twice or less than half of
        objective.sigma_data.
      flip: whether to mirror images left to right at random.
      augment: probability of each transformation of EDM's augmentation, of which the network is
        told, .12 for CIFAR-10 (see `jaxnoise.data.augment`); it mirrors images too. 0 for none.
      allow_changed: whether a run goes on, or is looked at, with other images than it was trained
        on, such as a folder in which a broken file was replaced; a warning then.
    """

    dataset: str
    split: str = "train"
    data_dir: str | None = None
    archive: str | None = None
    size: int | None = None
    channels: int | None = None
    background: str = "white"
    scale: float | None = None
    flip: bool = False
    augment: float = 0.0
    allow_changed: bool = False

    def __post_init__(self) -> None:
        check_name(self.dataset)
        if self.size is not None and self.size < 8:
            raise ArgumentError("size", self.size, "at least 8, or None")
        check_decoding(self.size, self.channels, self.background)
        if self.scale is not None:
            check_positive("scale", self.scale)
        if self.augment:
            check_probability("augment", self.augment)
            if self.flip:
                raise ArgumentError("flip", True, "False where data.augment is above 0")

    def open(self) -> Images:
        """Opens the images; may prepare or download them.

        Raises:
          ConfigError: one line that says what is missing or wrong, and what to do.
        """
        try:
            return data.open_images(
                self.dataset,
                split=self.split,
                data_dir=self.data_dir,
                archive=self.archive,
                size=self.size,
                channels=self.channels,
                background=self.background,
                scale=self.scale,
            )
        except ArgumentError as error:
            raise ConfigError(f"config.data.{error}") from error
        except ConfigError as error:
            key = (
                f"dataset={self.dataset!r}" if self.archive is None else f"archive={self.archive!r}"
            )
            raise ConfigError(f"config.data.{key}: {error}") from error

    def resized(self, images: Images) -> Images:
        """Other images at the size asked for, such as stand-ins.

        Raises:
          ArgumentError: they cannot have it.
        """
        return images if self.size is None else data.ResizedImages(images, self.size)


@dataclass(frozen=True)
class TrainSettings:
    """How long and in what portions a run trains.

    Attributes:
      steps: updates K that curricula, pacings and learning rates are laid out for.
      further_steps: updates after these, also of a run that is finished: all that follows the step
        keeps its last value.
      batch: examples per update over all devices.
      steps_per_dispatch: updates per call on an accelerator; a CPU makes one per call, since XLA's
        CPU convolution gradients are slow inside a loop.
      log_every: updates between rows of metrics.jsonl.
      sample_every: updates between sample grids.
      checkpoint_every: updates between checkpoints.
      keep_checkpoints: how many of the newest are kept.
      tensorboard: whether to write TensorBoard events too (extra "tensorboard").
      mapping: how the step is mapped over devices: auto, pmap or shard_map.
      label_dropout: share of examples whose label is withheld, in [0, 1); classifier-free guidance
        needs some.
      init_from: where the network's first weights come from: the folder of another run, a
        .safetensors file of --mode=export, or a .pkl of EDM's (see `jaxnoise.export.edm.load_edm`);
        None to draw them. The optimizer, the averages and what an objective learns begin afresh,
        and scores of the untrained model are those of these weights.
      init_weights: which ones of a run's folder: "ema", the moving average where there is one, or
        "raw".
    """

    steps: int
    batch: int
    steps_per_dispatch: int = 1
    log_every: int = 50
    sample_every: int = 1000
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    tensorboard: bool = False
    mapping: str = "auto"
    label_dropout: float = 0.0
    further_steps: int = 0
    init_from: str | None = None
    init_weights: str = "ema"

    @property
    def last_step(self) -> int:
        """Updates in all."""
        return self.steps + self.further_steps

    def __post_init__(self) -> None:
        if self.further_steps < 0:
            raise ArgumentError("further_steps", self.further_steps, "at least 0")
        counts = (
            "steps",
            "batch",
            "steps_per_dispatch",
            "log_every",
            "sample_every",
            "checkpoint_every",
            "keep_checkpoints",
        )
        for name in counts:
            if getattr(self, name) < 1:
                raise ArgumentError(name, getattr(self, name), "at least 1")
        for name in ("steps", "further_steps", "log_every", "sample_every", "checkpoint_every"):
            if getattr(self, name) % self.steps_per_dispatch:
                raise ArgumentError(
                    name,
                    getattr(self, name),
                    f"a multiple of train.steps_per_dispatch={self.steps_per_dispatch}",
                )
        if self.checkpoint_every % self.log_every:
            raise ArgumentError(
                "checkpoint_every",
                self.checkpoint_every,
                f"a multiple of train.log_every={self.log_every}, so that resumed rows are whole",
            )
        one_of("mapping", self.mapping, ("auto", "pmap", "shard_map"))
        if self.last_step >= 2**31:  # they are counted in int32
            name = "steps" if self.steps >= 2**31 else "further_steps"
            allowed = "so low that train.steps + train.further_steps is below 2^31"
            raise ArgumentError(name, getattr(self, name), allowed)
        one_of("init_weights", self.init_weights, ("ema", "raw"))
        if self.init_weights == "raw" and self.init_from is None:
            raise ArgumentError("init_weights", "raw", "'ema' unless train.init_from is given")
        if not 0 <= self.label_dropout < 1:
            raise ArgumentError("label_dropout", self.label_dropout, "a number in [0, 1)")


@dataclass(frozen=True)
class SampleSettings:
    """How sample grids are drawn.

    Attributes:
      count: images in a grid.
      columns: images in a row.
      seed: of the noise; image i depends on (seed, i) only.
      batch: images drawn at once.
      guidance: scale of classifier-free guidance; 1 for none, which costs nothing.
      step: the checkpoint that --mode=sample and --mode=export read; None for the newest.
      format: what --mode=sample writes: "grid", one picture of all; "png", one for each image; or
        "npz", one array `arr_0` of all.
    """

    count: int = 100
    columns: int = 10
    seed: int = 0
    batch: int = 128
    guidance: float = 1.0
    step: int | None = None
    format: str = "grid"

    def __post_init__(self) -> None:
        for name in ("count", "columns", "batch"):
            if getattr(self, name) < 1:
                raise ArgumentError(name, getattr(self, name), "at least 1")
        check_seed(self.seed)
        if not isfinite(self.guidance):
            raise ArgumentError("guidance", self.guidance, "a finite number")
        check_step(self.step)
        one_of("format", self.format, ("grid", "png", "npz"))


@dataclass(frozen=True)
class EvaluateSettings:
    """How a run is scored.

    Attributes:
      n: generated images; None for as many as half of those compared with, 0 for no score.
      seed: of the generated images' noise.
      every: updates between scores during training; 0 for one at the end only.
      step: the checkpoint that --mode=evaluate scores; None for the newest.
      metrics: "frechet" and any of "kernel", "inception_score" and "precision_recall".
      few_samples: whether there may be fewer images than features; the record says so.
      reference: a .npz of mean and covariance that another tool published, instead of images.
      split: the split whose images are the reference and the floor, such as "test"; None for
        that which is trained on.
      held_out: a split whose images are the floor, such as "test"; the reference is then all
        images that are trained on, as in the numbers that papers print, or `reference`. None for
        halves.
      fallback: whether the score is taken in raw pixels where the extractor's weights cannot be
        had, after a line that says so, rather than not at all.
      weights: what images are drawn with: "ema", the moving average where there is one, or "raw".
      levels: how many from sigma .002 to 80 held-out images are noised and denoised at in one step.
      untrained: whether the last score is taken of the network as it was before training as well.
    """

    n: int | None = None
    seed: int = 1
    every: int = 0
    step: int | None = None
    metrics: tuple[str, ...] = ("frechet",)
    few_samples: bool = False
    reference: str | None = None
    split: str | None = None
    held_out: str | None = None
    fallback: bool = False
    weights: str = "ema"
    levels: int = 0
    untrained: bool = True

    def __post_init__(self) -> None:
        one_of("weights", self.weights, ("ema", "raw"))
        if self.levels < 0:
            raise ArgumentError("levels", self.levels, "at least 1, or 0 for none")
        for name, other in (("split", "reference"), ("held_out", "split")):
            if None not in (getattr(self, name), getattr(self, other)):
                allowed = f"None where evaluate.{other} is given"
                raise ArgumentError(name, getattr(self, name), allowed)
        if self.every < 0:
            raise ArgumentError("every", self.every, "at least 1, or 0 for the end only")
        # Not `held_out` and the like, which recipes set that are tried without a score.
        for name in ("every", "levels", "metrics", "split", "few_samples") if self.n == 0 else ():
            unset = type(self).__dataclass_fields__[name].default
            if getattr(self, name) != unset:
                raise ArgumentError(name, getattr(self, name), f"{unset!r} where evaluate.n is 0")
        for metric in self.metrics:
            one_of("metrics", metric, METRICS)
        if "frechet" not in self.metrics:
            raise ArgumentError("metrics", self.metrics, "a tuple that holds 'frechet'")
        check_step(self.step)
        if self.n is not None and self.n != 0 and self.n < 2:
            raise ArgumentError("n", self.n, "at least 2, 0 for no score, or None")
        check_seed(self.seed)


@dataclass(frozen=True)
class MetaSettings:
    """How a rater of noise is learned: stage 1 of NoiseRater.

    Attributes:
      outer_batch: held-out images of the outer loss over all devices, a multiple of train.batch.
      inner_steps: T, weighted updates of each inner model in a meta-step.
      population: P, inner models.
      lifetime: meta-steps after which an inner model is begun afresh.
      held_out: share of the images that only the outer loss sees, in (0, 1).
      candidates: M, draws of noise for one image that compete for its weight; None for a softmax
        over the batch.
      temperature: of the softmax.
      floor: f in [0, 1), below which no weight falls, where plain training has weights of 1.
      averaging: "updates", an optimizer for each inner model, or "gradients", one for all.
      mode: "mixed" (exact), "reverse" (exact, by plain reverse mode) or "first_order".
      unroll: whether inner steps and models are unrolled when compiled; None for unrolled on a CPU
        and scanned elsewhere.
      probe_every: meta-steps between probes (autocorrelation of scores, cosine of the first-order
        to the exact gradient, signal to noise); 0 for one at the end only.
      probe_draws: K, draws of noise for one image in the probe of signal to noise.
      probe_repeats: R, outer batches that each draw is measured on; the smallest p that the probe
        can find is 2^(1-R), 1/128 for 8.
    """

    outer_batch: int
    inner_steps: int = 2
    population: int = 8
    lifetime: int = 1000
    held_out: float = 0.2
    candidates: int | None = None
    temperature: float = 1.0
    floor: float = 0.0
    averaging: str = "updates"
    mode: str = "mixed"
    unroll: bool | None = None
    probe_every: int = 0
    probe_draws: int = 8
    probe_repeats: int = 8

    def __post_init__(self) -> None:
        for name in ("outer_batch", "inner_steps", "population", "lifetime"):
            if getattr(self, name) < 1:
                raise ArgumentError(name, getattr(self, name), "at least 1")
        if not 0 < self.held_out < 1:
            raise ArgumentError("held_out", self.held_out, "a number in (0, 1)")
        if self.candidates is not None and self.candidates < 2:
            raise ArgumentError("candidates", self.candidates, "at least 2, or None")
        check_positive("temperature", self.temperature)
        check_floor(self.floor)
        one_of("averaging", self.averaging, AVERAGING)
        one_of("mode", self.mode, MODES)
        if self.probe_every < 0:
            raise ArgumentError("probe_every", self.probe_every, "at least 1, or 0 for the end")
        for name in ("probe_draws", "probe_repeats"):
            if getattr(self, name) < 2:
                raise ArgumentError(name, getattr(self, name), "at least 2")

    @property
    def inner_models(self) -> Population:
        """How many inner models there are, and how long they live."""
        return Population(self.population, self.lifetime)

    @property
    def total_inner_steps(self) -> int:
        """Updates of an inner model in its life, which its curriculum is laid out for."""
        return self.lifetime * self.inner_steps

    def images_per_step(self, batch: int) -> int:
        """Images that a meta-step trains or measures on.

        Args:
          batch: images of an inner step over all devices.

        Raises:
          ArgumentError: `outer_batch` is no multiple of it.
        """
        return self.population * batch * (self.inner_steps + outer_columns(batch, self.outer_batch))


def check_seed(seed: int) -> None:
    """Raises ArgumentError unless a PRNG key can be made of `seed`."""
    if not 0 <= seed < 2**32:
        raise ArgumentError("seed", seed, "from 0 to 2^32 - 1")


def check_step(step: int | None) -> None:
    """Raises ArgumentError unless a checkpoint can be of this step."""
    if step is not None and step < 1:
        raise ArgumentError("step", step, "at least 1, or None for the newest")


def ema_rates(rate: float = 0.9999, further_rates: tuple[float, ...] = ()) -> tuple[float, ...]:
    """The rates of the parameters' moving averages, checked: none for a `rate` of 0.

    Args:
      rate: of the main average, in [0, 1): samples, curves, pages and exports are its.
      further_rates: of averages beside it, each in (0, 1); samples and scores of each are recorded
        under its rate.

    Raises:
      ArgumentError: a rate out of range or given twice, or further ones without a main one.
    """
    check_rate("rate", rate)
    for further in further_rates:
        if not 0 < further < 1:
            raise ArgumentError("further_rates", further, "numbers in (0, 1)")
    if further_rates and rate == 0:
        raise ArgumentError("further_rates", further_rates, "() where ema.rate is 0")
    rates = (rate, *further_rates) if rate else ()
    if len(set(rates)) < len(rates):
        allowed = f"rates that differ from ema.rate={rate} and from each other"
        raise ArgumentError("further_rates", further_rates, allowed)
    return rates
