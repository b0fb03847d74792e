"""How Sphinx renders this folder: `sphinx-build docs docs/_build/html` runs every chapter of the course and shows it.

It needs the extra `docs`. Formulas become MathML, so that the pages open offline and without scripts of others.
"""

from typing import Any

from latex2mathml.converter import convert

project = "Sparring"
extensions = ["myst_nb"]
exclude_patterns = ["_build", "conf.py", "course/figures"]
html_theme = "furo"
html_title = "Sparring"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["style.css"]

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "cache"
nb_execution_timeout = 900
nb_execution_raise_on_error = True


def inline(page: Any, node: Any) -> None:
    """A formula in a sentence."""
    page.body.append(convert(node.astext()))
    raise _done()


def block(page: Any, node: Any) -> None:
    """A formula on a line of its own."""
    page.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')
    raise _done()


def setup(app: Any) -> None:
    """Tell Sphinx how to write formulas."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))


def _done() -> Exception:
    from docutils.nodes import SkipNode

    return SkipNode()
