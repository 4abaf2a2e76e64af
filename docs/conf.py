"""The site: Sphinx with MyST. `make docs` builds it in build/site, without a network, and without a warning."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from tinygrad_gru.version import __version__

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "docs" / "_ext"))

project, author, release = "tinygrad_gru", "the authors of tinygrad_gru", __version__
copyright = f"{author}, MIT license"
extensions = [
    "myst_nb",
    "sphinx_design",
    "sphinx_copybutton",
    "mathml",
    "repository",
    "reference",
    "notebooks",
    "explorer",
    "sidebar",
]
exclude_patterns = ["pictures", "_*"]
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # types in signatures are words there, not links
smartquotes = False  # prose names values, such as "concat"
highlight_language = "none"  # of a block that names no language

myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
myst_url_schemes = ("http", "https", "source")  # `source:` is of the extension `repository`
html_math_renderer = "mathml"

# Of the kernels that run cells: sharp figures, no chatter, and this package, installed or not.
PROFILE = ROOT / "build" / "ipython" / "profile_default"
PROFILE.mkdir(parents=True, exist_ok=True)
SETTINGS = 'c = get_config()\nc.InlineBackend.figure_formats = {"retina"}\nc.IPKernelApp.log_level = 40\n'
(PROFILE / "ipython_kernel_config.py").write_text(SETTINGS)
os.environ |= {"IPYTHONDIR": str(PROFILE.parent), "PYTHONPATH": str(ROOT)}
logging.getLogger("traitlets").setLevel(logging.WARNING)

# Cells are run when the site is built; a chapter whose cells are unchanged is taken from the cache.
nb_execution_mode = "cache"
nb_execution_cache_path = str(ROOT / "build" / "cells")
nb_execution_in_temp = True
nb_execution_show_tb = True
nb_execution_timeout = 60
nb_merge_streams = True
nb_mime_priority_overrides = [("*", "image/svg+xml", 1), ("*", "text/html", 2)]

pygments_dark_style = "github-dark"
html_theme = "furo"
html_title = "tinygrad_gru"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b5cad", "color-brand-content": "#0b5cad"},
    "dark_css_variables": {"color-brand-primary": "#6cb6ff", "color-brand-content": "#6cb6ff"},
    "navigation_with_keys": True,
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = False
