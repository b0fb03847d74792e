"""The report in a real browser: its policy lets its own script run, and nothing sticks out on a phone."""

import re
import shutil
import subprocess

import pytest

from sparring.evaluation.report import render
from test_report import CASES, view

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FRAME = """<!doctype html><iframe id="f" src="report.html" width="{width}" height="900"></iframe><script>
document.getElementById("f").onload = (event) => {{
  const page = event.target.contentDocument, root = page.documentElement;
  const wide = [...page.querySelectorAll("main *")].filter((part) => !part.closest(".scroll, svg")
    && part.getBoundingClientRect().right > {width}).map((part) => part.outerHTML.slice(0, 80));
  page.querySelector("#theme").click();
  const plot = [...page.querySelectorAll("svg[data-points]")].find((svg) => svg.getBoundingClientRect().width);
  const frame = plot?.getBoundingClientRect();
  plot?.dispatchEvent(new PointerEvent("pointermove", {{ clientX: frame.left + frame.width / 2 }}));
  const changed = page.querySelector(".changed"), first = page.querySelector(".triple img");
  changed?.dispatchEvent(new PointerEvent("pointerdown"));
  const pressed = changed?.querySelector("img").src === first?.src;
  changed?.dispatchEvent(new PointerEvent("pointerup"));
  document.body.append(JSON.stringify({{ overflow: root.scrollWidth - root.clientWidth, wide, theme: root.dataset.theme,
    readout: page.querySelector(".readout")?.textContent, pressed,
    released: changed?.querySelector("img").src !== first?.src,
    figures: [...page.querySelectorAll("svg[aria-label]")].filter((svg) => svg.getBoundingClientRect().width).length,
    hidden: page.querySelector("#theme").hidden }}));
}};
</script>"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


def look(folder, address: str) -> tuple[str, str]:
    """The page as the browser ends up with it, and what it logged."""
    assert CHROMIUM is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    options += ["--allow-file-access-from-files", f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr"]
    options += ["--virtual-time-budget=5000", "--dump-dom", (folder / address).as_uri()]
    done = subprocess.run([CHROMIUM, *options], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, done.stderr


@pytest.mark.parametrize("name", ["plain", "failed", "free", "numbers", "many attacks"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out_at_the_width_of_a_phone_and_of_a_desk(tmp_path, name, width):
    (tmp_path / "report.html").write_text(render(CASES[name][0]), encoding="utf-8")
    (tmp_path / "frame.html").write_text(FRAME.format(width=width))
    dom, _ = look(tmp_path, "frame.html")
    assert '"overflow":0,"wide":[]' in dom
    assert '"hidden":false' in dom
    assert '"theme":"dark"' in dom
    assert re.search(r'"readout":"At [\d./]+: \d+\.\d.% still right\."', dom)
    assert '"pressed":true' in dom
    assert '"released":true' in dom or name == "numbers"


def test_the_page_runs_its_own_script_and_the_policy_refuses_nothing_of_it(tmp_path):
    (tmp_path / "report.html").write_text(render(view()), encoding="utf-8")
    dom, log = look(tmp_path, "report.html")
    assert '<button id="theme" type="button">Dark</button>' in dom
    assert 'role="button"' in dom
    assert "CONSOLE" not in log, log


def test_the_policy_refuses_what_is_not_the_pages_own(tmp_path):
    evil = "<script>document.body.id='hurt'</script><p style='color:red' onclick=1>x</p></body>"
    (tmp_path / "report.html").write_text(render(view()).replace("</body>", evil), encoding="utf-8")
    dom, log = look(tmp_path, "report.html")
    assert "<body>" in dom
    assert "Content Security Policy" in log
