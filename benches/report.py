"""Writes results into docs/performance.md.

Owns: the markers between which a section stands. Must not know: what was measured.
"""

from harness import ROOT

DOCUMENT = ROOT / "docs/performance.md"


def write_section(name, text):
    """Replaces what stands between the markers of this name. The rest of the document is written by people."""
    begin, end = f"<!-- bench:{name} -->", f"<!-- end:{name} -->"
    document = DOCUMENT.read_text()
    if begin not in document or end not in document:
        raise SystemExit(f"docs/performance.md lacks the markers {begin} and {end}")
    before, after = document.split(begin)[0], document.split(end)[1]
    DOCUMENT.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")
