# SPDX-License-Identifier: GPL-3.0-or-later
"""What the web application knows of WhatsApp sessions. Their keys are on the backend's disk, never here."""

from django.conf import settings
from django.db import models


class Session(models.Model):
    """One linked phone of one user, as the dashboard shows it."""

    class Status(models.TextChoices):
        CONNECTED = "connected"
        LOGGED_OUT = "logged_out"

    session_id = models.CharField(max_length=200, unique=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    instance_name = models.CharField(max_length=100)
    status = models.CharField(max_length=20, choices=Status, default=Status.CONNECTED)

    def __str__(self) -> str:
        return self.session_id
