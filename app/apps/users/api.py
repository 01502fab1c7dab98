"""POST /api/users/."""

from typing import Any

from django.core.exceptions import ValidationError
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.api.problems import JSON_BODY, ConflictError, responses
from apps.users import services
from apps.users.models import User


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
            **responses({**JSON_BODY, 409: "the e-mail is taken", 429: "too many requests"}),
        },
    )
    def post(self, request: Request) -> Response:
        """Create an account; a welcome e-mail follows."""
        serializer = UserCreateSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        try:
            user = services.user_create(**serializer.validated_data)
        except ValidationError as error:
            reasons = [serializers.ErrorDetail(e.messages[0], code=e.code) for e in error.error_list]
            raise serializers.ValidationError({"password": reasons}) from None
        except services.EmailTakenError:
            raise ConflictError({"email": ["An account with this e-mail exists."]}, code="taken") from None
        return Response(UserSerializer(user).data, status=status.HTTP_201_CREATED)
