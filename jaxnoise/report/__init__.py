"""Pages that show runs: one self-contained HTML file, made of a run folder's plain files."""

from jaxnoise.report.comparison import write_comparison
from jaxnoise.report.page import write_report

__all__ = ["write_comparison", "write_report"]
