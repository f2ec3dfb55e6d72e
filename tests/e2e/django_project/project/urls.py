from django.http import HttpResponse
from django.urls import path
from django.views.decorators.csrf import ensure_csrf_cookie
from django_aws_api_gateway_websockets.views import WebSocketTokenView

from . import views


@ensure_csrf_cookie
def page(request):
    return HttpResponse("page")


urlpatterns = [
    path("page/", page),
    path("token/", WebSocketTokenView.as_view()),
    path("ws/<slug:route>", views.Socket.as_view()),
    path("strict/<slug:route>", views.StrictAgent.as_view()),
    path("limited/<slug:route>", views.Limited.as_view()),
    path("orders/<slug:route>", views.Orders.as_view()),
    path("any/<slug:route>", views.AnyPermission.as_view()),
    path("all/<slug:route>", views.AllPermissions.as_view()),
]
