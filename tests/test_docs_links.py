"""Pages lead somewhere: links of README and docs exist, commands they name do too."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(#[^)\s]*)?\)")
CODE = re.compile(r"^```.*?^```$|`[^`]*`", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page):
    prose = CODE.sub("", page.read_text(encoding="utf-8"))
    local = [target for target, _ in LINK.findall(prose) if "://" not in target]
    missing = [target for target in local if not (page.parent / target).exists()]
    assert not missing


def test_every_page_can_be_reached_from_the_readme():
    seen, queue = set(), [ROOT / "README.md"]
    while queue:
        page = queue.pop().resolve()
        if page in seen or not page.exists():
            continue
        seen.add(page)
        if page.is_dir():
            queue += page.glob("*.md")
        elif page.suffix == ".md":
            targets = LINK.findall(page.read_text(encoding="utf-8"))
            queue += [page.parent / t for t, _ in targets if "://" not in t]
    lost = [str(p.relative_to(ROOT)) for p in PAGES if p not in seen and p.name != "CHANGELOG.md"]
    assert not lost


def test_every_benchmark_has_a_page_and_stands_in_the_list():
    names = {
        path.stem for path in (ROOT / "benchmarks").glob("*.py") if path.stem != "contract"
    } - {"__init__"}
    index = (ROOT / "docs" / "benchmarks" / "README.md").read_text(encoding="utf-8")
    make = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name in names:
        page = ROOT / "docs" / "benchmarks" / f"{name}.md"
        assert page.exists(), f"benchmark {name} has no page"
        assert f"python -m benchmarks.{name}" in page.read_text(encoding="utf-8")
        assert f"[{name}.md]({name}.md)" in index
        assert name in make
