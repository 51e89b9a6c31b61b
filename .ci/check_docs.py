"""Run what the README and docs tell a reader to run.

Every ``sh`` block is executed line by line in one scratch folder, with the project's own
environment first on PATH; every ``python`` block is executed there too, in order. Blocks
marked otherwise (``text``, ``console``) are shown, not run. Links to files of the project
must lead somewhere.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")
# .ci/run itself executes these two, from the root of a clean clone.
RUN_ELSEWHERE = {"make run", "make test"}


def blocks(page: Path) -> list[tuple[str, str]]:
    """The runnable blocks of *page*, in order."""
    return [
        (lang, body) for lang, body in FENCE.findall(page.read_text()) if lang in ("sh", "python")
    ]


def commands(body: str) -> list[str]:
    """The commands of a shell block: comments dropped, continued lines joined."""
    joined = body.replace("\\\n", " ")
    lines = [re.sub(r"\s+#.*$", "", line).strip() for line in joined.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def execute(argv: list[str], shown: str, scratch: Path, environment: dict[str, str]) -> bool:
    """Run one command in *scratch* and say how it ended."""
    done = subprocess.run(argv, cwd=scratch, env=environment, capture_output=True, text=True)
    print(f"  {'ok  ' if done.returncode == 0 else 'FAIL'} {shown}", flush=True)
    if done.returncode:
        print(done.stdout[-2000:], done.stderr[-4000:], sep="\n")
    return done.returncode == 0


def main() -> int:
    """Check every page; 0 when all commands ran and all links lead somewhere."""
    good = True
    ran = 0
    venv_bin = ROOT / ".venv" / "bin"
    environment = os.environ | {"PATH": f"{venv_bin}:{os.environ['PATH']}", "COLUMNS": "80"}
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        print(page.relative_to(ROOT))
        for target in LINK.findall(page.read_text()):
            if not (page.parent / target).exists():
                print(f"  FAIL link to {target}")
                good = False
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder)
            for language, body in blocks(page):
                if language == "python":
                    script = scratch / "block.py"
                    script.write_text(body)
                    shown = f"python block: {body.strip().splitlines()[0]}"
                    good &= execute([sys.executable, str(script)], shown, scratch, environment)
                    ran += 1
                    continue
                for command in commands(body):
                    if command in RUN_ELSEWHERE:
                        continue
                    argv = ["bash", "-euc", command]
                    good &= execute(argv, command, scratch, environment)
                    ran += 1
    if ran == 0:
        print("FAIL: no command was found to run")
        good = False
    print("docs:", "every command ran" if good else "something failed")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
