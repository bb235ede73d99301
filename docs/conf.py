"""Sphinx configuration; ``make docs`` builds with every warning an error."""

import os
from importlib.metadata import version as installed_version

os.environ.setdefault("COLUMNS", "100")  # tables of executed commands wrap the same everywhere

project = "recqueue"
author = "The recqueue developers"
copyright = author  # noqa: A001 - the name that Sphinx reads
version = release = installed_version("recqueue")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "numpydoc",
    "sphinxcontrib.bibtex",
    "matplotlib.sphinxext.plot_directive",
]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
html_theme = "furo"
html_title = f"recqueue {version}"

autosummary_generate = True
autosummary_ignore_module_all = False
# Types stand in the docstrings, in words; the annotations would only repeat them.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False  # the class template lists them
numpydoc_xref_param_type = False

bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "plain"
bibtex_reference_style = "author_year"

doctest_global_setup = "import recqueue"

plot_include_source = False
plot_html_show_source_link = False
plot_html_show_formats = False
plot_formats = [("png", 120)]
plot_rcparams = {"figure.constrained_layout.use": True}
plot_apply_rcparams = True

# Other projects' pages need a network to be linked; the documentation builds without one.
nitpick_ignore_regex = [
    (r"py:.*", r"(numpy|np|scipy|sympy|networkx|nx|matplotlib|collections|abc|enum|NDArray)\b.*"),
    (r"py:data", r"[A-Z_]+"),  # constants are named in docstrings but have no page of their own
]
