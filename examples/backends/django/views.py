"""Views for the three events, for pages, and a push after the commit."""

# ANCHOR: events
import hmac, json, os
from django.http import HttpResponse, HttpResponseForbidden, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from tidegate import end_session, issue_token, push, push_user

SECRET = os.environ.get("TIDEGATE_SECRET", "")

@csrf_exempt
@require_POST
def event(request, route):
    sent = request.headers.get("X-Ws-Gateway-Secret", "")
    if SECRET and not hmac.compare_digest(sent.encode(), SECRET.encode()):
        return HttpResponseForbidden()
    connection_id = request.headers["connectionId"]
    if route == "connect":
        return HttpResponse(status=200 if request.GET.get("channel") == "general" else 403)
    if route == "disconnect":
        push("general", {"type": "left", "id": connection_id})
        return HttpResponse()
    try:
        data = json.loads(request.body)
    except ValueError:
        data = None
    if not isinstance(data, dict) or data.get("action") != "say":
        return JsonResponse({"type": "error", "text": "actions: say"})
    push("general", {"type": "said", "text": data.get("text")}, **{"except": connection_id})
    return JsonResponse({"type": "ok"})
# ANCHOR_END: events

# ANCHOR: pages
from django.contrib.auth import logout as end_login
from django.utils.crypto import salted_hmac

def login_id(request):
    """Names the login to Tidegate without giving away the session key."""
    return salted_hmac("tidegate", request.session.session_key).hexdigest()

@require_POST
def token(request):
    if not request.user.is_authenticated:
        return HttpResponseForbidden()
    return JsonResponse(issue_token(str(request.user.pk), login_id(request)))

@require_POST
def logout(request):
    login = login_id(request)
    end_login(request)  # first: from here on there are no new tokens
    end_session(login)
    return HttpResponse(status=204)
# ANCHOR_END: pages

# ANCHOR: user
@require_POST
def user(request):
    """Whose browser it is: for the token endpoint of the gateway."""
    if not request.user.is_authenticated:
        return HttpResponseForbidden()
    return JsonResponse({"user": str(request.user.pk), "session": login_id(request)})
# ANCHOR_END: user

# ANCHOR: commit
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import Group
from django.db import transaction

@login_required
@require_POST
def add_group(request):
    with transaction.atomic():
        group = Group.objects.create(name=request.POST["name"])
        transaction.on_commit(lambda: push("general", {"type": "group", "id": group.pk}))
        transaction.on_commit(lambda: push_user(str(request.user.pk), {"type": "saved", "id": group.pk}))
        if not group.name.isidentifier():
            transaction.set_rollback(True)  # then nothing is pushed
    return HttpResponse(status=201)
# ANCHOR_END: commit
