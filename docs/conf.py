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
    # lines of examples of up to 113 columns are to be read without scrolling, beside the sidebar on a small screen
    "page_width": "1200px",
    "body_max_width": "930px",
    "sidebar_width": "210px",
    "font_size": "16px",
    "code_font_size": "0.8em",
}
html_copy_source = False
html_show_sphinx = False
