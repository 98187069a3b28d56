"""
How Sphinx builds the guide.  The API reference beside it is pydoctor's (see the Makefile).
"""

from importlib.metadata import version as versionOf

project = "twistproxy"
author = "the twistproxy authors"
copyright = "the twistproxy authors"
version = release = versionOf("twistproxy")

extensions: list[str] = []
exclude_patterns = ["_build"]
nitpicky = True
highlight_language = "python"

html_theme = "alabaster"
html_theme_options = {
    "description": "A reverse-proxy framework for Twisted",
    "fixed_sidebar": True,
    "page_width": "1100px",
    "sidebar_width": "240px",
}
html_copy_source = False
html_show_sphinx = False
