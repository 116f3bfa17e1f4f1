"""Keys, passwords and personal data in texts.

Secrets are found with the patterns of the `detect-secrets` library (those for tokens of a
known make; not its guesses by entropy). There is no light library for personal data, so the
few kinds that have an unmistakable shape are looked for here.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

SIGNS = (
    "AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "glpat-", "xox", "_live_", "sk-", "eyJ",
    "BEGIN", "SG.", "AccountKey", "pypi-", "_authToken", "://", "sq0csp", "hooks.slack",
)  # fmt: skip
"""What is asked for begins with one of these; most rows have none."""
_PLUGINS = {
    "aws": "AWSKeyDetector", "github_token": "GitHubTokenDetector",
    "gitlab_token": "GitLabTokenDetector", "slack": "SlackDetector", "stripe": "StripeDetector",
    "openai": "OpenAIDetector", "jwt": "JwtTokenDetector", "private_key": "PrivateKeyDetector",
    "sendgrid": "SendGridDetector", "azure_storage_key": "AzureStorageKeyDetector",
    "pypi_token": "PypiTokenDetector", "npm": "NpmDetector", "basic_auth": "BasicAuthDetector",
    "square_oauth": "SquareOAuthDetector",
}  # fmt: skip
NUMBER = "[0-9](?:[ -]?[0-9]){8}"
"""Cards, accounts and social security numbers have at least so many digits in a row."""
_DIGITS = re.compile(NUMBER)
_EMAIL = re.compile(r"[\w.+-]{1,64}@(?:[\w-]{1,63}\.)+[A-Za-z]{2,24}\b")
_CARD = re.compile(r"(?<![\d.])(?:\d[ -]?){12,18}\d(?![\d.])")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b")
_PHONE = re.compile(
    r"(?<![\w.+])\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?(?:\d{2,4}[ .-]?){2,4}\d{2,4}\b"
)
_SOCIAL = re.compile(r"(?<![\d-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])")
_EXAMPLES = ("example.com", "example.org", "example.net", "test.com", "domain.com", "email.com")


def find_secret(text: str) -> str:
    """The kind of the first secret in `text`, empty when there is none."""
    if not any(map(text.__contains__, SIGNS)):
        return ""
    for plugin in _plugins():
        if next(iter(plugin.analyze_string(text)), None):
            return str(plugin.secret_type)
    return ""


@cache
def _plugins() -> list[Any]:
    from importlib import import_module

    return [
        getattr(import_module(f"detect_secrets.plugins.{module}"), name)()
        for module, name in _PLUGINS.items()
    ]


def find_personal(text: str) -> str:
    """The kind of the first personal datum in `text`, empty when there is none."""
    if "@" in text and any(map(_is_real_address, _EMAIL.findall(text))):
        return "an e-mail address"
    if "+" in text and _PHONE.search(text):
        return "a phone number"
    if not _DIGITS.search(text):
        return ""
    if any(map(_is_card, _CARD.findall(text))):
        return "a card number"
    if any(map(_is_iban, _IBAN.findall(text))):
        return "a bank account (IBAN)"
    return "a US social security number" if _SOCIAL.search(text) else ""


def _is_real_address(address: str) -> bool:
    return not address.lower().endswith(_EXAMPLES)


def _is_card(text: str) -> bool:
    """By its check digit (Luhn) and its first digit."""
    digits = [int(char) for char in text if char.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return digits[0] in (3, 4, 5, 6) and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _is_iban(text: str) -> bool:
    """By its check digits (ISO 7064)."""
    plain = text.replace(" ", "")
    number = "".join(str(int(char, 36)) for char in plain[4:] + plain[:4])
    return 15 <= len(plain) <= 34 and int(number) % 97 == 1
