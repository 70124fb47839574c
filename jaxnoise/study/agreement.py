"""Whether the scores of a comparison were taken in one way, of runs on the same images."""

import json
from collections.abc import Sequence
from typing import Any

from jaxnoise.errors import ConfigError
from jaxnoise.report.scores import PROTOCOL_KEYS
from jaxnoise.study.folder import StudyFolder
from jaxnoise.study.plan import PlannedRun

# What arms may differ in, such as with a moving average and without.
_OF_ARM = ("guidance", "weights")
_OF_ALL = tuple(key for key in (*PROTOCOL_KEYS, "reference_count") if key not in _OF_ARM)


def check_agreement(folder: StudyFolder, runs: Sequence[PlannedRun]) -> None:
    """Refuses to average or compare scores that do not mean the same.

    Args:
      folder: of the study.
      runs: the plan.

    Raises:
      ConfigError: a run that has gone on otherwise than planned; two results of a comparison with
        unlike protocols, such as one with features that could not be had for the other; two seeds
        of an arm with unlike guidance or weights; or runs whose configs name the same images, which
        were others.
    """
    first: dict[tuple[str, ...], tuple[PlannedRun, dict[str, Any]]] = {}

    def compare(place: tuple[str, ...], planned: PlannedRun, facts: dict[str, Any]) -> None:
        other, before = first.setdefault(place, (planned, facts))
        # A result of an earlier version may lack a fact.
        for key in facts.keys() & before.keys():
            if facts[key] != before[key]:
                one, two = repr(facts[key]), repr(before[key])
                raise ConfigError(
                    f"--workdir={folder.root}: {planned.name} cannot be compared with "
                    f"{other.name}: {key} was {one} for the one and {two} for the other; give "
                    "another --workdir, or delete one of the two"
                )

    for planned in runs:
        results = folder.results(planned)
        difference = folder.changed(planned) if "" in results else ""
        if difference:
            raise ConfigError(
                f"--workdir={folder.root}: {planned.name} went on under other settings than the "
                f"plan's: {difference}; delete its folder to make it anew, or give another "
                "--workdir"
            )
        for further, result in results.items():
            place = planned.comparison, further
            of_all = {key: result[key] for key in _OF_ALL if key in result}
            # The same images may lie in a folder of another name.
            if of_all.get("reference_sha256"):
                of_all.pop("reference", None)
            compare(place, planned, of_all)
            of_arm = {key: result[key] for key in _OF_ARM if key in result}
            compare((*place, planned.arm), planned, of_arm)
        data = folder.run_folder(planned).data
        if data.exists():
            images = json.dumps(planned.run.config["data"], sort_keys=True)
            found = {"the images' fingerprint": folder.read(data).get("fingerprint")}
            compare(("images", planned.comparison, images), planned, found)
