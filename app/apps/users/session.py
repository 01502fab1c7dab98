"""/api/session/: signing in and out, for people who never see the administration."""

from typing import Any

from django.contrib.auth import authenticate, login, logout
from django.middleware.csrf import get_token
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.api import problems
from apps.users.api import UserSerializer
from apps.users.models import User


class SessionCreateSerializer(serializers.Serializer[Any]):
    """Who signs in."""

    email = serializers.EmailField(max_length=254)
    password = serializers.CharField(max_length=128, trim_whitespace=False, write_only=True)


class SessionSerializer(serializers.Serializer[Any]):
    """Who is signed in, and what every request that changes something must carry as X-CSRFToken."""

    user = UserSerializer()
    email_verified = serializers.BooleanField(
        help_text="Whether the address is verified. Other e-mails are sent to verified addresses only."
    )
    csrf_token = serializers.CharField()


class SessionView(APIView):
    """The caller's session."""

    permission_classes = (AllowAny,)
    throttle_scope = "session"

    def get_authenticators(self) -> list[Any]:
        """Sign in, also with a cookie that is no longer valid.

        Another site cannot sign its visitors in here: it cannot send JSON without being asked for permission first.
        """
        # The schema's generator asks without a request.
        return [] if getattr(self.request, "method", "") == "POST" else [SessionAuthentication()]

    @extend_schema(responses={200: SessionSerializer, **problems.responses({404: "nobody is signed in"})})
    def get(self, request: Request) -> Response:
        """Say who is signed in."""
        if not request.user.is_authenticated:
            raise NotFound("Nobody is signed in.")
        return self._session(request, request.user)

    @extend_schema(
        request=SessionCreateSerializer,
        responses={
            200: SessionSerializer,
            **problems.responses(
                {400: "the e-mail address or the password is wrong", 429: "too many requests, or failed sign-ins"}
            ),
        },
    )
    def post(self, request: Request) -> Response:
        """Sign in."""
        serializer = SessionCreateSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        given = serializer.validated_data
        django_request = request._request  # noqa: SLF001  Django's own functions take Django's request
        user = authenticate(django_request, username=given["email"], password=given["password"])
        if user is None:
            # The same words whether the account exists or not.
            raise ValidationError({"password": "The e-mail address or the password is wrong."}, code="wrong")
        login(django_request, user)
        return self._session(request, user)

    @extend_schema(request=None, responses={204: None, **problems.responses({403: "the CSRF token is missing"})})
    def delete(self, request: Request) -> Response:
        """Sign out."""
        logout(request._request)  # noqa: SLF001
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _session(self, request: Request, user: User) -> Response:
        token = get_token(request._request)  # noqa: SLF001
        session = {"user": user, "email_verified": user.email_verified_at is not None, "csrf_token": token}
        return Response(SessionSerializer(session).data)
