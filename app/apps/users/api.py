"""/api/users/: sign up, and prove the e-mail address."""

from typing import Any

from django.core.exceptions import ValidationError
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import Throttled
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.api.callers import caller
from apps.api.problems import JSON_BODY, SIGNED_IN, ConflictError, responses
from apps.users import services
from apps.users.models import User
from apps.users.verification import TokenRefusedError


class UserCreateSerializer(serializers.Serializer[Any]):
    """What a new account is made from."""

    email = serializers.EmailField(max_length=254)
    # Blanks are part of a password.
    password = serializers.CharField(max_length=128, trim_whitespace=False, write_only=True)
    full_name = serializers.CharField(max_length=150, required=False, allow_blank=True, default="")


class UserSerializer(serializers.ModelSerializer[User]):
    """What is told about an account."""

    class Meta:
        model = User
        fields = ("id", "email", "full_name", "created_at")


class UsersView(APIView):
    """Accounts. Anybody may create one."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_scope = "users.create"

    @extend_schema(
        request=UserCreateSerializer,
        responses={
            201: UserSerializer,
            **responses(
                {**JSON_BODY, 409: "the e-mail is taken", 429: "too many requests, or too many for this mailbox"}
            ),
        },
    )
    def post(self, request: Request) -> Response:
        """Create an account; an e-mail follows that asks to confirm the address, and no other before that."""
        serializer = UserCreateSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        try:
            user = services.user_create(**serializer.validated_data)
        except ValidationError as error:
            reasons = [serializers.ErrorDetail(e.messages[0], code=e.code) for e in error.error_list]
            raise serializers.ValidationError({"password": reasons}) from None
        except services.EmailTakenError:
            raise ConflictError({"email": ["An account with this e-mail exists."]}, code="taken") from None
        except services.TooManySignUpsError:
            raise Throttled(detail="Too many accounts were created for this mailbox today.") from None
        return Response(UserSerializer(user).data, status=status.HTTP_201_CREATED)


class VerifySerializer(serializers.Serializer[Any]):
    """What the link in the e-mail carries."""

    token = serializers.CharField(max_length=200)


class VerifyView(APIView):
    """Proves an address, for a front end of its own; the link in the e-mail leads to /verify-email/."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_scope = "users.verify"

    @extend_schema(
        request=VerifySerializer,
        responses={200: UserSerializer, **responses({**JSON_BODY, 429: "too many requests"})},
    )
    def post(self, request: Request) -> Response:
        """Confirm an address; the first time a welcome e-mail follows."""
        serializer = VerifySerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        try:
            user = services.email_verify(token=serializer.validated_data["token"])
        except TokenRefusedError:
            reason = "It has expired, or it is incomplete. Sign in and ask for another one."
            raise serializers.ValidationError({"token": reason}, code="refused") from None
        return Response(UserSerializer(user).data)


class VerificationEmailView(APIView):
    """The e-mail that asks to confirm the address, again."""

    throttle_scope = "users.verify"

    @extend_schema(
        request=None,
        responses={202: None, **responses({**SIGNED_IN, 409: "the address is confirmed, or had the e-mail today"})},
    )
    def post(self, request: Request) -> Response:
        """Have it sent again: one a day at the most."""
        if not services.verification_repeat(user=caller(request)):
            raise ConflictError("The address is confirmed, or the e-mail was sent today.")
        return Response(status=status.HTTP_202_ACCEPTED)
