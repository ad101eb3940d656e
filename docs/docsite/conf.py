# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of Sphinx for the site that `make docs-site` builds. The site needs no other server: it loads nothing from elsewhere."""

from __future__ import annotations

project = "whatsapp_ops.sessions"
copyright = "The whatsapp_ops.sessions contributors"  # noqa: A001 (the name is Sphinx's)
extensions = ["sphinx_antsibull_ext", "myst_parser"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
root_doc = "index"
html_theme = "alabaster"
html_theme_options = {"description": "WhatsApp sessions that survive", "fixed_sidebar": True, "page_width": "1100px"}
pygments_style = "ansible"
# Anchors of headings, as the forges make them.
myst_heading_anchors = 4
# Ansible's own documentation is not read during the build, so its labels are unknown; links to files of the repository stay as
# they are.
suppress_warnings = ["ref.ref", "ref.term", "myst.xref_missing", "misc.highlighting_failure"]
highlight_language = "yaml"
