"""Proving that the person who signed up reads the mail of the address that they typed."""

from datetime import timedelta

from django.core.signing import BadSignature, TimestampSigner

from apps.users.models import User

# How long a token is worth something.
LIFETIME = timedelta(days=3)


class TokenRefusedError(Exception):
    """The token is not one of ours, has expired, or is another address's."""


def token_make(user: User) -> str:
    """Return what only the site can make, and only who reads the account's mail gets to see."""
    return _signer(user).sign(str(user.pk))


def token_user(token: str) -> User:
    """Return the account whose address a token proves; raise TokenRefusedError when it proves none."""
    pk = token.partition(":")[0]
    user = User.objects.filter(pk=int(pk), is_active=True).first() if pk.isascii() and pk.isdecimal() else None
    if user is None:
        raise TokenRefusedError
    try:
        _signer(user).unsign(token, max_age=LIFETIME)
    except BadSignature:
        raise TokenRefusedError from None
    return user


def _signer(user: User) -> TimestampSigner:
    # The address is part of the salt and not of the token, which ends up in the logs of proxies.
    return TimestampSigner(salt=f"apps.users.verification:{user.email}")
