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
    # the examples have lines of up to 119 columns, and are to be read without scrolling
    "page_width": "1300px",
    "body_max_width": "1010px",
    "sidebar_width": "230px",
    "font_size": "16px",
    "code_font_size": "0.82em",
}
html_copy_source = False
html_show_sphinx = False
