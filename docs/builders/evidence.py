"""Pages of our own studies, made of the numbers of their finished runs that lie in docs/evidence/.

    python -m docs.builders.evidence

Writes docs/evidence/STUDY.md and the pictures that it shows for every docs/evidence/STUDY.jsonl,
and docs/evidence.md, what all of them answer. Numbers hold no images: the pictures of samples that
a study makes in its folder, COMPARISON_samples.png, are copied there as
STUDY_COMPARISON_samples.png.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from jaxnoise.study.archive import unpack
from jaxnoise.study.folder import StudyFolder
from jaxnoise.study.pages import answered_claims, draw, scored_rows, tables
from jaxnoise.study.plan import PlannedRun, planned_runs
from jaxnoise.study.question import Study, load_study

EVIDENCE = Path(__file__).parents[1] / "evidence"
BUDGET = "laptop"
HEAD = """# What our studies answer

Each line is a claim, and what the finished runs say of it: **holds here** where the 95% interval
of the difference, paired by seed, lies on the side that is claimed, **does not hold here** where
it lies on the other, **cannot tell** where it holds 0 or there are fewer than three seeds. `first`
is the mean score of what is said to be better, `second` of what it is said to beat. No correction
is made for the number of claims. Smaller is better: these are Fréchet distances in raw pixels (not
FID) of small networks on small images, on two CPU cores. They say what a method does here, not
what it does at scale; where a paper has a number, it is beside ours and cannot be compared with
it.
"""


def archives() -> list[Path]:
    """The studies of which runs are kept."""
    return sorted(EVIDENCE.glob("*.jsonl"))


def restored(archive: Path, root: Path) -> tuple[Study, StudyFolder, list[PlannedRun]]:
    """A study's folder, filled from the numbers that are kept."""
    study, folder = load_study(f"studies/{archive.stem}.py"), StudyFolder(root)
    runs = planned_runs(study, BUDGET, root)
    unpack(archive, folder, runs)
    return study, folder, runs


def text_of(archive: Path, study: Study, folder: StudyFolder, runs: list[PlannedRun]) -> str:
    """A study's page but for its pictures: how to make it, and its tables."""
    rows = scored_rows(study, folder, runs)
    title, _, rest = tables(study, rows, folder, runs).partition("\n\n")
    return (
        f"{title}\n\n{progress_of(folder, runs)}; "
        f"[studies.md](../studies.md) says what the tables mean. This command shows them again and "
        f"makes the others:\n\n```sh\npython run.py --study=studies/{archive.stem}.py "
        f"--budget={BUDGET} --jobs=2 \\\n    --archive=docs/evidence/{archive.name}\n```\n\n{rest}"
    )


def shown(study: Study, folder: StudyFolder) -> list[Path]:
    """The answers; of each comparison its distances, over training too, and errors by level."""
    found = sorted(folder.root.glob("answers.png"))
    for name, comparison in study.comparisons.items():
        further = [f"{again}_by_level" for again in comparison.further]
        for kind in ("frechet_*", "curves", "by_level", *further):
            found += sorted(folder.root.glob(f"{name}_{kind}.png"))
    return found


def progress_of(folder: StudyFolder, runs: list[PlannedRun]) -> str:
    """How many of a study's runs are finished, of those that are still needed."""

    def wanted(run: PlannedRun) -> bool:
        return folder.is_wanted(run, runs)

    done, left = (sum(map(each, runs)) for each in (folder.is_finished, wanted))
    # A mean over fewer seeds is no neighbour of one over more.
    rest = "; until all are, compare differences, which are paired by seed, and not means"
    return f"{done} of {done + left} runs are finished{rest if left else ''}"


def summary_of(archive: Path, study: Study, folder: StudyFolder, runs: list[PlannedRun]) -> str:
    """A study's part of docs/evidence.md."""
    answered = answered_claims(study, scored_rows(study, folder, runs), folder, runs)
    drawn = EVIDENCE / f"{archive.stem}_answers.png"
    picture = f"![answers](evidence/{drawn.name})\n\n" if answered and drawn.exists() else ""
    return (
        f"\n## {study.question}\n\n{progress_of(folder, runs)}; scores, pictures and command are "
        f"in [{archive.stem}](evidence/{archive.stem}.md).\n\n{picture}{answered}"
    )


def write(archive: Path) -> str:
    """Writes a study's page and its pictures; gives its part of docs/evidence.md."""
    with tempfile.TemporaryDirectory() as root:
        study, folder, runs = restored(archive, Path(root))
        draw(study, scored_rows(study, folder, runs), folder, runs)
        text = text_of(archive, study, folder, runs)
        for picture in shown(study, folder):
            name = f"{archive.stem}_{picture.name}"
            shutil.copyfile(picture, EVIDENCE / name)
            text += f"\n![{picture.stem.replace('_', ' ')}]({name})\n"
        for name in study.comparisons:
            picture = EVIDENCE / f"{archive.stem}_{name}_samples.png"
            if picture.exists():
                text += f"\n![{name.replace('_', ' ')} samples]({picture.name})\n"
        summary = summary_of(archive, study, folder, runs)
    (EVIDENCE / f"{archive.stem}.md").write_text(text)
    return summary


def main(arguments: list[str] | None = None) -> None:
    """Writes all pages; there is nothing to choose, so that anything but --help is refused."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(arguments)
    EVIDENCE.with_suffix(".md").write_text(HEAD + "".join(map(write, archives())))


if __name__ == "__main__":
    main()
