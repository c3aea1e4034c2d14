"""Puts the committed runs into the pages that show them: `python -m benchmarks document`.

A page has a block for the tables of a run, between two comments of which the first names the run's file. README shows
rows of a run, each of which is found again by its first four cells, the instruction set and how many bars are met.
"""

import json
import re
from pathlib import Path

from benchmarks import downstream, report, results

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/benchmarks.md", "docs/downstream.md")
# The run whose rows README shows.
SHOWN = "benchmarks/results/amd-epyc-2cores-table.json"
_BLOCK = re.compile(r"^(<!-- (benchmarks/results/[\w-]+\.json) -->\n).*?^(<!-- end -->)$", re.M | re.S)


def tables(file: str) -> str:
    """Return the tables of a run as Markdown; nothing where there is no such file."""
    path = ROOT / file
    if not path.exists():
        return ""
    if json.loads(path.read_text()).get("preset") == downstream.PRESET:
        return downstream.markdown(downstream.load(path))
    return report.markdown(results.load(path))


def written(name: str, text: str) -> str:
    """Return the text of a page with what it shows of committed runs."""
    text = _BLOCK.sub(lambda block: block[1] + (f"\n{shown}\n" if (shown := tables(block[2])) else "") + block[3], text)
    return _with_rows(text) if name == "README.md" else text


def _with_rows(text: str) -> str:
    run = results.load(ROOT / SHOWN)
    rows = {_case(line): line for line in report.markdown(run).splitlines() if line.startswith("|")}
    text = "\n".join(rows.get(_case(line), line) for line in text.split("\n"))
    sets = {"avx2": "AVX2", "avx512": "AVX-512"}
    instruction_set = sets.get(run.banner["instruction_set"], run.banner["instruction_set"])
    text = re.sub(r"(two cores \(AMD EPYC), [\w-]+,", rf"\1, {instruction_set},", text)
    met = [figure.met for figure in run.figures]
    return re.sub(r"\d+ of the run's \d+ bars are met", f"{met.count(True)} of the run's {len(met)} bars are met", text)


def _case(line: str) -> tuple[str, ...]:
    """Return a row's first four cells: operation, type, sizes and contender."""
    return tuple(line.split(" | ")[:4])
