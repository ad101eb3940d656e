# SPDX-License-Identifier: GPL-3.0-or-later
"""manage.py register SESSION_ID...: what the dashboard does when a user has linked a phone."""

from argparse import ArgumentParser

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand

from whatsapp.models import Session


class Command(BaseCommand):
    help = "Register sessions as connected, or with --logged-out as logged out."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--logged-out", action="store_true")
        parser.add_argument("session_id", nargs="+", help="user_<user>_instance_<name>")

    def handle(self, **options: object) -> None:
        status = Session.Status.LOGGED_OUT if options["logged_out"] else Session.Status.CONNECTED
        for session_id in options["session_id"]:
            user, _, instance = session_id.removeprefix("user_").partition("_instance_")
            owner, _created = get_user_model().objects.get_or_create(username=f"user{user}")
            Session.objects.update_or_create(
                session_id=session_id,
                defaults={"user": owner, "instance_name": instance.capitalize(), "status": status},
            )
        self.stdout.write(f"{len(options['session_id'])} sessions are {status}")
