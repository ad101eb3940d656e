#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The web application's command line."""

import os
import sys

from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")
execute_from_command_line(sys.argv)
