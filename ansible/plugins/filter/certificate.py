"""When a certificate of the controller ends."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

from ansible.utils.display import Display
from cryptography import x509


def certificate_problems(path: str, warn_days: int = 30) -> list[str]:
    """What is wrong with a certificate of your own now; one that ends within warn_days is a warning of the run.

    No path is no certificate, and no problem.
    """
    if not path:
        return []
    try:
        certificate = x509.load_pem_x509_certificate(Path(path).expanduser().read_bytes())
    except (OSError, ValueError) as error:
        return [
            f"tls_certificate is {path}, which cannot be read as a certificate: {error}. Use the path of a PEM file."
        ]
    now = dt.datetime.now(dt.UTC)
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begins:
        return [f"{path} (tls_certificate) is not valid before {begins:%Y-%m-%d %H:%M} UTC. Use one that is valid now."]
    if ends <= now:
        return [f"{path} (tls_certificate) expired on {ends:%Y-%m-%d %H:%M} UTC. Replace it and its key (tls_key)."]
    if ends - now < dt.timedelta(days=warn_days):
        Display().warning(
            f"{path} (tls_certificate) expires in {(ends - now).days} days, on {ends:%Y-%m-%d %H:%M} UTC."
            " Replace it and its key (tls_key), and run the playbook again."
        )
    return []


class FilterModule:
    """Names under which the playbooks use these functions."""

    def filters(self) -> dict[str, Any]:
        """The filters by name."""
        return {"certificate_problems": certificate_problems}
