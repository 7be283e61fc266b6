"""What a person may type or scan from a device's label. Pure.

Z-Wave QR codes are digits only and start with 90 (Node Provisioning Information Type Registry,
"QR code format"); the label shows the device's own key, the DSK, as eight groups of five digits,
the first of which is the PIN.
"""

import hashlib
import re
from dataclasses import dataclass

from edge.errors import Refused

QR_DIGITS_MIN = 52
DSK_DIGITS = 40
PIN_DIGITS = 5
_GROUP_MAX = 65535


class Misread(Refused):
    """The code's own checksum says that a digit is wrong."""


@dataclass(frozen=True, slots=True)
class QrText:
    """The text of a QR code, checked by the driver."""

    digits: str


@dataclass(frozen=True, slots=True)
class Dsk:
    """A whole device key, as groups joined by hyphens."""

    text: str


def fault(typed: str) -> str | None:
    """What is wrong with it, in a word: "unreadable", "misread" (a digit is wrong), or None."""
    try:
        read(typed)
    except Misread:
        return "misread"
    except Refused:
        return "unreadable"
    return None


def read(typed: str) -> QrText | Dsk:
    """What the person gave us. Raises Refused with what is expected."""
    digits = re.sub(r"[\s\-–.]", "", typed)
    if digits.isascii() and digits.isdigit():
        if digits.startswith("90") and len(digits) >= QR_DIGITS_MIN:
            if not _adds_up(digits):
                raise Misread("a digit of this code is wrong; compare it with the label")
            return QrText(digits)
        if len(digits) == DSK_DIGITS:
            groups = [digits[i : i + PIN_DIGITS] for i in range(0, DSK_DIGITS, PIN_DIGITS)]
            if all(int(group) <= _GROUP_MAX for group in groups):
                return Dsk("-".join(groups))
    raise Refused(
        "this is no Z-Wave code: it is the QR code's text, which starts with 90, or the eight "
        "groups of five digits on the label"
    )


def _adds_up(digits: str) -> bool:
    """Digits 5 to 9 are the first two bytes of the SHA-1 of all that follow."""
    expected = hashlib.sha1(digits[9:].encode(), usedforsecurity=False).digest()[:2]
    return int(digits[4:9]) == int.from_bytes(expected)


def read_pin(typed: str) -> str:
    """The PIN of a label: five digits. Raises Refused."""
    digits = re.sub(r"\s", "", typed)
    if len(digits) != PIN_DIGITS or not (digits.isascii() and digits.isdigit()):
        raise Refused("the PIN has five digits: those underlined on the label, before the others")
    if int(digits) > _GROUP_MAX:
        raise Refused("no device has this PIN; look at the label again")
    return digits
