# SPDX-License-Identifier: GPL-3.0-or-later
"""Installs pip in a new virtual environment of ansible-test, from the pip bundled with Python.

ansible-test downloads a script for this purpose, which needs more than a package index. It uses a
script that it finds in its cache instead, called with the arguments of pip: this one.
"""

import os
import subprocess
import sys

# ansible-test omits these to permit the installation of setuptools and wheel.
NOT_FOR_PIP = ("--no-setuptools", "--no-wheel")


def main():
    subprocess.check_call([sys.executable, "-m", "ensurepip", "--default-pip"], stdout=subprocess.DEVNULL)
    packages = [argument for argument in sys.argv[1:] if argument not in NOT_FOR_PIP]
    # A separate process, because ensurepip hides the configuration of pip from its process.
    os.execv(sys.executable, [sys.executable, "-m", "pip", "install", "--quiet", *packages])


if __name__ == "__main__":
    main()
