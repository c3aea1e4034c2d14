"""The pages that a reader is shown: the README, the model card and docs/."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CARD = "lowlat/weights/README.md"
PAGES = ["README.md", CARD, *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md"))]
