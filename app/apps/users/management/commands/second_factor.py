"""second_factor: gives a member of the staff a device for one-time codes."""

import io
from argparse import ArgumentParser
from typing import Any

import segno
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django_otp import devices_for_user
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from apps.users.models import User, canonical_email

RECOVERY_CODES = 10


class Command(BaseCommand):
    """Print what the person scans, and codes for the day on which the device is lost. Neither can be shown again."""

    help = "Give an account a second factor for the administration: second_factor admin@example.com"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the account."""
        parser.add_argument("email")
        parser.add_argument(
            "--reset", action="store_true", help="replace the account's second factor, for example after a lost device"
        )

    @transaction.atomic
    def handle(self, *_args: Any, **options: Any) -> None:
        """Make the device and the codes."""
        email = canonical_email(options["email"])
        user = User.objects.filter(email=email).first()
        if user is None:
            raise CommandError(f"There is no account with the e-mail address {email}.")
        devices = list(devices_for_user(user, confirmed=None))
        if devices and not options["reset"]:
            raise CommandError(f"{email} already has a second factor. Use --reset to replace it.")
        for device in devices:
            device.delete()
        authenticator = TOTPDevice.objects.create(user=user, name="authenticator")
        recovery = StaticDevice.objects.create(user=user, name="recovery codes")
        tokens = [StaticToken(device=recovery, token=StaticToken.random_token()) for _ in range(RECOVERY_CODES)]
        StaticToken.objects.bulk_create(tokens)
        picture = io.StringIO()
        segno.make(authenticator.config_url).terminal(picture, compact=True)
        self.stdout.write(picture.getvalue())
        self.stdout.write(f"{authenticator.config_url}\n\nRecovery codes, each for one sign-in:")
        self.stdout.write("\n".join(token.token for token in tokens))
