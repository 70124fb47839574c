"""The keys of a score's record: how they are made, and what is read from them."""

FLOOR = "frechet_floor"
"""The distance of held-out real images to the reference; every row of scores holds it."""

_BETTER_HIGH = ("precision_", "recall_", "inception_score_")
_PREFIX, _UNTRAINED = "frechet_", "untrained_"


def frechet_key(sampler: str) -> str:
    """The key of the Fréchet distance of a sampler's images."""
    return f"{_PREFIX}{sampler}"


def keys_of(metric: str, sampler: str) -> list[str]:
    """The keys of a metric of a sampler's images.

    Example:
      >>> keys_of("precision_recall", "1step"), keys_of("kernel", "1step")
      (['precision_1step', 'recall_1step'], ['kernel_1step', 'kernel_deviation_1step'])
    """
    names = {
        "precision_recall": ("precision", "recall"),
        "kernel": ("kernel", "kernel_deviation"),
        "inception_score": ("inception_score", "inception_score_deviation"),
    }
    return [f"{name}_{sampler}" for name in names.get(metric, (metric,))]


def untrained_key(key: str) -> str:
    """The key of the same number of the untrained model."""
    return f"{_UNTRAINED}{key}"


def average_key(rate: float, key: str) -> str:
    """The key of the same number of a further moving average's images.

    Example:
      >>> average_key(0.9999, frechet_key("1step"))
      'ema0.9999/frechet_1step'
    """
    return f"{average_name(rate)}/{key}"


def average_name(rate: float) -> str:
    """What a further moving average is called, in keys and names of files."""
    return f"ema{rate:.10g}"


def without_average(key: str) -> str:
    """The key of the main moving average's number for any average's.

    Example:
      >>> without_average("ema0.9999/frechet_1step"), without_average("frechet_1step")
      ('frechet_1step', 'frechet_1step')
    """
    return key.rpartition("/")[2]


def sampler_of(key: str) -> str | None:
    """The sampler whose Fréchet distance a key holds; None for any other key.

    Example:
      >>> sampler_of(frechet_key("1step")), sampler_of(FLOOR), sampler_of("loss")
      ('1step', None, None)
    """
    return key.removeprefix(_PREFIX) if key.startswith(_PREFIX) and key != FLOOR else None


def is_untrained(key: str) -> bool:
    """Whether a key holds a number of the untrained model."""
    return key.startswith(_UNTRAINED)


def higher_is_better(key: str) -> bool:
    """Whether more of a score is better; distances are better small.

    Example:
      >>> higher_is_better("recall_1step"), higher_is_better("frechet_1step")
      (True, False)
    """
    return without_average(key).startswith(_BETTER_HIGH)
