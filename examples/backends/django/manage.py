"""The smallest project around `views.py`. `python manage.py serve 8000 db.sqlite3`, and
`tidegate dev --backend http://127.0.0.1:8000/ws/`."""

import sys

import django
from django.conf import settings

settings.configure(
    DEBUG=False,
    SECRET_KEY="for-this-example-only",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[-1]}},
)
django.setup()

import views
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.middleware.csrf import get_token
from django.urls import path


def demo_login(request, name):
    """Stands for your login page; it answers the CSRF token that pages send with their posts."""
    login(request, User.objects.get_or_create(username=name)[0])
    return HttpResponse(get_token(request))


urlpatterns = [
    # ANCHOR: urls
    path("ws/<slug:route>", views.event),
    path("ws-token", views.token),
    path("logout", views.logout),
    path("ws-user", views.user),
    path("groups", views.add_group),
    # ANCHOR_END: urls
    path("demo-login/<slug:name>", demo_login),
]

if __name__ == "__main__":
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    call_command("runserver", f"127.0.0.1:{sys.argv[2]}", use_reloader=False, skip_checks=True)
