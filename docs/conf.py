"""How the documentation is built: `make docs`, without the network and without warnings."""

import importlib.metadata
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "cubeflow"
author = "the cubeflow developers"
version = release = importlib.metadata.version("cubeflow")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "command_help",
    "mathml",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]

myst_enable_extensions = ["attrs_inline", "dollarmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

default_role = "code"
napoleon_google_docstring = False
napoleon_use_param = False
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True}

html_theme = "pydata_sphinx_theme"
html_title = "cubeflow"
templates_path = ["_templates"]
html_static_path = ["_static"]
html_sidebars = {"**": ["pages"]}
html_css_files = ["cubeflow.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "show_prev_next": True,
    "navbar_center": [],
    "navbar_persistent": [],
    "navbar_end": ["search-button", "theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": [],
    "footer_end": [],
    "navigation_with_keys": False,
    "show_toc_level": 2,
}
