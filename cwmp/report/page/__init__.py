"""One self-contained HTML page of a study.

`load_folder` reads a folder into a `View` (`view`), `page_of` makes the document of it. Pictures
are SVG made here; the script adds hovering, toggles and other scales; the page reads without it.
"""

from __future__ import annotations

from pathlib import Path

from cwmp.report.page.document import page_of
from cwmp.report.page.folder import load_study, view_of
from cwmp.report.page.run_folder import load_run
from cwmp.report.page.view import View
from cwmp.results import RESULTS

__all__ = ["View", "load_folder", "load_run", "load_study", "page_of", "view_of"]


def load_folder(folder: Path) -> View:
    """A study's folder, or one of ``cwmp run -o``, whichever it is.

    Raises:
        InputFileError: it is neither.
        FileFormatError: a file in it that is refused.
    """
    is_run = (folder / RESULTS).exists() and not (folder / "runs").is_dir()
    return load_run(folder) if is_run else load_study(folder)
