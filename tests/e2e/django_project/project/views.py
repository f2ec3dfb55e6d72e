"""What a project writes: subclasses of the package's view."""

import time

from django_aws_api_gateway_websockets.models import WebSocketSession
from django_aws_api_gateway_websockets.views import WebSocketView


class Socket(WebSocketView):
    ADDITIONAL_ALLOWED_HANDLERS = ["change_channel"]

    def _additional_connection_checks(self, request, *args, **kwargs):
        if request.GET.get("refuse"):
            return False, "the project refuses"
        if request.GET.get("slow"):
            time.sleep(1.5)  # a check that takes its time, with the token spent and no row yet
        return True, ""

    def default(self, request, *args, **kwargs):
        self.websocket_session.send_message({"handler": "default", "body": self.body})

    def hello(self, request, *args, **kwargs):
        self.websocket_session.send_message(
            {"handler": "hello", "user": request.user.username, "channel": self.websocket_session.channel_name}
        )

    def shout(self, request, *args, **kwargs):
        WebSocketSession.objects.filter(channel_name=self.websocket_session.channel_name).send_message(
            {"handler": "shout", "text": self.body["text"]}
        )

    def size(self, request, *args, **kwargs):
        self.websocket_session.send_message({"handler": "size", "bytes": len(request.body)})

    def fail(self, request, *args, **kwargs):
        raise RuntimeError("the handler fails")


class StrictAgent(Socket):
    CHECK_CONNECT_USERAGENT = True


class Limited(Socket):
    RATE_LIMIT_MAX_ATTEMPTS = 2


class Orders(WebSocketView):
    """Another view, reached through an additional route."""

    def default(self, request, *args, **kwargs):
        self.websocket_session.send_message({"view": "orders", "body": self.body})


class AnyPermission(WebSocketView):
    permissions_required = ["auth.add_user", "auth.view_user"]

    def default(self, request, *args, **kwargs):
        self.websocket_session.send_message({"view": "any"})


class AllPermissions(WebSocketView):
    all_permissions_required = ["auth.add_user", "auth.view_user"]

    def default(self, request, *args, **kwargs):
        self.websocket_session.send_message({"view": "all"})
