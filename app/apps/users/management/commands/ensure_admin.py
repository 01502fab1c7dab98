"""ensure_admin: the first account that may sign in to the administration, /ops/ and Flower."""

import sys
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from apps.users.models import User, canonical_email


class Command(BaseCommand):
    """Create the account when it is missing; an existing one keeps its password."""

    help = "Create an administrator, the password on standard input: ensure_admin admin@example.com < password-file"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the e-mail; the password never goes on a command line."""
        parser.add_argument("email")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Create it once."""
        email = canonical_email(options["email"])
        if User.objects.filter(email=email).exists():
            self.stdout.write(f"{email} is there")
            return
        password = sys.stdin.readline().rstrip("\n")
        user = User(email=email, is_staff=True, is_superuser=True, email_verified_at=timezone.now())
        try:
            user.full_clean(exclude=["password"])
            validate_password(password, user)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        user.set_password(password)
        user.save(force_insert=True)
        self.stdout.write(f"{email} created")
