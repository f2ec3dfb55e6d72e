"""The WebSocket of the package behind the token middleware that its quick start names."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chat_settings")
django.setup()

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django_channels_jwt_auth_middleware.auth import JWTAuthMiddlewareStack  # noqa: E402
from realtime_chat_messaging.routing import websocket_urlpatterns  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": AllowedHostsOriginValidator(JWTAuthMiddlewareStack(URLRouter(websocket_urlpatterns))),
    }
)
