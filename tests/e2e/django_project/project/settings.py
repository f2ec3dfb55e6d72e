"""A small project around the published package; everything that differs per test comes from the environment."""

import json
import os

SECRET_KEY = "not-a-secret-only-for-tests"
DEBUG = False
ALLOWED_HOSTS = json.loads(os.environ["E2E_ALLOWED_HOSTS"])
ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django_aws_api_gateway_websockets",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["E2E_DATABASE"],
        # S0-107: without these, simultaneous connects fail with "database is locked".
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"},
    }
}
AWS_ACCESS_KEY_ID = os.environ["E2E_ACCESS_KEY"]
AWS_SECRET_ACCESS_KEY = os.environ["E2E_SECRET_KEY"]
AWS_GATEWAY_REGION_NAME = os.environ["E2E_REGION"]
WEBSOCKETS = {
    "rate_limit_max_attempts": 100000,
    "token_rate_limit_per_minute": 100000,
    **json.loads(os.environ.get("E2E_WEBSOCKETS", "{}")),
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
}
