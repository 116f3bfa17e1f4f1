"""Secrets and personal data: what has the shape is found, what only resembles it is not."""

from __future__ import annotations

import pytest

from core.data.sensitive import find_personal, find_secret

# put together here, so that no scanner of repositories takes this file for a leak
SECRETS = [
    "use AKIA" + "IOSFODNN7EXAMPLE now",
    "token: ghp_" + "a1B2" * 9,
    "sk-" + "a1B2c" * 4 + "T3Blbk" + "FJ" + "d3E4f" * 4,
    "-----BEGIN RSA PRIVATE" + " KEY-----\nMIIE",
    "postgres://admin:hunter2" + "@db.internal/app",
    "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
    "xoxb-" + "1234567890-1234567890-" + "a1B2c3D4e5F6g7H8i9J0k1L2",
]
PERSONAL = [
    ("write to bob.smith@gmail.com", "an e-mail address"),
    ("call +49 170 1234567 today", "a phone number"),
    ("card 4111 1111 1111 1111", "a card number"),
    ("IBAN DE89 3704 0044 0532 0130 00", "a bank account (IBAN)"),
    ("SSN 078-05-1120", "a US social security number"),
]
INNOCENT = [
    "", "me@example.com", "4111 1111 1111 1112", "DE89 3704 0044 0532 0130 01", "000-12-3456",
    "2026-11-24 12:30:00", "1 + 2 = 3, 10 + 20", "https://docs.python.org/3/", "skin care, eyJ",
    "BEGIN; COMMIT;", "x" * 5000, "1234567890" * 500, "@" * 5000, "+1 " * 3000,
]  # fmt: skip


@pytest.mark.parametrize("text", SECRETS)
def test_secrets(text: str) -> None:
    assert find_secret(f"some words before {text} and after")


@pytest.mark.parametrize(("text", "kind"), PERSONAL)
def test_personal_data(text: str, kind: str) -> None:
    assert find_personal(f"words {text}, words") == kind


@pytest.mark.parametrize("text", INNOCENT)
def test_what_only_looks_like_it(text: str) -> None:
    assert find_secret(text) == ""
    assert find_personal(text) == ""
