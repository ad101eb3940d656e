# SPDX-License-Identifier: GPL-3.0-or-later
# As Django makes it: the lists belong to the class.
# ruff: noqa: RUF012

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Session",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("session_id", models.CharField(max_length=200, unique=True)),
                ("instance_name", models.CharField(max_length=100)),
                (
                    "status",
                    models.CharField(
                        choices=[("connected", "Connected"), ("logged_out", "Logged Out")],
                        default="connected",
                        max_length=20,
                    ),
                ),
                ("user", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to=settings.AUTH_USER_MODEL)),
            ],
        ),
    ]
