"""Open a report in headless Chromium at the width of a phone and of a desk, in light and dark: `make report-check`.

Nothing is installed. CHROMIUM names the browser if `chromium` is not on the path. Exit status 1 if the page runs an
error, draws a figure past its width, scrolls sideways, or has text of too little contrast.
"""

import html
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import riskcore as rc
from riskcore.run import page
from tests import small_run

WIDTHS = (390, 1400)
FIGURES = 5

PROBE = """
<script>
const errors = [];
addEventListener('error', event => errors.push(event.message));
addEventListener('load', () => setTimeout(() => {
  const wide = document.documentElement.clientWidth;
  const luminance = colour => {
    const [r, g, b] = colour.match(/[0-9.]+/g).slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const card = getComputedStyle(document.querySelector('section')).backgroundColor;
  const texts = [...document.querySelectorAll('h2, td, th, .tile span, .plotly-graph-div text')];
  const colours = texts.map(e => getComputedStyle(e)[e instanceof SVGElement ? 'fill' : 'color']);
  parent.postMessage({
    errors, wide, dark: matchMedia('(prefers-color-scheme: dark)').matches,
    scroll: document.documentElement.scrollWidth,
    figures: [...document.querySelectorAll('.plotly-graph-div .main-svg')].map(e => e.getBoundingClientRect().right),
    drawn: document.querySelectorAll('.plotly-graph-div.js-plotly-plot').length,
    contrast: Math.min(...colours.map(colour => contrast(colour, card))),
    card, texts: texts.length,
  }, '*');
}, 1500));
</script>
"""
"""Put into the page: measures it and tells the frame around it."""


def report(folder: Path) -> str:
    """Page of a small crash."""
    venue, accounts, ticks = small_run.crash()
    engine = rc.Engine(accounts, venue, seed=3)
    for tick in ticks:
        engine.step(tick)
    engine.save(folder / "run")
    return page(folder / "run")


def measured(browser: str, folder: Path, content: str, width: int, dark: bool) -> dict:
    """Measure a page in a frame of a width: a window of the browser itself is never as narrow as a phone."""
    frame, probed = folder / "frame.html", folder / "report.html"
    probed.write_text(content.replace("<head>", "<head>" + PROBE, 1))
    frame.write_text(
        f"<iframe style='border:0;width:{width}px;height:3000px' src='{probed.as_uri()}'></iframe>"
        "<pre></pre><script>addEventListener('message', e => "
        "document.querySelector('pre').textContent = JSON.stringify(e.data))</script>"
    )
    command = [
        browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1500,3000",
        f"--user-data-dir={folder / 'profile'}", f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        "--virtual-time-budget=10000", "--dump-dom", frame.as_uri(),
    ]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search("<pre>(.*?)</pre>", dom, re.DOTALL)
    if not found or not found[1]:
        raise SystemExit("report-check: the page did not load")
    return json.loads(html.unescape(found[1]))


def faults(found: dict, width: int, dark: bool) -> list[str]:
    """Return what is wrong with a measured page."""
    checks = {
        f"errors {found['errors']}": not found["errors"],
        f"{found['wide']} pixels wide": found["wide"] == width,
        f"scrolls sideways to {found['scroll']} pixels": found["scroll"] <= width,
        f"{found['drawn']} figures drawn, not {FIGURES}": found["drawn"] == FIGURES,
        f"a figure ends at {max(found['figures'], default=0)} pixels": max(found["figures"], default=0) <= width,
        f"dark is {found['dark']}": found["dark"] == dark,
        f"contrast of {found['contrast']:.1f} on {found['card']}": found["contrast"] >= 4.5,
        f"{found['texts']} texts": found["texts"] > 100,
    }
    return [fault for fault, kept in checks.items() if not kept]


def main() -> None:
    """Check every width and colour scheme, a line for each."""
    browser = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        raise SystemExit("report-check: needs chromium on the path, or its path in CHROMIUM")
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        content = report(folder)
        for width in WIDTHS:
            for dark in (False, True):
                wrong = faults(measured(browser, folder, content, width, dark), width, dark)
                failed |= bool(wrong)
                print(f"{width} pixels, {'dark' if dark else 'light'}: {'; '.join(wrong) or 'right'}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
