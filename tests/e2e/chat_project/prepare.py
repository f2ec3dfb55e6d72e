"""Makes the tables and enters the users of a JSON list on standard input."""

import json
import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chat_settings")
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402

call_command("migrate", verbosity=0)
User.objects.bulk_create([User(**person) for person in json.load(sys.stdin)])

from django.db import connection  # noqa: E402

# The file alone is the whole database, so that it can be copied.
with connection.cursor() as cursor:
    cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
