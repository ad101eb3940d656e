#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible inventory script: the hosts of the lab that are up, in the group `lab` and in one group for each release."""

import os
import sys
from pathlib import Path

LAB = Path(__file__).resolve().parent / "lab"
os.execv(LAB, [str(LAB), "inventory", *sys.argv[1:]])
