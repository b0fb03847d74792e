"""How Sphinx renders this folder: `sphinx-build docs docs/_build/html` runs every chapter of the course and shows it.

It needs the extra `docs`. Formulas become MathML, so that the pages open offline and without scripts of others.
"""

import re
from typing import Any

from docutils.nodes import SkipNode
from latex2mathml.converter import convert

project = "Sparring"
extensions = ["myst_nb"]
exclude_patterns = ["_build", "conf.py", "course/figures"]
html_theme = "furo"
html_title = "Sparring"
html_show_copyright = False
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["style.css"]

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "cache"
nb_merge_streams = True
nb_execution_timeout = 900
nb_execution_raise_on_error = True


def inline(page: Any, node: Any) -> None:
    """A formula in a sentence."""
    page.body.append(formula(node.astext(), "inline"))
    raise SkipNode


def block(page: Any, node: Any) -> None:
    """A formula on a line of its own."""
    page.body.append(f'<div class="math">{formula(node.astext(), "block")}</div>')
    raise SkipNode


def formula(text: str, display: str) -> str:
    """MathML in which bars of absolute values are as close and as high as letters."""
    bar = '<mo stretchy="false" lspace="0" rspace="0">&#x0007C;</mo>'
    return re.sub("<mo[^>]*>&#x0007C;</mo>", bar, convert(text, display=display))


def setup(app: Any) -> None:
    """Tell Sphinx how to write formulas."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
