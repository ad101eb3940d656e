# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of the web application."""

from django.urls import path
from whatsapp.views import active_sessions

urlpatterns = [path("api/v1/sessions/active-sessions/", active_sessions)]
