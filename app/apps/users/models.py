"""The user account."""

from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone


def canonical_email(email: str) -> str:
    """Return the one spelling under which an address is stored and looked up."""
    return email.strip().lower()


class UserManager(BaseUserManager["User"]):
    """Creates accounts for Django's own commands; the application creates them through services."""

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """Create an account that signs in with this e-mail, whose address the operator vouches for."""
        fields.setdefault("email_verified_at", timezone.now())
        user = self.model(email=canonical_email(email), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """Create an account that may do everything."""
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, username: str | None) -> "User":
        """Find an account however its e-mail was typed."""
        return self.get(email=canonical_email(username or ""))


class User(AbstractBaseUser, PermissionsMixin):
    """Somebody who signs in by e-mail.

    The e-mail is stored in lower case, and the database insists on it, so that a plain unique index makes it unique
    in every spelling.
    """

    email = models.EmailField(unique=True)
    # Until then nothing but the e-mail that proves the address is sent to it: anybody can type anybody's.
    email_verified_at = models.DateTimeField(null=True, blank=True, help_text="When the address was proved.")
    full_name = models.CharField(max_length=150, blank=True)
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField(default=False, help_text="May sign in to the administration, /ops/ and Flower.")
    weekly_digest = models.BooleanField(default=True, db_default=True, help_text="Gets the weekly digest.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=models.Q(email=Lower("email")), name="users_email_lower"),
        ]

    def __str__(self) -> str:
        return self.email

    def clean(self) -> None:
        """Bring the e-mail of a form into its stored spelling."""
        self.email = canonical_email(self.email)
