# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of the web application. The key of its API comes from the environment, so from a file that only the service reads."""

import os

from django.core.management.utils import get_random_secret_key

# Nobody logs in here, so nothing signed outlives a restart.
SECRET_KEY = get_random_secret_key()
SESSIONS_API_KEY = os.environ.get("SESSIONS_API_KEY", "")
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "webapp.urls"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "whatsapp"]
MIDDLEWARE = ["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.path.join(os.environ.get("STATE_DIRECTORY", "/var/lib/webapp"), "db.sqlite3"),
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
