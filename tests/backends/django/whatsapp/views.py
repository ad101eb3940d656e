# SPDX-License-Identifier: GPL-3.0-or-later
"""The API that the backend asks after a restart: which sessions were active?"""

from secrets import compare_digest

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_GET

from .models import Session


@require_GET
def active_sessions(request: HttpRequest) -> JsonResponse:
    """List the active sessions, for clients with the key."""
    given = request.headers.get("x-api-key", "")
    if not settings.SESSIONS_API_KEY or not compare_digest(given.encode(), settings.SESSIONS_API_KEY.encode()):
        return JsonResponse({"success": False, "error": "invalid API key"}, status=403)
    active = Session.objects.filter(status=Session.Status.CONNECTED).order_by("session_id")
    return JsonResponse({"success": True, "data": {"sessions": [described(session) for session in active]}})


def described(session: Session) -> dict[str, object]:
    return {
        "session_id": session.session_id,
        "user_id": session.user_id,
        "instance_name": session.instance_name,
        "status": session.status,
    }
