"""A project as the package's quick start describes it: every origin, SQLite, everything else in memory."""

import os

SECRET_KEY = os.environ["E2E_CHAT_SECRET"]
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "chat_urls"
ASGI_APPLICATION = "chat_asgi.application"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "daphne",
    "channels",
    "django.contrib.admin",
    "django.contrib.auth",
    "polymorphic",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "guardian",
    "realtime_chat_messaging",
]
AUTHENTICATION_BACKENDS = ("django.contrib.auth.backends.ModelBackend", "guardian.backends.ObjectPermissionBackend")
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["E2E_CHAT_DATABASE"],
        # One connection for the one thread of the database, instead of a new one for each query.
        "CONN_MAX_AGE": None,
        # Nobody needs the file after the test.
        "OPTIONS": {"init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF"},
    }
}
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
# The package keeps in the cache who is in which room; with the usual 300 entries it would forget some (I-4).
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "LOCATION": "chat",
        "OPTIONS": {"MAX_ENTRIES": 100_000},
    }
}
# The package writes a traceback for each error that it answers; formatting those is most of its time.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "CRITICAL"},
}
REALTIME_CHAT_MESSAGING = {"MESSAGE_SOFT_DELETE": os.environ.get("E2E_CHAT_SOFT_DELETE") == "1"}
