"""What to ask an ACME server for, and what its refusal means."""

from __future__ import annotations

import ipaddress
import re
from typing import Any
from urllib.parse import urlsplit

# Names that no public CA certifies: reserved, or meant for one network alone.
_RESERVED = re.compile(
    r"(^|\.)(alt|arpa|corp|home|internal|intranet|invalid|lan|local|localdomain|localhost|onion|private|test"
    r"|example|example\.(com|net|org))$"
)
_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_OTHERWISE = "or set app_certificate to private or own."

# certbot's lines of progress and its usual pointers.
_NOISE = re.compile(
    r"^(Saving debug log|Account registered|Requesting a certificate|Renewing an existing certificate|Hint:|Some challenges have"
    r"|Ask for help|failed: |Certbot failed to authenticate|An unexpected error occurred|Please see the logfile|Plugins selected"
    r"|See the logfile|- - -|AttributeError: can't set attribute)"
)
_LINES = 20

_ADVICE_HTTP = (
    "The server must reach port 80 of this host by {names}: check the DNS records of each (A and AAAA), and what stands in front of "
    "the host. Or prove the names by DNS (acme_dns)."
)
_ADVICE_DNS = (
    "Check vault_acme_dns_credentials, and that the plugin {dns} may write the records _acme-challenge of {names}. If the server "
    "looked too early, raise acme_dns_wait."
)
_SEE_LOG = "certbot's log on the host says more: /var/log/letsencrypt/letsencrypt.log"
# By certbot's words for the types of errors, which are those of its module acme.messages. The first that is found counts.
_ADVICE = (
    (
        r"too many|rate ?limit",
        "Wait until the limit allows it again. To try out changes until then, set acme_staging to true.",
    ),
    (
        r"another instance of certbot",
        "certbot's timer is renewing just now. Wait until it has finished: systemctl status certbot.service",
    ),
    (
        r"account does not exist|accountDoesNotExist|unable to find account",
        "The server does not know this host's account any more. Delete it on the host: rm -r /etc/letsencrypt/accounts/{host}",
    ),
    (
        r"break-my-certs",
        "A staging certificate would replace one that browsers trust. Set acme_staging to false.",
    ),
    (
        r"external account|\beab\b",
        "Set acme_account_key_id and vault_acme_account_hmac_key to what the server gave you.",
    ),
    (
        r"will not issue|rejectedIdentifier|forbidden by policy",
        f"The server's rules forbid a name. Remove it from app_site_names, {_OTHERWISE}",
    ),
    (r"type:\s+caa|CAA record", "A CAA record in the DNS of {names} must allow this server."),
    (r"certificate[_ ]verify[_ ]failed", "Set acme_authority to the CA certificate that {server} is signed by."),
    (r"challenges have failed|type:\s+\w+\s+detail:", _ADVICE_HTTP),
    (
        r"ConnectionError|Max retries exceeded|Connection refused|timed? ?out|Name or service|HTTP (5\d\d|404)",
        "The host must reach the server: curl --head {server}",
    ),
)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_public(name: str) -> bool:
    """Whether a public CA could certify this name, a wildcard included."""
    labels = name.lower().removeprefix("*.").split(".")
    return (
        len(labels) > 1
        and not _is_address(name)
        and all(map(_LABEL.fullmatch, labels))
        and not _RESERVED.search(".".join(labels))
    )


def certificate_of(names: list[str], web_hosts: int, dns: str = "") -> str:
    """Who signs the site's certificate where nobody has said it: acme if a public server can, private otherwise."""
    provable = bool(dns) or (web_hosts == 1 and not any(name.startswith("*") for name in names))
    return "acme" if names and provable and all(map(is_public, names)) else "private"


def issuer_problems(issuer: str, own: str, web_hosts: int, dns: str = "") -> list[str]:
    """What does not fit together about the choice of the site's certificate."""
    problems = []
    if issuer not in ("acme", "private", "own"):
        problems.append(f"app_certificate is {issuer}. It must be auto, acme, private or own.")
    elif own and issuer != "own":
        problems.append(
            f"app_certificate is {issuer}, and tls_certificate is {own}. Set app_certificate to own, or remove tls_certificate."
        )
    elif issuer == "own" and not own:
        problems.append("app_certificate is own, and tls_certificate is empty. Set tls_certificate and tls_key.")
    elif issuer == "acme" and web_hosts > 1 and not dns:
        problems.append(
            f"app_certificate is acme, and the site has {web_hosts} web hosts. A challenge over HTTP may reach the wrong one. "
            f"Prove the names by DNS (acme_dns), {_OTHERWISE}"
        )
    return problems


def acme_problems(names: list[str], request: dict[str, Any]) -> list[str]:
    """What an ACME server would refuse about a request, without asking it.

    The request holds directory (empty is Let's Encrypt's), staging, dns, key_id and hmac_key.
    """
    directory, staging, dns, key_id, hmac_key = (
        request[key] for key in ("directory", "staging", "dns", "key_id", "hmac_key")
    )
    problems = []
    lets_encrypt = not directory or (urlsplit(directory).hostname or "").endswith(".letsencrypt.org")
    if not names:
        problems.append("The certificate needs a name. Add one to app_site_names.")
    if addresses := [name for name in names if _is_address(name)]:
        problems.append(
            f"certbot cannot obtain a certificate for an address: {', '.join(addresses)}. "
            f"Remove it from app_site_names, {_OTHERWISE}"
        )
    if lets_encrypt and (private := [name for name in names if not _is_address(name) and not is_public(name)]):
        problems.append(
            f"Let's Encrypt certifies public DNS names alone, not {', '.join(private)}. Remove it from app_site_names, "
            f"set acme_directory to a private ACME server, {_OTHERWISE}"
        )
    if not dns and (wildcards := [name for name in names if name.startswith("*")]):
        problems.append(
            f"{', '.join(wildcards)} can be proved by DNS alone. Set acme_dns, list the names one by one, {_OTHERWISE}"
        )
    if dns and not re.fullmatch(r"[a-z0-9-]+", dns):
        problems.append(
            f"acme_dns is {dns}. It must be the name of a certbot plugin of Debian: apt-cache search python3-certbot-dns"
        )
    if directory and not directory.startswith("https://"):
        problems.append(f"acme_directory is {directory}. It must be the https:// URL of an ACME server's directory.")
    if staging and not lets_encrypt:
        problems.append(
            f"acme_staging is true, and acme_directory is {directory}. Staging is Let's Encrypt's: unset one of them."
        )
    if bool(key_id) != bool(hmac_key):
        empty, other = ("hmac_key", "key_id") if key_id else ("key_id", "hmac_key")
        problems.append(
            f"acme_account_{other} is set, and acme_account_{empty} is empty. Set both as your ACME server shows them, or neither."
        )
    return problems


def acme_failure(result: dict[str, Any], names: list[str], server: str, dns: str = "") -> str:
    """The server's own words about a certificate that was not issued, and what to do."""
    said = "\n".join(str(result.get(key) or "") for key in ("stderr", "stdout")).strip() or str(result.get("msg") or "")
    lines = [line.rstrip() for line in said.splitlines() if line.strip() and not _NOISE.match(line)]
    reason = (
        "\n".join(lines[-_LINES:]) or "certbot printed no reason; see /var/log/letsencrypt/letsencrypt.log on the host"
    )
    return f"{reason}\n{_advice(said, names, server, dns)}"


def _advice(said: str, names: list[str], server: str, dns: str) -> str:
    """What to do about certbot's output."""
    host = urlsplit(server).netloc
    for pattern, advice in _ADVICE:
        if re.search(pattern, said, re.IGNORECASE):
            text = _ADVICE_DNS if advice is _ADVICE_HTTP and dns else advice
            return text.format(names=" and ".join(names), server=server, host=host, dns=dns)
    return _SEE_LOG


class FilterModule:
    """Names under which the playbooks use these functions."""

    def filters(self) -> dict[str, Any]:
        """The filters by name."""
        return {
            "acme_failure": acme_failure,
            "acme_problems": acme_problems,
            "certificate_of": certificate_of,
            "issuer_problems": issuer_problems,
        }
